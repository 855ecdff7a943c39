//! The team's way to let a customer in: a token for one application, and a link into the portal that is good once.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::application;
use super::body::{Body, Fields};
use super::call::{Call, json};
use super::errors::{Answer, ApiError};
use super::once::{Look, once};
use super::openapi::schemas;
use crate::domain::portal::{Capability, PortalLink, PortalOptions};
use crate::domain::{Invalid, Time, key};
use crate::store::AppRef;

/// How long a visit lasts if nothing is said, at least and at most, in seconds.
const EXPIRY: (u64, u64, u64) = (7 * 24 * 3_600, 3_600, 7 * 24 * 3_600);
/// How long the link can be used.
const LINK_LIFE: Duration = Duration::from_secs(15 * 60);

/// A customer's way in.
#[derive(Serialize, ToSchema)]
#[schema(as = AppPortalAccessOut)]
struct AccessOut {
    /// A token for the one application.
    token: String,
    /// A link into the portal that is good once, within 15 minutes.
    url: String,
}

/// What the customer may do, and for how long.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 3600, "readOnly": true}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct AppPortalAccessIn {
    /// For how many seconds the token is good; 7 days if nothing is said.
    #[schema(minimum = 3600, maximum = 604800)]
    expiry: Option<u32>,
    /// The customer may look, and change nothing.
    read_only: Option<bool>,
    /// What the customer may do; everything if nothing is said.
    capabilities: Option<Vec<Capability>>,
    /// A name of the team's own for this visit.
    session_id: Option<String>,
    /// Event types that need these flags are shown too.
    #[schema(value_type = Option<schemas::Flags>)]
    feature_flags: Option<Vec<String>>,
    /// Makes the application, if the path names a uid that there is not.
    application: Option<application::ApplicationIn>,
}

/// What the body says, and the application that it describes.
fn read<'a>(fields: &mut Fields<'a>, now: Time) -> (PortalOptions, Option<Fields<'a>>) {
    let (usual, least, most) = EXPIRY;
    let expiry = fields.take::<u64>("expiry", "a whole number of seconds").set().unwrap_or(usual);
    if !(least..=most).contains(&expiry) {
        fields.note(Invalid::new("expiry", format!("must be {least} (1 hour) to {most} (7 days) seconds")));
    }
    let mut options = PortalOptions {
        feature_flags: fields.list("featureFlags").set().unwrap_or_default(),
        capabilities: fields.take_with("capabilities", capabilities).set(),
        session_id: fields.text("sessionId").set(),
        until: now.plus(Duration::from_secs(expiry)).micros(),
    };
    let read_only = fields.flag("readOnly").set().unwrap_or(false);
    let application = fields.object("application").set();
    if let Err(wrong) = options.check() {
        wrong.into_iter().for_each(|wrong| fields.note(wrong));
    }
    if read_only {
        options.make_read_only();
    }
    (options, application)
}

fn capabilities(text: &str) -> Result<Vec<Capability>, String> {
    let known = || format!("must be a list of {}", Capability::ALL.map(Capability::word).join(", "));
    serde_json::from_str(text).map_err(|_| known())
}

/// Let a customer in
///
/// A token for the application, and a link into the portal. Again under the same `idempotency-key` the same rights are given anew: what was
/// given out is kept nowhere.
#[utoipa::path(
    post, path = "/auth/app-portal-access/{app_id}", request_body = AppPortalAccessIn,
    responses(
        (status = 200, description = "The way in.", body = AccessOut),
        (status = 501, description = "This server only verifies tokens, by a public key, and cannot make any."),
    )
)]
pub(super) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let act = async |call: &Call| give(call, &body).await;
    once(call, body.bytes(), Look::First, act, async |call, _| give(call, &body).await).await
}

async fn give(call: &Call, body: &Body) -> Answer {
    let tokens = call.callers().tokens();
    tokens.can_sign().map_err(|error| ApiError::not_possible(error.to_string()))?;
    let named = AppRef::parse(call.part("app")).map_err(|wrong| ApiError::path("app_id", wrong))?;
    let mut fields = body.fields()?;
    let (options, given) = read(&mut fields, call.now);
    let application = given.map(|given| application::read_named(given, &named)).transpose();
    fields.done(Ok(()))?;
    let app = application::found_or_made(call, &named, application?).await?;
    let token = tokens.mint_visit(&app.org, app.id, &options, call.now).map_err(|error| ApiError::internal(&error))?;
    let code = key::random_text();
    let link = PortalLink { org: app.org, app_id: app.id, options, expires_at: call.now.plus(LINK_LIFE) };
    call.store().add_portal_link(&key::hash(&code), &link, call.now).await?;
    let mut url = call.public_url().clone();
    url.set_path(&format!("/portal/enter/{}", *code));
    let mut answer = json(StatusCode::OK, &AccessOut { token, url: url.into() })?;
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    Ok(answer)
}
