//! The overview: what happened lately, in one sentence with the numbers in it; then the chart that supports it, what is stuck or late,
//! and the newest attempts.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::chart::{Chart, buckets};
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::parts::{Address, Badge, When};
use super::place::Place;
use super::show::{self, Line, Query, count, count_up_to};
use super::viewer::Signed;
use crate::domain::delivery::State;
use crate::domain::{AttemptId, Time};
use crate::store::attempts::AttemptLine;
use crate::store::rollups::{Counts, LATENCY_BOUNDS_MS, total};

/// How many attempts are on a page.
const ATTEMPTS: i64 = 50;
/// States are counted up to here.
const MOST: i64 = 10_000;
/// What is late by less is merely on its way.
const LATE: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// The span that the numbers are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    Hour,
    Day,
}

impl Range {
    fn of(query: &Query) -> Range {
        if query.get("range") == Some("24h") { Range::Day } else { Range::Hour }
    }

    fn word(self) -> &'static str {
        match self {
            Range::Hour => "1h",
            Range::Day => "24h",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Range::Hour => "In the last hour",
            Range::Day => "In the last 24 hours",
        }
    }

    /// The span, the width of a bar and its name, and the distance of labels.
    fn spans(self) -> (Duration, Duration, &'static str, Duration) {
        match self {
            Range::Hour => (MINUTE * 60, MINUTE, "minute", MINUTE * 15),
            Range::Day => (MINUTE * 1_440, MINUTE * 15, "15 minutes", MINUTE * 360),
        }
    }
}

/// A row of the newest attempts.
pub(super) struct AttemptRow {
    pub badge: Badge,
    pub when: When,
    pub app: Line,
    /// `None`: the message is gone.
    pub event_type: Option<Line>,
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

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    range: Range,
    links: Links,
    failed_only: bool,
    paged: bool,
    delivered: String,
    failed: String,
    retrying: String,
    dead: String,
    /// Something failed for good in the range.
    any_dead: bool,
    any_failed: bool,
    dead_in_all: String,
    latency: Option<String>,
    late: Option<Late>,
    waiting: Option<String>,
    stuck: Option<String>,
    /// How what the organization itself is told arrived in the range; `None`: nothing was, and it does not listen.
    told: Option<String>,
    chart: Option<Chart>,
    attempts: Vec<AttemptRow>,
    /// Where the table goes on.
    older: Option<String>,
    /// Nothing was ever sent, as far as this page can see.
    fresh: bool,
}

/// The page's URL with another range or another filter.
struct Links {
    same: String,
    hour: String,
    day: String,
    all: String,
    failed: String,
}

impl Links {
    fn new(range: Range, failed_only: bool) -> Links {
        Links {
            same: link(range, failed_only),
            hour: link(Range::Hour, failed_only),
            day: link(Range::Day, failed_only),
            all: link(range, false),
            failed: link(range, true),
        }
    }
}

fn link(range: Range, failed_only: bool) -> String {
    format!("/?range={}{}", range.word(), if failed_only { "&show=failed" } else { "" })
}

/// `GET /`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(&request), state.clock.now(), signed.tenant(), &state.store);
    let (range, failed_only) = (Range::of(&query), query.get("show") == Some("failed"));
    let before: Option<AttemptId> = query.get("before").and_then(|id| id.parse().ok());
    let (span, width, per, step) = range.spans();
    let since = now.minus(span);

    let minutes = store.minutes(&tenant, None, since).await?;
    let counts = total(&minutes);
    let mut lines = store.newest_attempts(&tenant, failed_only, before, ATTEMPTS + 1).await?;
    let more = lines.len() > ATTEMPTS as usize;
    lines.truncate(ATTEMPTS as usize);
    let last = lines.last().filter(|_| more).map(|line| line.id);
    let depth = store.outbox_depth().await?;
    let told = total(&store.operational_minutes(&tenant, since).await?);
    let listens = told.attempts() > 0 || store.operational_application(&tenant).await?.is_some();
    let late = store.oldest_due(&tenant, now.minus(LATE)).await?;

    let page = Overview {
        frame: Frame::of(&signed, Here::Overview),
        range,
        links: Links::new(range, failed_only),
        failed_only,
        paged: before.is_some(),
        delivered: count(counts.delivered),
        failed: count(counts.failed),
        retrying: count_up_to(store.count_in(&tenant, State::Retry, MOST).await?, MOST),
        dead: count(counts.dead),
        any_dead: counts.dead > 0,
        any_failed: counts.failed > 0,
        dead_in_all: count_up_to(store.count_in(&tenant, State::Dead, MOST).await?, MOST),
        latency: latency(&counts),
        late: late.map(|line| Late {
            since: When::new(line.due_at, now),
            href: Place::of_application(line.app_id).message(line.message_id),
            what: line.event_type.as_deref().map_or_else(|| Line::new("a message"), |name| Line::cut(name, 80)),
            address: Address::new(&line.url),
        }),
        waiting: (depth.waiting > 0).then(|| count_up_to(depth.waiting, 100_000)),
        stuck: (depth.stuck > 0).then(|| show::counted(depth.stuck, "outbox row", "outbox rows")),
        told: listens.then(|| format!("{} delivered, {} failed", count(told.delivered), count(told.failed))),
        chart: (counts.attempts() > 0).then(|| Chart::new(&buckets(&minutes, since, now, width), width, per, step)),
        fresh: lines.is_empty() && !failed_only && before.is_none(),
        attempts: lines.iter().map(|line| AttemptRow::new(line, now)).collect(),
        older: last.map(|id| format!("{}&before={id}#attempts", link(range, failed_only))),
    };
    answer(StatusCode::OK, &page)
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

/// `half within 50 ms, 95 % within 250 ms, 99 % within 1 s`: as exact as the histogram is.
fn latency(counts: &Counts) -> Option<String> {
    let all: i64 = counts.latency.iter().sum();
    let within = |share: f64| {
        let wanted = (all as f64 * share).ceil() as i64;
        let mut seen = 0;
        let place = counts.latency.iter().position(|bucket| {
            seen += bucket;
            seen >= wanted
        })?;
        Some(match LATENCY_BOUNDS_MS.get(place) {
            Some(ms) if *ms < 1_000 => format!("within {ms} ms"),
            Some(ms) => format!("within {} s", *ms as f64 / 1_000.0),
            None => "over 15 s".to_owned(),
        })
    };
    (all > 0).then_some(())?;
    Some(format!("half {}, 95 % {}, 99 % {}", within(0.5)?, within(0.95)?, within(0.99)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_as_exact_as_the_histogram() {
        let mut counts = Counts::default();
        assert_eq!(latency(&counts), None);
        counts.latency[1] = 90;
        counts.latency[5] = 8;
        counts.latency[11] = 2;
        assert_eq!(latency(&counts).unwrap(), "half within 10 ms, 95 % within 250 ms, 99 % over 15 s");
        counts.latency = [0; 12];
        counts.latency[8] = 1;
        assert_eq!(latency(&counts).unwrap(), "half within 2.5 s, 95 % within 2.5 s, 99 % within 2.5 s");
    }
}
