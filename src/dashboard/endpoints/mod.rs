//! Lists of endpoints, across applications or within one.
//!
//! * [`endpoint`] – the page of an endpoint, with [`endpoint_settings`], [`endpoint_stats`], [`endpoint_backoff`],
//!   [`verify_snippets`] and [`signature_headers`].
//! * [`endpoint_actions`], [`endpoint_fields`] – create, edit, enable, disable, delete. [`endpoint_secret`] – reveal
//!   and rotate.
//! * [`test_event`] – sends an example. [`polling`] – polling endpoints. [`development_page`] – programs that `sendoff
//!   listen` forwards to.
//!
//! Invariants:
//!
//! * A secret is never part of a page, except in the response to the form that reveals it; the reveal is recorded
//!   first.
//! * Customers never see or select event types that are hidden from them, and editing an endpoint keeps those.

pub(in crate::dashboard) mod development_page;
pub(in crate::dashboard) mod endpoint;
pub(in crate::dashboard) mod endpoint_actions;
pub(in crate::dashboard) mod endpoint_backoff;
pub(in crate::dashboard) mod endpoint_fields;
pub(in crate::dashboard) mod endpoint_secret;
pub(in crate::dashboard) mod endpoint_settings;
pub(in crate::dashboard) mod endpoint_stats;
pub(in crate::dashboard) mod polling;
pub(in crate::dashboard) mod signature_headers;
pub(in crate::dashboard) mod test_event;
pub(in crate::dashboard) mod verify_snippets;

use actix_web::http::StatusCode;
use askama::Template;

use super::DashboardState;
use crate::dashboard::applications::app_lookup;
use crate::dashboard::applications::app_lookup::AppLookup;
use crate::dashboard::components::format::{InputValue, Line, UrlQuery, count_up_to};
use crate::dashboard::components::widgets::{Address, Badge, RelativeTime};
use crate::dashboard::endpoints::endpoint_stats::DeliveryStats;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::app_tabs::layout;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::DisabledReason;
use crate::domain::url_query::with_query;
use crate::domain::{AppId, EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointHealth, EndpointListFilter, LastFailure, ListedEndpoint};
use crate::store::{Order, PageRequest, Store, StoreError, Tenant};

/// Endpoints per page.
const LINES: usize = 50;
/// Maximum count of pending deliveries.
pub const MOST: i64 = 1_000;

