//! Ends a customer's access: the tokens, portal links and portal sessions of an application.

use std::time::Duration;

use utoipa::ToSchema;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, no_content};
use crate::api::openapi::schemas;
use crate::domain::{Invalid, ids, limits};
use crate::store::access::access_expiry::{AccessExpiry, LONGEST};

/// The tokens and sessions to expire.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 3600, "sessionIds": ["anna"]}))]
#[expect(dead_code, reason = "for the document alone: `expire_all` reads it")]
struct ApplicationTokenExpireIn {
    /// Seconds until tokens and portal sessions expire, at most 7 days. Unused portal links expire at once.
    #[schema(minimum = 0, maximum = 604800)]
    expiry: Option<u32>,
    /// Expires only the tokens, portal sessions and links created with one of these `sessionId`s. Empty: all.
    #[schema(value_type = Option<schemas::PortalSessionNames>)]
    session_ids: Option<Vec<String>>,
}

/// Expire portal access
///
/// Expires the application's tokens issued so far, its portal sessions and its unused portal links, at once or after
/// `expiry` seconds. Other server processes reject them within 3 seconds. With `sessionIds`, only tokens that Sendoff
/// issued are affected.
#[utoipa::path(
    post, path = "/auth/app/{app_id}/expire-all", request_body = ApplicationTokenExpireIn, responses((status = 204))
)]
pub(in crate::api) async fn expire_all(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
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
    let end = AccessExpiry { issued: call.wall(), grace: Duration::from_secs(expiry), sessions };
    let act =
        async |call: &ApiCall| match call.store().expire_portal_access(&call.tenant, app.id, &end, call.now).await? {
            true => {
                call.authenticator().evict_application(app.id);
                no_content()
            }
            false => Err(ApiError::not_found("application")),
        };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, async |_, _| no_content()).await
}
