//! The list of an application's polling endpoints.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::format::{Line, Query, count};
use crate::dashboard::components::parts::{Badge, When};
use crate::dashboard::endpoints::polling::{filter_of, name_of, path_of};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::portal::Capability;
use crate::domain::limits::POLLING_ENDPOINTS;
use crate::store::{Order, PageRequest};

struct Row {
    href: String,
    name: Line,
    state: Badge,
    filter: Line,
    consumers: String,
    /// The latest poll of any consumer.
    polled: Option<When>,
}

#[derive(Template)]
#[template(path = "polling.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Row>,
    /// The form for a new one, if the user may create one.
    new: Option<String>,
}

/// `GET {place}/polling`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let (store, tenant, now) = (&state.store, inside.tenant(), state.clock.now());
    let all = PageRequest::first(POLLING_ENDPOINTS, Order::Ascending);
    let mut rows = Vec::new();
    for endpoint in store.polling_endpoints(&tenant, inside.app.id, &all).await?.data {
        let consumers = store.consumers(&tenant, &endpoint).await?;
        rows.push(Row {
            href: path_of(&inside, &endpoint),
            name: Line::new(&name_of(&endpoint)),
            state: if endpoint.spec.disabled { Badge::Disabled } else { Badge::Enabled },
            filter: Line::new(&filter_of(&endpoint)),
            consumers: count(consumers.len() as i64),
            polled: consumers.iter().map(|one| one.polled_at).max().map(|at| When::new(at, now)),
        });
    }
    let page = ListPage {
        frame: Frame::of(&inside, Here::Polling).below(&inside, []).noting(Query::of(&request).get("notice")),
        rows,
        new: inside.can(Capability::ManageEndpoint).then(|| inside.place.page("polling/new")),
    };
    answer(StatusCode::OK, &page)
}
