//! Autoconfig subscriptions: a customer gets one token, and the customer's program creates its own endpoint or polling
//! endpoint with it.

use actix_web::http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::authn::permissions::Permissions;
use crate::api::http::body::{FieldValue, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, change_result, json, json_secret, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::resources::endpoint;
use crate::api::resources::endpoint::EndpointOut;
use crate::api::resources::endpoint::endpoint_body::{EndpointIn, WriteMode, read as read_endpoint};
use crate::api::resources::endpoint::endpoint_secret::{EndpointSecretRotateIn, read_rotation};
use crate::api::resources::event_type;
use crate::api::resources::event_type::check_visible;
use crate::api::resources::polling::endpoint as polling;
use crate::api::resources::polling::endpoint::{PollerIn, PollerOut};
use crate::domain::access::api_key;
use crate::domain::catalog::autoconfig;
use crate::domain::catalog::autoconfig::AutoConfig;
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::{AutoConfigId, EndpointId, Invalid, PollingEndpointId, Time, ids, limits};
use crate::store::feed::autoconfig::CreatedEndpoint;
use crate::store::{EndpointRef, PollingEndpointRef};

/// The resource in error details.
const WHAT: &str = "autoconfig subscription";

/// The token of an autoconfig subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AutoConfigOut<'a> {
    id: AutoConfigId,
    /// `auto_v2_…`, returned only once. For `AutoConfig` and `AutoConfigConsumer` of the SDKs.
    token: &'a str,
    created_at: Time,
}

/// An autoconfig subscription.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AutoConfigSubscriptionOut {
    id: AutoConfigId,
    /// `active` once an endpoint or polling endpoint was created with it.
    #[schema(value_type = SubscriptionStatus)]
    status: &'static str,
    /// The last characters of the token.
    token_censored: String,
    /// The endpoint created with it.
    endp_id: Option<EndpointId>,
    /// The polling endpoint created with it.
    dest_id: Option<PollingEndpointId>,
    created_at: Time,
}

/// Whether a subscription is in use.
#[derive(ToSchema)]
#[schema(as = AutoConfigStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum SubscriptionStatus {
    Pending,
    Active,
}

/// The options of a new token.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({}))]
#[expect(dead_code, reason = "for the document alone: `create` reads it")]
struct CreateAutoConfigSubscriptionIn {
    /// Feature flags of the token: it subscribes only to event types that they show. An application's token passes on
    /// its own flags only, and all of them by default.
    #[schema(value_type = Option<schemas::FeatureFlags>)]
    feature_flags: Option<Vec<String>>,
}

/// The rotation of the signing secret.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"signingSecret": {"gracePeriodSeconds": 3600}}))]
#[expect(dead_code, reason = "for the document alone: `rotate` reads it")]
struct RotateSubscriptionIn {
    signing_secret: Option<EndpointSecretRotateIn>,
}

/// The response with the token, which is returned only here.
fn token_response(call: &ApiCall, of: &AutoConfig, secret: &Secret, token: &str) -> ApiResult {
    let text = of.text(call.public_url().as_str(), secret, token);
    json_secret(&AutoConfigOut { id: of.id, token: &text, created_at: of.created_at })
}

/// Create an autoconfig subscription
///
/// Returns a token that lets the receiver's program create and update one endpoint and one polling endpoint, and fetch
/// from the latter. The token is not stored: repeating the request with the same `idempotency-key` creates another
/// subscription.
#[utoipa::path(
    post, path = "/app/{app_id}/autoconfig", request_body = CreateAutoConfigSubscriptionIn,
    responses((status = 200, body = AutoConfigOut))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?;
    let act = async |call: &ApiCall| {
        // Some SDKs send neither a body nor a content type.
        let none = body.bytes().is_empty() && !call.request().headers().contains_key(header::CONTENT_TYPE);
        let own = event_type::flags(call);
        let mut flags = own.unwrap_or_default().to_vec();
        if !none {
            let mut fields = body.fields()?;
            flags = fields.names("featureFlags", limits::FEATURE_FLAGS).set().unwrap_or(flags);
            let wrong = ids::names("featureFlags", &flags, limits::FEATURE_FLAGS, limits::NAME);
            wrong.into_iter().for_each(|wrong| fields.note(wrong));
            if own.is_some_and(|own| flags.iter().any(|flag| !own.contains(flag))) {
                fields.note(Invalid::new("featureFlags", "must be among the flags of this token"));
            }
            fields.done(Ok(()))?;
        }
        let (made, secret, token) = AutoConfig::make(app.org.clone(), app.id, flags, call.now);
        // Not under the idempotency key: the token could not be returned again.
        call.plain_store().create_autoconfig(&call.tenant, &made, &secret, &api_key::hash(&token)).await?;
        token_response(call, &made, &secret, &token)
    };
    let again = async |_: &ApiCall, _: &str| Err(ApiError::not_found("token created with this idempotency-key"));
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

