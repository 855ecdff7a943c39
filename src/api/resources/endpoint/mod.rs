//! Endpoints: the URLs that receive an application's events.
//!
//! * This file: create, retrieve, list, replace, update and delete.
//! * [`endpoint_body`]: request bodies. [`endpoint_headers`]: custom headers. [`endpoint_secret`]: signing secrets.
//! * [`endpoint_message`]: the messages of an endpoint. [`example`]: test messages.
//!
//! Invariants: an endpoint in a response contains no secret and no custom header. Its signature algorithm changes only
//! by rotation.

pub(in crate::api) mod endpoint_body;
pub(in crate::api) mod endpoint_headers;
pub(in crate::api) mod endpoint_message;
pub(in crate::api) mod endpoint_secret;
pub(in crate::api) mod example;

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::Number;
use url::Url;
use utoipa::ToSchema;

use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, change_result, json, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{OrderParams, PageParams};
use crate::api::resources::application::check_uid;
use crate::api::resources::create_or_replace;
use crate::api::resources::endpoint::endpoint_body::{EndpointIn, EndpointPatch, EndpointUpdate, WriteMode, read};
use crate::domain::catalog::application::Metadata;
use crate::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::notifications::chat::ChatFormat;
use crate::domain::signing::secret::SignatureType;
use crate::domain::signing::signature::ExtraSignature;
use crate::domain::{AppId, EndpointId, Invalid, Time, Uid};
use crate::service::endpoints;
use crate::store::{EndpointRef, Order};

/// An endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct EndpointOut<'a> {
    id: EndpointId,
    uid: Option<&'a Uid>,
    /// The normalized URL.
    url: Cow<'a, str>,
    description: &'a str,
    /// While disabled, nothing is sent and pending deliveries wait.
    disabled: bool,
    #[schema(value_type = Option<DisabledReason>)]
    disabled_reason: Option<&'static str>,
    /// The event types it receives; `null`: all.
    #[schema(value_type = Option<schemas::EventTypeNames>)]
    event_types: Option<&'a [String]>,
    /// The channels it receives; `null`: messages on any channel or none.
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<&'a [String]>,
    /// Maximum messages per second; `null`: no limit.
    throttle_rate: Option<u16>,
    /// The timeout of an attempt; `null`: the server's default.
    request_timeout_seconds: Option<u64>,
    /// Delays between attempts in seconds; `null`: the server's default.
    #[schema(value_type = Option<Vec<f64>>)]
    retry_schedule: Option<Vec<Number>>,
    /// Whether messages are delivered one at a time, in the order of acceptance.
    ordered: bool,
    #[schema(value_type = SignatureType)]
    signature_type: &'static str,
    extra_signatures: &'a [ExtraSignature],
    /// The chat system of an operational endpoint; `null`: it gets signed requests.
    #[schema(value_type = Option<ChatFormat>)]
    chat_format: Option<&'static str>,
    #[schema(value_type = schemas::MetadataPairs)]
    metadata: &'a Metadata,
    created_at: Time,
    updated_at: Time,
    /// Deprecated name of `eventTypes`.
    #[schema(value_type = Option<schemas::EventTypeNames>)]
    filter_types: Option<&'a [String]>,
    /// Deprecated name of `throttleRate`.
    rate_limit: Option<u16>,
    /// Stored without effect.
    version: u32,
}

impl<'a> From<&'a Endpoint> for EndpointOut<'a> {
    fn from(endpoint: &'a Endpoint) -> EndpointOut<'a> {
        let spec = &endpoint.spec;
        let waits = spec.retry_schedule.as_ref().map(RetrySchedule::waits);
        EndpointOut {
            id: endpoint.id,
            uid: spec.uid.as_ref(),
            url: Url::parse(&spec.url).map_or(Cow::Borrowed(&*spec.url), |url| Cow::Owned(url.into())),
            description: &spec.description,
            disabled: spec.disabled,
            disabled_reason: endpoint.disabled_reason.map(|reason| reason.word()),
            event_types: spec.event_types.as_deref(),
            channels: spec.channels.as_deref(),
            throttle_rate: spec.throttle_rate,
            request_timeout_seconds: spec.timeout.map(|timeout| timeout.as_secs()),
            retry_schedule: waits.map(|waits| waits.iter().copied().filter_map(seconds).collect()),
            ordered: spec.ordered,
            signature_type: spec.signature_type.word(),
            extra_signatures: &spec.extra_signatures,
            chat_format: spec.chat.as_ref().map(|hook| hook.format.word()),
            metadata: &spec.metadata,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            filter_types: spec.event_types.as_deref(),
            rate_limit: spec.throttle_rate,
            version: spec.version.unwrap_or(1),
        }
    }
}

/// Seconds, as an integer if whole.
fn seconds(wait: Duration) -> Option<Number> {
    if wait.subsec_nanos() == 0 { Some(wait.as_secs().into()) } else { Number::from_f64(wait.as_secs_f64()) }
}

pub(in crate::api) fn out(status: StatusCode, endpoint: &Endpoint) -> ApiResult {
    json(status, &EndpointOut::from(endpoint))
}

