//! The *Resend* button: makes a delivery due at once, with a new retry schedule.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::current_user::{AppContext, part};
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::flash::FlashNotice;
use crate::dashboard::http::verified_form::{VerifiedForm, done, own_path};
use crate::domain::access::portal::Capability;
use crate::domain::{EndpointId, MessageId};

/// `POST {base}/messages/{message}/resend`. Fields: `endpoint`; `back`: the page to return to, by default the
/// message's.
pub async fn resend(
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
    let sent = store.resend(&context.tenant(), context.app.id, message, endpoint, now).await?;
    tracing::info!(org = %context.org, %message, %endpoint, sent, "delivery resent from the dashboard");
    let page = context.paths.message(message);
    Ok(done(
        own_path(submitted.get("back")).unwrap_or(&page),
        if sent { FlashNotice::Resent } else { FlashNotice::NotResent },
    ))
}