/// A row of the table of endpoints.
pub struct EndpointTableRow {
    pub badge: Badge,
    pub href: String,
    pub address: Address,
    pub description: Line,
    pub app: Line,
    pub app_href: String,
    pub deliveries: DeliveryStats,
    pub throttle: Option<u16>,
    pub waiting: String,
    pub failure: Option<(RelativeTime, String)>,
    pub disabled: Option<(RelativeTime, &'static str)>,
}

/// The rows of endpoints, with their numbers of the last 24 hours.
///
/// # Errors
/// The store is unavailable.
pub async fn rows(
    store: &Store,
    tenant: &Tenant,
    paths: &AppPaths,
    lines: &[ListedEndpoint],
    now: Time,
) -> Result<Vec<EndpointTableRow>, StoreError> {
    let ids: Vec<EndpointId> = lines.iter().map(|line| line.endpoint.id).collect();
    let counts = endpoint_stats::counts(store, tenant, &ids, now).await?;
    let waiting = store.backlogs(tenant, &ids, MOST).await?;
    let mut rows = Vec::with_capacity(lines.len());
    for line in lines {
        let endpoint = &line.endpoint;
        let (spec, own) = (&endpoint.spec, counts.get(&endpoint.id).cloned().unwrap_or_default());
        // Without recent failures, skip the query.
        let failure = match own.failed > 0 || line.failing_since.is_some() {
            true => store.last_failure(tenant, endpoint.app_id, endpoint.id).await?,
            false => None,
        };
        // In a list across applications, each row links to its own application.
        let paths = if *paths == AppPaths::all() { AppPaths::of_application(endpoint.app_id) } else { paths.clone() };
        let failed = |failure: LastFailure| (RelativeTime::new(failure.at, now), paths.message(failure.message_id));
        rows.push(EndpointTableRow {
            badge: Badge::of_health(line.health()),
            href: paths.endpoint(endpoint.id),
            address: Address::new(&spec.url),
            description: Line::cut(&spec.description, 120),
            app: Line::new(&line.app_name),
            app_href: paths.home().to_owned(),
            deliveries: DeliveryStats::of(&own),
            throttle: spec.throttle_rate,
            waiting: count_up_to(waiting.get(&endpoint.id).copied().unwrap_or(0), MOST),
            failure: failure.map(failed),
            disabled: disabled(line, now),
        });
    }
    Ok(rows)
}

/// The time and reason of disabling; `None` if the endpoint is enabled.
fn disabled(line: &ListedEndpoint, now: Time) -> Option<(RelativeTime, &'static str)> {
    let since = line.disabled_at.filter(|_| line.endpoint.spec.disabled)?;
    let why = match line.endpoint.disabled_reason {
        Some(DisabledReason::Gone) => "410 Gone",
        Some(DisabledReason::Failing) => "failures,",
        Some(DisabledReason::Manual) | None => "disabled",
    };
    Some((RelativeTime::new(since, now), why))
}

/// A filter by state.
struct StateChip {
    name: &'static str,
    href: String,
    on: bool,
}

#[derive(Template)]
#[template(path = "endpoints.html")]
struct EndpointsPage {
    layout: PageLayout,
    /// The list's own path.
    path: String,
    /// `None`: across applications.
    app: Option<Line>,
    across: bool,
    /// The form for a new endpoint, if the user may create one.
    new: Option<String>,
    wanted: InputValue,
    status: &'static str,
    /// The filter by application, as typed.
    of: InputValue,
    chips: Vec<StateChip>,
    filtered: bool,
    rows: Vec<EndpointTableRow>,
    next: Option<String>,
    stopped: bool,
    paged: bool,
    /// The development endpoints of the application.
    development: Vec<development_page::DevelopmentRow>,
}

const STATES: [(&str, EndpointHealth); 3] = [
    ("enabled", EndpointHealth::Enabled),
    ("failing", EndpointHealth::Failing),
    ("disabled", EndpointHealth::Disabled),
];

/// `GET /endpoints?app=&status=&q=&after=`.
pub async fn across(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (query, tenant) = (UrlQuery::of(&request), user.tenant());
    let app = match query.get("app").map(str::trim) {
        None => None,
        Some(text) => Some(match app_lookup::find(&state.store, &tenant, text).await? {
            AppLookup::Found(app) => app,
            // The nil id matches nothing.
            AppLookup::NotFound(_) => AppId(uuid::Uuid::nil()),
        }),
    };
    let filter = EndpointListFilter { app, ..filter(&query) };
    let page = page(&state, &user, &query, &AppPaths::all(), filter).await?;
    answer(StatusCode::OK, &page)
}

/// `GET {base}/endpoints?status=&q=&after=`.
pub async fn in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let query = UrlQuery::of(&request);
    let filter = EndpointListFilter { app: Some(context.app.id), ..filter(&query) };
    let page = EndpointsPage {
        layout: layout(&context, Some(&context), NavItem::Endpoints, "endpoints").with_notice(query.get("notice")),
        app: Some(Line::new(&context.app.name)),
        across: false,
        new: context.can(Capability::ManageEndpoint).then(|| context.paths.page("endpoints/new")),
        development: development_page::rows(&state, &context).await?,
        ..page(&state, &context, &query, &context.paths, filter).await?
    };
    answer(StatusCode::OK, &page)
}

fn filter(query: &UrlQuery) -> EndpointListFilter {
    let health = STATES.iter().find(|(word, _)| query.get("status") == Some(word)).map(|(_, health)| *health);
    let url = query.get("q").map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    EndpointListFilter { app: None, health, url }
}

async fn page(
    state: &DashboardState,
    user: &CurrentUser,
    query: &UrlQuery,
    paths: &AppPaths,
    filter: EndpointListFilter,
) -> Result<EndpointsPage, PageError> {
    let (now, tenant, store) = (state.clock.now(), user.tenant(), &state.store);
    let after: Option<EndpointId> = query.get("after").and_then(|id| id.parse().ok());
    let request = PageRequest { after, ..PageRequest::first(LINES, Order::Descending) };
    let found = store.list_endpoints(&tenant, &filter, &request).await?;
    let last = found.stopped.or(found.data.last().map(|line| line.endpoint.id)).filter(|_| found.more);
    let of = if *paths == AppPaths::all() { query.get("app").unwrap_or_default() } else { "" };
    let wanted = filter.url.clone().unwrap_or_default();
    let status = STATES.iter().find(|(_, health)| filter.health == Some(*health)).map_or("", |(word, _)| word);
    let path = paths.page("endpoints");
    let link = |status: &str, after: Option<EndpointId>| {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        with_query(&path, [("app", of), ("status", status), ("q", &wanted), ("after", &after)])
    };
    let chip = |(word, _): &(&'static str, EndpointHealth)| {
        let on = status == *word;
        StateChip { name: word, href: link(if on { "" } else { word }, None), on }
    };
    Ok(EndpointsPage {
        layout: PageLayout::of(user, NavItem::Endpoints).with_notice(query.get("notice")),
        app: None,
        across: true,
        new: None,
        status,
        of: InputValue::new(of),
        chips: STATES.iter().map(chip).collect(),
        filtered: !wanted.is_empty() || !status.is_empty() || !of.is_empty(),
        rows: rows(store, &tenant, paths, &found.data, now).await?,
        next: last.map(|id| link(status, Some(id))),
        wanted: InputValue::new(&wanted),
        stopped: found.stopped.is_some(),
        paged: after.is_some(),
        development: Vec::new(),
        path,
    })
}
