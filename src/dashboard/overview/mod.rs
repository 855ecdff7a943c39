//! The overview: the number of deliveries by state, warnings, charts, endpoints with the most failures, latest
//! attempts.
//!
//! * [`delivery_summary`] – the sentence with the numbers.   [`health_card`] – the database and the sending processes.
//!
//! Invariant: every number links to exactly the deliveries that it counts.

pub(in crate::dashboard) mod health;
pub(in crate::dashboard) mod numbers;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::bulk::tally;
use crate::dashboard::components::chart::{Chart, LatencyChart, second};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, Query, count, count_up_to};
use crate::dashboard::components::parts::{Address, Badge, When};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::endpoints::rates;
use crate::dashboard::endpoints::rates::ResponseTimes;
use crate::dashboard::endpoints::resting::Resting;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::viewer::Signed;
use crate::dashboard::overview::health::Health;
use crate::dashboard::overview::numbers::{Counting, Numbers};
use crate::domain::deliveries::delivery::State;
use crate::domain::{AttemptId, Time};
use crate::store::ingest::outbox::OutboxDepth;
use crate::store::query::attempts::AttemptLine;
use crate::store::query::counts::{FailingEndpoint, Range, Scope};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatus};
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Store, StoreError, Tenant};

/// Attempts per page.
const ATTEMPTS: i64 = 50;
/// How many failing endpoints are listed.
const WORST: i64 = 5;
/// The limit of counts.
const MOST: i64 = 10_000;
/// The minimum delay at which a due delivery is reported as late.
const LATE: Duration = Duration::from_secs(5);
/// The list behind numbers and bars.
const LIST: &str = "/deliveries?";

pub(super) struct AttemptRow {
    pub badge: Badge,
    pub when: When,
    pub app: Line,
    /// `None`: the message was deleted.
    pub event_type: Option<Line>,
    /// Empty: the user cannot open the message.
    pub href: String,
    pub address: Address,
    pub number: i32,
    pub answer: Line,
    pub took: String,
    pub next: Option<When>,
}

/// The delivery that has been due for the longest time.
struct Late {
    since: When,
    href: String,
    what: Line,
    address: Address,
}

/// A failing endpoint.
struct Worst {
    href: String,
    address: Address,
    app: Line,
    /// The number of failed deliveries: `13 failed`.
    failed: String,
    /// The list of these deliveries.
    failures: String,
    /// The share of successful attempts.
    rate: Option<String>,
}

/// Deliveries and outbox rows that are waiting.
struct Waits {
    late: Option<Late>,
    /// Deliveries that wait for an attempt: all, not yet attempted, being retried.
    total: String,
    pending: String,
    retrying: String,
    outbox: Option<String>,
    stuck: Option<String>,
    dead: Option<String>,
}

/// The table of latest attempts.
struct Newest {
    attempts: Vec<AttemptRow>,
    failed_only: bool,
    paged: bool,
    /// This page with all attempts, or only failed ones.
    all: String,
    failed: String,
    /// The next page.
    older: Option<String>,
    /// Nothing has been sent yet.
    fresh: bool,
    /// If so, the page of an application, if there is one.
    first_app: Option<String>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    ranges: Vec<RangeLink>,
    opening: &'static str,
    numbers: Numbers,
    waits: Waits,
    resting: Option<Resting>,
    response_times: Option<String>,
    /// The counts of operational webhooks in the range. `None`: there are none.
    told: Option<String>,
    charts: Option<(Chart, LatencyChart)>,
    worst: Vec<Worst>,
    health: Health,
    newest: Newest,
}

fn link(range: Range, failed_only: bool) -> String {
    format!("/?range={}{}", range::word(range), if failed_only { "&show=failed" } else { "" })
}

/// `GET /`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(&request), state.clock.now(), signed.tenant(), &state.store);
    let frame = Frame::of(&signed, Here::Overview);
    let range = range::of(&query);
    let newest = Newest::read(store, &tenant, &query, now).await?;
    let buckets = store.buckets(&tenant, Scope::Organization, range, now).await?;
    let told = total(&store.buckets(&tenant, Scope::Operational, range, now).await?);
    let listens = told.attempts() > 0 || store.operational_application(&tenant).await?.is_some();
    let worst = store.top_failing(&tenant, range, now, WORST).await?;
    let counts = total(&buckets);
    let mut rows = Vec::new();
    for one in &worst {
        rows.push(Worst::read(store, &tenant, one, range, now).await?);
    }
    let since = range.since(now);
    let counting = Counting { list: Some(LIST), app: None, since, since_text: &second(since) };
    let chart = || (Chart::new(&buckets, range, LIST), LatencyChart::new(&buckets, range, LIST));
    let page = Overview {
        frame,
        ranges: range::links(range, |range| link(range, newest.failed_only)),
        opening: range::opening(range),
        numbers: Numbers::of(store, &tenant, &counting, now).await?,
        waits: Waits::read(store, &tenant, now).await?,
        resting: Resting::of(store, &tenant, now).await?,
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        told: listens.then(|| format!("{} attempts delivered, {} failed", count(told.delivered), count(told.failed))),
        charts: (counts.attempts() > 0).then(chart),
        worst: rows,
        health: Health::of(store, now).await?,
        newest,
    };
    answer(StatusCode::OK, &page)
}

