//! The deliveries of a message: their status, and resending.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::ListOut;
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::PageParams;
use crate::api::resources::endpoint::EndpointOut;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::deliveries::delivery::{DeliveryState, DeliveryStatus};
use crate::domain::{EndpointId, Time};
use crate::store::query::deliveries::DeliveryView;
use crate::store::{Order, Page};

/// Svix's codes and words for the status of an attempt or delivery.
#[derive(Clone, Copy)]
pub(in crate::api) enum ApiStatus {
    Success,
    Pending,
    Fail,
    /// An attempt failed, and another one is scheduled.
    Sending,
    Canceled,
}

impl ApiStatus {
    /// The status of a delivery; `failing`: its last attempt failed. Clients that do not request `expanded` statuses
    /// see canceled deliveries as failed.
    pub const fn of(standing: DeliveryStatus, failing: bool, expanded: bool) -> ApiStatus {
        match standing {
            DeliveryStatus::Delivered => ApiStatus::Success,
            DeliveryStatus::Pending if failing => ApiStatus::Sending,
            DeliveryStatus::Pending => ApiStatus::Pending,
            DeliveryStatus::Canceled if expanded => ApiStatus::Canceled,
            DeliveryStatus::Dead | DeliveryStatus::Canceled => ApiStatus::Fail,
        }
    }

    pub const fn code(self) -> u8 {
        match self {
            ApiStatus::Success => 0,
            ApiStatus::Pending => 1,
            ApiStatus::Fail => 2,
            ApiStatus::Sending => 3,
            ApiStatus::Canceled => 4,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            ApiStatus::Success => "success",
            ApiStatus::Pending => "pending",
            ApiStatus::Fail => "fail",
            ApiStatus::Sending => "sending",
            ApiStatus::Canceled => "canceled",
        }
    }
}

/// An endpoint, with the status of the message's delivery to it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MessageEndpointOut<'a> {
    #[serde(flatten)]
    endpoint: EndpointOut<'a>,
    #[schema(value_type = schemas::MessageStatus)]
    status: u8,
    #[schema(value_type = schemas::MessageStatusText)]
    status_text: &'static str,
    /// When the next attempt is due; `null` if none is.
    next_attempt: Option<Time>,
}

/// List a message's deliveries
///
/// Lists the endpoints that a message is sent to, with the status of each delivery. Includes endpoints deleted since.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/endpoint", params(PageParams),
    responses((status = 200, body = ListOut<MessageEndpointOut>))
)]
pub(in crate::api) async fn endpoints_of(call: ApiCall) -> ApiResult {
    let request = call.query().page::<EndpointId>(Order::Ascending, false)?;
    let message = call.message().await?;
    let page = call.store().page_of_deliveries(&call.tenant, message.app_id, message.id, &request).await?;
    let mut rows: Vec<(DeliveryView, Endpoint)> = Vec::with_capacity(page.data.len());
    for view in page.data {
        let found = call.store().endpoint(&call.tenant, message.app_id, &view.endpoint_id.into()).await?;
        let endpoint = found.unwrap_or_else(|| deleted(&view));
        rows.push((view, endpoint));
    }
    let page = Page { data: rows, more: page.more };
    let list = ListOut::of(
        &page,
        &request,
        |(view, _)| view.endpoint_id,
        |(view, endpoint)| {
            let status = match view.state {
                DeliveryState::Delivered => ApiStatus::Success,
                DeliveryState::Fresh => ApiStatus::Pending,
                DeliveryState::Retry => ApiStatus::Sending,
                DeliveryState::Dead => ApiStatus::Fail,
            };
            MessageEndpointOut {
                endpoint: EndpointOut::from(endpoint),
                status: status.code(),
                status_text: status.word(),
                next_attempt: view.state.pending().then_some(view.due_at),
            }
        },
    )?;
    json(StatusCode::OK, &list)
}

/// The remaining data of a deleted endpoint.
fn deleted(view: &DeliveryView) -> Endpoint {
    let spec = EndpointSpec {
        url: view.url.clone(),
        description: view.endpoint_description.clone(),
        disabled: true,
        ..EndpointSpec::default()
    };
    let made = view.endpoint_id.time();
    Endpoint {
        id: view.endpoint_id,
        app_id: view.app_id,
        spec,
        disabled_reason: None,
        created_at: made,
        updated_at: made,
    }
}

/// An empty object.
#[derive(Serialize, ToSchema)]
#[schema(as = EmptyResponse)]
struct EmptyOut {}

/// Resend a message
///
/// Sends a message to an endpoint again, now and with a new retry schedule.
#[utoipa::path(
    post, path = "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend",
    responses((status = 202, body = EmptyOut))
)]
pub(in crate::api) async fn resend(call: ApiCall) -> ApiResult {
    let message = call.message().await?;
    let endpoint = call.endpoint_of(message.app_id).await?;
    if message.payload.is_none() {
        return Err(ApiError::conflict("the message's content was deleted or has expired: there is nothing to send"));
    }
    let act = async |call: &ApiCall| match call
        .store()
        .resend(&call.tenant, message.app_id, (message.id, endpoint.id), call.now)
        .await?
    {
        true => json(StatusCode::ACCEPTED, &EmptyOut {}),
        false => Err(ApiError::not_found("message")),
    };
    idempotent(call, &[], KeyLookup::Eager, act, async |_, _| json(StatusCode::ACCEPTED, &EmptyOut {})).await
}