/// Rejects requests to send to a disabled endpoint: the messages would only wait.
///
/// # Errors
/// 422: the endpoint is disabled.
pub(in crate::api) fn require_enabled(endpoint: &Endpoint) -> Result<(), ApiError> {
    let reason = "is disabled: enable it first";
    if endpoint.spec.disabled { Err(ApiError::path("endpoint_id", Invalid::new("endpoint", reason))) } else { Ok(()) }
}

/// Create an endpoint
///
/// Creates an endpoint in an application.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint", request_body = EndpointIn, responses((status = 201, body = EndpointOut))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?.id;
    let act = async |call: &ApiCall| make(call, app, body.fields()?, None).await;
    let again = async |call: &ApiCall, made: &str| {
        let named = EndpointRef::parse(made).map_err(|_| ApiError::not_found("endpoint"))?;
        let endpoint = call.store().endpoint(&call.tenant, app, &named).await?;
        out(StatusCode::CREATED, &require(endpoint, "endpoint")?)
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

async fn make(call: &ApiCall, app: AppId, fields: Fields<'_>, path: Option<&Uid>) -> ApiResult {
    let new = read(call, fields, WriteMode::New, path).await?;
    if let Some(path) = path {
        check_uid(new.0.uid.as_ref(), path)?;
    }
    out(StatusCode::CREATED, &endpoints::create(call.store(), &call.tenant, app, new, call.now).await?)
}

/// Retrieve an endpoint
///
/// Retrieves an endpoint by its id or uid.
#[utoipa::path(get, path = "/app/{app_id}/endpoint/{endpoint_id}", responses((status = 200, body = EndpointOut)))]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    out(StatusCode::OK, &call.endpoint().await?)
}

/// List endpoints
///
/// Lists all endpoints of an application, newest first by default.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint", params(PageParams, OrderParams),
    responses((status = 200, body = ListOut<EndpointOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let app = call.app().await?;
    let request = call.query().page::<EndpointId>(Order::Descending, true)?;
    let page = call.store().endpoints(&call.tenant, app.id, &request).await?;
    json(StatusCode::OK, &ListOut::of(&page, &request, |endpoint| endpoint.id, EndpointOut::from)?)
}

/// Replace an endpoint
///
/// Replaces all fields, or creates the endpoint if the path has a uid that does not exist. If the body has no `uid`, an
/// endpoint addressed by its id loses its uid, and one addressed by its uid keeps it. Absent fields that other servers
/// do not know (timeout, retry schedule, extra signatures, headers) stay unchanged. The signature algorithm cannot be
/// changed here: rotate the secret.
///
/// If the scheme, host or port of the URL changes, headers with secret values are dropped unless the request includes
/// `headers`.
#[utoipa::path(
    put, path = "/app/{app_id}/endpoint/{endpoint_id}", request_body = EndpointUpdate,
    responses((status = 200, body = EndpointOut), (status = 201, body = EndpointOut))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    let app = call.app().await?.id;
    let named =
        EndpointRef::parse(call.path_param("endpoint")).map_err(|wrong| ApiError::path("endpoint_id", wrong))?;
    let uid = named.uid();
    let find = async || call.store().endpoint(&call.tenant, app, &named).await;
    let create = async |uid: &Uid| make(&call, app, body.fields()?, Some(uid)).await;
    let replace = async |before| change(&call, &body, before, |before| WriteMode::Replace(before), uid).await;
    create_or_replace("endpoint", uid, find, create, replace).await
}

/// Update an endpoint
///
/// Updates the fields in the body and leaves all others unchanged. If the scheme, host or port of the URL changes,
/// headers with secret values are dropped unless the request includes `headers`.
#[utoipa::path(
    patch, path = "/app/{app_id}/endpoint/{endpoint_id}", request_body = EndpointPatch,
    responses((status = 200, body = EndpointOut))
)]
pub(in crate::api) async fn patch(call: ApiCall, body: JsonBody) -> ApiResult {
    let before = call.endpoint().await?;
    change(&call, &body, before, |before| WriteMode::Patch(before), None).await
}

/// Applies the body to `before`, or to its current state after a concurrent update. `uid` is used if the body has none.
pub(in crate::api) async fn change(
    call: &ApiCall,
    body: &JsonBody,
    before: Endpoint,
    what: fn(&EndpointSpec) -> WriteMode<'_>,
    uid: Option<&Uid>,
) -> ApiResult {
    let work = async |before: &Endpoint| Ok(read(call, body.fields()?, what(&before.spec), uid).await?.0);
    let changed = call.store().change_endpoint(&call.tenant, before, work, call.now).await?;
    out(StatusCode::OK, &change_result(changed, "endpoint")?)
}

/// Delete an endpoint
///
/// Deletes an endpoint. Its pending deliveries are not sent.
#[utoipa::path(delete, path = "/app/{app_id}/endpoint/{endpoint_id}", responses((status = 204)))]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let deleted = call.store().delete_endpoint(&call.tenant, endpoint.app_id, endpoint.id, call.now).await?;
    no_content_if(deleted, "endpoint")
}
