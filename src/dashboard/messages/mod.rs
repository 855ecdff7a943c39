//! The list of messages, across applications or of one.
//!
//! * [`message`] – the page of a message.   [`send_message`] – the form that sends one.

pub(in crate::dashboard) mod message;
pub(in crate::dashboard) mod send;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use crate::dashboard::components::filters::{Asked, Filters, Form, OF_MESSAGES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, Query, count};
use crate::dashboard::components::list::{LINES, Rest};
use crate::dashboard::components::parts::{Badge, Id, When};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::viewer::{Inside, Signed, Viewer};
use crate::domain::{MessageId, Time};
use crate::store::query::endpoint_messages::Standings;
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
    accepted: When,
}

#[derive(Template)]
#[template(path = "messages.html")]
struct MessagesPage {
    frame: Frame,
    /// The list covers one application.
    inside: bool,
    form: Form,
    good: bool,
    note: Option<&'static str>,
    rows: Vec<Row>,
    rest: Rest,
}

/// `GET /messages`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    list(&state, &request, &signed, None).await
}

/// `GET {place}/messages`.
pub async fn inside(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    list(&state, &request, &inside, Some(&inside)).await
}

async fn list(
    state: &DashboardState,
    request: &HttpRequest,
    viewer: &Viewer,
    inside: Option<&Inside>,
) -> Result<HttpResponse, PageError> {
    let (query, now, store) = (Query::of(request), state.clock.now(), &state.store);
    let path = inside.map_or_else(|| "/messages".to_owned(), |inside| inside.place.page("messages"));
    let names: Vec<&'static str> = OF_MESSAGES.into_iter().filter(|name| inside.is_none() || *name != "app").collect();
    let asked = Asked::of(path, &names, &query);
    let filters = Filters::of(store, &viewer.tenant(), inside.map(|inside| inside.app.id), &asked, now).await?;
    let form = Form::of(store, viewer, inside, &asked, &filters, &names).await?;
    let after: Option<MessageId> = query.get("after").and_then(|id| id.parse().ok());
    let (good, note) = (filters.good(), filters.note);
    let (rows, rest) = if good {
        let found = store.list_messages(&viewer.tenant(), &wanted(filters), after, LINES).await?;
        let last = found.data.last().map(|row| row.id.to_string());
        let stopped = found.stopped.map(|id| (id.to_string(), id.time()));
        let rest = Rest::of(&asked, after.is_some(), found.more.then_some(last).flatten(), stopped, now);
        (found.data.iter().map(|one| Row::new(one, inside, now)).collect(), rest)
    } else {
        (Vec::new(), Rest::of(&asked, after.is_some(), None, None, now))
    };
    let page = MessagesPage {
        frame: Frame::of(viewer, Here::Messages).noting(query.get("notice")),
        inside: inside.is_some(),
        form,
        good,
        note,
        rows,
        rest,
    };
    answer(if good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, &page)
}

/// A search that finds an endpoint selects deliveries, so it matches no message.
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
    fn new(line: &ListedMessage, inside: Option<&Inside>, now: Time) -> Row {
        let place = inside.map_or_else(|| Place::of_application(line.app_id), |inside| inside.place.clone());
        Row {
            badge: worst(&line.standings),
            href: place.message(line.id),
            event_type: Line::new(&line.event_type),
            id: Id::new(line.id),
            app: Line::new(&line.app_name),
            app_href: place.home().to_owned(),
            event_id: Line::new(line.event_id.as_deref().unwrap_or_default()),
            deliveries: in_short(&line.standings),
            size: line.size.map_or_else(|| "deleted".to_owned(), |size| format::size(size.max(0) as usize)),
            accepted: When::new(line.accepted_at, now),
        }
    }
}

fn worst(of: &Standings) -> Option<Badge> {
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
fn in_short(of: &Standings) -> String {
    let parts: Vec<String> =
        [(of.delivered, "delivered"), (of.pending, "pending"), (of.dead, "dead"), (of.canceled, "canceled")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{} {word}", count(n)))
            .collect();
    if parts.is_empty() { "no matching endpoint".to_owned() } else { parts.join(", ") }
}
