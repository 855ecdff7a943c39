//! Creates, edits, enables, disables and deletes polling endpoints.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Field, Form, FormPage, lines};
use crate::dashboard::components::format::{Line, counted};
use crate::dashboard::components::refused::{Refused, refused, settled, unchanged};
use crate::dashboard::endpoints::polling::{name_of, named, path_of, token};
use crate::dashboard::event_types::catalog;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::frame::answer;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::Inside;
use crate::domain::access::portal::Capability;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use crate::domain::feed::FeedFilter;
use crate::domain::{Invalid, PollingEndpointId, Uid};

fn form(spec: &PollingEndpointSpec) -> Form {
    let uid = spec.uid.as_ref().map_or("", |uid| uid.as_str());
    Form::new(vec![
        Field::text("uid", "Uid", uid).help("Your own identifier, accepted in place of the id."),
        Field::lines("eventTypes", "Event types", spec.filter.event_types.iter().flatten())
            .help("Names from the catalog, one per line. Leave empty for all current and future types."),
        Field::lines("channels", "Channels", spec.filter.channels.iter().flatten())
            .help("One per line. Leave empty for all messages."),
    ])
}

fn new_page(inside: &Inside, form: Form) -> FormPage {
    FormPage {
        frame: crate::dashboard::endpoints::polling::frame(inside),
        title: Line::new("New polling endpoint"),
        lead: "Your program fetches events from it. No public URL is needed.",
        about: Line::default(),
        action: inside.place.page("polling/new"),
        form,
        starts: Vec::new(),
        button: "Create polling endpoint",
        back: inside.place.page("polling"),
    }
}

fn edit_page(inside: &Inside, endpoint: &PollingEndpoint, form: Form) -> FormPage {
    let path = path_of(inside, endpoint);
    FormPage {
        frame: crate::dashboard::endpoints::polling::frame(inside),
        title: Line::new("Edit"),
        lead: "",
        about: Line::new(&name_of(endpoint)),
        action: format!("{path}/edit"),
        form,
        starts: Vec::new(),
        button: "Save",
        back: path,
    }
}

/// Applies the form to `before`.
fn read(posted: &Posted, before: &PollingEndpointSpec) -> Result<PollingEndpointSpec, Vec<Invalid>> {
    let list = |name| Some(lines(posted.get(name))).filter(|list| !list.is_empty());
    let mut wrong = Vec::new();
    let uid = posted.given("uid").map(|text| Uid::parse("uid", text, PollingEndpointId::PREFIX)).transpose();
    let spec = PollingEndpointSpec {
        uid: uid.map_err(|one| wrong.push(one)).ok().flatten(),
        filter: FeedFilter { event_types: list("eventTypes"), channels: list("channels") },
        ..before.clone()
    };
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

/// [`read`], where event types that are hidden from a customer do not exist.
async fn checked(
    state: &DashboardState,
    inside: &Inside,
    posted: &Posted,
    before: &PollingEndpointSpec,
) -> Result<PollingEndpointSpec, Refused> {
    let spec = read(posted, before).map_err(Ok)?;
    if inside.flags().is_none() {
        return Ok(spec);
    }
    let known = before.filter.event_types.as_deref().unwrap_or_default();
    for name in spec.filter.event_types.iter().flatten().filter(|name| !known.contains(name)) {
        if catalog::find(&state.store, inside, name).await.map_err(|error| Err(error.into()))?.is_none() {
            let reason = format!("these event types are not in the catalog: {name}");
            return Err(Ok(vec![Invalid::new("eventTypes", reason)]));
        }
    }
    Ok(spec)
}

/// `GET {place}/polling/new`.
pub async fn new(inside: Inside) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    new_page(&inside, form(&PollingEndpointSpec::default())).answer()
}

