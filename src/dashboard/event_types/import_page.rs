//! Imports event types from an OpenAPI document: a form, a preview of the changes, and their confirmation.

use actix_web::http::StatusCode;
use askama::Template;
use sha2::{Digest as _, Sha256};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{Form, FormField, FormPage, SelectOption};
use crate::dashboard::components::format::{InputValue, Line};
use crate::dashboard::http::current_user::CurrentOperator;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::catalog::openapi_import;
use crate::domain::{Invalid, limits};
use crate::store::catalog::event_type_import::{self, ImportAction, ImportChange, ImportOptions};

/// The path of the form.
pub const PATH: &str = "/event-types/import";
/// The longest submitted form: the document, percent-encoded.
pub const FORM_BYTES: usize = 3 * openapi_import::DOCUMENT_BYTES + 4_096;
/// The value of `versions` that adds a version.
const ADD: &str = "add";

/// A row of the preview.
struct Row {
    action: &'static str,
    name: Line,
    fields: String,
}

#[derive(Template)]
#[template(path = "event_type_import.html")]
struct PreviewPage {
    layout: PageLayout,
    rows: Vec<Row>,
    unchanged: usize,
    document: InputValue,
    replace_all: bool,
    versions: &'static str,
    /// Identifies the previewed plan.
    plan: String,
    /// The catalog changed since the last preview.
    stale: bool,
}

fn form() -> Form {
    let versions = vec![
        SelectOption::new("replace", "Replace the newest version", true),
        SelectOption::new(ADD, "Add a new version", false),
    ];
    Form::new(vec![
        FormField::code("spec", "OpenAPI 3.1 document", "", 14)
            .required()
            .help("As JSON or YAML, at most 2 MiB. Each entry of its webhooks becomes an event type."),
        FormField::select("versions", "Changed schemas", versions).help("For event types that already have a schema."),
        FormField::tick("replaceAll", "Archive all other event types", false)
            .help("Event types that are not in the document are no longer offered."),
    ])
}

fn layout(user: &CurrentOperator) -> PageLayout {
    PageLayout::of(user, NavItem::EventTypes).under("/event-types", "Event types")
}

fn form_page(user: &CurrentOperator, form: Form) -> FormPage {
    FormPage::new(
        layout(user),
        "Import event types",
        form,
        (PATH.to_owned(), "Preview changes"),
        "/event-types".to_owned(),
    )
    .lead("Nothing changes before you confirm the preview.")
}

/// `GET /event-types/import`.
pub async fn show(PageInput { user, .. }: PageInput<CurrentOperator>) -> PageResult {
    form_page(&user, form()).answer()
}

/// `POST /event-types/import`: previews, or with the `plan` of a preview applies it.
pub async fn import(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let options =
        ImportOptions { replace_all: submitted.has("replaceAll"), new_versions: submitted.get("versions") == ADD };
    let changes = match planned(&state, &user, &submitted, options).await? {
        Ok(changes) => changes,
        Err(wrong) => {
            let shown: Vec<&str> = wrong.iter().take(limits::ERRORS).map(|one| one.reason.as_str()).collect();
            let all = Invalid::new("spec", shown.join("; "));
            return form_page(&user, form().filled(&submitted).with_errors(&[all])).answer();
        }
    };
    let plan = digest(&changes);
    match submitted.given("plan") {
        Some(previewed) if previewed == plan => {
            let (store, now) = (user.store(&state.store), state.clock.now());
            event_type_import::apply(&store, &user.tenant(), &changes, now).await?;
            Ok(done("/event-types", FlashNotice::Imported))
        }
        previewed => preview(&user, &submitted, options, &changes, (plan, previewed.is_some())),
    }
}

async fn planned(
    state: &DashboardState,
    user: &CurrentOperator,
    submitted: &VerifiedForm,
    options: ImportOptions,
) -> Result<Result<Vec<ImportChange>, Vec<Invalid>>, PageError> {
    match openapi_import::parse(submitted.get("spec")) {
        Ok(specs) => Ok(event_type_import::plan(&state.store, &user.tenant(), specs, options).await?),
        Err(wrong) => Ok(Err(wrong)),
    }
}

fn preview(
    user: &CurrentOperator,
    submitted: &VerifiedForm,
    options: ImportOptions,
    changes: &[ImportChange],
    (plan, stale): (String, bool),
) -> PageResult {
    let row = |change: &ImportChange| {
        let action = match change.action {
            ImportAction::Create => "create",
            ImportAction::Update => "change",
            ImportAction::Archive => "archive",
            ImportAction::Keep => return None,
        };
        Some(Row { action, name: Line::new(&change.spec.name), fields: change.fields.join(", ") })
    };
    let rows: Vec<Row> = changes.iter().filter_map(row).collect();
    let page = PreviewPage {
        layout: layout(user),
        unchanged: changes.len() - rows.len(),
        rows,
        document: InputValue::new(submitted.get("spec")),
        replace_all: options.replace_all,
        versions: if options.new_versions { ADD } else { "replace" },
        plan,
        stale,
    };
    answer(StatusCode::OK, &page)
}

/// Identifies a plan by its actions, the event types and their new contents.
fn digest(changes: &[ImportChange]) -> String {
    let mut hash = Sha256::new();
    for ImportChange { action, spec, fields } in changes {
        let schemas = spec.schemas.as_ref().map(|schemas| serde_json::to_string(schemas).unwrap_or_default());
        hash.update(format!("{action:?} {} {fields:?} {} {schemas:?}\n", spec.name, spec.description));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
