//! The messages sent to an endpoint. Receivers use this list to find what they missed.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::query::{ListOut, Query};
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{ContentParams, MessageFilterParams, PageParams};
use crate::api::resources::delivery::ApiStatus;
use crate::api::resources::message::{MessageOut, PayloadOut};
use crate::domain::deliveries::delivery::DeliveryStatus;
use crate::domain::{MessageId, Time, TimeRange};
use crate::store::Order;
use crate::store::query::endpoint_messages::{EndpointMessage, EndpointMessageFilter};

/// A message, with the status of its delivery to the endpoint.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointMessageOut<'a> {
    #[serde(flatten)]
    message: MessageOut<'a>,
    #[schema(value_type = schemas::ExpandedMessageStatus)]
    status: u8,
    #[schema(value_type = schemas::ExpandedMessageStatusText)]
    status_text: &'static str,
    /// When the next attempt is due; `null` if none is.
    next_attempt: Option<Time>,
}

/// The filters of the list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `filter` reads it")]
struct SentParams {
    /// Only messages with this delivery status: 1 before the first failed attempt, 3 after it.
    #[param(value_type = Option<schemas::ExpandedMessageStatus>)]
    status: Option<u8>,
    /// Only messages with this tag.
    tag: Option<String>,
    /// `true` reports canceled deliveries as canceled (4) instead of fail (2).
    expanded_statuses: Option<bool>,
}

/// List an endpoint's messages
///
/// Lists the messages sent to an endpoint, newest first, with the status of their delivery. A filtered page may be
/// short or empty without being the last one: continue with `iterator` until `done`.
#[utoipa::path(
    get, path = "/app/{app_id}/endpoint/{endpoint_id}/msg",
    params(PageParams, MessageFilterParams, SentParams, ContentParams),
    responses((status = 200, body = ListOut<EndpointMessageOut>))
)]
pub(in crate::api) async fn list(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<MessageId>(Order::Descending, false)?;
    let (content, expanded) = (query.flag("with_content", true)?, query.flag("expanded_statuses", false)?);
    let filter = filter(&query, expanded)?;
    let endpoint = call.endpoint().await?;
    let page = call.store().endpoint_messages(&call.tenant, endpoint.app_id, endpoint.id, &filter, &request).await?;
    let out = |one| out(one, content, expanded);
    json(StatusCode::OK, &ListOut::of_scanned(&page, &request, |one| one.message.id, out)?)
}

fn out(one: &EndpointMessage, content: bool, expanded: bool) -> EndpointMessageOut<'_> {
    let status = ApiStatus::of(one.standing, one.failing, expanded);
    EndpointMessageOut {
        message: MessageOut::new(&one.message, PayloadOut::of(&one.message, content)),
        status: status.code(),
        status_text: status.word(),
        next_attempt: one.next_at,
    }
}

fn filter(query: &Query<'_>, expanded: bool) -> Result<EndpointMessageFilter, ApiError> {
    let status = query.one_of("status", &[0, 1, 2, 3, 4])?;
    let standings = match status {
        None => Vec::new(),
        Some(2) if !expanded => vec![DeliveryStatus::Dead, DeliveryStatus::Canceled],
        Some(status) => standing(status).into_iter().collect(),
    };
    let failing = match status {
        Some(1) => Some(false),
        Some(3) => Some(true),
        _ => None,
    };
    let all = TimeRange::default();
    let accepted = TimeRange {
        since: query.time("after")?.unwrap_or(all.since),
        // `before` is inclusive, `until` is not.
        until: query.time("before")?.map_or(all.until, |before| before.plus(std::time::Duration::from_micros(1))),
    };
    Ok(EndpointMessageFilter { accepted, topics: query.topics()?, standings, failing, status_class: None })
}

/// The delivery status for a status code of Svix. Pending deliveries are 1, or 3 after a failed attempt.
pub(in crate::api) fn standing(status: i32) -> Option<DeliveryStatus> {
    match status {
        0 => Some(DeliveryStatus::Delivered),
        1 | 3 => Some(DeliveryStatus::Pending),
        2 => Some(DeliveryStatus::Dead),
        4 => Some(DeliveryStatus::Canceled),
        _ => None,
    }
}
