//! The *Send test event* form: sends the example of an event type as a signed message to one endpoint.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};

use crate::dashboard::DashboardState;
use crate::dashboard::components::form_errors::accept_errors;
use crate::dashboard::endpoints::endpoint;
use crate::dashboard::endpoints::endpoint_actions::named;
use crate::dashboard::event_types::visible_event_types;
use crate::dashboard::http::current_user::AppContext;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::form_once::once;
use crate::dashboard::http::handler_input::{FormInput, PageInput, PageResult};
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::dashboard::messages::send_message;
use crate::domain::Invalid;
use crate::domain::access::portal::Capability;

/// `POST {base}/endpoints/{endpoint}/test`. Field: `eventType`. Redirects to the message.
pub async fn send(FormInput { state, request, user: context, submitted }: FormInput<AppContext>) -> PageResult {
    context.need(Capability::CreateAttempts)?;
    let act = async || send_once(&state, &request, &context, &submitted).await;
    once(&state, &submitted, act, async |made| send_message::sent(&context, made)).await
}

async fn send_once(
    state: &DashboardState,
    request: &HttpRequest,
    context: &AppContext,
    submitted: &VerifiedForm,
) -> PageResult {
    let (store, now, tenant) = (submitted.once(context.store(&state.store)), state.clock.now(), context.tenant());
    let endpoint = named(&store, request, context).await?;
    let name = submitted.get("eventType").trim();
    let found = visible_event_types::find(&store, context, name).await?;
    let sent = match found {
        _ if endpoint.spec.disabled => Err(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled")]),
        None => Err(vec![Invalid::new("eventType", "is not in the catalog")]),
        Some(event_type) => match store.send_example(&tenant, &endpoint, &event_type.spec, None, now).await? {
            Ok(message) => Ok(message),
            Err(refusal) => Err(accept_errors(refusal)?),
        },
    };
    match sent {
        Ok(message) => Ok(done(&context.paths.message(message.id), FlashNotice::Sent)),
        Err(wrong) => endpoint::page_with(state, context, request, &endpoint, Some((name, &wrong))).await,
    }
}

/// `GET {base}/endpoints/{endpoint}/test`: the form is on the endpoint's page.
pub async fn elsewhere(PageInput { state, request, user: context }: PageInput<AppContext>) -> PageResult {
    let endpoint = named(&state.store, &request, &context).await?;
    let path = format!("{}#test", context.paths.endpoint(endpoint.id));
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, path)).finish())
}
