//! Idempotency keys: a POST repeated under the same `idempotency-key` acts once and gets the first response again.
//!
//! The SDKs send a key with every POST and reuse it on retries. The store keeps a reference to the object that the
//! first request created (see [`crate::store::ingest::idempotency`]), and the response is built from that object again.
//! A failed request leaves no reference.

use sha2::{Digest, Sha256};

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::request::ApiCall;
use crate::store::ingest::idempotency::{IdempotencyKey, PriorRequest};

const HEADER: &str = "idempotency-key";
/// Longest key, in characters.
const KEY_LIMIT: usize = 256;

/// The time at which the store is asked whether a key was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum KeyLookup {
    /// Before the handler acts.
    Eager,
    /// Only after a conflict: saves one read on the busiest operation.
    OnConflict,
}

/// Runs `act` under the request's idempotency key, if it has one, on a store bound to that key. `again` builds the
/// response to a repeated request from the reference to the created object.
pub(in crate::api) async fn idempotent(
    call: ApiCall,
    body: &[u8],
    lookup: KeyLookup,
    act: impl AsyncFnOnce(&ApiCall) -> ApiResult,
    again: impl AsyncFnOnce(&ApiCall, &str) -> ApiResult,
) -> ApiResult {
    let Some(key) = read(&call, body)? else { return act(&call).await };
    let Some(_in_flight) = call.store().mark_in_flight(&key) else {
        return Err(ApiError::conflict("a request with this idempotency-key is in progress: wait for its response"));
    };
    if lookup == KeyLookup::Eager
        && let Some(before) = call.store().prior_request(&key).await?
    {
        return Box::pin(repeat(&call, before, again)).await;
    }
    let call = call.with_key(key.clone());
    match act(&call).await {
        Err(error) if error.is_repeated() => match Box::pin(call.store().prior_request(&key)).await? {
            Some(before) => Box::pin(repeat(&call, before, again)).await,
            None => Err(error),
        },
        result => result,
    }
}

/// The caller boxes this future. It is rare and large, and would enlarge every request's future.
async fn repeat(
    call: &ApiCall,
    before: PriorRequest,
    again: impl AsyncFnOnce(&ApiCall, &str) -> ApiResult,
) -> ApiResult {
    match before {
        PriorRequest::SameBody(made) => again(call, &made).await,
        PriorRequest::OtherBody => {
            Err(ApiError::header(HEADER, "was used with a different body before: use a new key for a new request"))
        }
    }
}

/// The request's key, bound to its caller, URL and body.
fn read(call: &ApiCall, body: &[u8]) -> Result<Option<IdempotencyKey>, ApiError> {
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
        // Prefixed with its length, so different lists of parts never hash alike.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(Some(IdempotencyKey { hash: hash.finalize().into(), body: Sha256::digest(body).into(), at: call.now }))
}
