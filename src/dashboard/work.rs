//! Background work on a page: how far it has come, and the button that ends it; and the list of the latest.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::bulk::{base, utc};
use super::choice::{CLASSES, Status};
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::notice::Notice;
use super::parts::{Badge, When};
use super::posted::{Posted, done};
use super::show::{Line, Query, count, counted};
use super::viewer::{Viewer, part};
use crate::domain::background::{Scope, Stage};
use crate::domain::portal::Capability;
use crate::domain::{BackgroundId, Time};
use crate::store::jobs::background::{Background, BackgroundSpec};
use crate::store::{AppRef, EndpointRef, Order, PageRequest, Store, StoreError, Tenant};

/// How many are listed.
const LISTED: usize = 20;

/// A row of the list.
pub struct WorkRow {
    pub badge: Badge,
    pub href: String,
    pub what: &'static str,
    pub place: Line,
    pub sent: String,
    pub by: Line,
    pub begun: When,
}

/// The tenant's latest background work.
///
/// # Errors
/// The store is away.
pub async fn latest(store: &Store, tenant: &Tenant, base: &str, now: Time) -> Result<Vec<WorkRow>, StoreError> {
    let page = PageRequest::first(LISTED, Order::Descending);
    let mut rows = Vec::new();
    for work in store.backgrounds(tenant, &[], None, &page).await?.data {
        rows.push(WorkRow {
            badge: badge(work.stage),
            href: format!("{base}/resend/{}", work.id),
            what: what(&work.spec),
            place: place(store, tenant, work.spec.scope).await?,
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

/// Which deliveries it is about.
fn what(spec: &BackgroundSpec) -> &'static str {
    match Status::of(spec) {
        Some(Status::Failed) => "failed deliveries",
        Some(Status::Dead) => "dead deliveries",
        Some(Status::Missing) => "missing deliveries",
        None => "deliveries by a filter",
    }
}

/// `812 of about 4,812`; once it has ended (or has passed what was counted), what it came to.
fn progress(work: &Background) -> String {
    match work.spec.total {
        Some(total) if work.stage != Stage::Finished && work.sent <= total.count => {
            format!("{} of about {}{}", count(work.sent), count(total.count), if total.more { "+" } else { "" })
        }
        _ => count(work.sent),
    }
}

/// Where it goes, by name: the endpoint's URL, the application, or all of them.
async fn place(store: &Store, tenant: &Tenant, scope: Scope) -> Result<Line, StoreError> {
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

/// What was asked for, fact by fact.
///
/// # Errors
/// The store is away.
pub async fn facts(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Vec<Line>, StoreError> {
    let filter = &spec.filter;
    let mut facts = vec![Line::new(what(spec)), place(store, tenant, spec.scope).await?];
    facts.push(Line::new(&match (filter.since, filter.until) {
        (Time::ZERO, until) => format!("accepted before {}", utc(until)),
        (since, until) => format!("accepted {} – {}", utc(since), utc(until)),
    }));
    facts.extend(filter.event_types.iter().map(|name| Line::cut(&format!("event type {name}"), 120)));
    let class = CLASSES.into_iter().find(|(.., number)| Some(*number) == filter.status_class);
    facts.extend(class.map(|(_, name, _)| Line::new(&format!("last answered {name}"))));
    Ok(facts)
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
    facts: Vec<Line>,
    /// How much of how much; `None`: nobody counted, or what was counted is passed.
    bar: Option<(i64, i64)>,
    sent: String,
    looked: String,
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
    let looked = match Status::of(&work.spec) {
        Some(Status::Missing) => counted(work.looked, "message", "messages"),
        _ => counted(work.looked, "delivery", "deliveries"),
    };
    let query = Query::of(&request);
    let page = WorkPage {
        frame: Frame::of(&viewer, Here::Resends).noting(query.get("notice")),
        base: base(&viewer),
        id: work.id,
        badge: badge(work.stage),
        title: title(&work),
        running: work.stage == Stage::Running,
        facts: facts(&state.store, &tenant, &work.spec).await?,
        bar: bar(&work),
        sent: progress(&work),
        looked,
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

/// What the button says: what will not be sent.
fn rest(work: &Background) -> String {
    match work.spec.total {
        Some(total) if !total.more && total.count > work.sent => {
            format!("Cancel the other {}", count(total.count - work.sent))
        }
        _ => "Cancel the rest".to_owned(),
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
