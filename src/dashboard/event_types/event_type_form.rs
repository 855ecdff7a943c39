//! Creates, edits and archives event types.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use serde_json::{Map, Value};

use crate::dashboard::components::form::{ConfirmPage, Form, FormField, FormPage, SelectOption, lines};
use crate::dashboard::components::form_errors::{change_result, check_revision, store_errors};
use crate::dashboard::components::format::Line;
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{CurrentOperator, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::Invalid;
use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::catalog::payload_schema::PayloadValidation;
use crate::store::Store;

fn form(spec: &EventTypeSpec, new: bool) -> Form {
    let schemas = spec.schemas.as_ref().and_then(|schemas| serde_json::to_string_pretty(schemas).ok());
    let mut fields = vec![
        FormField::area("description", "Description", &spec.description, 3).help("When this event is sent."),
        FormField::text("groupName", "Group", spec.group_name.as_deref().unwrap_or_default())
            .help("Groups related event types, such as invoice."),
        FormField::code("schemas", "JSON Schema", &schemas.unwrap_or_default(), 14).help(
            "An object with one JSON Schema per version: {\"1\": {…}}. Test events use its examples. \
             Leave empty for none.",
        ),
        FormField::select("validation", "Validation", validations(spec.validation))
            .help("Checks each payload against the newest schema. Rejected REST calls get 422, outbox rows are stuck."),
        FormField::lines("featureFlags", "Feature flags", &spec.feature_flags)
            .help("One per line. Only customers with all of these flags see the event type."),
        FormField::tick("deprecated", "Deprecated", spec.deprecated).help("Still offered, but marked as deprecated."),
    ];
    if new {
        let name = FormField::text("name", "Name", &spec.name).required();
        fields.insert(
            0,
            name.help("Such as invoice.paid: letters, digits, '-', '_' and '.'. It can't be changed later."),
        );
    } else {
        let help = "No longer offered; events of this type are still delivered.";
        fields.push(FormField::tick("archived", "Archived", spec.archived).help(help));
    }
    Form::new(fields)
}

fn validations(chosen: PayloadValidation) -> Vec<SelectOption> {
    let option = |one: PayloadValidation| {
        let label = match one {
            PayloadValidation::Off => "Off",
            PayloadValidation::Warn => "Warn: accept and mark",
            PayloadValidation::Reject => "Reject",
        };
        SelectOption::new(one.word(), label, one == chosen)
    };
    PayloadValidation::ALL.map(option).into()
}

fn read(submitted: &VerifiedForm, before: EventTypeSpec) -> Result<EventTypeSpec, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let new = before.name.is_empty();
    let mut spec = before;
    if new {
        spec.name = submitted.get("name").trim().to_owned();
    } else {
        spec.archived = submitted.has("archived");
    }
    spec.description = submitted.get("description").trim().to_owned();
    spec.group_name = submitted.given("groupName").map(str::to_owned);
    spec.feature_flags = lines(submitted.get("featureFlags"));
    spec.deprecated = submitted.has("deprecated");
    if let Some(word) = submitted.given("validation") {
        match PayloadValidation::from_word(word) {
            Some(validation) => spec.validation = validation,
            None => wrong.push(Invalid::new("validation", "must be off, warn or reject")),
        }
    }
    match submitted.given("schemas").map(serde_json::from_str::<Map<String, Value>>).transpose() {
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

fn new_page(user: &CurrentOperator, form: Form) -> FormPage {
    let layout = PageLayout::of(user, NavItem::EventTypes);
    FormPage::for_new(layout, "New event type", form, "Create event type", "/event-types".to_owned())
        .lead("An event you publish and its payload.")
}

fn edit_page(user: &CurrentOperator, name: &str, form: Form) -> FormPage {
    let path = AppPaths::all().event_type(name);
    FormPage::new(PageLayout::of(user, NavItem::EventTypes), "Edit", form, (format!("{path}/edit"), "Save"), path)
        .about(Line::new(name))
}

async fn named(store: &Store, request: &HttpRequest, user: &CurrentOperator) -> Result<EventType, PageError> {
    store.event_type(&user.tenant(), part(request, "name")?).await?.ok_or(PageError::NotFound)
}

/// `GET /event-types/new`.
pub async fn new(user: CurrentOperator) -> PageResult {
    new_page(&user, form(&EventTypeSpec::default(), true)).answer()
}

/// `POST /event-types/new`.
pub async fn create(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, now) = (submitted.once(user.store(&state.store)), state.clock.now());
    let created = |name: &str| Ok(done(&AppPaths::all().event_type(name), FlashNotice::Created));
    let act = async || {
        let made = match read(&submitted, EventTypeSpec::default()) {
            Ok(spec) => {
                store.create_event_type(&user.tenant(), spec, now).await.map_err(|error| store_errors(error, "name"))
            }
            Err(wrong) => Err(Ok(wrong)),
        };
        match made {
            Ok(made) => created(&made.spec.name),
            Err(wrong) => {
                new_page(&user, form(&EventTypeSpec::default(), true).filled(&submitted).with_errors(&wrong?)).answer()
            }
        }
    };
    once(&state, &submitted, act, async |made| created(made)).await
}

/// `GET /event-types/{name}/edit`.
pub async fn edit(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let found = named(&state.store, &request, &user).await?;
    edit_page(&user, &found.spec.name, form(&found.spec, false).at_revision(found.updated_at)).answer()
}

/// `POST /event-types/{name}/edit`.
pub async fn change(FormInput { state, request, user, submitted }: FormInput<CurrentOperator>) -> PageResult {
    let (store, now) = (user.store(&state.store), state.clock.now());
    let found = named(&store, &request, &user).await?;
    let work = |before: &EventType| {
        check_revision(&submitted, before.updated_at)?;
        read(&submitted, before.spec.clone()).map_err(Ok)
    };
    let changed = store.update_event_type(&user.tenant(), &found.spec.name, work, now).await;
    match changed.map_err(|error| store_errors(error, "name")).and_then(change_result) {
        Ok(_) => Ok(done(&AppPaths::all().event_type(&found.spec.name), FlashNotice::Changed)),
        Err(wrong) => {
            let form = form(&found.spec, false).at_revision(found.updated_at);
            edit_page(&user, &found.spec.name, form.filled(&submitted).with_errors(&wrong?)).answer()
        }
    }
}

/// `GET /event-types/{name}/archive`.
pub async fn ask(PageInput { state, request, user }: PageInput<CurrentOperator>) -> PageResult {
    let found = named(&state.store, &request, &user).await?;
    let path = AppPaths::all().event_type(&found.spec.name);
    let page = ConfirmPage {
        layout: PageLayout::of(&user, NavItem::EventTypes),
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
pub async fn archive(FormInput { state, request, user, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, now) = (user.store(&state.store), state.clock.now());
    let name = part(&request, "name")?;
    match store.delete_event_type(&user.tenant(), name, false, now).await? {
        true => Ok(done("/event-types", FlashNotice::Archived)),
        false => Err(PageError::NotFound),
    }
}
