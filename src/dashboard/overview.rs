//! The overview: what happened lately, in one sentence with the numbers in it; then the charts that support it, who fails most, what is
//! stuck or late, and the newest attempts.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::chart::{Chart, LatencyChart, second};
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::health::Health;
use super::parts::{Address, Badge, When};
use super::place::Place;
use super::range::{self, RangeLink};
use super::rates;
use super::show::{self, Line, Query, count, count_up_to};
use super::viewer::Signed;
use crate::domain::delivery::State;
use crate::domain::{AttemptId, Time};
use crate::store::ingest::outbox::OutboxDepth;
use crate::store::query::attempts::AttemptLine;
use crate::store::query::counts::{FailingEndpoint, Range, Scope};
use crate::store::recording::rollups::{Counts, total};
use crate::store::{Store, StoreError, Tenant};

/// How many attempts are on a page.
const ATTEMPTS: i64 = 50;
/// How many of the endpoints that fail most.
const WORST: i64 = 5;
/// States are counted up to here.
const MOST: i64 = 10_000;
/// What is late by less is merely on its way.
const LATE: Duration = Duration::from_secs(5);
/// The list that numbers and bars lead to.
const LIST: &str = "/deliveries?";

/// A row of the newest attempts.
pub(super) struct AttemptRow {
    pub badge: Badge,
    pub when: When,
    pub app: Line,
    /// `None`: the message is gone.
    pub event_type: Option<Line>,
    /// Empty: who looks has no page of it.
    pub href: String,
    pub address: Address,
    pub number: i32,
    pub answer: Line,
    pub took: String,
    pub next: Option<When>,
}

/// The delivery that has been due for longest.
struct Late {
    since: When,
    href: String,
    what: Line,
    address: Address,
}

/// An endpoint that fails, with its numbers.
struct Worst {
    href: String,
    address: Address,
    app: Line,
    failed: String,
    /// The list of what failed there.
    failures: String,
    rest: String,
}

/// The first line's numbers, and what stands beside it.
struct Sentence {
    opening: &'static str,
    sent: String,
    failed: String,
    retrying: String,
    dead: String,
    any_failed: bool,
    any_retrying: bool,
    /// Something failed for good in the range.
    any_dead: bool,
    links: Links,
}

/// Where the numbers lead.
struct Links {
    sent: String,
    failed: String,
    retrying: String,
    dead: String,
}

/// What waits longer than it should.
struct Waits {
    late: Option<Late>,
    waiting: Option<String>,
    stuck: Option<String>,
    dead_in_all: Option<String>,
}

/// The table of attempts.
struct Newest {
    attempts: Vec<AttemptRow>,
    failed_only: bool,
    paged: bool,
    /// This page with all attempts, or with failed ones alone.
    all: String,
    failed: String,
    /// Where the table goes on.
    older: Option<String>,
    /// Nothing was ever sent, as far as this page can see.
    fresh: bool,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    ranges: Vec<RangeLink>,
    sentence: Sentence,
    waits: Waits,
    latency: Option<String>,
    /// How what the organization itself is told arrived in the range; `None`: nothing was, and it does not listen.
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
    let chart = || (Chart::new(&buckets, range, LIST), LatencyChart::new(&buckets, range, LIST));
    let page = Overview {
        frame,
        ranges: range::links(range, |range| link(range, newest.failed_only)),
        sentence: Sentence::new(&counts, store.count_in(&tenant, State::Retry, MOST).await?, range, now),
        waits: Waits::read(store, &tenant, now).await?,
        latency: rates::latency(&counts),
        told: listens.then(|| format!("{} delivered, {} failed", count(told.delivered), count(told.failed))),
        charts: (counts.attempts() > 0).then(chart),
        worst: worst.iter().map(|one| Worst::new(one, range, now)).collect(),
        health: Health::of(store, now).await?,
        newest,
    };
    answer(StatusCode::OK, &page)
}

impl Sentence {
    fn new(counts: &Counts, retrying: i64, range: Range, now: Time) -> Sentence {
        let since = second(range.since(now));
        Sentence {
            opening: range::opening(range),
            sent: count(counts.attempts()),
            failed: count(counts.failed),
            retrying: count_up_to(retrying, MOST),
            dead: count(counts.dead),
            any_failed: counts.failed > 0,
            any_retrying: retrying > 0,
            any_dead: counts.dead > 0,
            links: Links {
                sent: format!("{LIST}since={since}"),
                failed: format!("{LIST}status=failed&since={since}"),
                retrying: format!("{LIST}status=retrying"),
                dead: format!("{LIST}status=dead&since={since}"),
            },
        }
    }
}

impl Worst {
    fn new(one: &FailingEndpoint, range: Range, now: Time) -> Worst {
        let FailingEndpoint { endpoint_id, app_id, counts, .. } = one;
        let dead = if counts.dead > 0 { format!(", {} for good", count(counts.dead)) } else { String::new() };
        Worst {
            href: format!("/applications/{app_id}/endpoints/{endpoint_id}"),
            address: Address::new(&one.url),
            app: Line::cut(&one.app_name, 80),
            failed: format!("{} failed", count(counts.failed)),
            failures: format!("{LIST}status=failed&endpoint={endpoint_id}&since={}", second(range.since(now))),
            rest: format!("of {}{dead}", count(counts.attempts())),
        }
    }
}

impl Waits {
    async fn read(store: &Store, tenant: &Tenant, now: Time) -> Result<Waits, StoreError> {
        let late = store.oldest_due(tenant, now.minus(LATE)).await?;
        let OutboxDepth { waiting, stuck } = store.outbox_depth().await?;
        let dead = store.count_in(tenant, State::Dead, MOST).await?;
        Ok(Waits {
            late: late.map(|line| Late {
                since: When::new(line.due_at, now),
                href: Place::of_application(line.app_id).message(line.message_id),
                what: line.event_type.as_deref().map_or_else(|| Line::new("a message"), |name| Line::cut(name, 80)),
                address: Address::new(&line.url),
            }),
            waiting: (waiting > 0).then(|| count_up_to(waiting, 100_000)),
            stuck: (stuck > 0).then(|| show::counted(stuck, "outbox row", "outbox rows")),
            dead_in_all: (dead > 0).then(|| count_up_to(dead, MOST)),
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
        Ok(Newest {
            failed_only,
            paged: before.is_some(),
            all: link(range, false),
            failed: link(range, true),
            older: last.map(|id| format!("{}&before={id}#attempts", link(range, failed_only))),
            fresh: lines.is_empty() && !failed_only && before.is_none(),
            attempts: lines.iter().map(|line| AttemptRow::new(line, now)).collect(),
        })
    }

    /// This page at its beginning.
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
            (Some(status), _) => Line::new(&show::status(u16::try_from(status).unwrap_or_default())),
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
            took: show::took(Duration::from_micros(line.duration_us.max(0) as u64)),
            next: line.next_at.map(|at| When::new(at, now)).filter(When::ahead),
        }
    }
}
