//! The portal's start page: the number of deliveries by state, a chart, the endpoints and the latest failures.

use std::collections::HashMap;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use askama::Template;

use crate::dashboard::components::chart::{Chart, second};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::components::widgets::{Address, Badge};
use crate::dashboard::endpoints::endpoint_stats;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::overview::AttemptRow;
use crate::dashboard::overview::delivery_summary::{DeliverySummary, SummaryScope};
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointListFilter, ListedEndpoint};
use crate::store::query::counts::{ChartRange, CountScope};
use crate::store::recording::rollups::{Counts, total};
use crate::store::{Order, PageRequest, Store, StoreError};

/// Number of endpoints listed.
const ENDPOINTS: usize = 20;
/// Number of endpoints, those with the most failures, whose latest failures are read.
const FAILING: usize = 5;
/// Number of latest failures shown.
const FAILURES: i64 = 10;

/// An endpoint and its attempts in the range.
struct PortalEndpointRow {
    badge: Badge,
    href: Option<String>,
    address: Address,
    description: Line,
    /// The success rate. `None`: no attempts.
    rate: Option<String>,
    sent: String,
}

#[derive(Template)]
#[template(path = "portal/home.html")]
struct Home {
    layout: PageLayout,
    name: Line,
    ranges: Vec<RangeLink>,
    opening: &'static str,
    summary: DeliverySummary,
    chart: Option<Chart>,
    endpoints: Vec<PortalEndpointRow>,
    /// The full list of endpoints.
    more: Option<String>,
    /// The form for a new endpoint, if the user may create one.
    add: Option<String>,
    failures: Vec<AttemptRow>,
}

/// `GET /portal`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    if !context.shows(PortalPage::Overview) {
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, context.first_page())).finish());
    }
    let (query, now, store) = (UrlQuery::of(&request), state.clock.now(), &state.store);
    let range = query.get("range").map_or(ChartRange::Day, |_| range::of(&query));
    let buckets = store.buckets(&context.tenant(), CountScope::Application(context.app.id), range, now).await?;
    let totals = store.period_totals(&context.tenant(), CountScope::Application(context.app.id), range, now).await?;
    let of_app = EndpointListFilter { app: Some(context.app.id), ..EndpointListFilter::default() };
    let first = PageRequest::first(ENDPOINTS, Order::Descending);
    let endpoints = store.list_endpoints(&context.tenant(), &of_app, &first).await?;
    let ids: Vec<EndpointId> = endpoints.data.iter().map(|line| line.endpoint.id).collect();
    let at_each = store.endpoint_counts(&context.tenant(), &ids, range, now).await?;
    let list = context.paths.page("deliveries?");
    let since = range.since(now);
    let scope = SummaryScope {
        list: context.shows(PortalPage::Deliveries).then_some(list.as_str()),
        app: Some(context.app.id),
        since,
        since_text: &second(since),
    };
    // Bars link to the list of deliveries.
    let charted = context.shows(PortalPage::Deliveries) && total(&buckets).attempts() > 0;
    let may_add = context.can(Capability::ManageEndpoint) && context.shows(PortalPage::Endpoints);
    let page = Home {
        layout: PageLayout::of(&context, NavItem::Overview).with_notice(query.get("notice")),
        name: Line::new(&context.app.name),
        ranges: range::links(range, |range| format!("{}?range={}", context.paths.home(), range::word(range))),
        opening: range::opening(range),
        summary: DeliverySummary::of(store, &context.tenant(), &scope, now).await?,
        chart: charted.then(|| Chart::new(&buckets, range, &list).compared(&totals)),
        endpoints: endpoints
            .data
            .iter()
            .map(|one| PortalEndpointRow::new(&context, one, at_each.get(&one.endpoint.id)))
            .collect(),
        more: (endpoints.more && context.shows(PortalPage::Endpoints)).then(|| context.paths.page("endpoints")),
        add: may_add.then(|| context.paths.page("endpoints/new")),
        failures: failures(store, &context, at_each, now).await?,
    };
    answer(StatusCode::OK, &page)
}

/// The latest failures of the endpoints with the most failures in the counts `at_each`.
///
/// # Errors
/// The store is unavailable.
pub async fn failures(
    store: &Store,
    context: &AppContext,
    at_each: HashMap<EndpointId, Counts>,
    now: Time,
) -> Result<Vec<AttemptRow>, StoreError> {
    let mut failing: Vec<(EndpointId, Counts)> = at_each.into_iter().filter(|(_, counts)| counts.failed > 0).collect();
    failing.sort_by_key(|(id, counts)| (std::cmp::Reverse(counts.failed), *id));
    let mut lines = Vec::new();
    for (endpoint, _) in failing.into_iter().take(FAILING) {
        lines.extend(store.newest_attempts_to(&context.tenant(), context.app.id, endpoint, true, FAILURES).await?);
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.id));
    lines.truncate(FAILURES as usize);
    let row = |line| {
        let row = AttemptRow::new(&line, now);
        let path = context.paths.message(line.message_id);
        AttemptRow { href: if context.opens(&path) { path } else { String::new() }, ..row }
    };
    Ok(lines.into_iter().map(row).collect())
}

impl PortalEndpointRow {
    fn new(context: &AppContext, line: &ListedEndpoint, counts: Option<&Counts>) -> PortalEndpointRow {
        let ListedEndpoint { endpoint, .. } = line;
        let none = Counts::default();
        let counts = counts.unwrap_or(&none);
        PortalEndpointRow {
            badge: Badge::of_health(line.health()),
            href: context.shows(PortalPage::Endpoints).then(|| context.paths.endpoint(endpoint.id)),
            address: Address::new(&endpoint.spec.url),
            description: Line::cut(&endpoint.spec.description, 120),
            rate: endpoint_stats::rate(counts),
            sent: format::counted(counts.attempts(), "attempt", "attempts"),
        }
    }
}
