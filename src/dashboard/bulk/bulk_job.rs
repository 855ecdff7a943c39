//! The page of a bulk resend: progress, outcome and the cancel button; and the list of the latest ones.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::bulk::{base, tally, utc};
use crate::dashboard::components::filters::CLASSES;
use crate::dashboard::components::format::{Line, Query, count, counted};
use crate::dashboard::components::parts::{Badge, When};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Viewer, part};
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::deliveries::background::{Kind, Scope, Stage};
use crate::domain::deliveries::delivery::Standing;
use crate::domain::{BackgroundId, Time};
use crate::store::jobs::background::{Background, BackgroundSpec};
use crate::store::jobs::resent;
use crate::store::query::delivery_list::{DeliveryFilter, DeliveryStatus};
use crate::store::query::delivery_tally::DeliveryTally;
use crate::store::{AppRef, EndpointRef, Order, PageRequest, Store, StoreError, Tenant};

/// The length of the list.
const LISTED: usize = 20;

pub struct WorkRow {
    pub badge: Badge,
    pub href: String,
    pub what: &'static str,
    pub place: Line,
    pub sent: String,
    pub by: Line,
    pub begun: When,
}

/// The tenant's latest background jobs.
///
/// # Errors
/// The store is unavailable.
pub async fn latest(store: &Store, tenant: &Tenant, base: &str, now: Time) -> Result<Vec<WorkRow>, StoreError> {
    let page = PageRequest::first(LISTED, Order::Descending);
    let mut rows = Vec::new();
    for work in store.backgrounds(tenant, &[], None, &page).await?.data {
        rows.push(WorkRow {
            badge: badge(work.stage),
            href: format!("{base}/resend/{}", work.id),
            what: what(&work.spec),
            place: place(store, tenant, &work.spec).await?,
            sent: progress(&work),
            by: Line::cut(&work.spec.by, 60),
            begun: When::new(work.created_at, now),
        });
    }
    Ok(rows)
}

fn badge(stage: Stage) -> Badge {
    match stage {
        Stage::Running => Badge::Running,
        Stage::Finished => Badge::Finished,
        Stage::Failed => Badge::Failed,
        Stage::Canceled => Badge::Canceled,
    }
}

/// A description of the deliveries.
fn what(spec: &BackgroundSpec) -> &'static str {
    let listed = spec.listed.as_ref().and_then(|filter| filter.status);
    match (spec.kind, listed) {
        (Kind::ReplayMissing, _) => "never-sent deliveries",
        (Kind::Recover, _) => "dead deliveries",
        (_, Some(DeliveryStatus::Pending)) => "pending deliveries",
        (_, Some(DeliveryStatus::Retrying)) => "deliveries being retried",
        (_, Some(DeliveryStatus::Delivered)) => "delivered deliveries",
        (_, Some(DeliveryStatus::Dead)) => "dead deliveries",
        (_, Some(DeliveryStatus::Failed)) => "failed deliveries",
        (_, Some(DeliveryStatus::Canceled)) => "canceled deliveries",
        (Kind::BulkReplay, None) if spec.filter.standings == [Standing::Dead] => "dead deliveries",
        (Kind::BulkReplay, None) => "filtered deliveries",
        (Kind::Reconcile, None) => "deliveries missing at the receiver",
    }
}

/// `812 of about 4,812`; after the end, or above the estimate, the number alone.
fn progress(work: &Background) -> String {
    match work.spec.total {
        Some(total) if work.stage != Stage::Finished && work.sent <= total.count => {
            format!("{} of about {}{}", count(work.sent), count(total.count), if total.more { "+" } else { "" })
        }
        _ => count(work.sent),
    }
}

