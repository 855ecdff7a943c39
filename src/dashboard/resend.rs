//! The button *Resend*: puts a delivery back to pending, due at once, and leads back to where it was pressed.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::DashboardState;
use super::error::PageError;
use super::frame::Notice;
use super::session::Signed;
use crate::domain::{AppId, EndpointId, MessageId};

/// What the form sends.
#[derive(Deserialize)]
pub struct Resend {
    csrf: String,
    endpoint: String,
    /// Where it was pressed: `dead`, `retrying`, or the message's own page.
    #[serde(default)]
    back: String,
}

/// `POST /messages/{app}/{message}/resend`.
pub async fn resend(
    state: web::Data<DashboardState>,
    signed: Signed,
    path: web::Path<(String, String)>,
    form: web::Form<Resend>,
) -> Result<HttpResponse, PageError> {
    signed.check(&form.csrf)?;
    let (app, message): (AppId, MessageId) = match (path.0.parse(), path.1.parse()) {
        (Ok(app), Ok(message)) => (app, message),
        _ => return Err(PageError::NotFound),
    };
    let endpoint: EndpointId =
        form.endpoint.parse().map_err(|_| PageError::BadRequest("The form names no endpoint."))?;
    let done = state.store.resend(&signed.tenant(), app, message, endpoint, state.clock.now()).await?;
    tracing::info!(org = %signed.org, %message, %endpoint, done, "resend, from the dashboard");
    let notice = if done { Notice::Resent } else { Notice::NotResent }.word();
    let back = match form.back.as_str() {
        list @ ("dead" | "retrying") => format!("/deliveries?state={list}&notice={notice}"),
        _ => format!("/messages/{app}/{message}?notice={notice}"),
    };
    Ok(HttpResponse::SeeOther().insert_header((LOCATION, back)).finish())
}
