//! Operational endpoints over REST: where an organization is told of what happens to its endpoints and messages.
//!
//! They are endpoints of the organization's operational application, which has no name in any path: [`Call::app`]
//! stands for it here. So [`endpoint`] and its neighbours answer for these paths too; what is here is what they cannot
//! know, that there may be no such application yet. Only a token of the organization may do any of it.

use actix_web::http::StatusCode;

use crate::api::http::body::Body;
use crate::api::http::errors::Answer;
use crate::api::http::query::ListOut;
use crate::api::http::request::{Call, json};
use crate::api::openapi::schemas::{Ordered, Paged};
use crate::api::resources::endpoint;
use crate::api::resources::endpoint::EndpointOut;
use crate::api::resources::endpoint::endpoint_body::{EndpointIn, EndpointUpdate};
use crate::api::resources::endpoint::endpoint_headers;
use crate::api::resources::endpoint::endpoint_headers::{EndpointHeadersIn, HeadersOut};
use crate::api::resources::endpoint::endpoint_secret;
use crate::api::resources::endpoint::endpoint_secret::{EndpointSecretRotateIn, SecretOut};
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::catalog::event_type::EventType;
use crate::domain::notifications::operational::Kind;
use crate::domain::{EndpointId, OrgId};
use crate::store::{EndpointRef, Order, Page, PageRequest};

/// The event type of an operational event, if it is one of this name and the caller may know of it.
pub(in crate::api) fn event_type(call: &Call, name: &str) -> Option<EventType> {
    let kind = Kind::of(name).filter(|_| call.tenant.only.is_none())?;
    Some(kind.event_type(&call.tenant.org))
}

/// A page of all of them, by name.
pub(in crate::api) fn event_types(org: &OrgId, request: &PageRequest<String>) -> Page<EventType> {
    let mut data: Vec<EventType> = Kind::ALL.iter().map(|kind| kind.event_type(org)).collect();
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
#[utoipa::path(
    get, path = "/operational-webhook/endpoint", params(Paged, Ordered),
    responses((status = 200, description = "A page of them.", body = ListOut<EndpointOut>))
)]
pub(in crate::api) async fn list(call: Call) -> Answer {
    call.for_the_organization()?;
    if call.store().operational_application(&call.tenant).await?.is_some() {
        return endpoint::list(call).await;
    }
    let request = call.query().page::<EndpointId>(Order::Ascending, true)?;
    let nothing: Page<Endpoint> = Page { data: Vec::new(), more: false };
    json(StatusCode::OK, &ListOut::of(&nothing, &request, |endpoint| endpoint.id, |endpoint| endpoint.id)?)
}

/// Create an operational endpoint
///
/// `eventTypes` are those of operational events: `endpoint.created`, `endpoint.updated`, `endpoint.deleted`,
/// `endpoint.disabled`, `endpoint.failing`, `message.attempt.exhausted`, `message.attempt.failing`,
/// `message.attempt.recovered`, `message.expired`. Channels are the ids and uids of applications.
#[utoipa::path(
    post, path = "/operational-webhook/endpoint", request_body = EndpointIn,
    responses(
        (status = 201, description = "It was made.", body = EndpointOut),
        (status = 409, description = "Another operational endpoint has this uid."),
    )
)]
pub(in crate::api) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    call.store().make_operational_application(&call.tenant, call.now).await?;
    endpoint::create(call, body).await
}

/// Read an operational endpoint
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}",
    responses((status = 200, description = "The endpoint.", body = EndpointOut))
)]
pub(in crate::api) async fn read_one(call: Call) -> Answer {
    endpoint::read_one(call).await
}

/// Replace an operational endpoint
///
/// Makes a new one where the path has a uid that there is not. A URL with another scheme, host or port drops the
/// headers whose values are not given out, unless `headers` is in the same request.
#[utoipa::path(
    put, path = "/operational-webhook/endpoint/{endpoint_id}", request_body = EndpointUpdate,
    responses(
        (status = 200, description = "It was replaced.", body = EndpointOut),
        (status = 201, description = "It was made.", body = EndpointOut),
        (status = 409, description = "Another operational endpoint has this uid."),
    )
)]
pub(in crate::api) async fn put(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    if matches!(EndpointRef::parse(call.part("endpoint")), Ok(EndpointRef::Uid(_))) {
        call.store().make_operational_application(&call.tenant, call.now).await?;
    }
    endpoint::put(call, body).await
}

/// Delete an operational endpoint
#[utoipa::path(
    delete, path = "/operational-webhook/endpoint/{endpoint_id}",
    responses((status = 204, description = "It is gone."))
)]
pub(in crate::api) async fn delete(call: Call) -> Answer {
    endpoint::delete(call).await
}

/// Read an operational endpoint's secret
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}/secret",
    responses((status = 200, description = "What the receiver verifies with.", body = SecretOut))
)]
pub(in crate::api) async fn read_secret(call: Call) -> Answer {
    endpoint_secret::read(call).await
}

/// Rotate an operational endpoint's secret
///
/// The old one signs along for a day, or as long as `gracePeriodSeconds` says.
#[utoipa::path(
    post, path = "/operational-webhook/endpoint/{endpoint_id}/secret/rotate", request_body = EndpointSecretRotateIn,
    responses((status = 200, description = "The new one.", body = SecretOut))
)]
pub(in crate::api) async fn rotate_secret(call: Call, body: Body) -> Answer {
    endpoint_secret::rotate(call, body).await
}

/// Read an operational endpoint's headers
///
/// Values may be secrets and are not given out, but for a few names that never carry one: `sensitive` names the others.
#[utoipa::path(
    get, path = "/operational-webhook/endpoint/{endpoint_id}/headers",
    responses((status = 200, description = "What goes out on each request.", body = HeadersOut))
)]
pub(in crate::api) async fn read_headers(call: Call) -> Answer {
    endpoint_headers::read(call).await
}

/// Replace an operational endpoint's headers
#[utoipa::path(
    put, path = "/operational-webhook/endpoint/{endpoint_id}/headers", request_body = EndpointHeadersIn,
    responses((status = 204, description = "It has these and no others."))
)]
pub(in crate::api) async fn put_headers(call: Call, body: Body) -> Answer {
    endpoint_headers::put(call, body).await
}