/// The subscription in the path.
async fn named(call: &ApiCall) -> Result<AutoConfig, ApiError> {
    let app = call.app().await?;
    let id: AutoConfigId = call.path_param("autoconfig").parse().map_err(|_| ApiError::not_found(WHAT))?;
    match call.caller.permissions {
        Permissions::AutoConfig(only) if only != id => Err(ApiError::not_found(WHAT)),
        _ => require(call.store().autoconfig(&call.tenant, app.id, id).await?, WHAT),
    }
}

/// Retrieve an autoconfig subscription
///
/// Retrieves an autoconfig subscription, with its token censored.
#[utoipa::path(
    get, path = "/app/{app_id}/autoconfig/{autoconfig_id}",
    responses((status = 200, body = AutoConfigSubscriptionOut))
)]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    let found = named(&call).await?;
    let active = found.endpoint.is_some() || found.polling_endpoint.is_some();
    let out = AutoConfigSubscriptionOut {
        id: found.id,
        status: if active { "active" } else { "pending" },
        token_censored: found.censored(),
        endp_id: found.endpoint,
        dest_id: found.polling_endpoint,
        created_at: found.created_at,
    };
    json(StatusCode::OK, &out)
}

/// Delete an autoconfig subscription
///
/// Revokes its token. The endpoints created with it remain.
#[utoipa::path(delete, path = "/app/{app_id}/autoconfig/{autoconfig_id}", responses((status = 204)))]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    let found = named(&call).await?;
    let deleted = call.store().delete_autoconfig(&call.tenant, &found, call.now).await?;
    no_content_if(deleted, WHAT)
}