/// The target: an endpoint's URL, an application or all of them.
async fn place(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Line, StoreError> {
    let listed = spec.listed.as_ref().and_then(|filter| filter.endpoint);
    let scope = match (spec.scope, listed) {
        (Scope::Organization, Some(endpoint)) => match store.application_of(tenant, endpoint).await? {
            Some(app) => Scope::Endpoint(app, endpoint),
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
    Ok(Line::cut(&format!("{url} of {app}"), 160))
}

/// The filters of the job.
///
/// # Errors
/// The store is unavailable.
pub async fn facts(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Vec<Line>, StoreError> {
    let none = DeliveryFilter::default();
    let (filter, listed) = (&spec.filter, spec.listed.as_ref().unwrap_or(&none));
    let mut facts = vec![Line::new(what(spec)), place(store, tenant, spec).await?];
    let times = spec.listed.as_ref().map_or((filter.since, filter.until), |listed| (listed.since, listed.until));
    facts.push(Line::new(&match times {
        (Time::ZERO, until) => format!("accepted before {}", utc(until)),
        (since, until) => format!("accepted {} – {}", utc(since), utc(until)),
    }));
    let event_types = filter.event_types.iter().chain(&listed.event_types);
    facts.extend(event_types.map(|name| Line::cut(&format!("event type {name}"), 120)));
    let wanted = filter.status_class.or(listed.class.map(i32::from));
    let class = CLASSES.into_iter().find(|(_, class)| Some(i32::from(*class)) == wanted);
    facts.extend(class.map(|(name, _)| Line::new(&format!("last response {name}"))));
    facts.extend(listed.text.as_deref().map(|text| Line::cut(&format!("payload contains “{text}”"), 120)));
    facts.extend(listed.messages.as_ref().map(|ids| Line::new(&counted(ids.len() as i64, "message", "messages"))));
    Ok(facts)
}

/// The number of resent deliveries in a state, with a link to them.
struct Outcome {
    text: String,
    kind: &'static str,
    /// `None`: the user has no list of deliveries.
    href: Option<String>,
}

impl Outcome {
    /// The outcome by state.
    fn all(tally: &DeliveryTally, viewer: &Viewer, id: BackgroundId) -> Vec<Outcome> {
        let outcomes = [
            (tally.delivered, "delivered", DeliveryStatus::Delivered),
            (tally.retrying, "waiting or retrying", DeliveryStatus::Retrying),
            (tally.pending, "pending", DeliveryStatus::Pending),
            (tally.dead, "dead", DeliveryStatus::Dead),
            (tally.canceled, "canceled", DeliveryStatus::Canceled),
        ];
        let outcome = |(n, name, status): (i64, &str, DeliveryStatus)| Outcome {
            text: format!("{} {name}", count(n)),
            kind: status.word(),
            href: list(viewer, id, &format!("&status={}", status.word())),
        };
        outcomes.into_iter().filter(|(n, ..)| *n > 0).map(outcome).collect()
    }
}

/// The list of deliveries that the job queued.
fn list(viewer: &Viewer, id: BackgroundId, more: &str) -> Option<String> {
    viewer.shows(PortalPage::Deliveries).then(|| format!("{}/deliveries?resend={id}{more}", base(viewer)))
}

#[derive(Template)]
#[template(path = "work.html")]
struct WorkPage {
    frame: Frame,
    base: &'static str,
    id: BackgroundId,
    badge: Badge,
    title: String,
    running: bool,
    /// The job is running or deliveries are due, so the page refreshes itself.
    live: bool,
    facts: Vec<Line>,
    outcome: Vec<Outcome>,
    /// The list of all of them.
    all: Option<String>,
    /// The limit of the outcome, if it was reached.
    followed: Option<String>,
    /// Value and maximum; `None`: no estimate, or exceeded.
    bar: Option<(i64, i64)>,
    sent: String,
    rest: String,
    reason: Option<Line>,
    by: Line,
    begun: When,
    changed: When,
    may_cancel: bool,
}

/// `GET /resend/{work}`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
) -> Result<HttpResponse, PageError> {
    let (tenant, now) = (viewer.tenant(), state.clock.now());
    let work = state.store.background(&tenant, named(&request)?).await?.ok_or(PageError::NotFound)?;
    let query = Query::of(&request);
    let filter = DeliveryFilter { resent: Some(work.id), ..DeliveryFilter::default() };
    let tally = tally(&state.store, &tenant, &filter, now).await?;
    let running = work.stage == Stage::Running;
    let page = WorkPage {
        frame: Frame::of(&viewer, Here::Resends).noting(query.get("notice")),
        base: base(&viewer),
        id: work.id,
        badge: badge(work.stage),
        title: title(&work),
        running,
        live: running || tally.due > 0,
        outcome: Outcome::all(&tally, &viewer, work.id),
        all: list(&viewer, work.id, "").filter(|_| tally.found() > 0),
        followed: (work.sent > resent::MOST).then(|| count(resent::MOST)),
        facts: facts(&state.store, &tenant, &work.spec).await?,
        bar: bar(&work),
        sent: progress(&work),
        rest: rest(&work),
        reason: work.reason.as_deref().filter(|_| work.stage == Stage::Failed).map(|reason| Line::cut(reason, 400)),
        by: Line::cut(&work.spec.by, 120),
        begun: When::new(work.created_at, now),
        changed: When::new(work.updated_at, now),
        may_cancel: viewer.can(Capability::CreateAttempts),
    };
    answer(StatusCode::OK, &page)
}

fn title(work: &Background) -> String {
    let sent = counted(work.sent, "delivery", "deliveries");
    match (work.stage, work.spec.total) {
        (Stage::Running, Some(total)) => {
            let all = counted(total.count, "delivery", "deliveries");
            format!("Resending {}{all}", if total.more { "more than " } else { "" })
        }
        (Stage::Running, None) => "Resending".to_owned(),
        (Stage::Finished, _) => format!("Resent {sent}"),
        (Stage::Failed, _) => format!("Stopped after {sent}"),
        (Stage::Canceled, _) => format!("Canceled after {sent}"),
    }
}

fn bar(work: &Background) -> Option<(i64, i64)> {
    let total = work.spec.total.filter(|total| !total.more && total.count >= work.sent.max(1))?;
    (work.stage != Stage::Finished).then_some((work.sent.min(total.count), total.count))
}

/// The label of the cancel button.
fn rest(work: &Background) -> String {
    match work.spec.total {
        Some(total) if !total.more && total.count > work.sent => {
            format!("Cancel remaining {}", count(total.count - work.sent))
        }
        _ => "Cancel remaining".to_owned(),
    }
}

/// `POST /resend/{work}/cancel`.
pub async fn cancel(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    viewer.need(Capability::CreateAttempts)?;
    let (id, tenant) = (named(&request)?, viewer.tenant());
    let canceled = viewer.store(&state.store).cancel_background(&tenant, id, state.clock.now()).await?;
    tracing::info!(org = %viewer.org, %id, canceled, "bulk resend canceled, from a page");
    let notice = if canceled { Notice::ResendCanceled } else { Notice::ResendOver };
    Ok(done(&format!("{}/resend/{id}", base(&viewer)), notice))
}

fn named(request: &HttpRequest) -> Result<BackgroundId, PageError> {
    part(request, "work")?.parse().map_err(|_| PageError::NotFound)
}
