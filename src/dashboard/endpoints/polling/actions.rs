//! Creates, edits, enables, disables and deletes polling endpoints.

use actix_web::http::StatusCode;

use crate::dashboard::DashboardState;
use crate::dashboard::components::form::{ConfirmPage, Form, FormField, FormPage, lines};
use crate::dashboard::components::form_errors::{FormRejection, change_result, check_revision, store_errors};
use crate::dashboard::components::format::{Line, counted};
use crate::dashboard::endpoints::polling::{form_page, name_of, named, path_of, polling_token};
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::layout::answer;
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::portal::Capability;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec, token_text};
use crate::domain::feed::FeedFilter;
use crate::domain::{Invalid, PollingEndpointId, Uid};
use crate::store::PollingEndpointRef;

fn form(spec: &PollingEndpointSpec) -> Form {
    let uid = spec.uid.as_ref().map_or("", |uid| uid.as_str());
    Form::new(vec![
        FormField::text("uid", "Uid", uid).help("Your own identifier, accepted in place of the id."),
        FormField::lines("eventTypes", "Event types", spec.filter.event_types.iter().flatten())
            .help("Names from the catalog, one per line. Leave empty for all current and future types."),
        FormField::lines("channels", "Channels", spec.filter.channels.iter().flatten())
            .help("One per line. Leave empty for all messages."),
    ])
}

fn new_page(context: &AppContext, form: Form) -> FormPage {
    let (layout, list) = (crate::dashboard::endpoints::polling::layout(context), context.paths.page("polling"));
    FormPage::for_new(layout, "New polling endpoint", form, "Create polling endpoint", list)
        .lead("Your program fetches events from it. No public URL is needed.")
}

fn edit_page(context: &AppContext, endpoint: &PollingEndpoint, form: Form) -> FormPage {
    form_page(context, endpoint, "Edit", ("edit", "Save"), form)
}

/// Applies the form to `before`.
fn read(submitted: &VerifiedForm, before: &PollingEndpointSpec) -> Result<PollingEndpointSpec, Vec<Invalid>> {
    let list = |name| Some(lines(submitted.get(name))).filter(|list| !list.is_empty());
    let mut wrong = Vec::new();
    let uid = submitted.given("uid").map(|text| Uid::parse("uid", text, PollingEndpointId::PREFIX)).transpose();
    let spec = PollingEndpointSpec {
        uid: uid.map_err(|one| wrong.push(one)).ok().flatten(),
        filter: FeedFilter { event_types: list("eventTypes"), channels: list("channels") },
        ..before.clone()
    };
    wrong.extend(spec.check().err().into_iter().flatten());
    if wrong.is_empty() { Ok(spec) } else { Err(wrong) }
}

/// Like [`read`]. Rejects event types that are hidden from the customer, except those already selected.
async fn checked(
    state: &DashboardState,
    context: &AppContext,
    submitted: &VerifiedForm,
    before: &PollingEndpointSpec,
) -> Result<PollingEndpointSpec, FormRejection> {
    let spec = read(submitted, before).map_err(Ok)?;
    if context.flags().is_none() {
        return Ok(spec);
    }
    let known = before.filter.event_types.as_deref().unwrap_or_default();
    for name in spec.filter.event_types.iter().flatten().filter(|name| !known.contains(name)) {
        if visible_event_types::find(&state.store, context, name).await.map_err(|error| Err(error.into()))?.is_none() {
            let reason = format!("these event types are not in the catalog: {name}");
            return Err(Ok(vec![Invalid::new("eventTypes", reason)]));
        }
    }
    Ok(spec)
}

/// `GET {base}/polling/new`.
pub async fn new(context: AppContext) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    new_page(&context, form(&PollingEndpointSpec::default())).answer()
}