/// `POST {place}/polling/new`: the response shows its first token.
pub async fn create(
    state: web::Data<DashboardState>,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let made = match checked(&state, &inside, &posted, &PollingEndpointSpec::default()).await {
        Ok(spec) => {
            let (store, now) = (inside.store(&state.store), state.clock.now());
            let made = store.create_polling_endpoint(&inside.tenant(), inside.app.id, spec, now).await;
            made.map_err(|error| refused(error, "uid"))
        }
        Err(wrong) => Err(wrong),
    };
    match made {
        // Creating an endpoint implies the permission to create its tokens.
        Ok(endpoint) => token::show_new(&state, &inside, &endpoint, None).await?.ok_or(PageError::NotFound),
        Err(wrong) => new_page(&inside, form(&PollingEndpointSpec::default()).typed(&posted).blame(&wrong?)).answer(),
    }
}

/// `GET {place}/polling/{poller}/edit`.
pub async fn edit(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    edit_page(&inside, &endpoint, form(&endpoint.spec).of(endpoint.updated_at)).answer()
}

/// `POST {place}/polling/{poller}/edit`.
pub async fn change(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    let saved = match checked(&state, &inside, &posted, &endpoint.spec).await {
        Ok(spec) => save(&state, &inside, &endpoint, Some(&posted), |_| spec.clone()).await,
        Err(wrong) => Err(wrong),
    };
    match saved {
        Ok(()) => Ok(done(&path_of(&inside, &endpoint), Notice::Changed)),
        Err(wrong) => {
            let form = form(&endpoint.spec).of(endpoint.updated_at);
            edit_page(&inside, &endpoint, form.typed(&posted).blame(&wrong?)).answer()
        }
    }
}

/// Updates the polling endpoint; with a form, only if it has not changed since the form was opened.
async fn save(
    state: &DashboardState,
    inside: &Inside,
    endpoint: &PollingEndpoint,
    posted: Option<&Posted>,
    what: impl Fn(&PollingEndpointSpec) -> PollingEndpointSpec,
) -> Result<(), Refused> {
    let work = |before: &PollingEndpoint| {
        if let Some(posted) = posted {
            unchanged(posted, before.updated_at)?;
        }
        Ok::<_, Refused>(what(&before.spec))
    };
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let changed = store.update_polling_endpoint(&inside.tenant(), inside.app.id, endpoint.id, work, now).await;
    changed.map_err(|error| refused(error, "uid")).and_then(settled).map(drop)
}

/// `POST {place}/polling/{poller}/disable`.
pub async fn disable(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    turn(&state, &request, &inside, true).await
}

/// `POST {place}/polling/{poller}/enable`.
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
    let endpoint = named(&state.store, request, inside).await?;
    let what = |before: &PollingEndpointSpec| PollingEndpointSpec { disabled, ..before.clone() };
    match save(state, inside, &endpoint, None, what).await {
        Ok(()) => {
            let notice = if disabled { Notice::Disabled } else { Notice::Enabled };
            Ok(done(&path_of(inside, &endpoint), notice))
        }
        Err(wrong) => Err(wrong.err().unwrap_or(PageError::NotFound)),
    }
}

/// `GET {place}/polling/{poller}/delete`.
pub async fn ask(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &inside).await?;
    let consumers = state.store.consumers(&inside.tenant(), &endpoint).await?.len() as i64;
    let path = path_of(&inside, &endpoint);
    let page = ConfirmPage {
        frame: crate::dashboard::endpoints::polling::frame(&inside),
        title: "Delete this polling endpoint?",
        about: Line::new(&name_of(&endpoint)),
        consequences: vec![
            format!("{} and all positions are deleted.", counted(consumers, "consumer", "consumers")),
            "Its tokens stop working within 3 seconds.".to_owned(),
            "Messages are kept.".to_owned(),
        ],
        action: format!("{path}/delete"),
        button: format!("Delete polling endpoint and {}", counted(consumers, "consumer", "consumers")),
        back: path,
    };
    answer(StatusCode::OK, &page)
}

/// `POST {place}/polling/{poller}/delete`.
pub async fn delete(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    _posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::ManageEndpoint)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &inside).await?;
    match store.delete_polling_endpoint(&inside.tenant(), &endpoint, now).await? {
        true => Ok(done(&inside.place.page("polling"), Notice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
