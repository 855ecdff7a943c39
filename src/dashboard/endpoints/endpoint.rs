//! The page of an endpoint: state, latest attempts, signature verification and settings.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::{Method, StatusCode};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::bulk;
use crate::dashboard::bulk::count_missing;
use crate::dashboard::components::chart::Chart;
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::form::{Form, FormField, SelectOption};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, count_up_to};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::widgets::{Address, Badge, Id, RelativeTime};
use crate::dashboard::endpoints::MOST;
use crate::dashboard::endpoints::endpoint_actions::named;
use crate::dashboard::endpoints::endpoint_backoff::NextProbe;
use crate::dashboard::endpoints::endpoint_settings::{SettingRow, settings};
use crate::dashboard::endpoints::endpoint_stats;
use crate::dashboard::endpoints::endpoint_stats::ResponseTimes;
use crate::dashboard::endpoints::signature_headers;
use crate::dashboard::endpoints::signature_headers::ExtraSnippet;
use crate::dashboard::endpoints::verify_snippets;
use crate::dashboard::endpoints::verify_snippets::VerifySnippet;
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::messages::message::TimelineStep;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint};
use crate::domain::deliveries::attempt::{Attempt, Failure};
use crate::domain::deliveries::background::{TaskKind, TaskScope};
use crate::domain::signing::secret::SignatureType;
use crate::domain::{AttemptId, Invalid, Time, TimeRange};
use crate::store::catalog::endpoint_list::{LastFailure, ListedEndpoint};
use crate::store::jobs::background::{BackgroundSpec, ExpectedCount, TaskSelection};
use crate::store::query::attempts::AttemptFilter;
use crate::store::query::counts::{ChartRange, CountScope};
use crate::store::query::endpoint_messages::EndpointMessageFilter;
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Store};

/// Number of attempts shown.
const ATTEMPTS: usize = 10;

/// The last failed attempt.
struct FailureSummary {
    when: RelativeTime,
    href: String,
    what: Line,
}

/// The reason the endpoint is disabled or failing, and the time since.
struct StatusNotice {
    what: &'static str,
    at: Option<RelativeTime>,
    why: &'static str,
}

/// Messages that were not sent to the endpoint while it was disabled.
struct MissedMessages {
    /// `601 messages`.
    count: String,
    /// The form to replay them, if the user may.
    href: Option<String>,
}

/// Links to other pages; `None` if the user may not open the page.
struct EndpointLinks {
    deliveries: Option<String>,
    recover: Option<String>,
    replay: Option<String>,
    /// The form for a portal link that opens this endpoint.
    portal: Option<String>,
}

/// A failure streak and its consequence.
struct FailureStreak {
    warned: Option<RelativeTime>,
    /// The time at which the endpoint will be disabled; `None`: at the next failure.
    ends: Option<RelativeTime>,
}

/// The user's permissions.
struct EndpointActions {
    edit: bool,
    test: bool,
    see_secret: bool,
    rotate: bool,
}

/// A language of the verification code.
struct LanguageTab {
    name: &'static str,
    href: String,
    on: bool,
}

#[derive(Template)]
#[template(path = "endpoint.html")]
struct EndpointPage {
    layout: PageLayout,
    path: String,
    badge: Badge,
    address: Address,
    description: Line,
    id: Id,
    uid: Option<Line>,
    created: RelativeTime,
    disabled: bool,
    status_notice: Option<StatusNotice>,
    /// The consequence if failures continue.
    streak: Option<FailureStreak>,
    /// Set while the endpoint is backing off.
    probe: Option<NextProbe>,
    missed: Option<MissedMessages>,
    links: EndpointLinks,
    rate: Option<String>,
    counts: String,
    response_times: Option<String>,
    throttle: Option<u16>,
    waiting: String,
    failure: Option<FailureSummary>,
    chart: Option<Chart>,
    attempts: Vec<TimelineStep>,
    allowed: EndpointActions,
    test: Form,
    public_key: bool,
    tabs: Vec<LanguageTab>,
    snippet: &'static VerifySnippet,
    /// The headers of a delivery that carry signatures.
    headers: Vec<Line>,
    extra_snippets: Vec<ExtraSnippet>,
    settings: Vec<SettingRow>,
}

/// `GET {base}/endpoints/{endpoint}?snippet=`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let endpoint = named(&state.store, &request, &context).await?;
    page_with(&state, &context, &request, &endpoint, None).await
}

