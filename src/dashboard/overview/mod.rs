//! The overview: the number of deliveries by state, warnings, charts, endpoints with the most failures, latest
//! attempts.
//!
//! * [`delivery_summary`] – the sentence with the numbers. [`health_card`] – the database and the sending processes.
//!
//! Invariant: every number links to exactly the deliveries that it counts.

pub(in crate::dashboard) mod delivery_summary;
pub(in crate::dashboard) mod health_card;

use std::time::Duration;

use actix_web::http::StatusCode;
use askama::Template;

use super::bulk::tally;
use crate::dashboard::components::chart::{Chart, LatencyChart, second};
use crate::dashboard::components::failure_hints::in_words;
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, count, count_up_to};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::components::widgets::{Address, Badge, RelativeTime};
use crate::dashboard::endpoints::endpoint_backoff::BackoffSummary;
use crate::dashboard::endpoints::endpoint_stats;
use crate::dashboard::endpoints::endpoint_stats::ResponseTimes;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::overview::delivery_summary::{DeliverySummary, SummaryScope};
use crate::dashboard::overview::health_card::HealthCard;
use crate::domain::deliveries::attempt::Failure;
use crate::domain::deliveries::delivery::DeliveryState;
use crate::domain::{AttemptId, Time, TimeRange};
use crate::store::ingest::outbox::OutboxDepth;
use crate::store::query::attempts::ListedAttempt;
use crate::store::query::counts::{ChartRange, CountScope, FailingEndpoint};
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use crate::store::recording::rollups::total;
use crate::store::{Order, PageRequest, Store, StoreError, Tenant};

/// Attempts per page.
const ATTEMPTS: i64 = 50;
/// Number of failing endpoints listed.
const FAILING: i64 = 5;
/// Maximum count.
const MOST: i64 = 10_000;
/// The minimum delay at which a due delivery is reported as late.
const LATE: Duration = Duration::from_secs(5);
/// The list that numbers and bars link to.
const LIST: &str = "/deliveries?";

pub(super) struct AttemptRow {
    pub badge: Badge,
    pub when: RelativeTime,
    pub app: Line,
    /// `None`: the message was deleted.
    pub event_type: Option<Line>,
    /// Empty: the user cannot open the message.
    pub href: String,
    pub address: Address,
    pub number: i32,
    pub answer: Line,
    /// The details of the failure.
    pub detail: Line,
    pub took: String,
    pub next: Option<RelativeTime>,
}

/// The delivery that has been due for the longest time.
struct OldestDue {
    since: RelativeTime,
    href: String,
    what: Line,
    address: Address,
}

/// A failing endpoint.
struct FailingEndpointRow {
    href: String,
    address: Address,
    app: Line,
    deliveries: i64,
    /// The number of failed deliveries: `13 failed`.
    failed: String,
    /// The list of these deliveries.
    failures: String,
    /// The share of successful attempts.
    rate: Option<String>,
}

/// Deliveries and outbox rows that are waiting.
struct BacklogSummary {
    oldest_due: Option<OldestDue>,
    /// Deliveries that wait for an attempt, in total: not yet attempted (`pending`) and being retried (`retrying`).
    total: String,
    pending: String,
    retrying: String,
    outbox: Option<String>,
    stuck: Option<String>,
    dead: Option<String>,
}

/// The table of latest attempts.
struct LatestAttempts {
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
    /// An application's page, if nothing has been sent yet and there is an application.
    first_app: Option<String>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    layout: PageLayout,
    ranges: Vec<RangeLink>,
    opening: &'static str,
    summary: DeliverySummary,
    backlog: BacklogSummary,
    backoff: Option<BackoffSummary>,
    response_times: Option<String>,
    /// The counts of operational webhooks in the range. `None`: there are none.
    operational: Option<String>,
    charts: Option<(Chart, LatencyChart)>,
    failing: Vec<FailingEndpointRow>,
    health: HealthCard,
    latest: LatestAttempts,
}

fn link(range: ChartRange, failed_only: bool) -> String {
    format!("/?range={}{}", range::word(range), if failed_only { "&show=failed" } else { "" })
}

/// `GET /`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (query, now, tenant, store) = (UrlQuery::of(&request), state.clock.now(), user.tenant(), &state.store);
    let layout = PageLayout::of(&user, NavItem::Overview);
    let range = range::of(&query);
    let latest = LatestAttempts::read(store, &tenant, &query, now).await?;
    let buckets = store.buckets(&tenant, CountScope::Organization, range, now).await?;
    let totals = store.period_totals(&tenant, CountScope::Organization, range, now).await?;
    let operational = total(&store.buckets(&tenant, CountScope::Operational, range, now).await?);
    let listens = operational.attempts() > 0 || store.operational_application(&tenant).await?.is_some();
    let failing = store.top_failing(&tenant, range, now, FAILING).await?;
    let counts = total(&buckets);
    let mut rows = Vec::new();
    for one in &failing {
        rows.push(FailingEndpointRow::read(store, &tenant, one, range, now).await?);
    }
    // The store ranks by failed attempts; the page shows deliveries.
    rows.sort_by_key(|row| std::cmp::Reverse(row.deliveries));
    let since = range.since(now);
    let scope = SummaryScope { list: Some(LIST), app: None, since, since_text: &second(since) };
    let chart = || (Chart::new(&buckets, range, LIST).compared(&totals), LatencyChart::new(&buckets, range, LIST));
    let page = Overview {
        layout,
        ranges: range::links(range, |range| link(range, latest.failed_only)),
        opening: range::opening(range),
        summary: DeliverySummary::of(store, &tenant, &scope, now).await?,
        backlog: BacklogSummary::read(store, &tenant, user.sees_all(), now).await?,
        backoff: BackoffSummary::of(store, &tenant, now).await?,
        response_times: ResponseTimes::of(&counts).map(|times| times.text()),
        operational: listens.then(|| {
            format!("{} attempts delivered, {} failed", count(operational.delivered), count(operational.failed))
        }),
        charts: (counts.attempts() > 0).then(chart),
        failing: rows,
        health: HealthCard::of(store, now).await?,
        latest,
    };
    answer(StatusCode::OK, &page)
}

