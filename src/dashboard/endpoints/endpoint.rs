//! The page of an endpoint: state, latest attempts, signature verification and settings.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::bulk::{base, count_missing};
use crate::dashboard::components::chart::Chart;
use crate::dashboard::components::form::{Choice, Field, Form};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, Query, count_up_to};
use crate::dashboard::components::parts::{Address, Badge, Id, When};
use crate::dashboard::endpoints::MOST;
use crate::dashboard::endpoints::endpoint_actions::named;
use crate::dashboard::endpoints::endpoint_fields::in_words;
use crate::dashboard::endpoints::rates;
use crate::dashboard::endpoints::rates::ResponseTimes;
use crate::dashboard::endpoints::resting::Probe;
use crate::dashboard::endpoints::snippets;
use crate::dashboard::endpoints::snippets::Snippet;
use crate::dashboard::event_types::catalog;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint, masked_header};
use crate::domain::deliveries::attempt::Attempt;
use crate::domain::deliveries::background::{Kind, Scope as Target};
use crate::domain::signing::secret::SignatureType;
use crate::domain::{AttemptId, Invalid, Time};
use crate::store::catalog::endpoint_list::{EndpointLine, LastFailure};
use crate::store::jobs::background::{BackgroundSpec, Total};
use crate::store::query::attempts::AttemptFilter;
use crate::store::query::counts::{Range, Scope};
use crate::store::query::endpoint_messages::SentFilter;
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Store};

/// How many attempts are shown.
const ATTEMPTS: usize = 10;

struct Row {
    badge: Badge,
    number: i32,
    href: String,
    /// `None`: the message was deleted.
    event_type: Option<Line>,
    answer: Line,
    took: String,
    when: When,
}

/// The last failed attempt.
struct Failure {
    when: When,
    href: String,
    what: Line,
}

/// Why the endpoint is disabled or failing, and since when.
struct Strip {
    what: &'static str,
    at: Option<When>,
    why: &'static str,
}

/// Messages that were not sent to it while it was disabled.
struct Missed {
    /// `601 messages`.
    count: String,
    /// The form to replay them, if the user may.
    href: Option<String>,
}

/// Links to other pages, as far as the user may open them.
struct Links {
    deliveries: Option<String>,
    recover: Option<String>,
    replay: Option<String>,
}

/// A streak of failures and its consequence.
struct Streak {
    warned: Option<When>,
    /// When the endpoint will be disabled; `None`: with the next failure.
    ends: Option<When>,
}

/// The user's permissions.
struct May {
    edit: bool,
    test: bool,
    see_secret: bool,
    rotate: bool,
}

/// A setting and its values.
struct Setting {
    name: &'static str,
    values: Vec<Line>,
}

/// A language of the verification code.
struct Tab {
    name: &'static str,
    href: String,
    on: bool,
}

#[derive(Template)]
#[template(path = "endpoint.html")]
struct EndpointPage {
    frame: Frame,
    path: String,
    badge: Badge,
    address: Address,
    description: Line,
    id: Id,
    uid: Option<Line>,
    created: When,
    disabled: bool,
    strip: Option<Strip>,
    /// The consequence if failures continue.
    streak: Option<Streak>,
    /// Set while the endpoint is backing off.
    probe: Option<Probe>,
    missed: Option<Missed>,
    links: Links,
    rate: Option<String>,
    counts: String,
    response_times: Option<String>,
    throttle: Option<u16>,
    waiting: String,
    failure: Option<Failure>,
    chart: Option<Chart>,
    attempts: Vec<Row>,
    may: May,
    test: Form,
    public_key: bool,
    tabs: Vec<Tab>,
    snippet: &'static Snippet,
    settings: Vec<Setting>,
}

/// `GET {place}/endpoints/{endpoint}?snippet=`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let endpoint = named(&state.store, &request, &inside).await?;
    page_with(&state, &inside, &request, &endpoint, None).await
}

