//! Signing secrets of endpoints: revealing and rotating them.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json_secret, require};
use crate::api::openapi::schemas;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::signing::secret::{DEFAULT_GRACE, MAX_GRACE, Secret};
use crate::domain::signing::signature::check_extras;
use crate::domain::{Invalid, Time};
use crate::service::endpoints;

/// The key that the receiver verifies with.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointSecretOut)]
pub(in crate::api) struct SecretOut {
    /// `whsec_…`, or for Ed25519 the public key `whpk_…`.
    #[schema(example = "whsec_cGxlYXNlIGRvIG5vdCB1c2UgdGhpcyBzZWNyZXQ=")]
    key: String,
}

/// The rotation of a secret.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"gracePeriodSeconds": 3600}))]
#[expect(dead_code, reason = "for the document alone: `rotate` reads it")]
pub(in crate::api) struct EndpointSecretRotateIn {
    /// The new secret; generated if absent.
    #[schema(value_type = Option<schemas::SecretText>)]
    key: Option<String>,
    /// How long the old secret also signs, in seconds; 24 hours by default.
    #[schema(minimum = 0, maximum = 604800)]
    grace_period_seconds: Option<u64>,
}

fn out(secret: &Secret) -> ApiResult {
    json_secret(&SecretOut { key: secret.shown() })
}

/// Retrieve an endpoint's secret
///
/// Retrieves the key that the receiver verifies with. Each retrieval is recorded in the audit log.
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}/secret", responses((status = 200, body = SecretOut)))]
pub(in crate::api) async fn read(call: ApiCall) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let secret = endpoints::reveal_secret(call.store(), &call.tenant, &endpoint, call.now).await?;
    out(&require(secret, "endpoint")?)
}

/// Rotate an endpoint's secret
///
/// Replaces the secret. The old one also signs for 24 hours, or for `gracePeriodSeconds`; at most five old secrets are
/// active. The prefix of the new key sets the signature algorithm: `whsec_` for HMAC-SHA256, `whsk_` for Ed25519.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate", request_body = EndpointSecretRotateIn,
    responses((status = 200, body = SecretOut), (status = 400, description = schemas::OLD_SECRETS_ACTIVE))
)]
pub(in crate::api) async fn rotate(call: ApiCall, body: JsonBody) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let act = async |call: &ApiCall| change(call, &endpoint, &body).await;
    let again = async |call: &ApiCall, made: &str| {
        const WHAT: &str = "secret created with this idempotency-key";
        let made_at = Time::from_micros(made.parse().map_err(|_| ApiError::not_found(WHAT))?);
        let secret = call.store().endpoint_secret_of(&call.tenant, endpoint.app_id, endpoint.id, made_at).await?;
        out(&require(secret, WHAT)?)
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

async fn change(call: &ApiCall, endpoint: &Endpoint, body: &JsonBody) -> ApiResult {
    let (secret, grace) = read_rotation(body.fields()?, Some(endpoint))?;
    match call.store().rotate_secret(&call.tenant, endpoint.app_id, endpoint.id, &secret, grace, call.now).await? {
        true => out(&secret),
        false => Err(ApiError::not_found("endpoint")),
    }
}

/// Reads the new secret and its grace period. `endpoint` is `None` if it does not exist yet.
pub(in crate::api) fn read_rotation(
    mut fields: Fields<'_>,
    endpoint: Option<&Endpoint>,
) -> Result<(Secret, Duration), ApiError> {
    let given = fields.parsed("key", |text| Secret::parse("key", text)).set();
    let kind = given.as_ref().map(Secret::kind).or(endpoint.map(|one| one.spec.signature_type)).unwrap_or_default();
    let extras = endpoint.map(|one| &one.spec.extra_signatures[..]).unwrap_or_default();
    if let Err(wrong) = check_extras("key", extras, kind) {
        fields.note(wrong);
    }
    let (usual, most) = (DEFAULT_GRACE.as_secs(), MAX_GRACE.as_secs());
    let grace = fields.take::<u64>("gracePeriodSeconds", "a whole number of seconds").set().unwrap_or(usual);
    if grace > most {
        fields.note(Invalid::new("gracePeriodSeconds", format!("must be 0 to {most} (7 days)")));
    }
    fields.done(Ok(()))?;
    let secret = given.unwrap_or_else(|| Secret::generate(kind));
    Ok((secret, Duration::from_secs(grace)))
}
