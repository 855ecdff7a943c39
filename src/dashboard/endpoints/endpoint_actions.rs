//! Creates, edits, enables, disables and deletes endpoints.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Form, FormPage};
use crate::dashboard::components::format::{Line, count_up_to};
use crate::dashboard::components::refused::{Refused, refused, settled, unchanged};
use crate::dashboard::endpoints::endpoint_fields::{form, read};
use crate::dashboard::event_types::catalog;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::{Frame, Here, answer};
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Inside, part};
use crate::domain::Invalid;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::signing::secret::Secret;
use crate::store::{EndpointRef, Store};

/// The endpoint in the path.
///
/// # Errors
/// Not found in the application.
pub async fn named(store: &Store, request: &HttpRequest, inside: &Inside) -> Result<Endpoint, PageError> {
    let named = EndpointRef::parse(part(request, "endpoint")?).map_err(|_| PageError::NotFound)?;
    store.endpoint(&inside.tenant(), inside.app.id, &named).await?.ok_or(PageError::NotFound)
}

async fn names(store: &Store, inside: &Inside) -> Result<Vec<String>, PageError> {
    let choices = catalog::choices(store, inside).await?;
    Ok(choices.into_iter().map(|event_type| event_type.spec.name).collect())
}

fn new_page(inside: &Inside, form: Form) -> FormPage {
    FormPage {
        frame: Frame::of(inside, Here::Endpoints)
            .below(inside, [(inside.place.page("endpoints"), Line::new("Endpoints"))]),
        title: Line::new("New endpoint"),
        lead: "A URL that receives events.",
        about: Line::default(),
        action: inside.place.page("endpoints/new"),
        form,
        starts: Vec::new(),
        button: "Create endpoint",
        back: inside.place.page("endpoints"),
    }
}

/// The layout of a page below an endpoint.
pub(in crate::dashboard) fn of_endpoint(inside: &Inside, endpoint: &Endpoint) -> Frame {
    let things = [
        (inside.place.page("endpoints"), Line::new("Endpoints")),
        (inside.place.endpoint(endpoint.id), Line::cut(&endpoint.spec.url, 60)),
    ];
    Frame::of(inside, Here::Endpoints).below(inside, things)
}

fn edit_page(inside: &Inside, endpoint: &Endpoint, form: Form) -> FormPage {
    let path = inside.place.endpoint(endpoint.id);
    FormPage {
        frame: of_endpoint(inside, endpoint),
        title: Line::new("Edit endpoint"),
        lead: "",
        about: Line::new(&endpoint.spec.url),
        action: format!("{path}/edit"),
        form,
        starts: Vec::new(),
        button: "Save",
        back: path,
    }
}

/// The defaults of a new endpoint.
fn blank(state: &DashboardState) -> EndpointSpec {
    EndpointSpec { signature_type: state.signature_type, ..EndpointSpec::default() }
}

/// `GET {place}/endpoints/new`.
pub async fn new(state: web::Data<DashboardState>, inside: Inside) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let names = names(&state.store, &inside).await?;
    new_page(&inside, form(&blank(&state), &names, true)).answer()
}

/// `POST {place}/endpoints/new`.
pub async fn create(
    state: web::Data<DashboardState>,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    match make(&state, &inside, &posted).await {
        Ok(endpoint) => Ok(done(&inside.place.endpoint(endpoint.id), Notice::Created)),
        Err(wrong) => {
            let (wrong, names) = (wrong?, names(&state.store, &inside).await?);
            new_page(&inside, form(&blank(&state), &names, true).typed(&posted).blame(&wrong)).answer()
        }
    }
}

async fn make(state: &DashboardState, inside: &Inside, posted: &Posted) -> Result<Endpoint, Refused> {
    let (spec, secret) = checked(state, inside, posted, &blank(state), true).await?;
    let secret = secret.unwrap_or_else(|| Secret::generate(spec.signature_type));
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let made = store.create_endpoint(&inside.tenant(), inside.app.id, spec, &secret, now).await;
    made.map_err(|error| refused(error, "uid"))
}

/// Parses and validates the form, including checks that need the store or DNS.
async fn checked(
    state: &DashboardState,
    inside: &Inside,
    posted: &Posted,
    before: &EndpointSpec,
    new: bool,
) -> Result<(EndpointSpec, Option<Secret>), Refused> {
    let mut hidden = Vec::new();
    if inside.flags().is_some() {
        for name in before.event_types.iter().flatten() {
            let seen = catalog::find(&state.store, inside, name).await.map_err(|error| Err(error.into()))?;
            hidden.extend(seen.is_none().then(|| name.clone()));
        }
    }
    let mut wrong = Vec::new();
    let made = read(posted, before, &hidden, new).map_err(|all| wrong = all).ok();
    let url = posted.get("url").trim();
    // Saved URLs are not looked up again; each attempt checks them anyway.
    if !url.is_empty() && url != before.url {
        wrong.extend(state.egress.vet_text(url).await.err());
    }
    if let (Some((spec, _)), Some(_)) = (&made, inside.flags()) {
        for name in spec.event_types.iter().flatten().filter(|name| !hidden.contains(name)) {
            // To a customer, a hidden event type does not exist.
            let seen = catalog::find(&state.store, inside, name).await.map_err(|error| Err(error.into()))?;
            let reason = format!("these event types are not in the catalog: {name}");
            wrong.extend(seen.is_none().then(|| Invalid::new("eventTypes", reason)));
        }
    }
    match made.filter(|_| wrong.is_empty()) {
        Some(made) => Ok(made),
        None => Err(Ok(wrong)),
    }
}