/// Renders the page; `refused` is a rejected test event and its errors.
///
/// # Errors
/// The endpoint is gone, or the store is unavailable.
pub async fn page_with(
    state: &DashboardState,
    inside: &Inside,
    request: &HttpRequest,
    endpoint: &Endpoint,
    refused: Option<(&str, &[Invalid])>,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(request), state.clock.now(), inside.tenant(), &state.store);
    let (app, id) = (inside.app.id, endpoint.id);
    let line = store.endpoint_line(&tenant, app, id).await?.ok_or(PageError::NotFound)?;
    let buckets = store.buckets(&tenant, Scope::Endpoint(id), Range::Day, now).await?;
    let counts = total(&buckets);
    let list = format!("{}?endpoint={id}&", inside.place.page("deliveries"));
    let waiting = store.backlogs(&tenant, &[id], MOST).await?.get(&id).copied().unwrap_or(0);
    let filter = AttemptFilter { endpoint: Some(id), ..AttemptFilter::default() };
    let newest = store.attempts(&tenant, app, &filter, &PageRequest::first(ATTEMPTS, Order::Descending)).await?;
    let path = inside.place.endpoint(id);
    let snippet = snippets::of(query.get("snippet"));
    let lines = store.newest_at(&tenant, app, id, ATTEMPTS as i64).await?;
    let event_types: HashMap<AttemptId, String> =
        lines.into_iter().filter_map(|line| Some((line.id, line.event_type?))).collect();
    let links = Links::new(inside, endpoint);
    let page = EndpointPage {
        frame: Frame::of(inside, Here::Endpoints)
            .below(inside, [(inside.place.page("endpoints"), Line::new("Endpoints"))])
            .noting(query.get("notice")),
        badge: Badge::of_health(line.health()),
        address: Address::new(&line.endpoint.spec.url),
        description: Line::new(&line.endpoint.spec.description),
        id: Id::new(id),
        uid: line.endpoint.spec.uid.as_ref().map(|uid| Line::new(uid.as_str())),
        created: When::new(line.endpoint.created_at, now),
        disabled: line.endpoint.spec.disabled,
        strip: Strip::of(&line, now),
        streak: Streak::of(&line, state.disable_after, now),
        probe: line.rest(now).map(|rest| Probe::new(rest, now)),
        missed: Missed::read(store, inside, &line, &query, now).await?,
        links,
        rate: rates::rate(&counts),
        counts: rates::in_words(&counts),
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        throttle: line.endpoint.spec.throttle_rate,
        waiting: count_up_to(waiting, MOST),
        failure: store.last_failure(&tenant, app, id).await?.map(|failure| Failure::new(&failure, inside, now)),
        chart: (counts.attempts() > 0).then(|| Chart::new(&buckets, Range::Day, &list)),
        attempts: newest.data.iter().map(|attempt| Row::new(attempt, &event_types, inside, now)).collect(),
        may: May {
            edit: inside.can(Capability::ManageEndpoint),
            test: inside.can(Capability::CreateAttempts),
            see_secret: inside.can_any(Capability::SEE_SECRET),
            rotate: inside.can_any(Capability::ROTATE_SECRET),
        },
        test: test_form(store, inside, refused).await?,
        public_key: line.endpoint.spec.signature_type == SignatureType::Ed25519,
        tabs: snippets::ALL.iter().map(|one| Tab::new(one, &path, snippet)).collect(),
        snippet,
        settings: settings(store, inside, &line.endpoint).await?,
        path,
    };
    let status = if refused.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    answer(status, &page)
}

async fn test_form(store: &Store, inside: &Inside, refused: Option<(&str, &[Invalid])>) -> Result<Form, PageError> {
    let (chosen, wrong) = refused.unwrap_or_default();
    let types = catalog::choices(store, inside).await?;
    let with_schema = types.iter().filter(|one| one.spec.newest_schema().is_some());
    let choices: Vec<Choice> =
        with_schema.map(|one| Choice::new(&one.spec.name, &one.spec.name, one.spec.name == chosen)).collect();
    if choices.is_empty() {
        return Ok(Form::new(Vec::new()).blame(wrong));
    }
    Ok(Form::new(vec![Field::select("eventType", "Event type", choices)]).blame(wrong))
}

impl Strip {
    fn of(line: &EndpointLine, now: Time) -> Option<Strip> {
        let when = |at| When::new(at, now);
        if !line.endpoint.spec.disabled {
            let since = line.failing_since?;
            return Some(Strip { what: "Every attempt has failed. First failure", at: Some(when(since)), why: "" });
        }
        let why = match line.endpoint.disabled_reason {
            Some(DisabledReason::Gone) => ": the receiver asked us to stop (410 Gone)",
            Some(DisabledReason::Failing) => ": every attempt failed for too long",
            Some(DisabledReason::Manual) | None => " manually",
        };
        Some(Strip { what: "Disabled", at: line.disabled_at.map(when), why })
    }
}

impl Links {
    fn new(inside: &Inside, endpoint: &Endpoint) -> Links {
        let base = base(inside);
        let app = if base.is_empty() { format!("app={}&", inside.app.id) } else { String::new() };
        let may = inside.can(Capability::CreateAttempts) && inside.opens("/portal/resend") && !inside.operational;
        let resend = |status: &str| may.then(|| format!("{base}/resend?{app}endpoint={}&status={status}", endpoint.id));
        Links {
            deliveries: inside
                .shows(PortalPage::Deliveries)
                .then(|| format!("{}?endpoint={}", inside.place.page("deliveries"), endpoint.id)),
            recover: resend("failed"),
            // A replay to a disabled endpoint would only wait.
            replay: resend("missing").filter(|_| !endpoint.spec.disabled),
        }
    }
}

