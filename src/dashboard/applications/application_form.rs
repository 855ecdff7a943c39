//! Creates, edits and deletes applications.

use actix_web::http::StatusCode;

use crate::dashboard::applications::form_page;
use crate::dashboard::components::form::{ConfirmPage, Form, FormField, FormPage, number};
use crate::dashboard::components::form_errors::{change_result, check_revision, store_errors};
use crate::dashboard::components::format::{Line, counted};
use crate::dashboard::http::app_paths::AppPaths;
use crate::dashboard::http::current_user::{AppContext, CurrentOperator, CurrentUser};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::catalog::application::{Application, ApplicationSpec};
use crate::domain::{AppId, Invalid, Uid};

fn form(spec: &ApplicationSpec) -> Form {
    let metadata: Vec<String> = spec.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Form::new(vec![
        FormField::text("name", "Name", &spec.name).required().help("Your name for this customer."),
        FormField::text("uid", "Uid", spec.uid.as_ref().map_or("", |uid| uid.as_str()))
            .help("Your own identifier, accepted in place of the id. Letters, digits, '-', '_' and '.'."),
        FormField::number("throttleRate", "Rate limit", spec.throttle_rate.map(u64::from), 1, 65_535)
            .help("Messages per second, for all its endpoints together. Leave empty for no limit."),
        FormField::text("contactEmail", "Contact", spec.contact_email.as_deref().unwrap_or_default())
            .kind("email")
            .help("Notified by email when an endpoint is disabled."),
        FormField::lines("metadata", "Metadata", &metadata).help("Your own name=value pairs, one per line."),
    ])
}

/// Parses the form, or returns all invalid fields.
fn read(submitted: &VerifiedForm) -> Result<ApplicationSpec, Vec<Invalid>> {
    let mut wrong = Vec::new();
    let mut spec = ApplicationSpec { name: submitted.get("name").trim().to_owned(), ..ApplicationSpec::default() };
    match submitted.given("uid").map(|text| Uid::parse("uid", text, AppId::PREFIX)).transpose() {
        Ok(uid) => spec.uid = uid,
        Err(one) => wrong.push(one),
    }
    match number(submitted, "throttleRate", "a whole number from 1 to 65535") {
        Ok(rate) => spec.throttle_rate = rate,
        Err(one) => wrong.push(one),
    }
    spec.contact_email = submitted.given("contactEmail").map(str::to_owned);
    for line in crate::dashboard::components::form::lines(submitted.get("metadata")) {
        match line.split_once('=') {
            Some((name, value)) => drop(spec.metadata.insert(name.trim().to_owned(), value.trim().to_owned())),
            None => wrong.push(Invalid::new("metadata", format!("has a line without =: {line}"))),
        }
    }
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

fn new_page(user: &CurrentUser, form: Form) -> FormPage {
    let layout = PageLayout::of(user, NavItem::Applications);
    FormPage::for_new(layout, "New application", form, "Create application", "/applications".to_owned())
        .lead("One per customer.")
}

fn edit_page(context: &AppContext, form: Form) -> FormPage {
    form_page(context, "Edit application", ("edit", "Save"), form)
}

/// `GET /applications/new`.
pub async fn new(user: CurrentOperator) -> PageResult {
    new_page(&user, form(&ApplicationSpec::default())).answer()
}

/// `POST /applications/new`.
pub async fn create(FormInput { state, user, submitted, .. }: FormInput<CurrentOperator>) -> PageResult {
    let (store, now) = (submitted.once(user.store(&state.store)), state.clock.now());
    let created = |id| Ok(done(AppPaths::of_application(id).home(), FlashNotice::Created));
    let act = async || {
        let made = match read(&submitted) {
            Ok(spec) => {
                store.create_application(&user.tenant(), spec, now).await.map_err(|error| store_errors(error, "uid"))
            }
            Err(wrong) => Err(Ok(wrong)),
        };
        match made {
            Ok(app) => created(app.id),
            Err(wrong) => {
                new_page(&user, form(&ApplicationSpec::default()).filled(&submitted).with_errors(&wrong?)).answer()
            }
        }
    };
    once(&state, &submitted, act, async |made| created(made.parse().map_err(|_| PageError::NotFound)?)).await
}

/// `GET /applications/{app}/edit`.
pub async fn edit(context: AppContext) -> PageResult {
    edit_page(&context, form(&context.app.spec()).at_revision(context.app.updated_at)).answer()
}

/// `POST /applications/{app}/edit`.
pub async fn change(FormInput { state, user: context, submitted, .. }: FormInput<AppContext>) -> PageResult {
    let (store, now, id) = (context.store(&state.store), state.clock.now(), context.app.id);
    let work = |before: &Application| {
        check_revision(&submitted, before.updated_at)?;
        read(&submitted).map_err(Ok)
    };
    let changed = store.update_application(&context.tenant(), id, work, now).await;
    match changed.map_err(|error| store_errors(error, "uid")).and_then(change_result) {
        Ok(_) => Ok(done(context.paths.home(), FlashNotice::Changed)),
        Err(wrong) => {
            let form = form(&context.app.spec()).at_revision(context.app.updated_at);
            edit_page(&context, form.filled(&submitted).with_errors(&wrong?)).answer()
        }
    }
}

/// `GET /applications/{app}/delete`.
pub async fn ask(PageInput { state, user: context, .. }: PageInput<AppContext>) -> PageResult {
    let id = context.app.id;
    let endpoints = state.store.endpoint_counts_by_app(&context.tenant(), &[id]).await?.get(&id).copied().unwrap_or(0);
    let page = ConfirmPage {
        layout: PageLayout::of(&context, NavItem::Applications).below(&context, []),
        title: "Delete this application?",
        about: Line::new(&context.app.name),
        consequences: vec![
            format!("{} and all pending deliveries are deleted.", counted(endpoints, "endpoint", "endpoints")),
            "Its messages and attempts are no longer visible.".to_owned(),
            "New events for it are rejected.".to_owned(),
            "This can't be undone.".to_owned(),
        ],
        action: context.paths.page("delete"),
        button: format!("Delete application and {}", counted(endpoints, "endpoint", "endpoints")),
        back: context.paths.home().to_owned(),
    };
    answer(StatusCode::OK, &page)
}

/// `POST /applications/{app}/delete`.
pub async fn delete(FormInput { state, user: context, .. }: FormInput<AppContext>) -> PageResult {
    let (store, now) = (context.store(&state.store), state.clock.now());
    match store.delete_application(&context.tenant(), context.app.id, now).await? {
        true => Ok(done("/applications", FlashNotice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
