//! The *Cancel* button: cancels a pending delivery.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::verified_form::{VerifiedForm, done};
use crate::domain::access::portal::Capability;
use crate::domain::{EndpointId, MessageId};

/// `POST {base}/messages/{message}/cancel`. Field: `endpoint`.
pub async fn cancel(
    state: web::Data<DashboardState>,
    request: HttpRequest,
    context: AppContext,
    submitted: VerifiedForm,
) -> Result<HttpResponse, PageError> {
    context.need(Capability::CreateAttempts)?;
    let message: MessageId = part(&request, "message")?.parse().map_err(|_| PageError::NotFound)?;
    let no_endpoint = |_| PageError::BadRequest("The form has no endpoint.");
    let endpoint: EndpointId = submitted.get("endpoint").parse().map_err(no_endpoint)?;
    let (store, now) = (context.store(&state.store), state.clock.now());
    let ended = store.cancel(&context.tenant(), context.app.id, message, endpoint, now).await?;
    tracing::info!(org = %context.org, %message, %endpoint, ended, "delivery canceled from the dashboard");
    Ok(done(&context.paths.message(message), if ended { FlashNotice::Canceled } else { FlashNotice::NotCanceled }))
}
