//! Logout: revokes the token of the request.

use std::time::Duration;

use crate::api::authn::credential::CredentialRef;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::request::{ApiCall, no_content};
use crate::domain::Time;

/// Revoked tokens are remembered this long beyond their expiry: another process's clock may be behind.
const MARGIN: Duration = Duration::from_secs(10 * 60);

/// Log out
///
/// Revokes the token of this request, permanently if it has no expiry. API keys cannot be logged out, only revoked.
#[utoipa::path(post, path = "/auth/logout", responses((status = 204)))]
pub(in crate::api) async fn log_out(call: ApiCall) -> ApiResult {
    match &call.caller.credential {
        CredentialRef::Token { hash, expires } => {
            let until = expires.map_or(Time::MAX, |expires| expires.plus(MARGIN));
            call.authenticator().log_out(hash, until).await?;
            no_content()
        }
        // Several services may share a key; none may revoke it for the others.
        CredentialRef::Key(id) => Err(ApiError::permission_denied(format!(
            "API keys cannot be logged out: revoke this one on the server with `sendoff key revoke {id}`"
        ))),
    }
}
