//! The outbox: the relay's recent activity, and stuck rows with their reasons, without payloads.
//!
//! A row belongs to the organization of its application, and operators with access to that organization manage it. A
//! row without an existing application belongs to none: it needs access to all organizations.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Form, FormField, FormPage};
use crate::dashboard::components::format::{Line, UrlQuery, count, count_up_to};
use crate::dashboard::components::widgets::{Badge, RelativeTime};
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::done;
use crate::domain::access::operator::OperatorRole;
use crate::domain::{Invalid, OrgId, Time, ids, limits};
use crate::store::ingest::outbox::StuckRow;
use crate::store::ingest::outbox::outbox_actions::{OutboxAction, OutboxActionResult, StuckKey};

/// The maximum number of rows, oldest first.
const ROWS: i64 = 200;
/// The maximum number of rows searched for those of some organizations.
const SCANNED: i64 = 2_000;
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
    last_hour: String,
    last: Option<RelativeTime>,
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
    let activity = state.store.relay_activity(now).await?;
    let (rows, cut) = visible(&state, &user).await?;
    // Only operators with access to all organizations see the count of all rows.
    let stuck = if user.sees_all() { count_up_to(depth.stuck, MOST) } else { count_up_to(rows.len() as i64, ROWS) };
    let page = OutboxPage {
        layout: PageLayout::of(&user, NavItem::Outbox).with_notice(query.get("notice")),
        may: user.role() >= Some(OperatorRole::Operator),
        badge: Badge::Stuck,
        stuck,
        last_hour: count(activity.last_hour),
        last: activity.last.map(|at| RelativeTime::new(at, now)),
        waiting: count_up_to(depth.waiting, MOST),
        cut,
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

/// The stuck rows that the user may see, oldest first, and whether there may be more.
async fn visible(state: &DashboardState, user: &CurrentOperator) -> Result<(Vec<StuckRow>, bool), PageError> {
    let read = if user.sees_all() { ROWS } else { SCANNED };
    let mut rows = state.store.outbox_stuck(read).await?;
    let mut cut = rows.len() as i64 == read;
    if !user.sees_all() {
        let names: Vec<Option<&str>> = rows.iter().map(|row| row.application.as_deref()).collect();
        let mut owners = state.store.outbox_owners(&names).await?.into_iter();
        rows.retain(|_| owners.next().flatten().is_some_and(|org| user.sees_org(&org)));
        cut |= rows.len() as i64 > ROWS;
        rows.truncate(ROWS as usize);
    }
    Ok((rows, cut))
}

/// The organization whose audit log records an action on a row of `application`.
///
/// # Errors
/// The row belongs to an organization that the user has no access to, or to none.
async fn owner(state: &DashboardState, user: &CurrentOperator, application: Option<&str>) -> Result<OrgId, PageError> {
    match state.store.outbox_owners(&[application]).await?.pop().flatten() {
        Some(org) if user.sees_org(&org) => Ok(org),
        None if user.sees_all() => Ok(user.org.clone()),
        _ => Err(PageError::NotAllowed),
    }
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

/// The current state of the row in the path, and its organization.
///
/// # Errors
/// The row is no longer stuck, or the user may not see it.
async fn stuck(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentOperator,
) -> Result<(StuckRow, OrgId), PageError> {
    let row = state.store.outbox_stuck_row(named(request)?).await?.ok_or(PageError::NotFound)?;
    let org = owner(state, user, row.application.as_deref()).await?;
    Ok((row, org))
}

async fn act(state: &DashboardState, request: &HttpRequest, user: &CurrentOperator, what: OutboxAction) -> PageResult {
    let (row, org) = match stuck(state, request, user).await {
        Err(PageError::NotFound) => return Ok(done("/outbox", FlashNotice::RowGone)),
        found => found?,
    };
    let (store, now) = (user.store(&state.store), state.clock.now());
    let notice = match store.act_on_outbox(&org, key(&row), &what, now).await? {
        OutboxActionResult::Done if what == OutboxAction::Discard => FlashNotice::RowDiscarded,
        OutboxActionResult::Done => FlashNotice::RowRetried,
        OutboxActionResult::Gone => FlashNotice::RowGone,
        OutboxActionResult::Ambiguous => FlashNotice::RowAmbiguous,
    };
    Ok(done("/outbox", notice))
}

/// `POST /outbox/{row}/{since}/retry`.
pub async fn retry(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    act(&state, &request, &user, OutboxAction::Retry).await
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
    let (row, _) = stuck(&state, &request, &user).await?;
    form_page(&user, &row, form(&row)).answer()
}

/// `POST /outbox/{row}/{since}/edit`.
pub async fn change(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let (row, _) = stuck(&state, &request, &user).await?;
    let (application, event_type) = (submitted.get("application").trim(), submitted.get("eventType").trim());
    let mut wrong = Vec::new();
    if application.is_empty() {
        wrong.push(Invalid::new("application", "must not be empty"));
    } else if !user.sees_all() && owner(&state, &user, Some(application)).await.is_err() {
        wrong.push(Invalid::new("application", "is not an application of your organizations"));
    }
    if let Err(one) = ids::name("eventType", event_type, limits::NAME) {
        wrong.push(one);
    }
    if !wrong.is_empty() {
        return form_page(&user, &row, form(&row).filled(&submitted).with_errors(&wrong)).answer();
    }
    let what = OutboxAction::Change { application: application.to_owned(), event_type: event_type.to_owned() };
    act(&state, &request, &user, what).await
}

/// `GET /outbox/{row}/{since}/discard`.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let (row, _) = stuck(&state, &request, &user).await?;
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
    act(&state, &request, &user, OutboxAction::Discard).await
}
