//! The outbox: rows that could not be routed, with the reason. Such a row belongs to no organization yet (mostly that is what is wrong
//! with it), so whoever is signed in sees it; its payload is not shown.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use super::DashboardState;
use super::error::PageError;
use super::frame::{Frame, Here, answer};
use super::parts::{Badge, When};
use super::show::{Line, count_up_to};
use super::viewer::Signed;

/// How many rows are shown: the ones that have been stuck for longest.
const ROWS: i64 = 200;
/// The store counts up to here.
const MOST: i64 = 100_000;

struct Row {
    id: i64,
    application: Option<Line>,
    event_type: Option<Line>,
    reason: Line,
    since: When,
    look: When,
}

#[derive(Template)]
#[template(path = "outbox.html")]
struct OutboxPage {
    frame: Frame,
    badge: Badge,
    stuck: String,
    waiting: String,
    rows: Vec<Row>,
    /// More are stuck than are shown.
    cut: bool,
}

/// `GET /outbox`.
pub async fn show(state: web::Data<DashboardState>, signed: Signed) -> Result<HttpResponse, PageError> {
    let now = state.clock.now();
    let depth = state.store.outbox_depth().await?;
    let rows = state.store.outbox_stuck(ROWS).await?;
    let page = OutboxPage {
        frame: Frame::of(&signed, Here::Outbox),
        badge: Badge::Stuck,
        stuck: count_up_to(depth.stuck, MOST),
        waiting: count_up_to(depth.waiting, MOST),
        cut: depth.stuck > ROWS,
        rows: rows
            .iter()
            .map(|row| Row {
                id: row.id,
                application: row.application.as_deref().map(|name| Line::cut(name, 120)),
                event_type: row.event_type.as_deref().map(|name| Line::cut(name, 120)),
                reason: Line::cut(&row.stuck_reason, 400),
                since: When::new(row.stuck_since, now),
                look: When::new(row.look_at, now),
            })
            .collect(),
    };
    answer(StatusCode::OK, &page)
}
