//! The list of an application's polling endpoints.

use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::components::format::{Line, UrlQuery, count};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::components::widgets::{Badge, RelativeTime};
use crate::dashboard::endpoints::polling::{filter_of, name_of, path_of};
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::access::portal::Capability;
use crate::domain::limits::POLLING_ENDPOINTS;
use crate::store::{Order, PageRequest};

struct Row {
    href: String,
    name: Line,
    state: Badge,
    filter: Vec<PageText>,
    consumers: String,
    /// A consumer has stopped polling.
    silent: bool,
    /// The latest poll of any consumer.
    polled: Option<RelativeTime>,
}

#[derive(Template)]
#[template(path = "polling_endpoints.html")]
struct ListPage {
    layout: PageLayout,
    rows: Vec<Row>,
    /// The form for a new one, if the user may create one.
    new: Option<String>,
}

/// `GET {base}/polling`.
pub async fn show(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let (store, tenant, now) = (&state.store, context.tenant(), state.clock.now());
    let all = PageRequest::first(POLLING_ENDPOINTS, Order::Ascending);
    let mut rows = Vec::new();
    for endpoint in store.polling_endpoints(&tenant, context.app.id, &all).await?.data {
        let consumers = store.consumers(&tenant, &endpoint).await?;
        rows.push(Row {
            href: path_of(&context, &endpoint),
            name: Line::new(&name_of(&endpoint)),
            state: if endpoint.spec.disabled { Badge::Disabled } else { Badge::Enabled },
            filter: filter_of(&endpoint),
            consumers: count(consumers.len() as i64),
            silent: consumers.iter().any(|one| one.silent),
            polled: consumers.iter().map(|one| one.polled_at).max().map(|at| RelativeTime::new(at, now)),
        });
    }
    let page = ListPage {
        layout: PageLayout::of(&context, NavItem::Polling)
            .tab(&context, "polling")
            .with_notice(UrlQuery::of(&request).get("notice")),
        rows,
        new: context.can(Capability::ManageEndpoint).then(|| context.paths.page("polling/new")),
    };
    answer(StatusCode::OK, &page)
}