/// `GET {place}/endpoints/{endpoint}/edit`.
pub async fn edit(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    edit_page(&inside, &endpoint, edit_form(&state.store, &inside, &endpoint).await?).answer()
}

/// The form of an existing endpoint. Customers see only event types offered to them.
async fn edit_form(store: &Store, inside: &Inside, endpoint: &Endpoint) -> Result<Form, PageError> {
    let names = names(store, inside).await?;
    let mut spec = endpoint.spec.clone();
    if let (Some(types), Some(_)) = (&mut spec.event_types, inside.flags()) {
        let mut seen = Vec::new();
        for name in std::mem::take(types) {
            if catalog::find(store, inside, &name).await?.is_some() {
                seen.push(name);
            }
        }
        *types = seen;
    }
    Ok(form(&spec, &names, false).of(endpoint.updated_at))
}

/// `POST {place}/endpoints/{endpoint}/edit`.
pub async fn change(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    let path = inside.place.endpoint(endpoint.id);
    match save(&state, &inside, &posted, endpoint.clone()).await {
        Ok(()) => Ok(done(&path, Notice::Changed)),
        Err(wrong) => {
            let (wrong, form) = (wrong?, edit_form(&state.store, &inside, &endpoint).await?);
            edit_page(&inside, &endpoint, form.typed(&posted).blame(&wrong)).answer()
        }
    }
}

async fn save(state: &DashboardState, inside: &Inside, posted: &Posted, before: Endpoint) -> Result<(), Refused> {
    let work = async |before: &Endpoint| {
        unchanged(posted, before.updated_at)?;
        Ok(checked(state, inside, posted, &before.spec, false).await?.0)
    };
    let store = inside.store(&state.store);
    let changed = store.change_endpoint(&inside.tenant(), before, work, state.clock.now()).await;
    changed.map_err(|error| refused(error, "uid")).and_then(settled).map(drop)
}

/// `POST {place}/endpoints/{endpoint}/disable`.
pub async fn disable(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    turn(&state, &request, &inside, true).await
}

/// `POST {place}/endpoints/{endpoint}/enable`.
pub async fn enable(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    turn(&state, &request, &inside, false).await
}

async fn turn(
    state: &DashboardState,
    request: &HttpRequest,
    inside: &Inside,
    disabled: bool,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let before = named(&store, request, inside).await?;
    let id = before.id;
    let line = store.endpoint_line(&inside.tenant(), inside.app.id, id).await?;
    let disabled_at = line.and_then(|line| line.disabled_at).filter(|_| before.spec.disabled && !disabled);
    let work = async |before: &Endpoint| Ok::<_, Refused>(EndpointSpec { disabled, ..before.spec.clone() });
    let changed = store.change_endpoint(&inside.tenant(), before, work, now).await?;
    match settled(changed) {
        Ok(_) => {
            let notice = if disabled { Notice::Disabled } else { Notice::Enabled };
            // The page then offers to replay messages since that time.
            let since = disabled_at.map(|at| format!("?since={at}")).unwrap_or_default();
            Ok(done(&format!("{}{since}", inside.place.endpoint(id)), notice))
        }
        Err(wrong) => Err(wrong.err().unwrap_or(PageError::NotFound)),
    }
}

/// `GET {place}/endpoints/{endpoint}/delete`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    let path = inside.place.endpoint(endpoint.id);
    let waiting = waiting(&state.store, &inside, &endpoint).await?;
    let page = ConfirmPage {
        frame: of_endpoint(&inside, &endpoint),
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

async fn waiting(store: &Store, inside: &Inside, endpoint: &Endpoint) -> Result<String, PageError> {
    let most = crate::dashboard::endpoints::MOST;
    let waiting = store.backlogs(&inside.tenant(), &[endpoint.id], most).await?;
    Ok(count_up_to(waiting.get(&endpoint.id).copied().unwrap_or(0), most))
}

/// `POST {place}/endpoints/{endpoint}/delete`.
pub async fn delete(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &inside).await?;
    match store.delete_endpoint(&inside.tenant(), inside.app.id, endpoint.id, now).await? {
        true => Ok(done(&inside.place.page("endpoints"), Notice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
