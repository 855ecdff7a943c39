//! Logging out: the token that is shown is refused from then on.

use std::time::Duration;

use crate::api::authn::authenticator::Shown;
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::request::{Call, nothing};
use crate::domain::Time;

/// How long a revoked token is remembered beyond its end: another process's clock may be behind.
const MARGIN: Duration = Duration::from_secs(10 * 60);

/// Log out
///
/// The token that is shown is refused from then on; one without an end, for good. An API key is not logged out but
/// revoked.
#[utoipa::path(
    post, path = "/auth/logout",
    responses((status = 204, description = "The token is good no more."))
)]
pub(in crate::api) async fn log_out(call: Call) -> Answer {
    match &call.caller.shown {
        Shown::Token { hash, expires } => {
            let until = expires.map_or(Time::MAX, |expires| expires.plus(MARGIN));
            call.callers().log_out(hash, until).await?;
            nothing()
        }
        // Many services may share it: none of them ends it for the others.
        Shown::Key(id) => Err(ApiError::lacks(format!(
            "an API key is not logged out: whoever looks after this server ends it with `sendoff key revoke {id}`"
        ))),
    }
}
