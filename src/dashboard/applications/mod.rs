//! The list of applications, and an application's page.
//!
//! * [`application_form`] – create, edit, delete. [`portal_link`] – a link into the portal. [`app_lookup`] – finds an
//!   application by a typed name.
//!
//! Invariant: the hidden application of operational webhooks appears in no list.

pub(in crate::dashboard) mod app_lookup;
pub(in crate::dashboard) mod application_form;
pub(in crate::dashboard) mod portal_link;

use actix_web::http::StatusCode;
use askama::Template;

use super::endpoints::{self, EndpointTableRow};
use super::overview::AttemptRow;
use super::portal::failures;
use crate::dashboard::components::chart::{Chart, second};
use crate::dashboard::components::form::{Form, FormPage};
use crate::dashboard::components::format::{InputValue, Line, UrlQuery, count};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::components::widgets::{Id, RelativeTime};
use crate::dashboard::endpoints::endpoint_backoff::BackoffSummary;
use crate::dashboard::endpoints::endpoint_stats::ResponseTimes;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::dashboard::overview::delivery_summary::{DeliverySummary, SummaryScope};
use crate::domain::catalog::application::Application;
use crate::domain::url_query::with_query;
use crate::domain::{AppId, EndpointId, Time};
use crate::store::access::portal_sessions::OpenPortalSession;
use crate::store::catalog::endpoint_list::EndpointListFilter;
use crate::store::query::counts::{ChartRange, CountScope};
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Tenant};

/// Applications per page.
const LINES: usize = 50;
/// Number of portal sessions shown.
const SESSIONS: i64 = 50;
/// Number of endpoints shown.
const ENDPOINTS: usize = 10;

/// A form below the application's page, at the path `segment`.
fn form_page(
    context: &AppContext,
    title: &'static str,
    (segment, button): (&str, &'static str),
    form: Form,
) -> FormPage {
    let layout = PageLayout::of(context, NavItem::Applications).below(context, []);
    FormPage::new(layout, title, form, (context.paths.page(segment), button), context.paths.home().to_owned())
        .about(Line::new(&context.app.name))
}

struct Row {
    href: String,
    name: Line,
    id: Id,
    uid: Option<Line>,
    endpoints: String,
    created: RelativeTime,
}

#[derive(Template)]
#[template(path = "applications.html")]
struct ApplicationsPage {
    layout: PageLayout,
    /// The search term.
    wanted: InputValue,
    rows: Vec<Row>,
    next: Option<String>,
    /// The search stopped early.
    stopped: bool,
    paged: bool,
}

/// `GET /applications?q=&after=`: `q` is a prefix of an id, uid or name.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (query, now, tenant, store) = (UrlQuery::of(&request), state.clock.now(), user.tenant(), &state.store);
    let after: Option<AppId> = query.get("after").and_then(|id| id.parse().ok());
    let wanted = query.get("q").map(str::trim).filter(|text| !text.is_empty());
    let page = PageRequest { after, ..PageRequest::first(LINES, Order::Descending) };
    let (data, more, stopped) = match wanted {
        None => {
            let page = store.applications(&tenant, &page).await?;
            (page.data, page.more, None)
        }
        Some(text) => {
            let page = store.applications_like(&tenant, text, &page).await?;
            (page.data, page.more, page.stopped)
        }
    };
    let ids: Vec<AppId> = data.iter().map(|app| app.id).collect();
    let endpoints = store.endpoint_counts_by_app(&tenant, &ids).await?;
    let last = stopped.or(ids.last().copied()).filter(|_| more);
    let page = ApplicationsPage {
        layout: PageLayout::of(&user, NavItem::Applications).with_notice(query.get("notice")),
        wanted: InputValue::new(wanted.unwrap_or_default()),
        rows: data.iter().map(|app| Row::new(app, endpoints.get(&app.id).copied().unwrap_or(0), now)).collect(),
        next: last
            .map(|id| with_query("/applications", [("q", wanted.unwrap_or_default()), ("after", &id.to_string())])),
        stopped: stopped.is_some(),
        paged: after.is_some(),
    };
    answer(StatusCode::OK, &page)
}

impl Row {
    fn new(app: &Application, endpoints: i64, now: Time) -> Row {
        Row {
            href: AppPaths::of_application(app.id).home().to_owned(),
            name: Line::new(&app.name),
            id: Id::new(app.id),
            uid: app.uid.as_ref().map(|uid| Line::new(uid.as_str())),
            endpoints: count(endpoints),
            created: RelativeTime::new(app.created_at, now),
        }
    }
}

