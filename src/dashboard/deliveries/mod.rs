//! The list of deliveries, across applications or of one.
//!
//! * [`resend`] – resends one delivery.   [`cancel`] – cancels a pending one.   Bulk resends are in
//!   [`bulk`](crate::dashboard::bulk).
//!
//! Invariant: the list shows exactly the deliveries that a bulk resend with the same filters includes, because both use
//! the same filter.

pub(in crate::dashboard) mod cancel;
pub(in crate::dashboard) mod resend;

use std::str::FromStr;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::bulk::base;
use crate::dashboard::components::filters::{Asked, Filters, Form, OF_DELIVERIES};
use crate::dashboard::components::format;
use crate::dashboard::components::format::{Line, Query, counted};
use crate::dashboard::components::hints::in_words;
use crate::dashboard::components::list::{LINES, Rest};
use crate::dashboard::components::parts::{Address, Badge, Id, When};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::viewer::{Inside, Signed, Viewer};
use crate::domain::access::portal::Capability;
use crate::domain::deliveries::delivery::{DeadReason, State};
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::query::delivery_list::{DeliveryKey, DeliveryStatus, ListedDelivery};

struct Row {
    badge: Badge,
    href: String,
    event_type: Line,
    message_id: Id,
    app: Line,
    app_href: String,
    address: Address,
    endpoint: String,
    /// The last response or failure, or the reason why the delivery is dead.
    answer: Line,
    attempts: String,
    next: Option<When>,
    accepted: When,
    /// The action of the *Resend* button.
    resend: Option<String>,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    status: Option<DeliveryStatus>,
    /// There is no other filter.
    only_status: bool,
    /// The list covers one application.
    inside: bool,
    form: Form,
    good: bool,
    note: Option<&'static str>,
    rows: Vec<Row>,
    rest: Rest,
    /// The current page, to return to.
    back: String,
    /// Path and label of the bulk resend of this list.
    resend_all: Option<(String, &'static str)>,
}

/// `GET /deliveries`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    list(&state, &request, &signed, None).await
}

/// `GET {place}/deliveries`.
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
    let path = inside.map_or_else(|| "/deliveries".to_owned(), |inside| inside.place.page("deliveries"));
    let names: Vec<&'static str> =
        OF_DELIVERIES.into_iter().filter(|name| inside.is_none() || *name != "app").collect();
    let asked = Asked::of(path, &names, &query);
    let filters = Filters::of(store, &viewer.tenant(), inside.map(|inside| inside.app.id), &asked, now).await?;
    let form = Form::of(store, viewer, inside, &asked, &filters, &names).await?;
    let after = query.get("after").and_then(cursor);
    let (good, status, note) = (filters.good(), filters.status, filters.note);
    let (rows, rest) = if good {
        let found = store.list_deliveries(&viewer.tenant(), &filters.deliveries(), after, LINES).await?;
        let text = |(message, endpoint): DeliveryKey| format!("{message}.{endpoint}");
        let last = found.data.last().map(|row| text((row.message_id, row.endpoint_id)));
        let stopped = found.stopped.map(|key| (text(key), key.0.time()));
        let rest = Rest::of(&asked, after.is_some(), found.more.then_some(last).flatten(), stopped, now);
        let row = |one: &ListedDelivery| Row::new(one, viewer, inside, now);
        (found.data.iter().map(row).collect(), rest)
    } else {
        (Vec::new(), Rest::of(&asked, after.is_some(), None, None, now))
    };
    let resend_all = status
        .filter(|_| !rows.is_empty() && viewer.can(Capability::CreateAttempts))
        .and_then(|status| resend_all(viewer, inside, &asked, status));
    let page = DeliveriesPage {
        frame: Frame::of(viewer, Here::Deliveries).noting(query.get("notice")),
        status,
        only_status: asked.only("status"),
        inside: inside.is_some(),
        form,
        good,
        note,
        rows,
        rest,
        back: after.map_or_else(|| asked.first(), |(message, endpoint)| asked.after(&format!("{message}.{endpoint}"))),
        resend_all,
    };
    answer(if good { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, &page)
}

/// The bulk resend of the list. `None`: operational webhooks cannot be resent in bulk.
fn resend_all(
    viewer: &Viewer,
    inside: Option<&Inside>,
    asked: &Asked,
    status: DeliveryStatus,
) -> Option<(String, &'static str)> {
    let name = if status == DeliveryStatus::Pending { "Send all now…" } else { "Resend all…" };
    let path = format!("{}/resend", base(viewer));
    match inside {
        Some(inside) if inside.operational => None,
        // Customers have only one application.
        Some(inside) if viewer.tenant().only.is_none() => {
            Some((asked.elsewhere(&path, &[("app", &inside.app.id.to_string())]), name))
        }
        _ => Some((asked.elsewhere(&path, &[]), name)),
    }
}

impl Row {
    fn new(line: &ListedDelivery, viewer: &Viewer, inside: Option<&Inside>, now: Time) -> Row {
        let place = inside.map_or_else(|| Place::of_application(line.app_id), |inside| inside.place.clone());
        let href = place.message(line.message_id);
        let failed = matches!(line.state, State::Retry | State::Dead);
        let resend = failed && line.sendable && viewer.can(Capability::CreateAttempts);
        let badge = match (line.state, line.reason) {
            (state, _) if state.pending() && line.endpoint_disabled => Badge::Disabled,
            (State::Dead, Some(DeadReason::Canceled)) => Badge::Canceled,
            (state, _) => Badge::of(state),
        };
        Row {
            badge,
            resend: resend.then(|| format!("{href}/resend")),
            href,
            event_type: Line::new(&line.event_type),
            message_id: Id::new(line.message_id),
            app: Line::new(&line.app_name),
            app_href: place.home().to_owned(),
            address: Address::new(&line.url),
            endpoint: line.endpoint_id.to_string(),
            answer: Line::new(&came_to(line)),
            attempts: if line.attempts > 1 {
                counted(line.attempts.into(), "attempt", "attempts")
            } else {
                String::new()
            },
            next: (line.state.pending() && !line.endpoint_disabled).then(|| When::new(line.due_at, now)),
            accepted: When::new(line.accepted_at, now),
        }
    }
}

/// The result of a delivery in two or three words.
fn came_to(line: &ListedDelivery) -> String {
    match line.reason {
        Some(DeadReason::EndpointDeleted) => return "Endpoint deleted".to_owned(),
        Some(DeadReason::Expired) => return "Older than retention".to_owned(),
        Some(DeadReason::ContentDeleted) => return "Content deleted".to_owned(),
        Some(DeadReason::Canceled) => return "Canceled".to_owned(),
        Some(DeadReason::Exhausted | DeadReason::Gone) | None => {}
    }
    match &line.last {
        None => String::new(),
        Some(last) => match (last.status, last.failure) {
            (Some(status), _) => format::status(status),
            (None, Some(failure)) => in_words(failure).to_owned(),
            (None, None) => "Delivered".to_owned(),
        },
    }
}

/// Parses a cursor. An invalid one starts at the first page.
fn cursor(text: &str) -> Option<DeliveryKey> {
    let (message, endpoint) = text.split_once('.')?;
    Some((MessageId::from_str(message).ok()?, EndpointId::from_str(endpoint).ok()?))
}
