//! Bulk resends: a filter form, the number of matches, and a button labeled with that number. Customers can only resend
//! within their application.
//!
//! * [`bulk_filter`] – the selected deliveries. [`bulk_job`] – progress and outcome of a running or finished resend.
//!
//! Invariant: the number on the button and the job use the same query.

pub(in crate::dashboard::bulk) mod bulk_filter;
pub mod bulk_job;

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use crate::dashboard::bulk::bulk_filter::{BulkFilter, BulkTarget};
use crate::dashboard::bulk::bulk_job::{BulkJobRow, CUSTOMER, JobFact, facts, latest};
use crate::dashboard::components::filters::{FilterForm, FilterParams, Filters, OF_DELIVERIES};
use crate::dashboard::components::format::{Line, UrlQuery, counted};
use crate::dashboard::components::pagination::Pagination;
use crate::dashboard::http::current_user::{AppContext, CurrentUser, Principal};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::VerifiedForm;
use crate::domain::access::portal::Capability;
use crate::domain::{BackgroundId, EndpointId, Time};
use crate::store::jobs::background::{BackgroundSpec, ExpectedCount, StartResult};
use crate::store::query::delivery_counts::DeliveryCounts;
use crate::store::query::delivery_list::DeliveryFilter;
use crate::store::{Store, StoreError, Tenant};

/// Maximum count.
pub const MOST: i64 = 10_000;
/// Maximum time to count, so the page loads quickly.
pub const PATIENCE: Duration = Duration::from_millis(40);

/// The number of matches.
struct MatchCount {
    /// The number of deliveries that the button resends.
    total: ExpectedCount,
    /// `4,812 deliveries`, `10,000+ deliveries`.
    text: String,
    button: String,
    /// The reason the number is not exact.
    cut: Option<&'static str>,
    /// Matching deliveries that are not resent, with the reason.
    left: Vec<String>,
    /// The number of matches, if it differs from `total`.
    listed: Option<String>,
    facts: Vec<JobFact>,
    missing: bool,
    delivered: Option<String>,
    /// The form fields that repeat the selection.
    fields: Vec<(&'static str, Line)>,
}

#[derive(Template)]
#[template(path = "bulk.html")]
struct BulkPage {
    layout: PageLayout,
    /// The path prefix.
    base: &'static str,
    form: FilterForm,
    note: Option<&'static str>,
    pagination: Pagination,
    counted: Option<MatchCount>,
    /// The reason no job was started.
    not_started: Option<String>,
    jobs: Vec<BulkJobRow>,
}

/// The path prefix of the user's pages.
pub fn base(user: &CurrentUser) -> &'static str {
    match user.principal {
        Principal::Operator(_) => "",
        Principal::Customer(_) => "/portal",
    }
}

/// The page with the deliveries to an endpoint in a status, as in the filter. `None`: the user may not resend them.
pub fn of_endpoint(context: &AppContext, endpoint: EndpointId, status: &str) -> Option<String> {
    let base = base(context);
    let app = if base.is_empty() { format!("app={}&", context.app.id) } else { String::new() };
    let allowed = context.can(Capability::CreateAttempts) && context.opens("/portal/resend") && !context.operational;
    allowed.then(|| format!("{base}/resend?{app}endpoint={endpoint}&status={status}"))
}

/// A request for this page: the user and their filters.
struct BulkRequest<'a> {
    state: &'a DashboardState,
    user: &'a CurrentUser,
    /// The application's context; `None` for operators.
    context: Option<&'a AppContext>,
    params: FilterParams,
    now: Time,
}

impl<'a> BulkRequest<'a> {
    fn new<'v>(
        state: &'a DashboardState,
        user: &'a CurrentUser,
        context: Option<&'a AppContext>,
        values: impl Fn(&'static str) -> Vec<&'v str>,
    ) -> BulkRequest<'a> {
        let names: Vec<&'static str> =
            OF_DELIVERIES.into_iter().filter(|name| context.is_none() || *name != "app").collect();
        let params = FilterParams::from(format!("{}/resend", base(user)), &names, values).with_missing();
        BulkRequest { state, user, context, params, now: state.clock.now() }
    }

    async fn selection(&self) -> Result<(Filters, Option<BulkFilter>), PageError> {
        let (store, tenant) = (&self.state.store, self.user.tenant());
        let mut filters = Filters::of(store, &tenant, tenant.only, &self.params, self.now).await?;
        let selection = match self.params.any() {
            true => BulkFilter::read(store, &tenant, &mut filters, self.now).await?,
            false => None,
        };
        Ok((filters, selection))
    }

    async fn page(
        &self,
        filters: &Filters,
        selection: Option<&BulkFilter>,
        not_started: Option<String>,
    ) -> Result<BulkPage, PageError> {
        let (store, tenant, user) = (&self.state.store, self.user.tenant(), self.user);
        let form = FilterForm::of(store, user, self.context, &self.params, filters, &OF_DELIVERIES).await?;
        let counted = match selection {
            Some(selection) => Some(MatchCount::of(store, &tenant, selection, &self.params, self.now).await?),
            None => None,
        };
        Ok(BulkPage {
            layout: PageLayout::of(user, NavItem::Resends),
            base: base(user),
            form: form.with_button(if counted.is_some() { "Count again" } else { "Count" }),
            note: filters.note,
            pagination: Pagination::of(&self.params, false, None, None, self.now),
            counted,
            not_started,
            jobs: latest(store, &tenant, base(user), self.now).await?,
        })
    }
}

