//! Creates, edits, enables, disables and deletes endpoints.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Form, FormPage};
use crate::dashboard::components::form_errors::{FormRejection, change_result, check_revision, store_errors};
use crate::dashboard::components::format::{Line, count_up_to};
use crate::dashboard::components::page_text::PageText;
use crate::dashboard::endpoints::endpoint_fields::{form, read};
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::{NavItem, PageLayout, answer};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::Invalid;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::notifications::operational::OperationalKind;
use crate::domain::signing::secret::Secret;
use crate::service::endpoints;
use crate::store::{EndpointRef, Store};

/// The endpoint in the path.
///
/// # Errors
/// Not found in the application.
pub async fn named(store: &Store, request: &HttpRequest, context: &AppContext) -> Result<Endpoint, PageError> {
    let named = EndpointRef::parse(part(request, "endpoint")?).map_err(|_| PageError::NotFound)?;
    store.endpoint(&context.tenant(), context.app.id, &named).await?.ok_or(PageError::NotFound)
}

async fn names(store: &Store, context: &AppContext) -> Result<Vec<String>, PageError> {
    if context.operational {
        return Ok(OperationalKind::ALL.iter().map(|kind| kind.name().to_owned()).collect());
    }
    let choices = visible_event_types::choices(store, context).await?;
    Ok(choices.into_iter().map(|event_type| event_type.spec.name).collect())
}

fn new_page(context: &AppContext, form: Form) -> FormPage {
    let list = context.paths.page("endpoints");
    let layout =
        PageLayout::of(context, NavItem::Endpoints).below(context, [(list.clone(), PageText::own("Endpoints"))]);
    FormPage::for_new(layout, "New endpoint", form, "Create endpoint", list).lead("A URL that receives events.")
}

/// The layout of a page below an endpoint.
pub(in crate::dashboard) fn of_endpoint(context: &AppContext, endpoint: &Endpoint) -> PageLayout {
    let things = [
        (context.paths.page("endpoints"), PageText::own("Endpoints")),
        (context.paths.endpoint(endpoint.id), PageText::foreign(&endpoint.spec.url, 60)),
    ];
    PageLayout::of(context, NavItem::Endpoints).below(context, things)
}

fn edit_page(context: &AppContext, endpoint: &Endpoint, form: Form) -> FormPage {
    let path = context.paths.endpoint(endpoint.id);
    FormPage::new(of_endpoint(context, endpoint), "Edit endpoint", form, (format!("{path}/edit"), "Save"), path)
        .about(Line::new(&endpoint.spec.url))
}

/// The defaults of a new endpoint.
fn blank(state: &DashboardState) -> EndpointSpec {
    EndpointSpec { signature_type: state.signature_type, ..EndpointSpec::default() }
}

/// `GET {base}/endpoints/new`.
pub async fn new(PageInput { state, user: context, .. }: PageInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let names = names(&state.store, &context).await?;
    new_page(&context, form(&blank(&state), &names, true)).answer()
}

/// `POST {base}/endpoints/new`.
pub async fn create(FormInput { state, user: context, submitted, .. }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let created = |id| Ok(done(&context.paths.endpoint(id), FlashNotice::Created));
    let act = async || match make(&state, &context, &submitted).await {
        Ok(endpoint) => created(endpoint.id),
        Err(wrong) => {
            let (wrong, names) = (wrong?, names(&state.store, &context).await?);
            new_page(&context, form(&blank(&state), &names, true).filled(&submitted).with_errors(&wrong)).answer()
        }
    };
    once(&state, &submitted, act, async |made| created(made.parse().map_err(|_| PageError::NotFound)?)).await
}

async fn make(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
) -> Result<Endpoint, FormRejection> {
    let new = checked(state, context, submitted, &blank(state), true).await?;
    let (store, now) = (submitted.once(context.store(&state.store)), state.clock.now());
    let made = endpoints::create(&store, &context.tenant(), context.app.id, new, now).await;
    made.map_err(|error| store_errors(error, "uid"))
}

/// Parses and validates the form, including checks that need the store or DNS.
async fn checked(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
    before: &EndpointSpec,
    new: bool,
) -> Result<(EndpointSpec, Option<Secret>), FormRejection> {
    let mut hidden = Vec::new();
    if context.flags().is_some() {
        for name in before.event_types.iter().flatten() {
            let seen =
                visible_event_types::find(&state.store, context, name).await.map_err(|error| Err(error.into()))?;
            hidden.extend(seen.is_none().then(|| name.clone()));
        }
    }
    let mut wrong = Vec::new();
    let made = read(submitted, before, &hidden, new).map_err(|all| wrong = all).ok();
    let url = submitted.get("url").trim();
    let refused = endpoints::check_url(&state.egress, url, Some(before)).await.err();
    wrong.extend(refused);
    if let (Some((spec, _)), Some(_)) = (&made, context.flags()) {
        for name in spec.event_types.iter().flatten().filter(|name| !hidden.contains(name)) {
            // To a customer, a hidden event type does not exist.
            let seen =
                visible_event_types::find(&state.store, context, name).await.map_err(|error| Err(error.into()))?;
            let reason = format!("these event types are not in the catalog: {name}");
            wrong.extend(seen.is_none().then(|| Invalid::new("eventTypes", reason)));
        }
    }
    match made.filter(|_| wrong.is_empty()) {
        Some(made) => Ok(made),
        None => Err(Ok(wrong)),
    }
}