impl Missed {
    /// After enabling, the URL has the time since which the endpoint was disabled. `None`: no messages since.
    async fn read(
        store: &Store,
        inside: &Inside,
        line: &EndpointLine,
        query: &Query,
        now: Time,
    ) -> Result<Option<Missed>, PageError> {
        let endpoint = &line.endpoint;
        let since = query.get("since").and_then(|text| Time::parse(text).ok()).filter(|since| *since < now);
        let Some(since) = since.filter(|_| !endpoint.spec.disabled && !inside.operational) else { return Ok(None) };
        let spec = BackgroundSpec {
            kind: Kind::ReplayMissing,
            scope: Target::Endpoint(endpoint.app_id, endpoint.id),
            filter: SentFilter { since, until: now, ..SentFilter::default() },
            listed: None,
            by: String::new(),
            total: None,
        };
        let Total { count: n, more } = count_missing(store, &inside.tenant(), &spec).await?;
        let messages = if n == 1 && !more { "message" } else { "messages" };
        let replay = Links::new(inside, endpoint).replay;
        Ok((n > 0).then(|| Missed {
            count: format!("{}{} {messages}", format::count(n), if more { "+" } else { "" }),
            href: replay.map(|href| format!("{href}&since={since}&until={now}")),
        }))
    }
}

impl Streak {
    fn of(line: &EndpointLine, disable_after: Duration, now: Time) -> Option<Streak> {
        let since = line.failing_since.filter(|_| !line.endpoint.spec.disabled)?;
        let ends = Some(since.plus(disable_after)).filter(|ends| *ends > now);
        Some(Streak { warned: line.warned_at.map(|at| When::new(at, now)), ends: ends.map(|at| When::new(at, now)) })
    }
}

impl Failure {
    fn new(failure: &LastFailure, inside: &Inside, now: Time) -> Failure {
        let status = failure.status.and_then(|status| u16::try_from(status).ok());
        Failure {
            when: When::new(failure.at, now),
            href: inside.place.message(failure.message_id),
            what: status.map_or_else(|| Line::cut(&failure.detail, 120), |status| Line::new(&format::status(status))),
        }
    }
}

impl Row {
    fn new(attempt: &Attempt, event_types: &HashMap<AttemptId, String>, inside: &Inside, now: Time) -> Row {
        let outcome = &attempt.outcome;
        Row {
            badge: match (outcome.delivered(), attempt.next_at) {
                (true, _) => Badge::Delivered,
                (false, Some(_)) => Badge::Failed,
                (false, None) => Badge::Dead,
            },
            number: attempt.number,
            href: format!("{}#{}", inside.place.message(attempt.message_id), attempt.id),
            event_type: event_types.get(&attempt.id).map(|name| Line::new(name)),
            answer: match outcome.status {
                Some(status) => Line::new(&format::status(status)),
                None => Line::cut(&outcome.detail, 120),
            },
            took: format::took(outcome.duration),
            when: When::new(attempt.at, now),
        }
    }
}

impl Tab {
    fn new(snippet: &'static Snippet, path: &str, on: &Snippet) -> Tab {
        Tab { name: snippet.name, href: format!("{path}?snippet={}#verify", snippet.word), on: snippet.word == on.word }
    }
}

async fn settings(store: &Store, inside: &Inside, endpoint: &Endpoint) -> Result<Vec<Setting>, PageError> {
    let spec = &endpoint.spec;
    let list = |list: Option<&Vec<String>>| match list {
        None => vec![Line::new("all")],
        Some(list) => list.iter().map(|one| Line::new(one)).collect(),
    };
    let one = |text: String| vec![Line::new(&text)];
    let as_set = || vec![Line::new("default")];
    let mut event_types = spec.event_types.clone();
    if let (Some(names), Some(_)) = (&mut event_types, inside.flags()) {
        let mut seen = Vec::new();
        for name in std::mem::take(names) {
            if catalog::find(store, inside, &name).await?.is_some() {
                seen.push(name);
            }
        }
        *names = seen;
    }
    let header = |(name, value): (&String, &String)| {
        Line::new(&if masked_header(name) { format!("{name}: (hidden)") } else { format!("{name}: {value}") })
    };
    let mut settings = vec![
        Setting { name: "Event types", values: list(event_types.as_ref()) },
        Setting { name: "Channels", values: list(spec.channels.as_ref()) },
        Setting { name: "Limit", values: one(spec.throttle_rate.map_or("none".into(), |rate| format!("{rate}/s"))) },
        Setting {
            name: "Timeout",
            values: spec.timeout.map_or_else(as_set, |span| one(format!("{} s", span.as_secs()))),
        },
        Setting {
            name: "Retry schedule",
            values: spec.retry_schedule.as_ref().map_or_else(as_set, |schedule| one(in_words(schedule))),
        },
        Setting {
            name: "Ordering",
            values: one(
                if spec.ordered { "one at a time, in order of acceptance" } else { "not guaranteed" }.to_owned()
            ),
        },
        Setting { name: "Signature type", values: one(spec.signature_type.word().to_owned()) },
    ];
    if !spec.headers.is_empty() {
        settings.push(Setting { name: "Headers", values: spec.headers.iter().map(header).collect() });
    }
    Ok(settings)
}
