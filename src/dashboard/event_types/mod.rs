//! The catalog of event types, and an event type's page with its schema and example.
//!
//! * [`event_type_form`] – create, edit, archive. [`import_page`] – import from an OpenAPI document. [`schema_table`] –
//!   a schema as a table. [`public_catalog`] – the catalog without sign-in. [`visible_event_types`] – the event types
//!   that a user can see.
//!
//! Invariant: customers reach event types only through [`visible_event_types`]; a [`public_catalog`] shows only those
//! that need no feature flag.

pub(in crate::dashboard) mod event_type_form;
pub(in crate::dashboard) mod import_page;
pub(in crate::dashboard) mod public_catalog;
pub(in crate::dashboard) mod schema_table;
pub(in crate::dashboard) mod visible_event_types;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::Template;

use super::DashboardState;
use crate::dashboard::components::format::{Line, UrlQuery};
use crate::dashboard::components::payload::PayloadView;
use crate::dashboard::components::widgets::RelativeTime;
use crate::dashboard::event_types::schema_table::SchemaField;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::handler_input::{PageInput, PageResult};
use crate::dashboard::http::layout::app_tabs::layout;
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::domain::Time;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::catalog::payload_schema::PayloadValidation;
use crate::store::{Order, PageRequest};

/// Event types per page.
const LINES: usize = 100;

/// Labels beside an event type's name.
pub struct EventTypeLabels {
    pub archived: bool,
    pub deprecated: bool,
    pub flags: Vec<Line>,
    pub group: Option<Line>,
}

impl EventTypeLabels {
    /// Customers do not see feature flags.
    fn new(spec: &EventTypeSpec, user: &CurrentUser) -> EventTypeLabels {
        EventTypeLabels::with_flags(spec, if user.flags().is_none() { spec.feature_flags.as_slice() } else { &[] })
    }

    fn with_flags(spec: &EventTypeSpec, flags: &[String]) -> EventTypeLabels {
        EventTypeLabels {
            archived: spec.archived,
            deprecated: spec.deprecated,
            flags: flags.iter().map(|flag| Line::new(flag)).collect(),
            group: spec.group_name.as_deref().map(Line::new),
        }
    }
}

struct Row {
    href: String,
    name: Line,
    description: Line,
    labels: EventTypeLabels,
}

/// A row of the catalog; `flags` are shown beside the name.
fn event_type_row(event_type: &EventType, href: String, flags: &[String]) -> Row {
    Row {
        href,
        name: Line::new(&event_type.spec.name),
        description: Line::cut(&event_type.spec.description, 200),
        labels: EventTypeLabels::with_flags(&event_type.spec, flags),
    }
}

#[derive(Template)]
#[template(path = "event_types.html")]
struct EventTypesPage {
    layout: PageLayout,
    path: String,
    /// Editable, for operators.
    whole: bool,
    archived: bool,
    rows: Vec<Row>,
    next: Option<String>,
    paged: bool,
}

/// `GET /event-types?archived=1&after=`.
pub async fn list(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    catalog_page(&state, &request, &user, None).await
}

/// `GET {base}/event-types?after=`.
pub async fn list_in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    catalog_page(&state, &request, &context, Some(&context)).await
}

async fn catalog_page(
    state: &DashboardState,
    request: &HttpRequest,
    user: &CurrentUser,
    context: Option<&AppContext>,
) -> PageResult {
    let paths = context.map_or_else(AppPaths::all, |context| context.paths.clone());
    let query = UrlQuery::of(request);
    let whole = context.is_none();
    let archived = whole && query.get("archived").is_some();
    let after = query.get("after").map(str::to_owned);
    let page = PageRequest { after, ..PageRequest::first(LINES, Order::Ascending) };
    let found = visible_event_types::page(&state.store, user, archived, &page).await?;
    let path = paths.page("event-types");
    let last = found.data.last().filter(|_| found.more).map(|last| last.spec.name.clone());
    let row = |event_type: &EventType| {
        let flags = if user.flags().is_none() { event_type.spec.feature_flags.as_slice() } else { &[] };
        event_type_row(event_type, paths.event_type(&event_type.spec.name), flags)
    };
    let page = EventTypesPage {
        layout: layout(user, context, NavItem::EventTypes, "event-types").with_notice(query.get("notice")),
        whole,
        archived,
        rows: found.data.iter().map(row).collect(),
        next: last.map(|name| format!("{path}?{}after={name}", if archived { "archived=1&" } else { "" })),
        paged: page.after.is_some(),
        path,
    };
    answer(StatusCode::OK, &page)
}

/// The JSON Schema of a version.
struct SchemaVersion {
    version: Line,
    text: PayloadView,
}

#[derive(Template)]
#[template(path = "event_type.html")]
struct EventTypePage {
    layout: PageLayout,
    path: String,
    whole: bool,
    name: Line,
    description: Line,
    labels: EventTypeLabels,
    changed: RelativeTime,
    schemas: Vec<SchemaVersion>,
    /// The newest schema as a table.
    fields: Vec<SchemaField>,
    /// "warn" or "reject", for operators.
    validation: Option<&'static str>,
    example: Option<PayloadView>,
}

/// `GET /event-types/{name}`.
pub async fn show(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    one(&state, &request, &user, &AppPaths::all()).await
}

/// `GET {base}/event-types/{name}`.
pub async fn show_in_application(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    one(&state, &request, &context, &context.paths).await
}

async fn one(state: &DashboardState, request: &HttpRequest, user: &CurrentUser, paths: &AppPaths) -> PageResult {
    let (query, now) = (UrlQuery::of(request), state.clock.now());
    let found =
        visible_event_types::find(&state.store, user, part(request, "name")?).await?.ok_or(PageError::NotFound)?;
    let page = EventTypePage::new(&found, user, paths, query.get("notice"), now);
    answer(StatusCode::OK, &page)
}

impl EventTypePage {
    fn new(found: &EventType, user: &CurrentUser, paths: &AppPaths, notice: Option<&str>, now: Time) -> EventTypePage {
        let spec = &found.spec;
        let layout = PageLayout::of(user, NavItem::EventTypes).with_notice(notice);
        EventTypePage {
            whole: *paths == AppPaths::all(),
            labels: EventTypeLabels::new(spec, user),
            validation: (user.flags().is_none() && spec.validation != PayloadValidation::Off)
                .then(|| spec.validation.word()),
            ..EventTypePage::of(found, layout, paths.event_type(&spec.name), now)
        }
    }

    /// The page in the public catalog.
    fn of(found: &EventType, layout: PageLayout, path: String, now: Time) -> EventTypePage {
        let spec = &found.spec;
        let shown = |value: &serde_json::Value| PayloadView::new(value.to_string().as_bytes());
        let schemas = spec.schemas.iter().flatten();
        EventTypePage {
            layout,
            path,
            whole: false,
            name: Line::new(&spec.name),
            description: Line::new(&spec.description),
            labels: EventTypeLabels::with_flags(spec, &[]),
            changed: RelativeTime::new(found.updated_at, now),
            fields: spec.newest_schema().map(schema_table::fields).unwrap_or_default(),
            validation: None,
            schemas: schemas
                .map(|(version, schema)| SchemaVersion { version: Line::new(version), text: shown(schema) })
                .collect(),
            example: spec.example(None).ok().map(|example| shown(&example)),
        }
    }
}
