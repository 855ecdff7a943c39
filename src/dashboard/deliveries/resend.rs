//! The *Resend* button: makes a delivery due at once, with a new retry schedule.

use actix_web::{HttpRequest, HttpResponse, web};

use crate::dashboard::DashboardState;
use crate::dashboard::http::error::PageError;
use crate::dashboard::http::notice::Notice;
use crate::dashboard::http::posted::{Posted, done, own_path};
use crate::dashboard::http::viewer::{Inside, part};
use crate::domain::access::portal::Capability;
use crate::domain::{EndpointId, MessageId};

/// `POST {place}/messages/{message}/resend`. Fields: `endpoint`; `back`: the page to return to, by default the
/// message's.
pub async fn resend(
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
    let sent = store.resend(&inside.tenant(), inside.app.id, message, endpoint, now).await?;
    tracing::info!(org = %inside.org, %message, %endpoint, sent, "resend, from a page");
    let page = inside.place.message(message);
    Ok(done(own_path(posted.get("back")).unwrap_or(&page), if sent { Notice::Resent } else { Notice::NotResent }))
}
