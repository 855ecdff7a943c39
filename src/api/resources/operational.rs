//! Operational webhooks: endpoints that notify an organization about its endpoints and messages.
//!
//! They belong to the organization's operational application. Its id is in no path; [`ApiCall::app`] returns it for
//! these paths. The handlers of [`endpoint`] and its submodules do the work; this file handles the case that the
//! application does not exist yet. All operations need an organization token.

use actix_web::http::StatusCode;

use crate::api::http::body::JsonBody;
use crate::api::http::errors::ApiResult;
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas::{OrderParams, PageParams};
use crate::api::resources::endpoint;
use crate::api::resources::endpoint::EndpointOut;
use crate::api::resources::endpoint::endpoint_body::{OperationalEndpointIn, OperationalEndpointUpdate};
use crate::api::resources::endpoint::endpoint_headers;
use crate::api::resources::endpoint::endpoint_headers::{EndpointHeadersIn, HeadersOut};
use crate::api::resources::endpoint::endpoint_secret;
use crate::api::resources::endpoint::endpoint_secret::{EndpointSecretRotateIn, SecretOut};
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::catalog::event_type::EventType;
use crate::domain::notifications::operational::OperationalKind;
use crate::domain::{EndpointId, OrgId};
use crate::store::{EndpointRef, Order, Page, PageRequest};

/// The event type of an operational event, if the name is one and the caller may see it.
pub(in crate::api) fn event_type(call: &ApiCall, name: &str) -> Option<EventType> {
    let kind = OperationalKind::of(name).filter(|_| call.tenant.only.is_none())?;
    Some(kind.event_type(&call.tenant.org))
}

/// A page of the operational event types, by name.
pub(in crate::api) fn event_types(org: &OrgId, request: &PageRequest<String>) -> Page<EventType> {
    let mut data: Vec<EventType> = OperationalKind::ALL.iter().map(|kind| kind.event_type(org)).collect();
    data.sort_by(|one, two| one.spec.name.cmp(&two.spec.name));
    let backward = (request.order == Order::Descending) != request.back;
    if backward {
        data.reverse();
    }
    if let Some(after) = &request.after {
        data.retain(|one| if backward { one.spec.name < *after } else { one.spec.name > *after });
    }
    let more = data.len() > request.limit;
    data.truncate(request.limit);
    if request.back {
        data.reverse();
    }
    Page { data, more }
}

/// List operational endpoints
///
/// Lists the organization's operational endpoints.
#[utoipa::path(
    get, path = "/operational-webhook/endpoint", params(PageParams, OrderParams),
    responses((status = 200, body = ListOut<EndpointOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    if call.store().operational_application(&call.tenant).await?.is_some() {
        return endpoint::list(call).await;
    }
    let request = call.query().page::<EndpointId>(Order::Ascending, true)?;
    let nothing: Page<Endpoint> = Page { data: Vec::new(), more: false };
    json(StatusCode::OK, &ListOut::of(&nothing, &request, |endpoint| endpoint.id, |endpoint| endpoint.id)?)
}

/// Create an operational endpoint
///
/// Creates an operational endpoint. `eventTypes` may be `endpoint.created`, `endpoint.updated`, `endpoint.deleted`,
/// `endpoint.disabled`, `endpoint.failing`, `message.attempt.exhausted`, `message.attempt.failing`,
/// `message.attempt.recovered`, `message.expired`, `consumer.silent` and `outbox.stuck`. `channels` may be ids and uids of
/// applications.
#[utoipa::path(
    post, path = "/operational-webhook/endpoint", request_body = OperationalEndpointIn,
    responses((status = 201, body = EndpointOut))
)]
pub(in crate::api) async fn create(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    call.store().ensure_operational_application(&call.tenant, call.now).await?;
    endpoint::create(call, body).await
}

/// Retrieve an operational endpoint
///
/// Retrieves an operational endpoint by its id or uid.
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}", responses((status = 200, body = EndpointOut))
)]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    endpoint::read_one(call).await
}

/// Replace an operational endpoint
///
/// Replaces all fields, or creates the endpoint if the path has a uid that does not exist. If the scheme, host or port
/// of the URL changes, headers with secret values are dropped unless the request includes `headers`.
#[utoipa::path(
    put, path = "/operational-webhook/endpoint/{endpoint_id}", request_body = OperationalEndpointUpdate,
    responses((status = 200, body = EndpointOut), (status = 201, body = EndpointOut))
)]
pub(in crate::api) async fn put(call: ApiCall, body: JsonBody) -> ApiResult {
    call.require_organization()?;
    if matches!(EndpointRef::parse(call.path_param("endpoint")), Ok(EndpointRef::Uid(_))) {
        call.store().ensure_operational_application(&call.tenant, call.now).await?;
    }
    endpoint::put(call, body).await
}

/// Delete an operational endpoint
///
/// Deletes an operational endpoint. Its pending deliveries are not sent.
#[utoipa::path(delete, path = "/operational-webhook/endpoint/{endpoint_id}", responses((status = 204)))]
pub(in crate::api) async fn delete(call: ApiCall) -> ApiResult {
    endpoint::delete(call).await
}

/// Retrieve an operational endpoint's secret
///
/// Retrieves the key that the receiver verifies with. Each retrieval is recorded in the audit log.
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}/secret", responses((status = 200, body = SecretOut))
)]
pub(in crate::api) async fn read_secret(call: ApiCall) -> ApiResult {
    endpoint_secret::read(call).await
}

/// Rotate an operational endpoint's secret
///
/// Replaces the secret. The old one also signs for 24 hours, or for `gracePeriodSeconds`.
#[utoipa::path(
    post, path = "/operational-webhook/endpoint/{endpoint_id}/secret/rotate", request_body = EndpointSecretRotateIn,
    responses((status = 200, body = SecretOut))
)]
pub(in crate::api) async fn rotate_secret(call: ApiCall, body: JsonBody) -> ApiResult {
    endpoint_secret::rotate(call, body).await
}

/// Retrieve an operational endpoint's headers
///
/// Retrieves the custom headers of an operational endpoint. Values that may be secrets are hidden; `sensitive` lists
/// their names.
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}/headers", responses((status = 200, body = HeadersOut))
)]
pub(in crate::api) async fn read_headers(call: ApiCall) -> ApiResult {
    endpoint_headers::read(call).await
}

/// Replace an operational endpoint's headers
///
/// Replaces all custom headers of an operational endpoint.
#[utoipa::path(
    put, path = "/operational-webhook/endpoint/{endpoint_id}/headers", request_body = EndpointHeadersIn,
    responses((status = 204))
)]
pub(in crate::api) async fn put_headers(call: ApiCall, body: JsonBody) -> ApiResult {
    endpoint_headers::put(call, body).await
}
