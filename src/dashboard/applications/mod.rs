//! Applications: the list, and the page of one.
//!
//! * [`application_form`] – create, edit, delete.   [`portal_link`] – a link into the portal.   [`app_lookup`] – finds
//!   an application by a typed name.
//!
//! Invariant: the hidden application of operational webhooks appears in no list.

pub(in crate::dashboard) mod application_form;
pub(in crate::dashboard) mod naming;
pub(in crate::dashboard) mod portal_link;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::endpoints::{self, EndpointRow};
use super::overview::AttemptRow;
use super::portal::failures;
use crate::dashboard::components::chart::{Chart, second};
use crate::dashboard::components::format::{Line, Query, Typed, count};
use crate::dashboard::components::parts::{Id, When};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::endpoints::rates::ResponseTimes;
use crate::dashboard::endpoints::resting::Resting;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::place::Place;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Inside, Signed, part};
use crate::dashboard::overview::numbers::{Counting, Numbers};
use crate::domain::catalog::application::Application;
use crate::domain::{AppId, EndpointId, Time};
use crate::store::access::portal_sessions::OpenVisit;
use crate::store::catalog::endpoint_list::LineFilter;
use crate::store::query::counts::{Range, Scope};
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Tenant};

/// Applications per page.
const LINES: usize = 50;
/// How many portal sessions are shown.
const VISITS: i64 = 50;
/// How many endpoints are shown.
const ENDPOINTS: usize = 10;

struct Row {
    href: String,
    name: Line,
    id: Id,
    uid: Option<Line>,
    endpoints: String,
    created: When,
}

#[derive(Template)]
#[template(path = "applications.html")]
struct ApplicationsPage {
    frame: Frame,
    /// The search term.
    wanted: Typed,
    rows: Vec<Row>,
    next: Option<String>,
    /// The search stopped early.
    stopped: bool,
    paged: bool,
}

/// `GET /applications?q=&after=`: `q` is a prefix of an id, uid or name.
pub async fn list(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(&request), state.clock.now(), signed.tenant(), &state.store);
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
    let endpoints = store.endpoints_in(&tenant, &ids).await?;
    let last = stopped.or(ids.last().copied()).filter(|_| more);
    let page = ApplicationsPage {
        frame: Frame::of(&signed, Here::Applications).noting(query.get("notice")),
        wanted: Typed::new(wanted.unwrap_or_default()),
        rows: data.iter().map(|app| Row::new(app, endpoints.get(&app.id).copied().unwrap_or(0), now)).collect(),
        next: last.map(|id| {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("q", wanted.unwrap_or_default())
                .append_pair("after", &id.to_string())
                .finish();
            format!("/applications?{query}")
        }),
        stopped: stopped.is_some(),
        paged: after.is_some(),
    };
    answer(StatusCode::OK, &page)
}

impl Row {
    fn new(app: &Application, endpoints: i64, now: Time) -> Row {
        Row {
            href: Place::of_application(app.id).home().to_owned(),
            name: Line::new(&app.name),
            id: Id::new(app.id),
            uid: app.uid.as_ref().map(|uid| Line::new(uid.as_str())),
            endpoints: count(endpoints),
            created: When::new(app.created_at, now),
        }
    }
}

#[derive(Template)]
#[template(path = "application.html")]
struct ApplicationPage {
    frame: Frame,
    place: Place,
    /// The live tail of the application.
    live: String,
    name: Line,
    id: Id,
    uid: Option<Line>,
    created: When,
    throttle: Option<u16>,
    contact: Option<Line>,
    metadata: Vec<(Line, Line)>,
    opening: &'static str,
    numbers: Numbers,
    ranges: Vec<RangeLink>,
    response_times: Option<String>,
    resting: Option<Resting>,
    chart: Option<Chart>,
    /// The latest failures, at the endpoints with the most failures in the range.
    failures: Vec<AttemptRow>,
    rows: Vec<EndpointRow>,
    /// There are more endpoints.
    more: bool,
    /// Shared with tables across applications: here, rows do not name theirs.
    across: bool,
    visits: Vec<VisitRow>,
    /// There may be more sessions.
    more_visits: bool,
}

/// An open portal session.
struct VisitRow {
    name: Option<Line>,
    since: When,
    until: When,
    /// The action of its *End* button.
    end: String,
}

/// `GET /applications/{app}`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(&request), state.clock.now(), inside.tenant(), &state.store);
    let app = &inside.app;
    let filter = LineFilter { app: Some(app.id), ..LineFilter::default() };
    let first = PageRequest::<EndpointId>::first(ENDPOINTS, Order::Descending);
    let lines = store.endpoint_lines(&tenant, &filter, &first).await?;
    let range = query.get("range").map_or(Range::Day, |_| range::of(&query));
    let own = Tenant { only: Some(app.id), ..tenant.clone() };
    let buckets = store.buckets(&tenant, Scope::Application(app.id), range, now).await?;
    let counts = total(&buckets);
    let list = inside.place.page("deliveries?");
    let since = range.since(now);
    let counting = Counting { list: Some(&list), app: Some(app.id), since, since_text: &second(since) };
    let ids: Vec<EndpointId> = lines.data.iter().map(|line| line.endpoint.id).collect();
    let at_each = store.endpoint_counts(&tenant, &ids, range, now).await?;
    let visits = store.open_visits(&tenant, app.id, VISITS, now).await?;
    let page = ApplicationPage {
        frame: Frame::of(&inside, Here::Applications).noting(query.get("notice")),
        live: format!("/tail?app={}", app.id),
        place: inside.place.clone(),
        name: Line::new(&app.name),
        id: Id::new(app.id),
        uid: app.uid.as_ref().map(|uid| Line::new(uid.as_str())),
        created: When::new(app.created_at, now),
        throttle: app.throttle_rate,
        contact: app.contact_email.as_deref().map(Line::new),
        metadata: app.metadata.iter().map(|(name, value)| (Line::new(name), Line::new(value))).collect(),
        opening: range::opening(range),
        numbers: Numbers::of(store, &tenant, &counting, now).await?,
        ranges: range::links(range, |range| format!("{}?range={}", inside.place.home(), range::word(range))),
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        resting: Resting::of(store, &own, now).await?,
        chart: (counts.attempts() > 0).then(|| Chart::new(&buckets, range, &list)),
        failures: failures(store, &inside, at_each, now).await?,
        rows: endpoints::rows(store, &tenant, &inside.place, &lines.data, now).await?,
        more: lines.more,
        across: false,
        more_visits: visits.len() >= VISITS as usize,
        visits: visits.iter().map(|visit| VisitRow::new(visit, &inside.place, now)).collect(),
    };
    answer(StatusCode::OK, &page)
}

impl VisitRow {
    fn new(visit: &OpenVisit, place: &Place, now: Time) -> VisitRow {
        VisitRow {
            name: visit.session_id.as_deref().map(Line::new),
            since: When::new(visit.since, now),
            until: When::new(visit.until, now),
            end: place.page(&format!("visits/{}/end", hex::encode(visit.hash))),
        }
    }
}

/// `POST /applications/{app}/visits/{visit}/end`.
pub async fn end_visit(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    inside: Inside,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(part(&request, "visit")?, &mut hash).map_err(|_| PageError::NotFound)?;
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let ended = store.end_open_visit(&inside.tenant(), inside.app.id, &hash, now).await?;
    Ok(done(inside.place.home(), if ended { Notice::VisitEnded } else { Notice::VisitOver }))
}
