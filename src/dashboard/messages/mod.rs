//! The list of messages, across applications or within one.
//!
//! * [`message`] – the page of a message. [`send_message`] – the form that sends one. [`message_export`] – the list as a file.
//!
//! # Invariants
//!
//! * A list reads one page; a search stops at the store's scan limit and says how far it looked.
//! * A message that is sent here is accepted like one from the REST API, and noted in the audit log.

pub(in crate::dashboard) mod message;
pub(in crate::dashboard) mod message_export;
pub(in crate::dashboard) mod send_message;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use super::DashboardState;
use crate::dashboard::components::filters;
use crate::dashboard::components::filters::{FilterForm, Filters, OF_MESSAGES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, count};
use crate::dashboard::components::list_tools::ListTools;
use crate::dashboard::components::pagination::{LINES, Pagination};
use crate::dashboard::components::widgets::{Badge, Id, RelativeTime};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::app_tabs::layout;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser};
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::access::saved_view::ViewList;
use crate::domain::{MessageId, Time};
use crate::store::query::endpoint_messages::DeliveryStatusCounts;
use crate::store::query::message_list::{ListedMessage, MessageSearch};

struct Row {
    /// The most severe state of its deliveries; `None`: no deliveries.
    badge: Option<Badge>,
    href: String,
    event_type: Line,
    id: Id,
    app: Line,
    app_href: String,
    event_id: Line,
    deliveries: String,
    size: String,
    accepted: RelativeTime,
}

#[derive(Template)]
#[template(path = "messages.html")]
struct MessagesPage {
    layout: PageLayout,
    /// The list covers one application.
    in_application: bool,
    form: FilterForm,
    good: bool,
    note: Option<&'static str>,
    rows: Vec<Row>,
    pagination: Pagination,
    tools: ListTools,
}

/// `GET /messages`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    list(&state, &request, &user, None).await
}

/// `GET {base}/messages`.
pub async fn in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    list(&state, &request, &context, Some(&context)).await
}

async fn list(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentUser,
    context: Option<&AppContext>,
) -> PageResult {
    let (query, now, store) = (UrlQuery::of(request), state.clock.now(), &state.store);
    let (params, filters, form) = filters::read(store, user, context, ("messages", &OF_MESSAGES), &query, now).await?;
    let after: Option<MessageId> = query.get("after").and_then(|id| id.parse().ok());
    let (good, note) = (filters.good(), filters.note);
    let (rows, pagination) = if good {
        let found = store.list_messages(&user.tenant(), &wanted(filters), after, LINES).await?;
        let last = found.data.last().map(|row| row.id.to_string());
        let stopped = found.stopped.map(|id| (id.to_string(), id.time()));
        let pagination = Pagination::of(&params, after.is_some(), found.more.then_some(last).flatten(), stopped, now);
        (found.data.iter().map(|one| Row::new(one, context, now)).collect(), pagination)
    } else {
        (Vec::new(), Pagination::of(&params, after.is_some(), None, None, now))
    };
    let page = MessagesPage {
        layout: layout(user, context, NavItem::Messages, "messages").with_notice(query.get("notice")),
        in_application: context.is_some(),
        form,
        good,
        note,
        rows,
        pagination,
        tools: ListTools::of(store, user, ViewList::Messages, context.is_none(), &params).await?,
    };
    answer(if good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, &page)
}

/// An endpoint's id as the search term selects deliveries only, so no message matches.
fn wanted(filters: Filters) -> MessageSearch {
    let nothing = filters.endpoint.map(|_| Vec::new());
    MessageSearch {
        app: filters.app,
        event_types: filters.event_types,
        since: filters.since.unwrap_or(Time::ZERO),
        until: filters.until.unwrap_or(Time::MAX),
        messages: filters.messages.or(nothing),
        text: filters.text,
    }
}

impl Row {
    fn new(line: &ListedMessage, context: Option<&AppContext>, now: Time) -> Row {
        let paths = context.map_or_else(|| AppPaths::of_application(line.app_id), |context| context.paths.clone());
        Row {
            badge: worst(&line.standings),
            href: paths.message(line.id),
            event_type: Line::new(&line.event_type),
            id: Id::new(line.id),
            app: Line::new(&line.app_name),
            app_href: paths.home().to_owned(),
            event_id: Line::new(line.event_id.as_deref().unwrap_or_default()),
            deliveries: in_short(&line.standings),
            size: line.size.map_or_else(|| "deleted".to_owned(), |size| format::size(size.max(0) as usize)),
            accepted: RelativeTime::new(line.accepted_at, now),
        }
    }
}

fn worst(of: &DeliveryStatusCounts) -> Option<Badge> {
    [
        (of.dead, Badge::Dead),
        (of.pending, Badge::Pending),
        (of.delivered, Badge::Delivered),
        (of.canceled, Badge::Canceled),
    ]
    .into_iter()
    .find(|(count, _)| *count > 0)
    .map(|(_, badge)| badge)
}

/// `3 delivered, 1 dead`.
fn in_short(of: &DeliveryStatusCounts) -> String {
    let parts: Vec<String> =
        [(of.delivered, "delivered"), (of.pending, "pending"), (of.dead, "dead"), (of.canceled, "canceled")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{} {word}", count(n)))
            .collect();
    if parts.is_empty() { "no matching endpoint".to_owned() } else { parts.join(", ") }
}