/// Renders the page; `refused` is a rejected test event and its errors.
///
/// # Errors
/// The endpoint no longer exists, or the store is unavailable.
pub async fn page_with(
    state: &DashboardState,
    context: &AppContext,
    request: &HttpRequest,
    endpoint: &Endpoint,
    refused: Option<(&str, &[Invalid])>,
) -> PageResult {
    let (query, now, tenant, store) = (UrlQuery::of(request), state.clock.now(), context.tenant(), &state.store);
    let (app, id) = (context.app.id, endpoint.id);
    let line = store.listed_endpoint(&tenant, app, id).await?.ok_or(PageError::NotFound)?;
    let buckets = store.buckets(&tenant, CountScope::Endpoint(id), ChartRange::Day, now).await?;
    let counts = total(&buckets);
    let totals = store.period_totals(&tenant, CountScope::Endpoint(id), ChartRange::Day, now).await?;
    let list = format!("{}?endpoint={id}&", context.paths.page("deliveries"));
    let waiting = store.backlogs(&tenant, &[id], MOST).await?.get(&id).copied().unwrap_or(0);
    let filter = AttemptFilter { endpoint: Some(id), ..AttemptFilter::default() };
    let newest = store.attempts(&tenant, app, &filter, &PageRequest::first(ATTEMPTS, Order::Descending)).await?;
    let path = context.paths.endpoint(id);
    let snippet = verify_snippets::of(query.get("snippet"));
    let lines = store.newest_attempts_to(&tenant, app, id, false, ATTEMPTS as i64).await?;
    let event_types: HashMap<AttemptId, String> =
        lines.into_iter().filter_map(|line| Some((line.id, line.event_type?))).collect();
    let links = EndpointLinks::new(context, endpoint);
    let page = EndpointPage {
        layout: PageLayout::of(context, NavItem::Endpoints)
            .below(context, [(context.paths.page("endpoints"), PageText::own("Endpoints"))])
            .with_notice(query.get("notice")),
        badge: Badge::of_health(line.health()),
        address: Address::new(&line.endpoint.spec.url),
        description: Line::new(&line.endpoint.spec.description),
        id: Id::new(id),
        uid: line.endpoint.spec.uid.as_ref().map(|uid| Line::new(uid.as_str())),
        created: RelativeTime::new(line.endpoint.created_at, now),
        disabled: line.endpoint.spec.disabled,
        status_notice: StatusNotice::of(&line, now),
        streak: FailureStreak::of(&line, state.disable_after, now),
        probe: line.rest(now).map(|rest| NextProbe::new(rest, now)),
        missed: MissedMessages::read(store, context, &line, &query, now).await?,
        links,
        rate: endpoint_stats::rate(&counts),
        counts: endpoint_stats::in_words(&counts),
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        throttle: line.endpoint.spec.throttle_rate,
        waiting: count_up_to(waiting, MOST),
        failure: store.last_failure(&tenant, app, id).await?.map(|failure| FailureSummary::new(&failure, context, now)),
        chart: (counts.attempts() > 0).then(|| Chart::new(&buckets, ChartRange::Day, &list).compared(&totals)),
        attempts: timeline(&newest.data, &event_types, context, endpoint, now),
        allowed: EndpointActions {
            edit: context.can(Capability::ManageEndpoint),
            test: context.can(Capability::CreateAttempts),
            see_secret: context.can_any(Capability::SEE_SECRET),
            rotate: context.can_any(Capability::ROTATE_SECRET),
        },
        test: test_form(store, context, refused).await?,
        public_key: line.endpoint.spec.signature_type == SignatureType::Ed25519,
        tabs: verify_snippets::ALL.iter().map(|one| LanguageTab::new(one, &path, snippet)).collect(),
        snippet,
        headers: signature_headers::all(&line.endpoint.spec),
        extra_snippets: ExtraSnippet::all(&line.endpoint.spec),
        settings: settings(store, context, &line.endpoint).await?,
        path,
    };
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    answer(status, &page)
}

async fn test_form(
    store: &Store,
    context: &AppContext,
    refused: Option<(&str, &[Invalid])>,
) -> Result<Form, PageError> {
    let (chosen, wrong) = refused.unwrap_or_default();
    let types = visible_event_types::choices(store, context).await?;
    let with_schema = types.iter().filter(|one| one.spec.newest_schema().is_some());
    let choices: Vec<SelectOption> =
        with_schema.map(|one| SelectOption::new(&one.spec.name, &one.spec.name, one.spec.name == chosen)).collect();
    if choices.is_empty() {
        return Ok(Form::new(Vec::new()).with_errors(wrong));
    }
    Ok(Form::new(vec![FormField::select("eventType", "Event type", choices)]).with_errors(wrong))
}

impl StatusNotice {
    fn of(line: &ListedEndpoint, now: Time) -> Option<StatusNotice> {
        let when = |at| RelativeTime::new(at, now);
        if !line.endpoint.spec.disabled {
            let since = line.failing_since?;
            return Some(StatusNotice {
                what: "No attempt has succeeded since the first failure",
                at: Some(when(since)),
                why: "",
            });
        }
        let why = match line.endpoint.disabled_reason {
            Some(DisabledReason::Gone) => ": the receiver asked us to stop (410 Gone)",
            Some(DisabledReason::Failing) => ": every attempt failed for too long",
            Some(DisabledReason::Manual) | None => " manually",
        };
        Some(StatusNotice { what: "Disabled", at: line.disabled_at.map(when), why })
    }
}

