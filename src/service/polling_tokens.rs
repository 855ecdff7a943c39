//! Tokens of polling endpoints.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::domain::Time;
use crate::domain::access::api_key;
use crate::domain::catalog::polling::{PollingEndpoint, PollingToken, token_text};
use crate::store::{Store, StoreError, Tenant};

/// Creates a token with this secret part and returns it with its text, which is not stored; `None` if the polling
/// endpoint no longer exists. The new token is valid for `life`, by default forever. Older tokens stay valid for
/// `overlap`.
///
/// # Errors
/// The store is unavailable.
pub async fn rotate(
    store: &Store,
    tenant: &Tenant,
    endpoint: &PollingEndpoint,
    secret: &str,
    life: Option<Duration>,
    overlap: Duration,
    now: Time,
) -> Result<Option<(PollingToken, Zeroizing<String>)>, StoreError> {
    let (token, text) = PollingToken::with_text(tenant.org.clone(), endpoint, life, token_text(secret), now);
    let rotated = store.rotate_polling_token(tenant, endpoint, &token, &api_key::hash(&text), overlap).await?;
    Ok(rotated.then_some((token, text)))
}
