//! The page of a bulk resend: progress, outcome and the cancel button; and the list of the latest ones.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::bulk::{base, tally, utc};
use crate::dashboard::components::filters::CLASSES;
use crate::dashboard::components::format::{Line, UrlQuery, count, counted};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::widgets::{Badge, RelativeTime};
use crate::dashboard::http::current_user::{CurrentUser, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::{BackgroundId, Time, TimeRange};
use crate::store::jobs::background::{Background, BackgroundSpec, TaskSelection};
use crate::store::jobs::resent_deliveries;
use crate::store::query::delivery_counts::DeliveryCounts;
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use crate::store::{AppRef, EndpointRef, Order, PageRequest, Store, StoreError, Tenant};

/// Stored as the person of jobs that the customer started.
pub const CUSTOMER: &str = "the customer";

/// The length of the list.
const LISTED: usize = 20;

pub struct BulkJobRow {
    pub badge: Badge,
    pub href: String,
    pub what: &'static str,
    pub target: Line,
    pub sent: String,
    pub by: PageText,
    pub begun: RelativeTime,
}

/// The tenant's latest background jobs.
///
/// # Errors
/// The store is unavailable.
pub async fn latest(store: &Store, tenant: &Tenant, base: &str, now: Time) -> Result<Vec<BulkJobRow>, StoreError> {
    let page = PageRequest::first(LISTED, Order::Descending);
    let mut rows = Vec::new();
    for job in store.backgrounds(tenant, &[], None, &page).await?.data {
        rows.push(BulkJobRow {
            badge: badge(job.stage),
            href: format!("{base}/resend/{}", job.id),
            what: what(&job.spec),
            target: target(store, tenant, &job.spec).await?,
            sent: progress(&job),
            by: started_by(&job.spec.by),
            begun: RelativeTime::new(job.created_at, now),
        });
    }
    Ok(rows)
}

/// The person who started a job.
fn started_by(by: &str) -> PageText {
    if by == CUSTOMER { PageText::own(by) } else { PageText::foreign(by, 60) }
}

fn badge(stage: TaskStage) -> Badge {
    match stage {
        TaskStage::Running => Badge::Running,
        TaskStage::Finished => Badge::Finished,
        TaskStage::Failed => Badge::Failed,
        TaskStage::Canceled => Badge::Canceled,
    }
}

/// A description of the deliveries.
fn what(spec: &BackgroundSpec) -> &'static str {
    let listed = spec.selection.listed().and_then(|filter| filter.status);
    let dead = spec.selection.messages().is_some_and(|filter| filter.standings == [DeliveryStatus::Dead]);
    match (spec.kind, listed) {
        (TaskKind::ReplayMissing, _) => "never-sent deliveries",
        (TaskKind::Recover, _) => "dead deliveries",
        (_, Some(DeliveryStatusFilter::Pending)) => "pending deliveries",
        (_, Some(DeliveryStatusFilter::Retrying)) => "deliveries being retried",
        (_, Some(DeliveryStatusFilter::Delivered)) => "delivered deliveries",
        (_, Some(DeliveryStatusFilter::Dead)) => "dead deliveries",
        (_, Some(DeliveryStatusFilter::Failed)) => "failed deliveries",
        (_, Some(DeliveryStatusFilter::Canceled)) => "canceled deliveries",
        (TaskKind::BulkReplay, None) if dead => "dead deliveries",
        (TaskKind::BulkReplay, None) => "filtered deliveries",
        (TaskKind::Reconcile, None) => "deliveries missing at the receiver",
    }
}

/// `812 of about 4,812`; after the end, or above the estimate, the number alone.
fn progress(job: &Background) -> String {
    match job.spec.total {
        Some(total) if job.stage != TaskStage::Finished && job.sent <= total.count => {
            format!("{} of about {}{}", count(job.sent), count(total.count), if total.more { "+" } else { "" })
        }
        _ => count(job.sent),
    }
}

