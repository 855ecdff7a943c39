//! Bulk resends: a filter form, the number of matches, and a button that states it. Customers can only resend within
//! their application.
//!
//! * [`bulk_filter`] – what the filters select.   [`bulk_job`] – progress and outcome of a running or finished resend.
//!
//! Invariant: the number on the button counts with the query that the job runs.

pub(in crate::dashboard::bulk) mod bulk_filter;
pub mod bulk_job;

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use crate::dashboard::bulk::bulk_filter::{Choice, Which};
use crate::dashboard::bulk::bulk_job::{WorkRow, facts, latest};
use crate::dashboard::components::filters::{Asked, Filters, Form, OF_DELIVERIES};
use crate::dashboard::components::format::{Line, Query, counted};
use crate::dashboard::components::list::Rest;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::posted::Posted;
use crate::dashboard::http::viewer::{Inside, Viewer, Who};
use crate::domain::Time;
use crate::domain::access::portal::Capability;
use crate::store::jobs::background::{BackgroundSpec, Begun, Total};
use crate::store::query::delivery_list::DeliveryFilter;
use crate::store::query::delivery_tally::DeliveryTally;
use crate::store::{Store, StoreError, Tenant};

/// The limits of counting: number and time. The page must load quickly.
pub const MOST: i64 = 10_000;
pub const PATIENCE: Duration = Duration::from_millis(40);

/// The number of matches.
struct Counted {
    /// How many deliveries the button resends.
    total: Total,
    /// `4,812 deliveries`, `10,000+ deliveries`.
    text: String,
    button: String,
    /// The reason why the number is not exact.
    cut: Option<&'static str>,
    /// Matching deliveries that are not resent, with the reason.
    left: Vec<String>,
    /// The number of matches, if it differs from `total`.
    listed: Option<String>,
    facts: Vec<Line>,
    missing: bool,
    delivered: Option<String>,
    /// The form fields that repeat the selection.
    fields: Vec<(&'static str, Line)>,
}

#[derive(Template)]
#[template(path = "bulk.html")]
struct BulkPage {
    frame: Frame,
    /// The path prefix.
    base: &'static str,
    form: Form,
    note: Option<&'static str>,
    rest: Rest,
    counted: Option<Counted>,
    /// The reason why no job was started.
    refused: Option<String>,
    works: Vec<WorkRow>,
}

/// The path prefix of the user's pages.
pub fn base(viewer: &Viewer) -> &'static str {
    match viewer.who {
        Who::Operator(_) => "",
        Who::Customer(_) => "/portal",
    }
}

/// The user and their filters.
struct Request<'a> {
    state: &'a DashboardState,
    viewer: &'a Viewer,
    /// For customers.
    inside: Option<&'a Inside>,
    asked: Asked,
    now: Time,
}

impl<'a> Request<'a> {
    fn new<'v>(
        state: &'a DashboardState,
        viewer: &'a Viewer,
        inside: Option<&'a Inside>,
        values: impl Fn(&'static str) -> Vec<&'v str>,
    ) -> Request<'a> {
        let names: Vec<&'static str> =
            OF_DELIVERIES.into_iter().filter(|name| inside.is_none() || *name != "app").collect();
        let asked = Asked::from(format!("{}/resend", base(viewer)), &names, values).with_missing();
        Request { state, viewer, inside, asked, now: state.clock.now() }
    }

    async fn choice(&self) -> Result<(Filters, Option<Choice>), PageError> {
        let (store, tenant) = (&self.state.store, self.viewer.tenant());
        let mut filters = Filters::of(store, &tenant, tenant.only, &self.asked, self.now).await?;
        let choice = match self.asked.any() {
            true => Choice::read(store, &tenant, &mut filters, self.now).await?,
            false => None,
        };
        Ok((filters, choice))
    }

    async fn page(
        &self,
        filters: &Filters,
        choice: Option<&Choice>,
        refused: Option<String>,
    ) -> Result<BulkPage, PageError> {
        let (store, tenant, viewer) = (&self.state.store, self.viewer.tenant(), self.viewer);
        let form = Form::of(store, viewer, self.inside, &self.asked, filters, &OF_DELIVERIES).await?;
        let counted = match choice {
            Some(choice) => Some(Counted::of(store, &tenant, choice, &self.asked, self.now).await?),
            None => None,
        };
        Ok(BulkPage {
            frame: Frame::of(viewer, Here::Resends),
            base: base(viewer),
            form: form.with_button(if counted.is_some() { "Count again" } else { "Count" }),
            note: filters.note,
            rest: Rest::of(&self.asked, false, None, None, self.now),
            counted,
            refused,
            works: latest(store, &tenant, base(viewer), self.now).await?,
        })
    }
}

/// `GET /resend`: with filters in the URL, shows the number of matches.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    viewer: Viewer,
    inside: Option<Inside>,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let request = Request::new(&state, &viewer, inside.as_ref(), |name| query.all(name).collect());
    let (filters, choice) = request.choice().await?;
    let status = if filters.good() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    answer(status, &request.page(&filters, choice.as_ref(), None).await?)
}

