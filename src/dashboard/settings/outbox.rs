//! Stuck outbox rows, with the reason. A stuck row belongs to no organization yet, so every operator sees it, without
//! its payload; only operators who see all organizations can retry, edit or discard it.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Field, Form, FormPage};
use crate::dashboard::components::format::{Line, Query, count_up_to};
use crate::dashboard::components::parts::{Badge, When};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, part};
use crate::domain::{Invalid, Time, ids, limits};
use crate::store::ingest::outbox::StuckRow;
use crate::store::ingest::outbox::outbox_actions::{OutboxAct, OutboxActed, StuckKey};

/// The maximum number of rows, oldest first.
const ROWS: i64 = 200;
/// The limit of the store's count.
const MOST: i64 = 100_000;

struct Row {
    /// The prefix of its actions `retry`, `edit` and `discard`.
    path: String,
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
    /// Whether the user can act on rows.
    may: bool,
    /// There are more rows.
    cut: bool,
}

/// `GET /outbox`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(&request);
    let now = state.clock.now();
    let depth = state.store.outbox_depth().await?;
    let rows = state.store.outbox_stuck(ROWS).await?;
    let page = OutboxPage {
        frame: Frame::of(&signed, Here::Outbox).noting(query.get("notice")),
        may: signed.sees_all(),
        badge: Badge::Stuck,
        stuck: count_up_to(depth.stuck, MOST),
        waiting: count_up_to(depth.waiting, MOST),
        cut: depth.stuck > ROWS,
        rows: rows
            .iter()
            .map(|row| Row {
                path: path(key(row)),
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

fn key(row: &StuckRow) -> StuckKey {
    StuckKey { id: row.id, since: row.stuck_since }
}

fn path(StuckKey { id, since }: StuckKey) -> String {
    format!("/outbox/{id}/{}", since.micros())
}

/// The row in the path. Requires access to all organizations, since a stuck row belongs to none.
fn named(request: &HttpRequest, signed: &Signed) -> Result<StuckKey, PageError> {
    if !signed.sees_all() {
        return Err(PageError::NotAllowed);
    }
    let number = |name| part(request, name)?.parse::<i64>().map_err(|_| PageError::NotFound);
    Ok(StuckKey { id: number("row")?, since: Time::from_micros(number("since")?) })
}

/// The row's current state.
async fn stuck(state: &DashboardState, wanted: StuckKey) -> Result<StuckRow, PageError> {
    let rows = state.store.outbox_stuck(ROWS).await?;
    rows.into_iter().find(|row| key(row) == wanted).ok_or(PageError::NotFound)
}

async fn act(
    state: &DashboardState,
    signed: &Signed,
    key: StuckKey,
    what: OutboxAct,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let notice = match store.act_on_outbox(&signed.org, key, &what, now).await? {
        OutboxActed::Done if what == OutboxAct::Discard => Notice::RowDiscarded,
        OutboxActed::Done => Notice::RowRetried,
        OutboxActed::Gone => Notice::RowGone,
        OutboxActed::Ambiguous => Notice::RowAmbiguous,
    };
    Ok(done("/outbox", notice))
}

/// `POST /outbox/{row}/{since}/retry`.
pub async fn retry(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    let key = named(&request, &signed)?;
    act(&state, &signed, key, OutboxAct::Retry).await
}

fn form(row: &StuckRow) -> Form {
    Form::new(vec![
        Field::text("application", "Application", row.application.as_deref().unwrap_or_default())
            .required()
            .help("The application's id or uid."),
        Field::text("eventType", "Event type", row.event_type.as_deref().unwrap_or_default()).required(),
    ])
}

fn form_page(signed: &Signed, row: &StuckRow, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(signed, Here::Outbox),
        title: Line::new("Edit outbox row"),
        lead: "Saving retries the row. Its payload does not change.",
        about: Line::cut(&row.stuck_reason, 400),
        action: format!("{}/edit", path(key(row))),
        form,
        starts: Vec::new(),
        button: "Save and retry",
        back: "/outbox".to_owned(),
    }
}

/// `GET /outbox/{row}/{since}/edit`.
pub async fn edit(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let row = stuck(&state, named(&request, &signed)?).await?;
    form_page(&signed, &row, form(&row)).answer()
}

/// `POST /outbox/{row}/{since}/edit`.
pub async fn change(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let row = stuck(&state, named(&request, &signed)?).await?;
    let (application, event_type) = (posted.get("application").trim(), posted.get("eventType").trim());
    let mut wrong = Vec::new();
    if application.is_empty() {
        wrong.push(Invalid::new("application", "must not be empty"));
    }
    if let Err(one) = ids::name("eventType", event_type, limits::NAME) {
        wrong.push(one);
    }
    if !wrong.is_empty() {
        return form_page(&signed, &row, form(&row).typed(&posted).blame(&wrong)).answer();
    }
    let what = OutboxAct::Change { application: application.to_owned(), event_type: event_type.to_owned() };
    act(&state, &signed, key(&row), what).await
}

/// `GET /outbox/{row}/{since}/discard`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let row = stuck(&state, named(&request, &signed)?).await?;
    let event_type = row.event_type.as_deref().unwrap_or("an event without a type");
    let page = ConfirmPage {
        frame: Frame::of(&signed, Here::Outbox),
        title: "Discard this outbox row?",
        about: Line::cut(&format!("{event_type} to {}", row.application.as_deref().unwrap_or("no application")), 300),
        consequences: vec![
            "The row is deleted and never becomes a message.".to_owned(),
            "This can't be undone. To send it elsewhere, edit it instead.".to_owned(),
        ],
        action: format!("{}/discard", path(key(&row))),
        button: "Discard row".to_owned(),
        back: "/outbox".to_owned(),
    };
    answer(StatusCode::OK, &page)
}

/// `POST /outbox/{row}/{since}/discard`.
pub async fn discard(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    _: Posted,
) -> Result<HttpResponse, PageError> {
    let key = named(&request, &signed)?;
    act(&state, &signed, key, OutboxAct::Discard).await
}
