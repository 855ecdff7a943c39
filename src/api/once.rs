//! Idempotency: a POST that comes twice under the same `idempotency-key` acts once, and is answered as the first time.
//!
//! The SDKs send a key with every POST, and the same one when they try again. What is remembered is a reference to what the
//! first one made (see [`crate::store::ingest::idempotency`]); the answer is made anew from that. A request that failed leaves nothing behind.

use sha2::{Digest, Sha256};

use super::call::Call;
use super::errors::{Answer, ApiError};
use crate::store::ingest::idempotency::{Before, Once};

const HEADER: &str = "idempotency-key";
/// How many characters a key may have.
const KEY_LIMIT: usize = 256;

/// When it is looked up whether a key came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Before anything is done.
    First,
    /// Only when the store says so: one read less, for the busiest call.
    Late,
}

/// Acts under the call's key, if it has one: `act` does it, on the store that the call then carries; `again` answers for what was made
/// before.
pub(super) async fn once(
    call: Call,
    body: &[u8],
    look: Look,
    act: impl AsyncFnOnce(&Call) -> Answer,
    again: impl AsyncFnOnce(&Call, &str) -> Answer,
) -> Answer {
    let Some(once) = read(&call, body)? else { return act(&call).await };
    let Some(_under_way) = call.store().under_way(&once) else {
        return Err(ApiError::conflict("a request under this idempotency-key is under way: wait for its answer"));
    };
    if look == Look::First
        && let Some(before) = call.store().before(&once).await?
    {
        return Box::pin(repeat(&call, before, again)).await;
    }
    let call = call.under(once.clone());
    match act(&call).await {
        Err(error) if error.is_repeated() => match Box::pin(call.store().before(&once)).await? {
            Some(before) => Box::pin(repeat(&call, before, again)).await,
            None => Err(error),
        },
        answer => answer,
    }
}

/// Rare and large: on the heap, every other call is smaller for it.
async fn repeat(call: &Call, before: Before, again: impl AsyncFnOnce(&Call, &str) -> Answer) -> Answer {
    match before {
        Before::Made(made) => again(call, &made).await,
        Before::Another => {
            Err(ApiError::header(HEADER, "came with another body before: a new request needs a key of its own"))
        }
    }
}

/// The call's key, bound to who calls, to what, and to the body.
fn read(call: &Call, body: &[u8]) -> Result<Option<Once>, ApiError> {
    let request = call.request();
    let Some(key) = request.headers().get(HEADER) else { return Ok(None) };
    let key = key.as_bytes();
    if key.is_empty() || key.len() > KEY_LIMIT {
        return Err(ApiError::header(HEADER, format!("must have 1 to {KEY_LIMIT} characters")));
    }
    let mut hash = Sha256::new();
    let only = call.tenant.only.map(|app| app.to_string()).unwrap_or_default();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    for part in [call.tenant.org.as_str().as_bytes(), only.as_bytes(), target.as_bytes(), key] {
        // With its length, so that no two lists of parts read the same.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(Some(Once { hash: hash.finalize().into(), body: Sha256::digest(body).into(), at: call.now }))
}
