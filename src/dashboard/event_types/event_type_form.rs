//! Creates, edits and archives event types.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Field, Form, FormPage, lines};
use crate::dashboard::components::format::Line;
use crate::dashboard::components::refused::{refused, settled, unchanged};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::place::Place;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Signed, part};
use crate::domain::Invalid;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::store::Store;

fn form(spec: &EventTypeSpec, new: bool) -> Form {
    let schemas = spec.schemas.as_ref().and_then(|schemas| serde_json::to_string_pretty(schemas).ok());
    let mut fields = vec![
        Field::area("description", "Description", &spec.description, 3).help("When this event is sent."),
        Field::text("groupName", "Group", spec.group_name.as_deref().unwrap_or_default())
            .help("Groups related event types, such as invoice."),
        Field::code("schemas", "JSON Schema", &schemas.unwrap_or_default(), 14).help(
            "An object with one JSON Schema per version: {\"1\": {…}}. Test events use its examples. \
             Leave empty for none.",
        ),
        Field::lines("featureFlags", "Feature flags", &spec.feature_flags)
            .help("One per line. Only customers with all of these flags see the event type."),
        Field::tick("deprecated", "Deprecated", spec.deprecated).help("Still offered, but marked as deprecated."),
    ];
    if new {
        let name = Field::text("name", "Name", &spec.name).required();
        fields.insert(
            0,
            name.help("Such as invoice.paid: letters, digits, '-', '_' and '.'. It can't be changed later."),
        );
    } else {
        let help = "No longer offered; events of this type are still delivered.";
        fields.push(Field::tick("archived", "Archived", spec.archived).help(help));
    }
    Form::new(fields)
}

fn read(posted: &Posted, before: EventTypeSpec) -> Result<EventTypeSpec, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let new = before.name.is_empty();
    let mut spec = before;
    if new {
        spec.name = posted.get("name").trim().to_owned();
    } else {
        spec.archived = posted.has("archived");
    }
    spec.description = posted.get("description").trim().to_owned();
    spec.group_name = posted.given("groupName").map(str::to_owned);
    spec.feature_flags = lines(posted.get("featureFlags"));
    spec.deprecated = posted.has("deprecated");
    match posted.given("schemas").map(serde_json::from_str::<Map<String, Value>>).transpose() {
        Ok(schemas) => spec.schemas = schemas,
        Err(error) => {
            wrong.push(Invalid::new(
                "schemas",
                format!("must be an object with a JSON Schema for each version: {error}"),
            ));
        }
    }
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

fn new_page(signed: &Signed, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(signed, Here::EventTypes),
        title: Line::new("New event type"),
        lead: "An event you publish and its payload.",
        about: Line::default(),
        action: "/event-types/new".to_owned(),
        form,
        starts: Vec::new(),
        button: "Create event type",
        back: "/event-types".to_owned(),
    }
}

fn edit_page(signed: &Signed, name: &str, form: Form) -> FormPage {
    let path = Place::all().event_type(name);
    FormPage {
        frame: Frame::of(signed, Here::EventTypes),
        title: Line::new("Edit"),
        lead: "",
        about: Line::new(name),
        action: format!("{path}/edit"),
        form,
        starts: Vec::new(),
        button: "Save",
        back: path,
    }
}

async fn named(store: &Store, request: &HttpRequest, signed: &Signed) -> Result<EventType, PageError> {
    store.event_type(&signed.tenant(), part(request, "name")?).await?.ok_or(PageError::NotFound)
}

/// `GET /event-types/new`.
pub async fn new(signed: Signed) -> Result<HttpResponse, PageError> {
    new_page(&signed, form(&EventTypeSpec::default(), true)).answer()
}

/// `POST /event-types/new`.
pub async fn create(
    state: web::Data<DashboardState>,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let made = match read(&posted, EventTypeSpec::default()) {
        Ok(spec) => store.create_event_type(&signed.tenant(), spec, now).await.map_err(|error| refused(error, "name")),
        Err(wrong) => Err(Ok(wrong)),
    };
    match made {
        Ok(made) => Ok(done(&Place::all().event_type(&made.spec.name), Notice::Created)),
        Err(wrong) => new_page(&signed, form(&EventTypeSpec::default(), true).typed(&posted).blame(&wrong?)).answer(),
    }
}

/// `GET /event-types/{name}/edit`.
pub async fn edit(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let found = named(&state.store, &request, &signed).await?;
    edit_page(&signed, &found.spec.name, form(&found.spec, false).of(found.updated_at)).answer()
}

/// `POST /event-types/{name}/edit`.
pub async fn change(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let found = named(&store, &request, &signed).await?;
    let work = |before: &EventType| {
        unchanged(&posted, before.updated_at)?;
        read(&posted, before.spec.clone()).map_err(Ok)
    };
    let changed = store.update_event_type(&signed.tenant(), &found.spec.name, work, now).await;
    match changed.map_err(|error| refused(error, "name")).and_then(settled) {
        Ok(_) => Ok(done(&Place::all().event_type(&found.spec.name), Notice::Changed)),
        Err(wrong) => {
            let form = form(&found.spec, false).of(found.updated_at);
            edit_page(&signed, &found.spec.name, form.typed(&posted).blame(&wrong?)).answer()
        }
    }
}

/// `GET /event-types/{name}/archive`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
) -> Result<HttpResponse, PageError> {
    let found = named(&state.store, &request, &signed).await?;
    let path = Place::all().event_type(&found.spec.name);
    let page = ConfirmPage {
        frame: Frame::of(&signed, Here::EventTypes),
        title: "Archive this event type?",
        about: Line::new(&found.spec.name),
        consequences: vec![
            "It is no longer offered to customers.".to_owned(),
            "Endpoints that subscribe to it keep receiving it.".to_owned(),
            "To restore it, clear Archived when you edit it.".to_owned(),
        ],
        action: format!("{path}/archive"),
        button: "Archive event type".to_owned(),
        back: path,
    };
    answer(StatusCode::OK, &page)
}

/// `POST /event-types/{name}/archive`.
pub async fn archive(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    signed: Signed,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let name = part(&request, "name")?;
    match store.delete_event_type(&signed.tenant(), name, false, now).await? {
        true => Ok(done("/event-types", Notice::Archived)),
        false => Err(PageError::NotFound),
    }
}
