//! Bulk resend: the form that chooses what is sent again, the count of it, and the button that states the count. The viewer may be an
//! operator, or a customer, whose application is fixed.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::choice::{CLASSES, CUSTOM, Choice, RANGES, Status, Typed, Wrong};
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::picker::Picker;
use super::posted::Posted;
use super::show::{Line, Query, counted};
use super::viewer::{Viewer, Who};
use super::work::{WorkRow, facts, latest};
use crate::domain::Time;
use crate::domain::background::Scope;
use crate::domain::portal::Capability;
use crate::store::jobs::background::{BackgroundSpec, Begun, Total};
use crate::store::{Store, StoreError, Tenant};

/// Counted up to here, and for no longer than this.
const MOST: i64 = 100_000;
const PATIENCE: Duration = Duration::from_secs(2);

/// What was counted.
struct Counted {
    total: Total,
    /// `4,812 deliveries`, `100,000+ deliveries`.
    text: String,
    /// Why it is not exact.
    cut: Option<&'static str>,
    facts: Vec<Line>,
    /// Where it goes.
    scope: &'static str,
    missing: bool,
    /// What the button sends.
    fields: Vec<(&'static str, Line)>,
}

#[derive(Template)]
#[template(path = "bulk.html")]
struct BulkPage {
    frame: Frame,
    /// What the paths begin with.
    base: &'static str,
    picker: Picker,
    typed: Typed,
    event_type: Line,
    wrongs: Vec<Wrong>,
    counted: Option<Counted>,
    /// Why nothing was begun.
    refused: Option<String>,
    works: Vec<WorkRow>,
}

impl BulkPage {
    fn wrong(&self, field: &str) -> Option<Line> {
        self.wrongs.iter().find(|wrong| wrong.field == field).map(|wrong| Line::new(&wrong.why))
    }

    fn statuses(&self) -> [Status; 3] {
        Status::ALL
    }

    fn ranges(&self) -> [(&'static str, &'static str, Option<Duration>); 4] {
        RANGES
    }

    fn classes(&self) -> [(&'static str, &'static str, i32); 5] {
        CLASSES
    }

    fn is_custom(&self) -> bool {
        self.typed.range == CUSTOM
    }
}

/// What the paths of a viewer's pages begin with.
pub(super) fn base(viewer: &Viewer) -> &'static str {
    match viewer.who {
        Who::Operator(_) => "",
        Who::Customer(_) => "/portal",
    }
}

/// `GET /resend`: with a choice in its URL, the count of it.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let typed = Typed::of(|name| query.get(name));
    let chosen = query.get("status").is_some();
    let (tenant, now) = (viewer.tenant(), state.clock.now());
    let choice = match chosen {
        true => Some(Choice::read(&state.store, &tenant, &typed, now).await?),
        false => None,
    };
    let (choice, wrongs) = match choice {
        None => (None, Vec::new()),
        Some(Ok(choice)) => (Some(choice), Vec::new()),
        Some(Err(wrongs)) => (None, wrongs),
    };
    let status = if wrongs.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let counted = match &choice {
        Some(choice) => Some(Counted::of(&state.store, &tenant, choice).await?),
        None => None,
    };
    answer(status, &page(&state, &viewer, typed, wrongs, counted, None).await?)
}

async fn page(
    state: &DashboardState,
    viewer: &Viewer,
    typed: Typed,
    wrongs: Vec<Wrong>,
    counted: Option<Counted>,
    refused: Option<String>,
) -> Result<BulkPage, PageError> {
    let tenant = viewer.tenant();
    let wrong = |field: &str| wrongs.iter().find(|wrong| wrong.field == field).map(|wrong| Line::new(&wrong.why));
    let picker = Picker::of(&state.store, &tenant, (&typed.app, &typed.endpoint), wrong).await?;
    Ok(BulkPage {
        frame: Frame::of(viewer, Here::Resends),
        base: base(viewer),
        picker,
        event_type: Line::new(&typed.event_type),
        typed: Typed { since: Typed::local(&typed.since), until: Typed::local(&typed.until), ..typed },
        wrongs,
        counted,
        refused,
        works: latest(&state.store, &tenant, base(viewer), state.clock.now()).await?,
    })
}

