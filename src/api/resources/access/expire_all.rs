//! Ending a customer's access: all tokens, links and portal sessions of an application.

use std::time::Duration;

use utoipa::ToSchema;

use crate::api::http::body::Body;
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::request::{Call, nothing};
use crate::api::openapi::schemas;
use crate::domain::{Invalid, ids, limits};
use crate::store::access::access_end::{AccessEnd, LONGEST};

/// The body: the tokens and sessions to end, and when.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 3600, "sessionIds": ["anna"]}))]
#[expect(dead_code, reason = "for the document alone: `expire_all` reads it")]
struct ApplicationTokenExpireIn {
    /// For how many seconds the tokens and portal sessions are still good, 7 days at most. Unused portal links end at
    /// once.
    #[schema(minimum = 0, maximum = 604800)]
    expiry: Option<u32>,
    /// Only the sessions of these names, each as it was given as `sessionId`: their tokens, portal sessions and links.
    /// All if it is empty.
    #[schema(value_type = Option<schemas::Sessions>)]
    session_ids: Option<Vec<String>>,
}

/// End a customer's access
///
/// The application's tokens that were issued until now, its portal sessions and its unused portal links are refused, at
/// once or after `expiry`; in other processes within 3 seconds. Of a session, what Sendoff issued for it is.
#[utoipa::path(
    post, path = "/auth/app/{app_id}/expire-all", request_body = ApplicationTokenExpireIn,
    responses((status = 204, description = "They are good no more, or will not be."))
)]
pub(in crate::api) async fn expire_all(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let mut fields = body.fields()?;
    let longest = LONGEST.as_secs();
    let expiry = fields.take::<u64>("expiry", "a whole number of seconds").set().unwrap_or_default();
    if expiry > longest {
        fields.note(Invalid::new("expiry", format!("must be at most {longest} (7 days)")));
    }
    let sessions = fields.names("sessionIds", limits::SESSION_IDS).set().unwrap_or_default();
    let wrong = ids::all("sessionIds", &sessions, limits::SESSION_IDS, ids::session);
    fields.done(if wrong.is_empty() { Ok(()) } else { Err(wrong) })?;
    let app = call.app().await?;
    let end = AccessEnd { issued: call.wall(), grace: Duration::from_secs(expiry), sessions };
    let act = async |call: &Call| match call.store().expire_portal_access(&call.tenant, app.id, &end, call.now).await? {
        true => {
            call.callers().forget_application(app.id);
            nothing()
        }
        false => Err(ApiError::not_found("application")),
    };
    once(call, body.bytes(), Look::First, act, async |_, _| nothing()).await
}
