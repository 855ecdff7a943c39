//! Creates, edits and deletes applications.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Field, Form, FormPage, number};
use crate::dashboard::components::format::{Line, counted};
use crate::dashboard::components::refused::{refused, settled, unchanged};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::place::Place;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Inside, Signed, Viewer};
use crate::domain::catalog::application::{Application, ApplicationSpec};
use crate::domain::{AppId, Invalid, Uid};

fn form(spec: &ApplicationSpec) -> Form {
    let metadata: Vec<String> = spec.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Form::new(vec![
        Field::text("name", "Name", &spec.name).required().help("Your name for this customer."),
        Field::text("uid", "Uid", spec.uid.as_ref().map_or("", |uid| uid.as_str()))
            .help("Your own identifier, accepted in place of the id. Letters, digits, '-', '_' and '.'."),
        Field::number("throttleRate", "Rate limit", spec.throttle_rate.map(u64::from), 1, 65_535)
            .help("Messages per second, for all its endpoints together. Leave empty for no limit."),
        Field::text("contactEmail", "Contact", spec.contact_email.as_deref().unwrap_or_default())
            .kind("email")
            .help("Notified by email when an endpoint is disabled."),
        Field::lines("metadata", "Metadata", &metadata).help("Your own name=value pairs, one per line."),
    ])
}

/// Parses the form, or returns all invalid fields.
fn read(posted: &Posted) -> Result<ApplicationSpec, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let mut spec = ApplicationSpec { name: posted.get("name").trim().to_owned(), ..ApplicationSpec::default() };
    match posted.given("uid").map(|text| Uid::parse("uid", text, AppId::PREFIX)).transpose() {
        Ok(uid) => spec.uid = uid,
        Err(one) => wrong.push(one),
    }
    match number(posted, "throttleRate", "a whole number from 1 to 65535") {
        Ok(rate) => spec.throttle_rate = rate,
        Err(one) => wrong.push(one),
    }
    spec.contact_email = posted.given("contactEmail").map(str::to_owned);
    for line in crate::dashboard::components::form::lines(posted.get("metadata")) {
        match line.split_once('=') {
            Some((name, value)) => drop(spec.metadata.insert(name.trim().to_owned(), value.trim().to_owned())),
            None => wrong.push(Invalid::new("metadata", format!("has a line without =: {line}"))),
        }
    }
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

fn new_page(viewer: &Viewer, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(viewer, Here::Applications),
        title: Line::new("New application"),
        lead: "One per customer.",
        about: Line::default(),
        action: "/applications/new".to_owned(),
        form,
        starts: Vec::new(),
        button: "Create application",
        back: "/applications".to_owned(),
    }
}

fn edit_page(inside: &Inside, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(inside, Here::Applications).below(inside, []),
        title: Line::new("Edit application"),
        lead: "",
        about: Line::new(&inside.app.name),
        action: inside.place.page("edit"),
        form,
        starts: Vec::new(),
        button: "Save",
        back: inside.place.home().to_owned(),
    }
}

/// `GET /applications/new`.
pub async fn new(signed: Signed) -> Result<HttpResponse, PageError> {
    new_page(&signed, form(&ApplicationSpec::default())).answer()
}

/// `POST /applications/new`.
pub async fn create(
    state: web::Data<DashboardState>,
    signed: Signed,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (signed.store(&state.store), state.clock.now());
    let made = match read(&posted) {
        Ok(spec) => store.create_application(&signed.tenant(), spec, now).await.map_err(|error| refused(error, "uid")),
        Err(wrong) => Err(Ok(wrong)),
    };
    match made {
        Ok(app) => Ok(done(Place::of_application(app.id).home(), Notice::Created)),
        Err(wrong) => new_page(&signed, form(&ApplicationSpec::default()).typed(&posted).blame(&wrong?)).answer(),
    }
}

fn spec_of(app: &Application) -> ApplicationSpec {
    ApplicationSpec {
        uid: app.uid.clone(),
        name: app.name.clone(),
        throttle_rate: app.throttle_rate,
        metadata: app.metadata.clone(),
        contact_email: app.contact_email.clone(),
    }
}

/// `GET /applications/{app}/edit`.
pub async fn edit(inside: Inside) -> Result<HttpResponse, PageError> {
    edit_page(&inside, form(&spec_of(&inside.app)).of(inside.app.updated_at)).answer()
}

/// `POST /applications/{app}/edit`.
pub async fn change(
    state: web::Data<DashboardState>,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now, id) = (inside.store(&state.store), state.clock.now(), inside.app.id);
    let work = |before: &Application| {
        unchanged(&posted, before.updated_at)?;
        read(&posted).map_err(Ok)
    };
    let changed = store.update_application(&inside.tenant(), id, work, now).await;
    match changed.map_err(|error| refused(error, "uid")).and_then(settled) {
        Ok(_) => Ok(done(inside.place.home(), Notice::Changed)),
        Err(wrong) => {
            let form = form(&spec_of(&inside.app)).of(inside.app.updated_at);
            edit_page(&inside, form.typed(&posted).blame(&wrong?)).answer()
        }
    }
}

/// `GET /applications/{app}/delete`.
pub async fn ask(state: web::Data<DashboardState>, inside: Inside) -> Result<HttpResponse, PageError> {
    let id = inside.app.id;
    let endpoints = state.store.endpoints_in(&inside.tenant(), &[id]).await?.get(&id).copied().unwrap_or(0);
    let page = ConfirmPage {
        frame: Frame::of(&inside, Here::Applications).below(&inside, []),
        title: "Delete this application?",
        about: Line::new(&inside.app.name),
        consequences: vec![
            format!("{} and all pending deliveries are deleted.", counted(endpoints, "endpoint", "endpoints")),
            "Its messages and attempts are no longer visible.".to_owned(),
            "New events for it are rejected.".to_owned(),
            "This can't be undone.".to_owned(),
        ],
        action: inside.place.page("delete"),
        button: format!("Delete application and {}", counted(endpoints, "endpoint", "endpoints")),
        back: inside.place.home().to_owned(),
    };
    answer(StatusCode::OK, &page)
}

/// `POST /applications/{app}/delete`.
pub async fn delete(
    state: web::Data<DashboardState>,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    let (store, now) = (inside.store(&state.store), state.clock.now());
    match store.delete_application(&inside.tenant(), inside.app.id, now).await? {
        true => Ok(done("/applications", Notice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