/// Rotate an autoconfig subscription's token
///
/// Replaces the token and the signing secret that is part of it. The old secret also signs for 24 hours, or for
/// `gracePeriodSeconds`. All servers reject the old token within 3 seconds.
#[utoipa::path(
    post, path = "/app/{app_id}/autoconfig/{autoconfig_id}/rotate", request_body = RotateSubscriptionIn,
    responses((status = 200, body = AutoConfigOut), (status = 400, description = schemas::OLD_SECRETS_ACTIVE))
)]
pub(in crate::api) async fn rotate(call: ApiCall, body: JsonBody) -> ApiResult {
    let found = named(&call).await?;
    let act = async |call: &ApiCall| {
        let endpoint = bound_endpoint(call, &found).await?;
        let mut fields = body.fields()?;
        let inner = fields.object("signingSecret");
        let rotation = match inner {
            FieldValue::Set(inner) => fields.nested(read_rotation(inner, endpoint.as_ref()))?,
            _ => None,
        };
        fields.done(Ok(()))?;
        let (secret, grace) = match rotation {
            Some(rotation) => rotation,
            None => {
                let kind = endpoint.as_ref().map_or(SignatureType::Hmac256, |one| one.spec.signature_type);
                (Secret::generate(kind), crate::domain::signing::secret::DEFAULT_GRACE)
            }
        };
        let store = call.plain_store();
        if let Some(endpoint) = &endpoint
            && !store.rotate_secret(&call.tenant, endpoint.app_id, endpoint.id, &secret, grace, call.now).await?
        {
            return Err(ApiError::not_found("endpoint"));
        }
        let token = autoconfig::new_token();
        let (hash, hint) = (api_key::hash(&token), autoconfig::hint(&token));
        match store.rotate_autoconfig(&call.tenant, &found, &secret, (&hash, &hint), call.now).await? {
            true => token_response(call, &found, &secret, &token),
            false => Err(ApiError::not_found(WHAT)),
        }
    };
    let again = async |_: &ApiCall, _: &str| Err(ApiError::not_found("token created with this idempotency-key"));
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

/// The endpoint created with a subscription.
async fn bound_endpoint(call: &ApiCall, of: &AutoConfig) -> Result<Option<Endpoint>, ApiError> {
    let Some(id) = of.endpoint else { return Ok(None) };
    Ok(call.store().endpoint(&call.tenant, of.app_id, &EndpointRef::Id(id)).await?)
}

async fn bound_polling_endpoint(call: &ApiCall, of: &AutoConfig) -> Result<Option<PollingEndpoint>, ApiError> {
    let Some(id) = of.polling_endpoint else { return Ok(None) };
    Ok(call.store().polling_endpoint(&call.tenant, of.app_id, &PollingEndpointRef::Id(id)).await?)
}

/// Create or replace a subscription's endpoint
///
/// Creates the subscription's endpoint or replaces it. Its signing secret is part of the token.
#[utoipa::path(
    put, path = "/app/{app_id}/autoconfig/{autoconfig_id}/endpoint", request_body = EndpointIn,
    responses((status = 200, body = EndpointOut))
)]
pub(in crate::api) async fn subscribe(call: ApiCall, body: JsonBody) -> ApiResult {
    let found = named(&call).await?;
    if let Some(before) = bound_endpoint(&call, &found).await? {
        let uid = before.spec.uid.clone();
        return endpoint::change(&call, &body, before, |before| WriteMode::Replace(before), uid.as_ref()).await;
    }
    let mut fields = body.fields()?;
    if matches!(fields.raw("secret"), FieldValue::Set(_)) {
        fields.note(Invalid::new("secret", "is part of the token: leave it out"));
    }
    let secret = require(call.store().autoconfig_secret(&found).await?, WHAT)?;
    let (spec, _) = read_endpoint(&call, fields, WriteMode::New, None).await?;
    secret.check_kind("signatureType", spec.signature_type).map_err(|wrong| ApiError::from(vec![wrong]))?;
    let made = call.store().create_endpoint(&call.tenant, found.app_id, spec, &secret, call.now).await?;
    if call.store().bind_autoconfig(&call.tenant, &found, CreatedEndpoint::Endpoint(made.id), call.now).await? {
        return endpoint::out(StatusCode::OK, &made);
    }
    // A concurrent request created it.
    call.store().delete_endpoint(&call.tenant, found.app_id, made.id, call.now).await?;
    let found = named(&call).await?;
    endpoint::out(StatusCode::OK, &require(bound_endpoint(&call, &found).await?, WHAT)?)
}

/// Create or replace a subscription's polling endpoint
///
/// Creates the subscription's polling endpoint or replaces it.
#[utoipa::path(
    put, path = "/app/{app_id}/autoconfig/{autoconfig_id}/destination", request_body = PollerIn,
    responses((status = 200, body = PollerOut))
)]
pub(in crate::api) async fn subscribe_by_polling(call: ApiCall, body: JsonBody) -> ApiResult {
    let found = named(&call).await?;
    let (store, app) = (call.store(), found.app_id);
    let base = |uid| PollingEndpointSpec { uid, ..PollingEndpointSpec::default() };
    if let Some(before) = bound_polling_endpoint(&call, &found).await? {
        let work = |before: &PollingEndpoint| polling::read(body.fields()?, base(before.spec.uid.clone()), true);
        let wanted = work(&before)?.filter.event_types;
        check_visible(&call, wanted.as_deref(), before.spec.filter.event_types.as_deref()).await?;
        let changed = store.update_polling_endpoint(&call.tenant, app, before.id, work, call.now).await?;
        return polling::out(StatusCode::OK, &change_result(changed, "polling endpoint")?);
    }
    let spec = polling::read(body.fields()?, base(None), true)?;
    check_visible(&call, spec.filter.event_types.as_deref(), None).await?;
    let made = store.create_polling_endpoint(&call.tenant, app, spec, call.now).await?;
    if store.bind_autoconfig(&call.tenant, &found, CreatedEndpoint::PollingEndpoint(made.id), call.now).await? {
        return polling::out(StatusCode::OK, &made);
    }
    // A concurrent request created it.
    store.delete_polling_endpoint(&call.tenant, &made, call.now).await?;
    let found = named(&call).await?;
    polling::out(StatusCode::OK, &require(bound_polling_endpoint(&call, &found).await?, WHAT)?)
}
