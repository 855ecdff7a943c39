//! The *Cancel* button: cancels a pending delivery.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done};
use crate::dashboard::http::viewer::{Inside, part};
use crate::domain::access::portal::Capability;
use crate::domain::{EndpointId, MessageId};

/// `POST {place}/messages/{message}/cancel`. Field: `endpoint`.
pub async fn cancel(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    inside: Inside,
    posted: Posted,
) -> Result<HttpResponse, PageError> {
    inside.need(Capability::CreateAttempts)?;
    let message: MessageId = part(&request, "message")?.parse().map_err(|_| PageError::NotFound)?;
    let no_endpoint = |_| PageError::BadRequest("The form has no endpoint.");
    let endpoint: EndpointId = posted.get("endpoint").parse().map_err(no_endpoint)?;
    let (store, now) = (inside.store(&state.store), state.clock.now());
    let ended = store.cancel(&inside.tenant(), inside.app.id, message, endpoint, now).await?;
    tracing::info!(org = %inside.org, %message, %endpoint, ended, "cancel, from a page");
    Ok(done(&inside.place.message(message), if ended { Notice::Canceled } else { Notice::NotCanceled }))
}