/// The target: an endpoint's URL, an application or all of them.
async fn target(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Line, StoreError> {
    let listed = spec.selection.listed().and_then(|filter| filter.endpoint);
    let scope = match (spec.scope, listed) {
        (TaskScope::Organization, Some(endpoint)) => match store.application_of(tenant, endpoint).await? {
            Some(app) => TaskScope::Endpoint(app, endpoint),
            None => return Ok(Line::new(&endpoint.to_string())),
        },
        (scope, _) => scope,
    };
    let Some(id) = scope.app() else { return Ok(Line::new("all applications")) };
    let app = store.application(tenant, &AppRef::Id(id)).await?;
    let app = app.map_or_else(|| id.to_string(), |app| app.name);
    let Some(id) = scope.endpoint() else { return Ok(Line::cut(&app, 80)) };
    let endpoint = match scope.app() {
        Some(app) => store.endpoint(tenant, app, &EndpointRef::Id(id)).await?,
        None => None,
    };
    let url = endpoint.map_or_else(|| id.to_string(), |endpoint| endpoint.spec.url);
    // A customer has one application.
    let text = if tenant.only.is_some() { url } else { format!("{url} of {app}") };
    Ok(Line::cut(&text, 160))
}

/// A filter of a job: its name, which is translated, and its value.
pub struct JobFact {
    pub name: Line,
    pub value: Line,
}

impl JobFact {
    fn named(name: &str, value: &str) -> JobFact {
        JobFact { name: Line::new(name), value: Line::cut(value, 160) }
    }
}

/// The filters of the job.
///
/// # Errors
/// The store is unavailable.
pub async fn facts(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Vec<JobFact>, StoreError> {
    let mut facts = vec![
        JobFact::named(what(spec), ""),
        JobFact { name: Line::default(), value: target(store, tenant, spec).await? },
    ];
    facts.push(match spec.selection.accepted() {
        TimeRange { since: Time::ZERO, until } => JobFact::named("accepted before", &utc(until)),
        TimeRange { since, until } => JobFact::named("accepted", &format!("{} – {}", utc(since), utc(until))),
    });
    let (event_types, wanted, listed) = match &spec.selection {
        TaskSelection::Messages(filter) => (&filter.topics.event_types, filter.status_class, None),
        TaskSelection::Listed(filter) => (&filter.event_types, filter.class.map(i32::from), Some(filter)),
    };
    facts.extend(event_types.iter().map(|name| JobFact::named("event type", name)));
    let class = CLASSES.into_iter().find(|(_, class)| Some(i32::from(*class)) == wanted);
    facts.extend(class.map(|(name, class)| match class {
        0 => JobFact::named("no response", ""),
        _ => JobFact::named("last response", name),
    }));
    if let Some(listed) = listed {
        facts.extend(listed.text.as_deref().map(|text| JobFact::named("payload contains", &format!("“{text}”"))));
        let rows =
            listed.rows.as_ref().map(|rows| counted(rows.len() as i64, "selected delivery", "selected deliveries"));
        let messages = || listed.messages.as_ref().map(|ids| counted(ids.len() as i64, "message", "messages"));
        facts.extend(rows.or_else(messages).map(|text| JobFact::named(&text, "")));
    }
    Ok(facts)
}

/// The number of resent deliveries in a state, with a link to them.
struct OutcomeCount {
    text: String,
    kind: &'static str,
    /// `None`: the user has no list of deliveries.
    href: Option<String>,
}

impl OutcomeCount {
    /// The outcome by state.
    fn all(tally: &DeliveryCounts, user: &CurrentUser, id: BackgroundId) -> Vec<OutcomeCount> {
        let outcomes = [
            (tally.delivered, "delivered", DeliveryStatusFilter::Delivered),
            (tally.retrying, "waiting or retrying", DeliveryStatusFilter::Retrying),
            (tally.pending, "pending", DeliveryStatusFilter::Pending),
            (tally.dead, "dead", DeliveryStatusFilter::Dead),
            (tally.canceled, "canceled", DeliveryStatusFilter::Canceled),
        ];
        let outcome = |(n, name, status): (i64, &str, DeliveryStatusFilter)| OutcomeCount {
            text: format!("{} {name}", count(n)),
            kind: status.word(),
            href: list(user, id, &format!("&status={}", status.word())),
        };
        outcomes.into_iter().filter(|(n, ..)| *n > 0).map(outcome).collect()
    }
}

/// The path of the list of deliveries that the job queued.
fn list(user: &CurrentUser, id: BackgroundId, more: &str) -> Option<String> {
    user.shows(PortalPage::Deliveries).then(|| format!("{}/deliveries?resend={id}{more}", base(user)))
}

#[derive(Template)]
#[template(path = "bulk_job.html")]
struct BulkJobPage {
    layout: PageLayout,
    base: &'static str,
    id: BackgroundId,
    badge: Badge,
    title: String,
    running: bool,
    /// The job is running or deliveries are due, so the page refreshes itself.
    live: bool,
    facts: Vec<JobFact>,
    outcome: Vec<OutcomeCount>,
    /// The path of the list of all queued deliveries.
    all: Option<String>,
    /// The limit of the outcome, if it was reached.
    followed: Option<String>,
    /// Value and maximum; `None`: no estimate, or exceeded.
    bar: Option<(i64, i64)>,
    sent: String,
    rest: String,
    reason: Option<Line>,
    by: PageText,
    begun: RelativeTime,
    changed: RelativeTime,
    may_cancel: bool,
}

/// `GET /resend/{job}`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentUser>) -> PageResult {
    let (tenant, now) = (user.tenant(), state.clock.now());
    let job = state.store.background(&tenant, named(&request)?).await?.ok_or(PageError::NotFound)?;
    let query = UrlQuery::of(&request);
    let filter = DeliveryFilter { resent: Some(job.id), ..DeliveryFilter::default() };
    let tally = tally(&state.store, &tenant, &filter, now).await?;
    let running = job.stage == TaskStage::Running;
    let page = BulkJobPage {
        layout: PageLayout::of(&user, NavItem::Resends).with_notice(query.get("notice")),
        base: base(&user),
        id: job.id,
        badge: badge(job.stage),
        title: title(&job),
        running,
        live: running || tally.due > 0,
        outcome: OutcomeCount::all(&tally, &user, job.id),
        all: list(&user, job.id, "").filter(|_| tally.found() > 0),
        followed: (job.sent > resent_deliveries::MOST).then(|| count(resent_deliveries::MOST)),
        facts: facts(&state.store, &tenant, &job.spec).await?,
        bar: bar(&job),
        sent: progress(&job),
        rest: rest(&job),
        reason: job.reason.as_deref().filter(|_| job.stage == TaskStage::Failed).map(|reason| Line::cut(reason, 400)),
        by: started_by(&job.spec.by),
        begun: RelativeTime::new(job.created_at, now),
        changed: RelativeTime::new(job.updated_at, now),
        may_cancel: user.can(Capability::CreateAttempts),
    };
    answer(StatusCode::OK, &page)
}

fn title(job: &Background) -> String {
    let sent = counted(job.sent, "delivery", "deliveries");
    match (job.stage, job.spec.total) {
        (TaskStage::Running, Some(total)) => {
            let all = counted(total.count, "delivery", "deliveries");
            format!("Resending {}{all}", if total.more { "more than " } else { "" })
        }
        (TaskStage::Running, None) => "Resending".to_owned(),
        (TaskStage::Finished, _) => format!("Resent {sent}"),
        (TaskStage::Failed, _) => format!("Stopped after {sent}"),
        (TaskStage::Canceled, _) => format!("Canceled after {sent}"),
    }
}

fn bar(job: &Background) -> Option<(i64, i64)> {
    let total = job.spec.total.filter(|total| !total.more && total.count >= job.sent.max(1))?;
    (job.stage != TaskStage::Finished).then_some((job.sent.min(total.count), total.count))
}

/// The label of the cancel button.
fn rest(job: &Background) -> String {
    match job.spec.total {
        Some(total) if !total.more && total.count > job.sent => {
            format!("Cancel remaining {}", count(total.count - job.sent))
        }
        _ => "Cancel remaining".to_owned(),
    }
}

/// `POST /resend/{job}/cancel`.
pub async fn cancel(FormInput { state, request, user, .. }: FormInput<CurrentUser>) -> PageResult {
    user.need(Capability::CreateAttempts)?;
    let (id, tenant) = (named(&request)?, user.tenant());
    let canceled = user.store(&state.store).cancel_background(&tenant, id, state.clock.now()).await?;
    tracing::info!(org = %user.org, %id, canceled, "bulk resend canceled from the dashboard");
    let notice = if canceled { FlashNotice::ResendCanceled } else { FlashNotice::ResendOver };
    Ok(done(&format!("{}/resend/{id}", base(&user)), notice))
}

fn named(request: &HttpRequest) -> Result<BackgroundId, PageError> {
    part(request, "work")?.parse().map_err(|_| PageError::NotFound)
}
