//! The list of messages, across applications or within one.
//!
//! * [`message`] – the page of a message. [`send_message`] – the form that sends one. [`message_export`] – the list as
//!   a file.
//!
//! # Invariants
//!
//! * A list reads one page; a search stops at the store's scan limit and says how far it looked.
//! * A message sent here is accepted like one from the REST API, and recorded in the audit log.

pub(in crate::dashboard) mod message;
pub(in crate::dashboard) mod message_export;
pub(in crate::dashboard) mod send_message;

use askama::Template;

use crate::dashboard::components::filtered_list::{FilteredList, ListRequest};
use crate::dashboard::components::filters::{Filters, OF_MESSAGES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, UrlQuery, count};
use crate::dashboard::components::pagination::LINES;
use crate::dashboard::components::widgets::{Badge, Id, RelativeTime};
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::app_tabs::layout;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::list_user::ListUser;
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
    list: FilteredList<Row>,
}

/// `GET /messages`, `GET {base}/messages`.
pub async fn list(PageInput { state, request, user }: PageInput<ListUser>) -> PageResult {
    let query = UrlQuery::of(&request);
    let asked: ListRequest<MessageId> =
        ListRequest::read(&state, &query, &user, (ViewList::Messages, &OF_MESSAGES)).await?;
    let (store, tenant, now) = (&state.store, user.tenant(), asked.now);
    let read = async |filters: &Filters, after| store.list_messages(&tenant, &wanted(filters), after, LINES).await;
    let page = MessagesPage {
        layout: layout(&user, user.context(), NavItem::Messages, "messages").with_notice(query.get("notice")),
        list: asked.list(&user, read, |line| line.id, |line| Row::new(line, &user, now)).await?,
    };
    answer(page.list.status(), &page)
}

/// An endpoint's id as the search term selects deliveries only, so no message matches.
fn wanted(filters: &Filters) -> MessageSearch {
    let nothing = filters.endpoint.map(|_| Vec::new());
    MessageSearch {
        app: filters.app,
        accepted: filters.accepted(),
        event_types: filters.event_types.clone(),
        messages: filters.messages.clone().or(nothing),
        text: filters.text.clone(),
    }
}

impl Row {
    fn new(line: &ListedMessage, user: &ListUser, now: Time) -> Row {
        let paths = user.paths(line.app_id);
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