impl EndpointLinks {
    fn new(context: &AppContext, endpoint: &Endpoint) -> EndpointLinks {
        let resend = |status: &str| bulk::of_endpoint(context, endpoint.id, status);
        EndpointLinks {
            deliveries: context
                .shows(PortalPage::Deliveries)
                .then(|| format!("{}?endpoint={}", context.paths.page("deliveries"), endpoint.id)),
            recover: resend("failed"),
            // A replay to a disabled endpoint would only wait.
            replay: resend("missing").filter(|_| !endpoint.spec.disabled),
            portal: context
                .rights()
                .filter(|rights| rights.allow(&Method::GET, &context.paths.page("portal-link")) && !context.operational)
                .map(|_| format!("{}?endpoint={}", context.paths.page("portal-link"), endpoint.id)),
        }
    }
}

impl MissedMessages {
    /// After the endpoint is enabled, `since` in the URL is the time at which it was disabled. `None`: no messages
    /// since then.
    async fn read(
        store: &Store,
        context: &AppContext,
        line: &ListedEndpoint,
        query: &UrlQuery,
        now: Time,
    ) -> Result<Option<MissedMessages>, PageError> {
        let endpoint = &line.endpoint;
        let since = query.get("since").and_then(|text| Time::parse(text).ok()).filter(|since| *since < now);
        let Some(since) = since.filter(|_| !endpoint.spec.disabled && !context.operational) else { return Ok(None) };
        let spec = BackgroundSpec {
            kind: TaskKind::ReplayMissing,
            scope: TaskScope::Endpoint(endpoint.app_id, endpoint.id),
            selection: TaskSelection::Messages(EndpointMessageFilter {
                accepted: TimeRange { since, until: now },
                ..EndpointMessageFilter::default()
            }),
            by: String::new(),
            total: None,
        };
        let ExpectedCount { count: n, more } = count_missing(store, &context.tenant(), &spec).await?;
        let messages = if n == 1 && !more { "message" } else { "messages" };
        let replay = EndpointLinks::new(context, endpoint).replay;
        Ok((n > 0).then(|| MissedMessages {
            count: format!("{}{} {messages}", format::count(n), if more { "+" } else { "" }),
            href: replay.map(|href| format!("{href}&since={since}&until={now}")),
        }))
    }
}

impl FailureStreak {
    fn of(line: &ListedEndpoint, disable_after: Duration, now: Time) -> Option<FailureStreak> {
        let since = line.failing_since.filter(|_| !line.endpoint.spec.disabled)?;
        let ends = Some(since.plus(disable_after)).filter(|ends| *ends > now);
        Some(FailureStreak {
            warned: line.warned_at.map(|at| RelativeTime::new(at, now)),
            ends: ends.map(|at| RelativeTime::new(at, now)),
        })
    }
}

impl FailureSummary {
    fn new(failure: &LastFailure, context: &AppContext, now: Time) -> FailureSummary {
        let status = failure.status.and_then(|status| u16::try_from(status).ok());
        FailureSummary {
            when: RelativeTime::new(failure.at, now),
            href: context.paths.message(failure.message_id),
            what: match (status, failure.failure.as_deref().and_then(Failure::from_word)) {
                (Some(status), _) => Line::new(&format::status(status)),
                (None, failure) => Line::new(failure.map_or("no response", in_words)),
            },
        }
    }
}

/// The attempts, with the event types of their messages. `event_types` has none for a deleted message.
fn timeline(
    attempts: &[Attempt],
    event_types: &HashMap<AttemptId, String>,
    context: &AppContext,
    endpoint: &Endpoint,
    now: Time,
) -> Vec<TimelineStep> {
    let step = |attempt: &Attempt| {
        let mut step = TimelineStep::new(attempt, &endpoint.spec.url, false, context, now);
        step.shorten();
        let href = format!("{}#{}", context.paths.message(attempt.message_id), attempt.id);
        let name = event_types.get(&attempt.id).map_or_else(|| Line::new("deleted message"), |name| Line::new(name));
        TimelineStep { message: Some((href, name)), ..step }
    };
    attempts.iter().map(step).collect()
}

impl LanguageTab {
    fn new(snippet: &'static VerifySnippet, path: &str, on: &VerifySnippet) -> LanguageTab {
        LanguageTab {
            name: snippet.name,
            href: format!("{path}?snippet={}#verify", snippet.word),
            on: snippet.word == on.word,
        }
    }
}
