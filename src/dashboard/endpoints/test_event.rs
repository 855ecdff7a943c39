//! The *Send test event* form: sends the example of an event type as a signed message to one endpoint.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::components::refused::turned_away;
use crate::dashboard::endpoints::endpoint;
use crate::dashboard::endpoints::endpoint_actions::named;
use crate::dashboard::event_types::catalog;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::Inside;
use crate::domain::Invalid;
use crate::domain::access::audit::act;
use crate::domain::access::portal::Capability;
use crate::store::access::audit::Deed;

/// `POST {place}/endpoints/{endpoint}/test`. Field: `eventType`. Redirects to the message.
pub async fn send(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::CreateAttempts)?;
    let (store, now, tenant) = (inside.store(&state.store), state.clock.now(), inside.tenant());
    let endpoint = named(&store, &request, &inside).await?;
    let name = posted.get("eventType").trim();
    let found = catalog::find(&store, &inside, name).await?;
    let sent = match found {
        _ if endpoint.spec.disabled => Err(vec![Invalid::new("eventType", "cannot be sent: the endpoint is disabled")]),
        None => Err(vec![Invalid::new("eventType", "is not in the catalog")]),
        Some(event_type) => match store.send_example(&tenant, &endpoint, &event_type.spec, None, now).await? {
            Ok(message) => Ok(message),
            Err(refusal) => Err(turned_away(refusal)?),
        },
    };
    match sent {
        Ok(message) => {
            let (thing, detail) = (message.id.to_string(), format!("to {}", endpoint.id));
            let deed = Deed {
                org: &inside.org,
                app: Some(inside.app.id),
                act: act::TEST_EVENT_SENT,
                thing: &thing,
                detail: &detail,
            };
            store.note_look(deed, now).await?;
            Ok(done(&inside.place.message(message.id), Notice::Sent))
        }
        Err(wrong) => endpoint::page_with(&state, &inside, &request, &endpoint, Some((name, &wrong))).await,
    }
}

/// `GET {place}/endpoints/{endpoint}/test`: the form is on the endpoint's page.
pub async fn elsewhere(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
) -> Result<HttpResponse, PageError> {
    let endpoint = named(&state.store, &request, &inside).await?;
    let path = format!("{}#test", inside.place.endpoint(endpoint.id));
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, path)).finish())
}