impl Counted {
    async fn of(store: &Store, tenant: &Tenant, choice: &Choice) -> Result<Counted, StoreError> {
        let spec = choice.spec("", None);
        let (total, cut) = count(store, tenant, &spec).await?;
        let number = counted(total.count, "delivery", "deliveries");
        let text = match (total.more, number.split_once(' ')) {
            (true, Some((number, things))) => format!("{number}+ {things}"),
            _ => number,
        };
        Ok(Counted {
            total,
            text,
            cut,
            facts: facts(store, tenant, &spec).await?,
            scope: match spec.scope {
                Scope::Endpoint(..) => "to this endpoint, at its rate",
                Scope::Application(_) => "to the application's enabled endpoints, at the rate of each",
                Scope::Organization => "to the enabled endpoints of all applications, at the rate of each",
            },
            missing: choice.status == Status::Missing,
            fields: choice.fields(),
        })
    }
}

/// Counts chunk by chunk, until it has been enough; then it says why it stopped.
async fn count(
    store: &Store,
    tenant: &Tenant,
    spec: &BackgroundSpec,
) -> Result<(Total, Option<&'static str>), StoreError> {
    let (begun, mut found, mut from) = (Instant::now(), 0, None);
    loop {
        let tally = store.tally(tenant, spec, from).await?;
        found += tally.found;
        let Some(next) = tally.next else { return Ok((Total { count: found, more: false }, None)) };
        from = Some(next);
        if found >= MOST {
            let why = "Counted as far as 100,000. There are more, and all of them are sent.";
            return Ok((Total { count: MOST, more: true }, Some(why)));
        }
        if begun.elapsed() > PATIENCE {
            let why = "Counting all of it takes too long here: there may be more, and all of it is sent.";
            return Ok((Total { count: found, more: true }, Some(why)));
        }
    }
}

/// `POST /resend`: takes it down, and leads to where its progress is seen.
pub async fn begin(
    state: web::Data<DashboardState>,
    viewer: Viewer,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    viewer.need(Capability::CreateAttempts)?;
    let (tenant, now) = (viewer.tenant(), state.clock.now());
    let typed = Typed::of(|name| posted.given(name));
    let choice = match Choice::read(&state.store, &tenant, &typed, now).await? {
        Ok(choice) => choice,
        Err(wrongs) => {
            let page = page(&state, &viewer, typed, wrongs, None, None).await?;
            return answer(StatusCode::UNPROCESSABLE_ENTITY, &page);
        }
    };
    let by = match &viewer.who {
        Who::Operator(Some(operator)) => &operator.name,
        Who::Operator(None) => "an operator",
        Who::Customer(_) => "the customer",
    };
    let spec = choice.spec(by, total(&posted));
    match viewer.store(&state.store).begin_background(&tenant, spec, now).await? {
        Begun::Begun(work) => {
            tracing::info!(org = %viewer.org, id = %work.id, "bulk resend, from a page");
            let path = format!("{}/resend/{}", base(&viewer), work.id);
            Ok(HttpResponse::SeeOther().insert_header((LOCATION, path)).finish())
        }
        Begun::NotThere => Err(PageError::NotFound),
        Begun::TooMany(running) => {
            let refused =
                format!("{running} resends are running here already. Wait until one has ended, or cancel one.");
            let counted = Counted::of(&state.store, &tenant, &choice).await?;
            let page = page(&state, &viewer, typed, Vec::new(), Some(counted), Some(refused)).await?;
            answer(StatusCode::CONFLICT, &page)
        }
    }
}

/// The count that stood on the button: only what progress is measured by, so it need not be true.
fn total(posted: &Posted) -> Option<Total> {
    let count: i64 = posted.given("count")?.parse().ok()?;
    Some(Total { count: count.clamp(0, MOST), more: posted.has("more") })
}

/// A point in time as a range shows it: to the second, in UTC.
pub(super) fn utc(at: Time) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}
