//! Deliveries that did not arrive (yet): those that are dead, and those that wait for a retry.

use std::str::FromStr;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::parts::{Address, Badge, Id, When};
use super::place::Place;
use super::show::{Line, Query, count_up_to, counted};
use super::viewer::Signed;
use crate::domain::delivery::{DeadReason, State};
use crate::domain::{EndpointId, MessageId, Time};
use crate::store::deliveries::DeliveryLine;

/// How many are on a page.
const LINES: i64 = 50;
/// Counted up to here.
const MOST: i64 = 10_000;

/// Which deliveries the page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Dead,
    Retrying,
}

impl Wanted {
    fn of(query: &Query) -> Wanted {
        if query.get("state") == Some("retrying") { Wanted::Retrying } else { Wanted::Dead }
    }

    fn word(&self) -> &'static str {
        match self {
            Wanted::Dead => "dead",
            Wanted::Retrying => "retrying",
        }
    }
}

struct Row {
    href: String,
    event_type: Option<Line>,
    message_id: Id,
    endpoint: String,
    app: Line,
    address: Address,
    attempts: String,
    reason: &'static str,
    /// There is something to send again.
    sendable: bool,
    when: When,
    resend: String,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    wanted: Wanted,
    badge: Badge,
    count: String,
    rows: Vec<Row>,
    older: Option<String>,
    paged: bool,
}

/// `GET /deliveries?state=dead|retrying`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let (query, now, tenant, store) = (Query::of(&request), state.clock.now(), signed.tenant(), &state.store);
    let wanted = Wanted::of(&query);
    let after = query.get("after");
    let (here, badge, in_state) = match wanted {
        Wanted::Dead => (Here::Deliveries, Badge::Dead, State::Dead),
        Wanted::Retrying => (Here::Deliveries, Badge::Retrying, State::Retry),
    };
    let mut lines = match wanted {
        Wanted::Dead => store.dead_deliveries(&tenant, after.and_then(dead_cursor), LINES + 1).await?,
        Wanted::Retrying => store.retrying(&tenant, after.and_then(retry_cursor), LINES + 1).await?,
    };
    let more = lines.len() > LINES as usize;
    lines.truncate(LINES as usize);
    let cursor = |line: &DeliveryLine| match wanted {
        Wanted::Dead => format!("{}.{}", line.message_id, line.endpoint_id),
        Wanted::Retrying => format!("{}.{}.{}", line.due_at.micros(), line.message_id, line.endpoint_id),
    };
    let older = lines.last().filter(|_| more).map(|line| format!("{}&after={}", path(wanted), cursor(line)));
    let page = DeliveriesPage {
        frame: Frame::of(&signed, here).noting(query.get("notice")),
        wanted,
        badge,
        count: count_up_to(store.count_in(&tenant, in_state, MOST).await?, MOST),
        rows: lines.iter().map(|line| Row::new(line, now)).collect(),
        older,
        paged: after.is_some(),
    };
    answer(StatusCode::OK, &page)
}

fn path(wanted: Wanted) -> String {
    format!("/deliveries?state={}", wanted.word())
}

impl Row {
    fn new(line: &DeliveryLine, now: Time) -> Row {
        let href = Place::of_application(line.app_id).message(line.message_id);
        let reason = line.reason.as_deref().and_then(DeadReason::from_word);
        Row {
            resend: format!("{href}/resend"),
            href,
            event_type: line.event_type.as_deref().map(Line::new),
            message_id: Id::new(line.message_id),
            endpoint: line.endpoint_id.to_string(),
            app: Line::new(&line.app_name),
            address: Address::new(&line.url),
            attempts: counted(line.attempts.into(), "attempt", "attempts"),
            reason: reason.map_or("", in_short),
            sendable: line.event_type.is_some() && reason != Some(DeadReason::ContentDeleted),
            when: When::new(line.due_at, now),
        }
    }
}

/// Why a delivery is dead, for a narrow column; its page has the sentence.
fn in_short(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::Exhausted => "All attempts failed",
        DeadReason::Gone => "410 Gone",
        DeadReason::EndpointDeleted => "Endpoint deleted",
        DeadReason::Expired => "Older than retention",
        DeadReason::Canceled => "Canceled",
        DeadReason::ContentDeleted => "Content deleted",
    }
}

/// Where a list of dead ones goes on; what cannot be read begins at the beginning.
fn dead_cursor(text: &str) -> Option<(MessageId, EndpointId)> {
    let (message, endpoint) = text.split_once('.')?;
    Some((MessageId::from_str(message).ok()?, EndpointId::from_str(endpoint).ok()?))
}

fn retry_cursor(text: &str) -> Option<(Time, MessageId, EndpointId)> {
    let (due, rest) = text.split_once('.')?;
    let (message, endpoint) = dead_cursor(rest)?;
    Some((Time::from_micros(due.parse().ok()?), message, endpoint))
}