#[derive(Template)]
#[template(path = "application.html")]
struct ApplicationPage {
    layout: PageLayout,
    paths: AppPaths,
    name: Line,
    id: Id,
    uid: Option<Line>,
    created: RelativeTime,
    throttle: Option<u16>,
    contact: Option<Line>,
    metadata: Vec<(Line, Line)>,
    opening: &'static str,
    summary: DeliverySummary,
    ranges: Vec<RangeLink>,
    response_times: Option<String>,
    backoff: Option<BackoffSummary>,
    chart: Option<Chart>,
    /// The latest failures, at the endpoints with the most failures in the range.
    failures: Vec<AttemptRow>,
    rows: Vec<EndpointTableRow>,
    /// There are more endpoints.
    more: bool,
    /// Always `false`: the template is shared with lists across applications, whose rows name the application.
    across: bool,
    sessions: Vec<PortalSessionRow>,
    /// The list of sessions is full, so there may be more.
    more_sessions: bool,
}

/// An open portal session.
struct PortalSessionRow {
    name: Option<Line>,
    since: RelativeTime,
    until: RelativeTime,
    /// The action of its *End* button.
    end: String,
}

/// `GET /applications/{app}`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let (query, now, tenant, store) = (UrlQuery::of(&request), state.clock.now(), context.tenant(), &state.store);
    let app = &context.app;
    let filter = EndpointListFilter { app: Some(app.id), ..EndpointListFilter::default() };
    let first = PageRequest::<EndpointId>::first(ENDPOINTS, Order::Descending);
    let lines = store.list_endpoints(&tenant, &filter, &first).await?;
    let range = query.get("range").map_or(ChartRange::Day, |_| range::of(&query));
    let own = Tenant { only: Some(app.id), ..tenant.clone() };
    let buckets = store.buckets(&tenant, CountScope::Application(app.id), range, now).await?;
    let counts = total(&buckets);
    let totals = store.period_totals(&tenant, CountScope::Application(app.id), range, now).await?;
    let list = context.paths.page("deliveries?");
    let since = range.since(now);
    let scope = SummaryScope { list: Some(&list), app: Some(app.id), since, since_text: &second(since) };
    let ids: Vec<EndpointId> = lines.data.iter().map(|line| line.endpoint.id).collect();
    let at_each = store.endpoint_counts(&tenant, &ids, range, now).await?;
    let sessions = store.open_portal_sessions(&tenant, app.id, SESSIONS, now).await?;
    let page = ApplicationPage {
        layout: PageLayout::of(&context, NavItem::Applications).tab(&context, "").with_notice(query.get("notice")),
        paths: context.paths.clone(),
        name: Line::new(&app.name),
        id: Id::new(app.id),
        uid: app.uid.as_ref().map(|uid| Line::new(uid.as_str())),
        created: RelativeTime::new(app.created_at, now),
        throttle: app.throttle_rate,
        contact: app.contact_email.as_deref().map(Line::new),
        metadata: app.metadata.iter().map(|(name, value)| (Line::new(name), Line::new(value))).collect(),
        opening: range::opening(range),
        summary: DeliverySummary::of(store, &tenant, &scope, now).await?,
        ranges: range::links(range, |range| format!("{}?range={}", context.paths.home(), range::word(range))),
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        backoff: BackoffSummary::of(store, &own, now).await?,
        chart: (counts.attempts() > 0).then(|| Chart::new(&buckets, range, &list).compared(&totals)),
        failures: failures(store, &context, at_each, now).await?,
        rows: endpoints::rows(store, &tenant, &context.paths, &lines.data, now).await?,
        more: lines.more,
        across: false,
        more_sessions: sessions.len() >= SESSIONS as usize,
        sessions: sessions.iter().map(|session| PortalSessionRow::new(session, &context.paths, now)).collect(),
    };
    answer(StatusCode::OK, &page)
}

impl PortalSessionRow {
    fn new(session: &OpenPortalSession, paths: &AppPaths, now: Time) -> PortalSessionRow {
        PortalSessionRow {
            name: session.session_id.as_deref().map(Line::new),
            since: RelativeTime::new(session.since, now),
            until: RelativeTime::new(session.until, now),
            end: paths.page(&format!("sessions/{}/end", hex::encode(session.hash))),
        }
    }
}

/// `POST /applications/{app}/sessions/{session}/end`.
pub async fn end_session(FormInput { state, request, user: context, .. }: FormInput<AppContext>) -> PageResult {
    let mut hash = [0; 32];
    hex::decode_to_slice(part(&request, "session")?, &mut hash).map_err(|_| PageError::NotFound)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let ended = store.revoke_portal_session(&context.tenant(), context.app.id, &hash, now).await?;
    Ok(done(context.paths.home(), if ended { FlashNotice::SessionEnded } else { FlashNotice::SessionAlreadyEnded }))
}
