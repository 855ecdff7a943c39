//! Ending a customer's access: all tokens, links and portal sessions of an application.

use utoipa::ToSchema;

use super::body::Body;
use super::call::{Call, nothing};
use super::errors::{Answer, ApiError};
use super::once::{Look, once};
use super::openapi::schemas;

/// The body: the tokens and sessions to end.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({}))]
#[expect(dead_code, reason = "for the document alone: `expire_all` reads it")]
struct ApplicationTokenExpireIn {
    /// How many seconds the old tokens are still good. This release ends them at once: 0 or nothing.
    #[schema(minimum = 0, maximum = 0)]
    expiry: Option<u32>,
    /// Only these sessions. Not supported yet.
    #[schema(value_type = Option<schemas::Flags>)]
    session_ids: Option<Vec<String>>,
}

/// End a customer's access
///
/// The application's tokens that were issued until now, its portal sessions and its unused portal links are refused: here at once, in other
/// processes within 3 seconds.
#[utoipa::path(
    post, path = "/auth/app/{app_id}/expire-all", request_body = ApplicationTokenExpireIn,
    responses((status = 204, description = "They are good no more."))
)]
pub(super) async fn expire_all(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let mut fields = body.fields()?;
    fields.unsupported("expiry", &["0"]);
    fields.unsupported("sessionIds", &["[]"]);
    fields.done(Ok(()))?;
    let app = call.app().await?;
    let act =
        async |call: &Call| match call.store().expire_portal_access(&call.tenant, app.id, call.wall(), call.now).await?
        {
            true => {
                call.callers().forget_application(app.id);
                nothing()
            }
            false => Err(ApiError::not_found("application")),
        };
    once(call, body.bytes(), Look::First, act, async |_, _| nothing()).await
}