impl Worst {
    async fn read(
        store: &Store,
        tenant: &Tenant,
        one: &FailingEndpoint,
        range: Range,
        now: Time,
    ) -> Result<Worst, StoreError> {
        let FailingEndpoint { endpoint_id, app_id, counts, .. } = one;
        let since = range.since(now);
        let filter = DeliveryFilter {
            status: Some(DeliveryStatus::Failed),
            endpoint: Some(*endpoint_id),
            since,
            ..DeliveryFilter::default()
        };
        let tally = tally(store, tenant, &filter, now).await?;
        Ok(Worst {
            href: format!("/applications/{app_id}/endpoints/{endpoint_id}"),
            address: Address::new(&one.url),
            app: Line::cut(&one.app_name, 80),
            failed: format!("{}{} failed", count(tally.found()), if tally.more { "+" } else { "" }),
            failures: format!("{LIST}status=failed&endpoint={endpoint_id}&since={}", second(since)),
            rate: rates::rate(counts),
        })
    }
}

impl Waits {
    async fn read(store: &Store, tenant: &Tenant, now: Time) -> Result<Waits, StoreError> {
        let late = store.oldest_due(tenant, now.minus(LATE)).await?;
        let OutboxDepth { waiting, stuck } = store.outbox_depth().await?;
        let [pending, retrying, dead] = [
            store.count_in(tenant, State::Fresh, MOST).await?,
            store.count_in(tenant, State::Retry, MOST).await?,
            store.count_in(tenant, State::Dead, MOST).await?,
        ];
        Ok(Waits {
            late: late.map(|line| Late {
                since: When::new(line.due_at, now),
                href: Place::of_application(line.app_id).message(line.message_id),
                what: line.event_type.as_deref().map_or_else(|| Line::new("a message"), |name| Line::cut(name, 80)),
                address: Address::new(&line.url),
            }),
            total: count_up_to(pending + retrying, MOST),
            pending: count_up_to(pending, MOST),
            retrying: count_up_to(retrying, MOST),
            outbox: (waiting > 0).then(|| count_up_to(waiting, 100_000)),
            stuck: (stuck > 0).then(|| format::counted(stuck, "outbox row", "outbox rows")),
            dead: (dead > 0).then(|| count_up_to(dead, MOST)),
        })
    }
}

impl Newest {
    async fn read(store: &Store, tenant: &Tenant, query: &Query, now: Time) -> Result<Newest, StoreError> {
        let (range, failed_only) = (range::of(query), query.get("show") == Some("failed"));
        let before: Option<AttemptId> = query.get("before").and_then(|id| id.parse().ok());
        let mut lines = store.newest_attempts(tenant, failed_only, before, ATTEMPTS + 1).await?;
        let more = lines.len() > ATTEMPTS as usize;
        lines.truncate(ATTEMPTS as usize);
        let last = lines.last().filter(|_| more).map(|line| line.id);
        let fresh = lines.is_empty() && !failed_only && before.is_none();
        let first_app = match fresh {
            true => store.applications(tenant, &PageRequest::first(1, Order::Ascending)).await?.data.pop(),
            false => None,
        };
        Ok(Newest {
            failed_only,
            paged: before.is_some(),
            all: link(range, false),
            failed: link(range, true),
            older: last.map(|id| format!("{}&before={id}#attempts", link(range, failed_only))),
            fresh,
            first_app: first_app.map(|app| Place::of_application(app.id).home().to_owned()),
            attempts: lines.iter().map(|line| AttemptRow::new(line, now)).collect(),
        })
    }

    /// The first page.
    fn same(&self) -> &str {
        if self.failed_only { &self.failed } else { &self.all }
    }
}

impl AttemptRow {
    pub(super) fn new(line: &AttemptLine, now: Time) -> AttemptRow {
        let badge = match (&line.failure, line.next_at) {
            (None, _) => Badge::Delivered,
            (Some(_), Some(_)) => Badge::Failed,
            (Some(_), None) => Badge::Dead,
        };
        let answer = match (line.status, &line.failure) {
            (Some(status), _) => Line::new(&format::status(u16::try_from(status).unwrap_or_default())),
            (None, Some(_)) => Line::cut(&line.detail, 120),
            (None, None) => Line::default(),
        };
        AttemptRow {
            badge,
            when: When::new(line.at, now),
            app: Line::new(&line.app_name),
            event_type: line.event_type.as_deref().map(Line::new),
            href: Place::of_application(line.app_id).message(line.message_id),
            address: Address::new(&line.url),
            number: line.number,
            answer,
            took: format::took(Duration::from_micros(line.duration_us.max(0) as u64)),
            next: line.next_at.map(|at| When::new(at, now)).filter(When::ahead),
        }
    }
}
