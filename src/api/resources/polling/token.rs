//! Tokens for one polling endpoint, so a program that fetches messages needs no application token.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json_secret, require};
use crate::domain::access::api_key;
use crate::domain::catalog::polling::{DEFAULT_OVERLAP, MAX_LIFETIME, MAX_OVERLAP, PollingEndpoint, PollingToken};
use crate::domain::{Invalid, PollingTokenId, Time};
use crate::service::polling_tokens;

/// The token of a polling endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ApiTokenOut<'a> {
    id: PollingTokenId,
    /// `sk_poll_…`, in full only when it is created; later only the last characters.
    token: &'a str,
    /// Always `null`.
    name: Option<&'a str>,
    /// `null`: it does not expire.
    expires_at: Option<Time>,
    /// The permissions of the token.
    scopes: [&'static str; 1],
    created_at: Time,
}

/// The rotation of a token.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"expiry": 2592000, "oldTokenExpiry": 3600}))]
#[expect(dead_code, reason = "for the document alone: `rotate` reads it")]
struct RotatePollerTokenIn {
    /// Seconds until the new token expires, at most a year; by default it does not expire.
    #[schema(minimum = 1, maximum = 31536000)]
    expiry: Option<u32>,
    /// Seconds until older tokens expire; 300 by default.
    #[schema(minimum = 0, maximum = 86400)]
    old_token_expiry: Option<u32>,
}

fn out(token: &PollingToken, text: &str) -> ApiResult {
    let shown = ApiTokenOut {
        id: token.id,
        token: text,
        name: None,
        expires_at: token.expires_at,
        scopes: ["poll"],
        created_at: token.created_at,
    };
    json_secret(&shown)
}

/// Retrieve a polling endpoint's token
///
/// Retrieves the newest token of a polling endpoint, censored: only its last characters are stored in clear.
#[utoipa::path(get, path = "/auth/app/{app_id}/poller/{sink_id}/token", responses((status = 200, body = ApiTokenOut)))]
pub(in crate::api) async fn read(call: ApiCall) -> ApiResult {
    let endpoint = call.polling_endpoint().await?;
    let token = call.store().polling_token(&call.tenant, &endpoint).await?;
    let token = require(token, "token")?;
    out(&token, &token.censored())
}

/// Rotate a polling endpoint's token
///
/// Creates a new token, which may be the first one. It is returned only here and not stored: repeating the request with
/// the same `idempotency-key` creates another token.
#[utoipa::path(
    post, path = "/auth/app/{app_id}/poller/{sink_id}/token/rotate", request_body = RotatePollerTokenIn,
    responses((status = 200, body = ApiTokenOut))
)]
pub(in crate::api) async fn rotate(call: ApiCall, body: JsonBody) -> ApiResult {
    let endpoint = call.polling_endpoint().await?;
    let act = async |call: &ApiCall| make(call, &endpoint, &body).await;
    // The token could not be returned again.
    let again = async |_: &ApiCall, _: &str| Err(ApiError::not_found("token created with this idempotency-key"));
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

async fn make(call: &ApiCall, endpoint: &PollingEndpoint, body: &JsonBody) -> ApiResult {
    let mut fields = body.fields()?;
    let mut seconds = |name, least: u64, most: Duration| {
        let span = fields.take::<u64>(name, "a whole number of seconds").set()?;
        if !(least..=most.as_secs()).contains(&span) {
            fields.note(Invalid::new(name, format!("must be {least} to {}", most.as_secs())));
        }
        Some(Duration::from_secs(span))
    };
    let life = seconds("expiry", 1, MAX_LIFETIME);
    let overlap = seconds("oldTokenExpiry", 0, MAX_OVERLAP).unwrap_or(DEFAULT_OVERLAP);
    fields.done(Ok(()))?;
    // A repeated request creates another token: the first cannot be returned again.
    let (store, secret) = (call.store().without_idempotency_key(), api_key::random_text());
    let made = polling_tokens::rotate(&store, &call.tenant, endpoint, &secret, life, overlap, call.now).await?;
    let (token, text) = require(made, "polling endpoint")?;
    out(&token, &text)
}