impl FailingEndpointRow {
    async fn read(
        store: &Store,
        tenant: &Tenant,
        one: &FailingEndpoint,
        range: ChartRange,
        now: Time,
    ) -> Result<FailingEndpointRow, StoreError> {
        let FailingEndpoint { endpoint_id, app_id, counts, .. } = one;
        let since = range.since(now);
        let filter = DeliveryFilter {
            status: Some(DeliveryStatusFilter::Failed),
            endpoint: Some(*endpoint_id),
            accepted: TimeRange { since, ..TimeRange::default() },
            ..DeliveryFilter::default()
        };
        let tally = tally(store, tenant, &filter, now).await?;
        Ok(FailingEndpointRow {
            href: format!("/applications/{app_id}/endpoints/{endpoint_id}"),
            address: Address::new(&one.url),
            app: Line::cut(&one.app_name, 80),
            deliveries: tally.found(),
            failed: format!("{}{} failed", count(tally.found()), if tally.more { "+" } else { "" }),
            failures: format!("{LIST}status=failed&endpoint={endpoint_id}&since={}", second(since)),
            rate: endpoint_stats::rate(counts),
        })
    }
}

impl BacklogSummary {
    async fn read(store: &Store, tenant: &Tenant, sees_all: bool, now: Time) -> Result<BacklogSummary, StoreError> {
        let oldest_due = store.oldest_due(tenant, now.minus(LATE)).await?;
        // Rows of the outbox belong to no organization yet.
        let depth = if sees_all { store.outbox_depth().await? } else { OutboxDepth { waiting: 0, stuck: 0 } };
        let OutboxDepth { waiting, stuck } = depth;
        let [pending, retrying, dead] = [
            store.count_in_state(tenant, DeliveryState::Fresh, MOST).await?,
            store.count_in_state(tenant, DeliveryState::Retry, MOST).await?,
            store.count_in_state(tenant, DeliveryState::Dead, MOST).await?,
        ];
        Ok(BacklogSummary {
            oldest_due: oldest_due.map(|line| OldestDue {
                since: RelativeTime::new(line.due_at, now),
                href: AppPaths::of_application(line.app_id).message(line.message_id),
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

impl LatestAttempts {
    async fn read(store: &Store, tenant: &Tenant, query: &UrlQuery, now: Time) -> Result<LatestAttempts, StoreError> {
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
        Ok(LatestAttempts {
            failed_only,
            paged: before.is_some(),
            all: link(range, false),
            failed: link(range, true),
            older: last.map(|id| format!("{}&before={id}#attempts", link(range, failed_only))),
            fresh,
            first_app: first_app.map(|app| AppPaths::of_application(app.id).home().to_owned()),
            attempts: lines.iter().map(|line| AttemptRow::new(line, now)).collect(),
        })
    }

    /// The first page.
    fn same(&self) -> &str {
        if self.failed_only { &self.failed } else { &self.all }
    }
}

impl AttemptRow {
    pub(super) fn new(line: &ListedAttempt, now: Time) -> AttemptRow {
        let badge = match (&line.failure, line.next_at) {
            (None, _) => Badge::Delivered,
            (Some(_), Some(_)) => Badge::Failed,
            (Some(_), None) => Badge::Dead,
        };
        let answer = match (line.status, &line.failure) {
            (Some(status), _) => Line::new(&format::status(u16::try_from(status).unwrap_or_default())),
            (None, Some(word)) => match Failure::from_word(word) {
                Some(failure) => Line::new(in_words(failure)),
                None => Line::new(word),
            },
            (None, None) => Line::default(),
        };
        AttemptRow {
            badge,
            when: RelativeTime::new(line.at, now),
            app: Line::new(&line.app_name),
            event_type: line.event_type.as_deref().map(Line::new),
            href: AppPaths::of_application(line.app_id).message(line.message_id),
            address: Address::new(&line.url),
            number: line.number,
            answer,
            detail: Line::cut(&line.detail, 240),
            took: format::took(Duration::from_micros(line.duration_us.max(0) as u64)),
            next: line.next_at.map(|at| RelativeTime::new(at, now)).filter(RelativeTime::ahead),
        }
    }
}
