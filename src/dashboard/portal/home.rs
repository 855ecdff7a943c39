//! The portal's start page: the number of deliveries by state, a chart, the endpoints and the latest failures.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::chart::{Chart, second};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::components::parts::{Address, Badge};
use crate::dashboard::components::range;
use crate::dashboard::components::range::RangeLink;
use crate::dashboard::endpoints::rates;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::viewer::Inside;
use crate::dashboard::overview::AttemptRow;
use crate::dashboard::overview::numbers::{Counting, Numbers};
use crate::domain::access::portal::{Capability, PortalPage};
use crate::domain::{EndpointId, Time};
use crate::store::catalog::endpoint_list::{EndpointLine, LineFilter};
use crate::store::query::counts::{Range, Scope};
use crate::store::recording::rollups::{Counts, total};
use crate::store::{Order, PageRequest, Store, StoreError};

/// How many endpoints are listed.
const ENDPOINTS: usize = 20;
/// The number of endpoints, those with the most failures, whose latest failures are read, and the number of failures
/// shown.
const FAILING: usize = 5;
const FAILURES: i64 = 10;

/// An endpoint and its attempts in the range.
struct EndpointRow {
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
    frame: Frame,
    name: Line,
    ranges: Vec<RangeLink>,
    opening: &'static str,
    numbers: Numbers,
    chart: Option<Chart>,
    endpoints: Vec<EndpointRow>,
    /// The full list of endpoints.
    more: Option<String>,
    /// The form for a new endpoint, if the user may create one.
    add: Option<String>,
    failures: Vec<AttemptRow>,
}

/// `GET /portal`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    if !inside.shows(PortalPage::Overview) {
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, inside.first_page())).finish());
    }
    let (query, now, store) = (Query::of(&request), state.clock.now(), &state.store);
    let range = query.get("range").map_or(Range::Day, |_| range::of(&query));
    let buckets = store.buckets(&inside.tenant(), Scope::Application(inside.app.id), range, now).await?;
    let of_app = LineFilter { app: Some(inside.app.id), ..LineFilter::default() };
    let first = PageRequest::first(ENDPOINTS, Order::Descending);
    let endpoints = store.endpoint_lines(&inside.tenant(), &of_app, &first).await?;
    let ids: Vec<EndpointId> = endpoints.data.iter().map(|line| line.endpoint.id).collect();
    let at_each = store.endpoint_counts(&inside.tenant(), &ids, range, now).await?;
    let list = inside.place.page("deliveries?");
    let since = range.since(now);
    let counting = Counting {
        list: inside.shows(PortalPage::Deliveries).then_some(list.as_str()),
        app: Some(inside.app.id),
        since,
        since_text: &second(since),
    };
    // Bars link to the list of deliveries.
    let charted = inside.shows(PortalPage::Deliveries) && total(&buckets).attempts() > 0;
    let may_add = inside.can(Capability::ManageEndpoint) && inside.shows(PortalPage::Endpoints);
    let page = Home {
        frame: Frame::of(&inside, Here::Overview).noting(query.get("notice")),
        name: Line::new(&inside.app.name),
        ranges: range::links(range, |range| format!("{}?range={}", inside.place.home(), range::word(range))),
        opening: range::opening(range),
        numbers: Numbers::of(store, &inside.tenant(), &counting, now).await?,
        chart: charted.then(|| Chart::new(&buckets, range, &list)),
        endpoints: endpoints
            .data
            .iter()
            .map(|one| EndpointRow::new(&inside, one, at_each.get(&one.endpoint.id)))
            .collect(),
        more: (endpoints.more && inside.shows(PortalPage::Endpoints)).then(|| inside.place.page("endpoints")),
        add: may_add.then(|| inside.place.page("endpoints/new")),
        failures: failures(store, &inside, at_each, now).await?,
    };
    answer(StatusCode::OK, &page)
}

/// The latest failures of the endpoints with the most failures in the counts `at_each`.
///
/// # Errors
/// The store is unavailable.
pub async fn failures(
    store: &Store,
    inside: &Inside,
    at_each: HashMap<EndpointId, Counts>,
    now: Time,
) -> Result<Vec<AttemptRow>, StoreError> {
    let mut failing: Vec<(EndpointId, Counts)> = at_each.into_iter().filter(|(_, counts)| counts.failed > 0).collect();
    failing.sort_by_key(|(id, counts)| (std::cmp::Reverse(counts.failed), *id));
    let mut lines = Vec::new();
    for (endpoint, _) in failing.into_iter().take(FAILING) {
        lines.extend(store.newest_failures(&inside.tenant(), inside.app.id, endpoint, FAILURES).await?);
    }
    lines.sort_by_key(|line| std::cmp::Reverse(line.id));
    lines.truncate(FAILURES as usize);
    let row = |line| {
        let row = AttemptRow::new(&line, now);
        let path = inside.place.message(line.message_id);
        AttemptRow { href: if inside.opens(&path) { path } else { String::new() }, ..row }
    };
    Ok(lines.into_iter().map(row).collect())
}

impl EndpointRow {
    fn new(inside: &Inside, line: &EndpointLine, counts: Option<&Counts>) -> EndpointRow {
        let EndpointLine { endpoint, .. } = line;
        let none = Counts::default();
        let counts = counts.unwrap_or(&none);
        EndpointRow {
            badge: Badge::of_health(line.health()),
            href: inside.shows(PortalPage::Endpoints).then(|| inside.place.endpoint(endpoint.id)),
            address: Address::new(&endpoint.spec.url),
            description: Line::cut(&endpoint.spec.description, 120),
            rate: rates::rate(counts),
            sent: format::counted(counts.attempts(), "attempt", "attempts"),
        }
    }
}