/// `GET {base}/endpoints/{endpoint}/edit`.
pub async fn edit(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    edit_page(&context, &endpoint, edit_form(&state.store, &context, &endpoint).await?).answer()
}

/// The form of an existing endpoint. Customers see only event types offered to them.
async fn edit_form(store: &Store, context: &AppContext, endpoint: &Endpoint) -> Result<Form, PageError> {
    let names = names(store, context).await?;
    let mut spec = endpoint.spec.clone();
    if let Some(types) = spec.event_types.take() {
        spec.event_types = Some(visible_event_types::only_visible(store, context, types).await?);
    }
    Ok(form(&spec, &names, false).at_revision(endpoint.updated_at))
}

/// `POST {base}/endpoints/{endpoint}/edit`.
pub async fn change(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let path = context.paths.endpoint(endpoint.id);
    match save(&state, &context, &submitted, endpoint.clone()).await {
        Ok(()) => Ok(done(&path, FlashNotice::Changed)),
        Err(wrong) => {
            let (wrong, form) = (wrong?, edit_form(&state.store, &context, &endpoint).await?);
            edit_page(&context, &endpoint, form.filled(&submitted).with_errors(&wrong)).answer()
        }
    }
}

async fn save(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
    before: Endpoint,
) -> Result<(), FormRejection> {
    let work = async |before: &Endpoint| {
        check_revision(submitted, before.updated_at)?;
        Ok(checked(state, context, submitted, &before.spec, false).await?.0)
    };
    let store = context.store(&state.store);
    let changed = store.change_endpoint(&context.tenant(), before, work, state.clock.now()).await;
    changed.map_err(|error| store_errors(error, "uid")).and_then(change_result).map(drop)
}

/// `POST {base}/endpoints/{endpoint}/disable` and `…/enable`.
pub async fn turn<const DISABLED: bool>(
    FormInput { state, request, user: context, .. }: FormInput<AppContext>,
) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let before = named(&store, &request, &context).await?;
    let id = before.id;
    let line = store.listed_endpoint(&context.tenant(), context.app.id, id).await?;
    let disabled_at = line.and_then(|line| line.disabled_at).filter(|_| before.spec.disabled && !DISABLED);
    let work =
        async |before: &Endpoint| Ok::<_, FormRejection>(EndpointSpec { disabled: DISABLED, ..before.spec.clone() });
    let changed = store.change_endpoint(&context.tenant(), before, work, now).await?;
    match change_result(changed) {
        Ok(_) => {
            let notice = if DISABLED { FlashNotice::Disabled } else { FlashNotice::Enabled };
            // The page then offers to replay messages since that time.
            let since = disabled_at.map(|at| format!("?since={at}")).unwrap_or_default();
            Ok(done(&format!("{}{since}", context.paths.endpoint(id)), notice))
        }
        Err(wrong) => Err(wrong.err().unwrap_or(PageError::NotFound)),
    }
}

/// `GET {base}/endpoints/{endpoint}/delete`.
pub async fn ask(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let path = context.paths.endpoint(endpoint.id);
    let waiting = waiting(&state.store, &context, &endpoint).await?;
    let page = ConfirmPage {
        layout: of_endpoint(&context, &endpoint),
        title: "Delete this endpoint?",
        about: Line::new(&endpoint.spec.url),
        consequences: vec![
            format!("Pending deliveries are not sent: {waiting}."),
            "Its secret is deleted, so past deliveries can no longer be verified.".to_owned(),
            "Messages and deliveries to other endpoints are kept.".to_owned(),
            "This can't be undone. To pause deliveries, disable the endpoint instead.".to_owned(),
        ],
        action: format!("{path}/delete"),
        button: format!("Delete endpoint and {waiting} pending"),
        back: path,
    };
    answer(StatusCode::OK, &page)
}

async fn waiting(store: &Store, context: &AppContext, endpoint: &Endpoint) -> Result<String, PageError> {
    let most = crate::dashboard::endpoints::MOST;
    let waiting = store.backlogs(&context.tenant(), &[endpoint.id], most).await?;
    Ok(count_up_to(waiting.get(&endpoint.id).copied().unwrap_or(0), most))
}

/// `POST {base}/endpoints/{endpoint}/delete`.
pub async fn delete(FormInput { state, request, user: context, .. }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &context).await?;
    match store.delete_endpoint(&context.tenant(), context.app.id, endpoint.id, now).await? {
        true => Ok(done(&context.paths.page("endpoints"), FlashNotice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
