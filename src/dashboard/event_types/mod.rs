//! The catalog of event types, and the page of one, with its schema and example.
//!
//! * [`event_type_form`] – create, edit, archive.   [`visible_event_types`] – what a user can see of the catalog.
//!
//! Invariant: customers reach event types only through [`visible_event_types`].

pub(in crate::dashboard) mod catalog;
pub(in crate::dashboard) mod event_type_form;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::DashboardState;
use crate::dashboard::components::format::{Line, Query};
use crate::dashboard::components::parts::When;
use crate::dashboard::components::payload::Payload;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::place::Place;
use crate::dashboard::http::viewer::{Inside, Signed, Viewer, part};
use crate::domain::Time;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::store::{Order, PageRequest};

/// Event types per page.
const LINES: usize = 100;

/// Labels beside an event type's name.
pub struct Marks {
    pub archived: bool,
    pub deprecated: bool,
    pub flags: Vec<Line>,
    pub group: Option<Line>,
}

impl Marks {
    /// Customers do not see feature flags.
    fn new(spec: &EventTypeSpec, viewer: &Viewer) -> Marks {
        let flags = if viewer.flags().is_none() { spec.feature_flags.as_slice() } else { &[] };
        Marks {
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
    marks: Marks,
}

#[derive(Template)]
#[template(path = "event_types.html")]
struct EventTypesPage {
    frame: Frame,
    path: String,
    /// Editable, for operators.
    whole: bool,
    archived: bool,
    rows: Vec<Row>,
    next: Option<String>,
    paged: bool,
}

/// `GET /event-types?archived=1&after=`.
pub async fn list(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    catalog_page(&state, &request, &signed, &Place::all()).await
}

/// `GET {place}/event-types?after=`.
pub async fn list_inside(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    catalog_page(&state, &request, &inside, &inside.place).await
}

async fn catalog_page(
    state: &DashboardState,
    request: &HttpRequest,
    viewer: &Viewer,
    place: &Place,
) -> Result<HttpResponse, PageError> {
    let query = Query::of(request);
    let whole = *place == Place::all();
    let archived = whole && query.get("archived").is_some();
    let after = query.get("after").map(str::to_owned);
    let page = PageRequest { after, ..PageRequest::first(LINES, Order::Ascending) };
    let found = catalog::page(&state.store, viewer, archived, &page).await?;
    let path = place.page("event-types");
    let last = found.data.last().filter(|_| found.more).map(|last| last.spec.name.clone());
    let row = |event_type: &EventType| Row {
        href: place.event_type(&event_type.spec.name),
        name: Line::new(&event_type.spec.name),
        description: Line::cut(&event_type.spec.description, 200),
        marks: Marks::new(&event_type.spec, viewer),
    };
    let page = EventTypesPage {
        frame: Frame::of(viewer, Here::EventTypes).noting(query.get("notice")),
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
struct Schema {
    version: Line,
    text: Payload,
}

#[derive(Template)]
#[template(path = "event_type.html")]
struct EventTypePage {
    frame: Frame,
    path: String,
    whole: bool,
    name: Line,
    description: Line,
    marks: Marks,
    changed: When,
    schemas: Vec<Schema>,
    example: Option<Payload>,
}

/// `GET /event-types/{name}`.
pub async fn show(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    one(&state, &request, &signed, &Place::all()).await
}

/// `GET {place}/event-types/{name}`.
pub async fn show_inside(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    one(&state, &request, &inside, &inside.place).await
}

async fn one(
    state: &DashboardState,
    request: &HttpRequest,
    viewer: &Viewer,
    place: &Place,
) -> Result<HttpResponse, PageError> {
    let (query, now) = (Query::of(request), state.clock.now());
    let found = catalog::find(&state.store, viewer, part(request, "name")?).await?.ok_or(PageError::NotFound)?;
    let page = EventTypePage::new(&found, viewer, place, query.get("notice"), now);
    answer(StatusCode::OK, &page)
}

impl EventTypePage {
    fn new(found: &EventType, viewer: &Viewer, place: &Place, notice: Option<&str>, now: Time) -> EventTypePage {
        let spec = &found.spec;
        let shown = |value: &serde_json::Value| Payload::new(value.to_string().as_bytes());
        let schemas = spec.schemas.iter().flatten();
        EventTypePage {
            frame: Frame::of(viewer, Here::EventTypes).noting(notice),
            path: place.event_type(&spec.name),
            whole: *place == Place::all(),
            name: Line::new(&spec.name),
            description: Line::new(&spec.description),
            marks: Marks::new(spec, viewer),
            changed: When::new(found.updated_at, now),
            schemas: schemas
                .map(|(version, schema)| Schema { version: Line::new(version), text: shown(schema) })
                .collect(),
            example: spec.example(None).ok().map(|example| shown(&example)),
        }
    }
}