/// `GET /resend`: with filters in the URL, shows the number of matches.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    user: CurrentUser,
    context: Option<AppContext>,
) -> Result<HttpResponse, PageError> {
    let query = UrlQuery::of(&request);
    let request = BulkRequest::new(&state, &user, context.as_ref(), |name| query.all(name).collect());
    let (filters, selection) = request.selection().await?;
    let status = if filters.good() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    answer(status, &request.page(&filters, selection.as_ref(), None).await?)
}

impl MatchCount {
    async fn of(
        store: &Store,
        tenant: &Tenant,
        selection: &BulkFilter,
        params: &FilterParams,
        now: Time,
    ) -> Result<MatchCount, StoreError> {
        let spec = selection.spec("", None);
        let (tally, total) = match &selection.which {
            BulkTarget::Listed(filter) => {
                let tally = tally(store, tenant, filter, now).await?;
                (tally, ExpectedCount { count: tally.resendable().min(MOST), more: tally.more })
            }
            BulkTarget::Missing(..) => (DeliveryCounts::default(), count_missing(store, tenant, &spec).await?),
        };
        let deliveries = |n: i64| counted(n, "delivery", "deliveries");
        let up_to = |n: i64, more: bool| match deliveries(n).split_once(' ') {
            Some((number, things)) if more => format!("{number}+ {things}"),
            _ => deliveries(n),
        };
        let text = match total {
            ExpectedCount { count: 0, more: true } => "all matching deliveries".to_owned(),
            ExpectedCount { count, more } => up_to(count, more),
        };
        let (verb, end) = selection.button();
        let passed = [
            (tally.gone, "deleted: the content or the endpoint no longer exists"),
            (tally.disabled, "on hold: the endpoint is disabled"),
            (tally.due, "already due: sent as soon as the endpoint accepts them"),
        ];
        Ok(MatchCount {
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
            missing: matches!(selection.which, BulkTarget::Missing(..)),
            delivered: (tally.delivered > 0).then(|| deliveries(tally.delivered)),
            fields: selection.fields(params),
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
) -> Result<DeliveryCounts, StoreError> {
    let (begun, mut sum, mut from) = (Instant::now(), DeliveryCounts::default(), None);
    loop {
        let (tally, next) = store.count_deliveries(tenant, filter, from, MOST - sum.found(), now).await?;
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
pub async fn count_missing(store: &Store, tenant: &Tenant, spec: &BackgroundSpec) -> Result<ExpectedCount, StoreError> {
    let (begun, mut found, mut from) = (Instant::now(), 0, None);
    loop {
        let tally = store.estimate(tenant, spec, from).await?;
        found += tally.found;
        from = tally.next;
        if from.is_none() || found >= MOST || begun.elapsed() > PATIENCE {
            return Ok(ExpectedCount { count: found, more: from.is_some() });
        }
    }
}

/// `POST /resend`: starts the job and redirects to its page.
pub async fn begin(
    state: web::Data<DashboardState>,
    user: CurrentUser,
    context: Option<AppContext>,
    submitted: VerifiedForm,
) -> Result<HttpResponse, PageError> {
    user.need(Capability::CreateAttempts)?;
    let page = |id: &str| {
        let path = format!("{}/resend/{id}", base(&user));
        Ok(HttpResponse::SeeOther().insert_header((LOCATION, path)).finish())
    };
    let act = async || match start(&state, &user, context.as_ref(), &submitted).await? {
        Ok(id) => page(&id.to_string()),
        Err(refused) => Ok(refused),
    };
    once(&state, &submitted, act, async |made| page(made)).await
}

/// Starts the job. `Err`: the page that says why it did not start.
async fn start(
    state: &DashboardState,
    user: &CurrentUser,
    context: Option<&AppContext>,
    submitted: &VerifiedForm,
) -> Result<Result<BackgroundId, HttpResponse>, PageError> {
    let request = BulkRequest::new(state, user, context, |name| submitted.all(name).collect());
    let (mut filters, selection) = request.selection().await?;
    let Some(selection) = selection else {
        if filters.good() {
            filters.refuse("status", "Choose a status.");
        }
        let page = request.page(&filters, None, None).await?;
        return answer(StatusCode::UNPROCESSABLE_ENTITY, &page).map(Err);
    };
    let by = match &user.principal {
        Principal::Operator(Some(operator)) => &operator.name,
        Principal::Operator(None) => "an operator",
        Principal::Customer(_) => CUSTOMER,
    };
    let spec = selection.spec(by, total(submitted));
    match submitted.once(user.store(&state.store)).start_background(&user.tenant(), spec, request.now).await? {
        StartResult::Started(job) => {
            tracing::info!(org = %user.org, id = %job.id, "bulk resend started from the dashboard");
            Ok(Ok(job.id))
        }
        StartResult::NotFound => Err(PageError::NotFound),
        StartResult::TooMany(running) => {
            let not_started = format!("{running} resends are already running. Wait for one to finish, or cancel one.");
            let page = request.page(&filters, Some(&selection), Some(not_started)).await?;
            answer(StatusCode::CONFLICT, &page).map(Err)
        }
    }
}

/// The number on the button. Only used to show progress, so it need not be trusted.
fn total(submitted: &VerifiedForm) -> Option<ExpectedCount> {
    let count: i64 = submitted.given("count")?.parse().ok()?;
    Some(ExpectedCount { count: count.clamp(0, MOST), more: submitted.has("more") })
}

/// A time to the second, in UTC.
fn utc(at: Time) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}