impl Counted {
    async fn of(
        store: &Store,
        tenant: &Tenant,
        choice: &Choice,
        asked: &Asked,
        now: Time,
    ) -> Result<Counted, StoreError> {
        let spec = choice.spec("", None);
        let (tally, total) = match &choice.which {
            Which::Listed(filter) => {
                let tally = tally(store, tenant, filter, now).await?;
                (tally, Total { count: tally.resendable().min(MOST), more: tally.more })
            }
            Which::Missing(..) => (DeliveryTally::default(), count_missing(store, tenant, &spec).await?),
        };
        let deliveries = |n: i64| counted(n, "delivery", "deliveries");
        let up_to = |n: i64, more: bool| match deliveries(n).split_once(' ') {
            Some((number, things)) if more => format!("{number}+ {things}"),
            _ => deliveries(n),
        };
        let text = match total {
            Total { count: 0, more: true } => "all matching deliveries".to_owned(),
            Total { count, more } => up_to(count, more),
        };
        let (verb, end) = choice.button();
        let passed = [
            (tally.gone, "deleted: the content or the endpoint no longer exists"),
            (tally.disabled, "on hold: the endpoint is disabled"),
            (tally.due, "already due: sent as soon as the endpoint accepts them"),
        ];
        Ok(Counted {
            total,
            button: format!("{verb} {text}{end}"),
            listed: (tally.found() > tally.resendable()).then(|| up_to(tally.found().min(MOST), tally.more)),
            left: passed
                .into_iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, why)| format!("{} {why}", crate::dashboard::components::format::count(n)))
                .collect(),
            cut: total.more.then_some("Counting stopped early. All matching deliveries are included."),
            text,
            facts: facts(store, tenant, &spec).await?,
            missing: matches!(choice.which, Which::Missing(..)),
            delivered: (tally.delivered > 0).then(|| deliveries(tally.delivered)),
            fields: choice.fields(asked),
        })
    }
}

/// Counts the deliveries of a list, within [`MOST`] and [`PATIENCE`].
///
/// # Errors
/// The store is unavailable.
pub async fn tally(
    store: &Store,
    tenant: &Tenant,
    filter: &DeliveryFilter,
    now: Time,
) -> Result<DeliveryTally, StoreError> {
    let (begun, mut sum, mut from) = (Instant::now(), DeliveryTally::default(), None);
    loop {
        let (tally, next) = store.tally_deliveries(tenant, filter, from, MOST - sum.found(), now).await?;
        sum.add(&tally);
        from = next;
        if from.is_none() || begun.elapsed() > PATIENCE {
            sum.more |= from.is_some();
            return Ok(sum);
        }
    }
}

/// Counts messages that were never sent, within [`MOST`] and [`PATIENCE`].
///
/// # Errors
/// The store is unavailable.
pub async fn count_missing(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<Total, StoreError> {
    let (begun, mut found, mut from) = (Instant::now(), 0, None);
    loop {
        let tally = store.tally(tenant, spec, from).await?;
        found += tally.found;
        from = tally.next;
        if from.is_none() || found >= MOST || begun.elapsed() > PATIENCE {
            return Ok(Total { count: found, more: from.is_some() });
        }
    }
}

/// `POST /resend`: starts the job and redirects to its page.
pub async fn begin(
    state: web::Data<DashboardState>,
    viewer: Viewer,
    inside: Option<Inside>,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    viewer.need(Capability::CreateAttempts)?;
    let request = Request::new(&state, &viewer, inside.as_ref(), |name| posted.all(name).collect());
    let (mut filters, choice) = request.choice().await?;
    let Some(choice) = choice else {
        if filters.good() {
            filters.refuse("status", "Choose a status.");
        }
        return answer(StatusCode::UNPROCESSABLE_ENTITY, &request.page(&filters, None, None).await?);
    };
    let by = match &viewer.who {
        Who::Operator(Some(operator)) => &operator.name,
        Who::Operator(None) => "an operator",
        Who::Customer(_) => "the customer",
    };
    let spec = choice.spec(by, total(&posted));
    match viewer.store(&state.store).begin_background(&viewer.tenant(), spec, request.now).await? {
        Begun::Begun(work) => {
            tracing::info!(org = %viewer.org, id = %work.id, "bulk resend, from a page");
            let path = format!("{}/resend/{}", base(&viewer), work.id);
            Ok(HttpResponse::SeeOther().insert_header((LOCATION, path)).finish())
        }
        Begun::NotThere => Err(PageError::NotFound),
        Begun::TooMany(running) => {
            let refused = format!("{running} resends are already running. Wait for one to finish, or cancel one.");
            answer(StatusCode::CONFLICT, &request.page(&filters, Some(&choice), Some(refused)).await?)
        }
    }
}

/// The number on the button. Only used to show progress, so it need not be trusted.
fn total(posted: &Posted) -> Option<Total> {
    let count: i64 = posted.given("count")?.parse().ok()?;
    Some(Total { count: count.clamp(0, MOST), more: posted.has("more") })
}

/// A time to the second, in UTC.
fn utc(at: Time) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}