/// `POST {base}/polling/new`: the response shows its first token.
pub async fn create(FormInput { state, user: context, submitted, .. }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let text = token_text(&submitted.credential(&state));
    let act = async || {
        let made = match checked(&state, &context, &submitted, &PollingEndpointSpec::default()).await {
            Ok(spec) => {
                let (store, now) = (submitted.once(context.store(&state.store)), state.clock.now());
                let token = Some(&text);
                let made =
                    store.create_polling_endpoint_with(&context.tenant(), context.app.id, spec, token, now).await;
                made.map_err(|error| store_errors(error, "uid"))
            }
            Err(wrong) => Err(wrong),
        };
        match made {
            // Creating an endpoint implies the permission to create its tokens.
            Ok(endpoint) => polling_token::shown(&state, &context, &endpoint, &text),
            Err(wrong) => {
                let form = form(&PollingEndpointSpec::default()).filled(&submitted).with_errors(&wrong?);
                new_page(&context, form).answer()
            }
        }
    };
    let again = async |made: &str| {
        let id: PollingEndpointId = made.parse().map_err(|_| PageError::NotFound)?;
        let named = PollingEndpointRef::Id(id);
        let found = state.store.polling_endpoint(&context.tenant(), context.app.id, &named).await?;
        polling_token::show_again(&state, &context, &found.ok_or(PageError::NotFound)?, &text).await
    };
    once(&state, &submitted, act, again).await
}

/// `GET {base}/polling/{poller}/edit`.
pub async fn edit(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    edit_page(&context, &endpoint, form(&endpoint.spec).at_revision(endpoint.updated_at)).answer()
}

/// `POST {base}/polling/{poller}/edit`.
pub async fn change(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let saved = match checked(&state, &context, &submitted, &endpoint.spec).await {
        Ok(spec) => save(&state, &context, &endpoint, Some(&submitted), |_| spec.clone()).await,
        Err(wrong) => Err(wrong),
    };
    match saved {
        Ok(()) => Ok(done(&path_of(&context, &endpoint), FlashNotice::Changed)),
        Err(wrong) => {
            let form = form(&endpoint.spec).at_revision(endpoint.updated_at);
            edit_page(&context, &endpoint, form.filled(&submitted).with_errors(&wrong?)).answer()
        }
    }
}

/// Updates the polling endpoint; with a form, only if it has not changed since the form was opened.
async fn save(
    state: &DashboardState,
    context: &AppContext,
    endpoint: &PollingEndpoint,
    submitted: Option<&VerifiedForm>,
    what: impl Fn(&PollingEndpointSpec) -> PollingEndpointSpec,
) -> Result<(), FormRejection> {
    let work = |before: &PollingEndpoint| {
        if let Some(submitted) = submitted {
            check_revision(submitted, before.updated_at)?;
        }
        Ok::<_, FormRejection>(what(&before.spec))
    };
    let (store, now) = (context.store(&state.store), state.clock.now());
    let changed = store.update_polling_endpoint(&context.tenant(), context.app.id, endpoint.id, work, now).await;
    changed.map_err(|error| store_errors(error, "uid")).and_then(change_result).map(drop)
}

/// `POST {base}/polling/{poller}/disable` and `…/enable`.
pub async fn turn<const DISABLED: bool>(
    FormInput { state, request, user: context, .. }: FormInput<AppContext>,
) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let what = |before: &PollingEndpointSpec| PollingEndpointSpec { disabled: DISABLED, ..before.clone() };
    match save(&state, &context, &endpoint, None, what).await {
        Ok(()) => {
            let notice = if DISABLED { FlashNotice::Disabled } else { FlashNotice::Enabled };
            Ok(done(&path_of(&context, &endpoint), notice))
        }
        Err(wrong) => Err(wrong.err().unwrap_or(PageError::NotFound)),
    }
}

/// `GET {base}/polling/{poller}/delete`.
pub async fn ask(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let endpoint = named(&state.store, &request, &context).await?;
    let consumers = state.store.consumers(&context.tenant(), &endpoint).await?.len() as i64;
    let path = path_of(&context, &endpoint);
    let page = ConfirmPage {
        layout: crate::dashboard::endpoints::polling::layout(&context),
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

/// `POST {base}/polling/{poller}/delete`.
pub async fn delete(FormInput { state, request, user: context, .. }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::ManageEndpoint)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let endpoint = named(&store, &request, &context).await?;
    match store.delete_polling_endpoint(&context.tenant(), &endpoint, now).await? {
        true => Ok(done(&context.paths.page("polling"), FlashNotice::Deleted)),
        false => Err(PageError::NotFound),
    }
}
