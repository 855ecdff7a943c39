//! Stuck outbox rows, with the reason. A stuck row belongs to no organization yet, so only operators who see all
//! organizations see it, without its payload.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Form, FormField, FormPage};
use crate::dashboard::components::format::{Line, UrlQuery, count_up_to};
use crate::dashboard::components::widgets::{Badge, RelativeTime};
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::access::operator::OperatorRole;
use crate::domain::{Invalid, Time, ids, limits};
use crate::store::ingest::outbox::StuckRow;
use crate::store::ingest::outbox::outbox_actions::{OutboxAction, OutboxActionResult, StuckKey};

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
    since: RelativeTime,
    look: RelativeTime,
}

#[derive(Template)]
#[template(path = "outbox.html")]
struct OutboxPage {
    layout: PageLayout,
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
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let query = UrlQuery::of(&request);
    let now = state.clock.now();
    let depth = state.store.outbox_depth().await?;
    let rows = state.store.outbox_stuck(ROWS).await?;
    let page = OutboxPage {
        layout: PageLayout::of(&user, NavItem::Outbox).with_notice(query.get("notice")),
        may: user.role() >= Some(OperatorRole::Operator),
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
                since: RelativeTime::new(row.stuck_since, now),
                look: RelativeTime::new(row.look_at, now),
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

/// The row in the path.
fn named(request: &HttpRequest) -> Result<StuckKey, PageError> {
    let number = |name| part(request, name)?.parse::<i64>().map_err(|_| PageError::NotFound);
    Ok(StuckKey { id: number("row")?, since: Time::from_micros(number("since")?) })
}

/// The row's current state.
async fn stuck(state: &DashboardState, wanted: StuckKey) -> Result<StuckRow, PageError> {
    let rows = state.store.outbox_stuck(ROWS).await?;
    rows.into_iter().find(|row| key(row) == wanted).ok_or(PageError::NotFound)
}

async fn act(state: &DashboardState, user: &CurrentOperator, key: StuckKey, what: OutboxAction) -> PageResult {
    let (store, now) = (user.store(&state.store), state.clock.now());
    let notice = match store.act_on_outbox(&user.org, key, &what, now).await? {
        OutboxActionResult::Done if what == OutboxAction::Discard => FlashNotice::RowDiscarded,
        OutboxActionResult::Done => FlashNotice::RowRetried,
        OutboxActionResult::Gone => FlashNotice::RowGone,
        OutboxActionResult::Ambiguous => FlashNotice::RowAmbiguous,
    };
    Ok(done("/outbox", notice))
}

/// `POST /outbox/{row}/{since}/retry`.
pub async fn retry(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let key = named(&request)?;
    act(&state, &user, key, OutboxAction::Retry).await
}

fn form(row: &StuckRow) -> Form {
    Form::new(vec![
        FormField::text("application", "Application", row.application.as_deref().unwrap_or_default())
            .required()
            .help("The application's id or uid."),
        FormField::text("eventType", "Event type", row.event_type.as_deref().unwrap_or_default()).required(),
    ])
}

fn form_page(user: &CurrentOperator, row: &StuckRow, form: Form) -> FormPage {
    FormPage::new(
        PageLayout::of(user, NavItem::Outbox),
        "Edit outbox row",
        form,
        (format!("{}/edit", path(key(row))), "Save and retry"),
        "/outbox".to_owned(),
    )
    .lead("Saving retries the row. Its payload does not change.")
    .about(Line::cut(&row.stuck_reason, 400))
}

/// `GET /outbox/{row}/{since}/edit`.
pub async fn edit(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let row = stuck(&state, named(&request)?).await?;
    form_page(&user, &row, form(&row)).answer()
}

/// `POST /outbox/{row}/{since}/edit`.
pub async fn change(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let row = stuck(&state, named(&request)?).await?;
    let (application, event_type) = (submitted.get("application").trim(), submitted.get("eventType").trim());
    let mut wrong = Vec::new();
    if application.is_empty() {
        wrong.push(Invalid::new("application", "must not be empty"));
    }
    if let Err(one) = ids::name("eventType", event_type, limits::NAME) {
        wrong.push(one);
    }
    if !wrong.is_empty() {
        return form_page(&user, &row, form(&row).filled(&submitted).with_errors(&wrong)).answer();
    }
    let what = OutboxAction::Change { application: application.to_owned(), event_type: event_type.to_owned() };
    act(&state, &user, key(&row), what).await
}

/// `GET /outbox/{row}/{since}/discard`.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let row = stuck(&state, named(&request)?).await?;
    let event_type = row.event_type.as_deref().unwrap_or("an event without a type");
    let page = ConfirmPage {
        layout: PageLayout::of(&user, NavItem::Outbox),
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
pub async fn discard(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let key = named(&request)?;
    act(&state, &user, key, OutboxAction::Discard).await
}
