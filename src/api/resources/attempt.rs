//! Attempts: their lists, and deleting response contents.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::query::{ListOut, Query};
use crate::api::http::request::{ApiCall, json, no_content_if, require};
use crate::api::openapi::schemas;
use crate::api::openapi::schemas::{MessageFilterParams, PageParams};
use crate::api::resources::delivery::ApiStatus;
use crate::api::resources::message::{MessageOut, PayloadOut};
use crate::domain::deliveries::attempt::{Attempt, Failure, STATUS_CLASSES, Trigger};
use crate::domain::deliveries::message::Message;
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::query::attempts::AttemptFilter;
use crate::store::{EndpointRef, Order, Page, PageRequest};

/// An attempt: one POST of a message to an endpoint, and its result.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageAttemptOut)]
struct AttemptOut<'a> {
    id: AttemptId,
    msg_id: MessageId,
    endpoint_id: EndpointId,
    /// The number of the attempt, from 1.
    number: i32,
    timestamp: Time,
    /// The URL it was sent to.
    url: &'a str,
    #[schema(value_type = schemas::MessageStatus)]
    status: u8,
    #[schema(value_type = schemas::MessageStatusText)]
    status_text: &'static str,
    /// 0 without a response.
    response_status_code: u16,
    /// The first 16 KiB of the response body, with invalid UTF-8 replaced; `EXPUNGED` if the content was deleted.
    response: String,
    #[schema(value_type = u64)]
    response_duration_ms: u128,
    #[schema(value_type = Trigger)]
    trigger_type: i16,
    #[schema(value_type = Option<Failure>)]
    failure: Option<&'static str>,
    /// When the next attempt is due; `null` if none is scheduled.
    next_attempt: Option<Time>,
    /// The message without its payload, if requested by `with_msg`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    msg: Option<MessageOut<'a>>,
}

impl<'a> AttemptOut<'a> {
    fn new(attempt: &'a Attempt, content: bool) -> AttemptOut<'a> {
        let outcome = &attempt.outcome;
        let status = if outcome.delivered() { ApiStatus::Success } else { ApiStatus::Fail };
        let response =
            if content { String::from_utf8_lossy(&outcome.response_body).into_owned() } else { String::new() };
        AttemptOut {
            id: attempt.id,
            msg_id: attempt.message_id,
            endpoint_id: attempt.endpoint_id,
            number: attempt.number,
            timestamp: attempt.at,
            url: &attempt.url,
            status: status.code(),
            status_text: status.word(),
            response_status_code: outcome.status.unwrap_or(0),
            response,
            response_duration_ms: outcome.duration.as_millis(),
            trigger_type: attempt.trigger.code(),
            failure: outcome.failure.map(|failure| failure.word()),
            next_attempt: attempt.next_at,
            msg: None,
        }
    }
}

/// The filters of attempt lists.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `filter` reads it")]
struct AttemptParams {
    /// Only attempts with this status. Attempts are recorded when they finish, so 1 and 3 match none.
    #[param(value_type = Option<schemas::MessageStatus>)]
    status: Option<u8>,
    /// Only attempts with this class of response status; 0: without a response.
    #[param(inline, value_type = Option<schemas::StatusCodeClass>)]
    status_code_class: Option<u16>,
    /// `false` omits response bodies.
    with_content: Option<bool>,
    /// Only attempts of messages with this tag.
    tag: Option<String>,
    /// Accepted without effect: an attempt is never canceled.
    expanded_statuses: Option<bool>,
    /// `true` includes the message, without its payload.
    with_msg: Option<bool>,
}

/// Reads the filter; `None` if it can match no attempt. Attempts are recorded when they finish, so none is pending or
/// sending.
fn filter(query: &Query<'_>) -> Result<Option<AttemptFilter>, ApiError> {
    // Validated only: an attempt is never canceled.
    query.flag("expanded_statuses", false)?;
    let status = query.one_of("status", &[0, 1, 2, 3, 4])?;
    let filter = AttemptFilter {
        message: None,
        endpoint: None,
        delivered: status.map(|status| status == 0),
        status_class: query.one_of("status_code_class", &STATUS_CLASSES)?,
        topics: query.topics()?,
        before: query.time("before")?,
        after: query.time("after")?,
    };
    // Last, so errors in the other parameters are reported first.
    Ok(matches!(status, None | Some(0 | 2)).then_some(filter))
}

/// List a message's attempts
///
/// Lists the attempts to deliver a message, newest first.
#[utoipa::path(
    get, path = "/app/{app_id}/attempt/msg/{msg_id}",
    params(
        PageParams,
        MessageFilterParams,
        AttemptParams,
        ("endpoint_id" = Option<String>, Query, description = "Only attempts to this endpoint, by its id or uid."),
    ),
    responses((status = 200, body = ListOut<AttemptOut>))
)]
pub(in crate::api) async fn of_message(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<AttemptId>(Order::Descending, false)?;
    let filter = filter(&query)?;
    let message = call.message().await?;
    let endpoint = match query.text("endpoint_id")? {
        Some(named) => Some(endpoint_named(&call, message.app_id, named).await?),
        None => None,
    };
    let filter = filter.map(|filter| AttemptFilter { message: Some(message.id), endpoint, ..filter });
    list(&call, message.app_id, filter, &request).await
}

/// List a message's attempts, by the legacy path
///
/// The same as `/app/{app_id}/attempt/msg/{msg_id}`.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/attempt", params(PageParams, MessageFilterParams, AttemptParams),
    responses((status = 200, body = ListOut<AttemptOut>))
)]
pub(in crate::api) async fn of_message_by_old_path(call: ApiCall) -> ApiResult {
    of_message(call).await
}

/// The endpoint of a filter. An unknown id is accepted: attempts to deleted endpoints remain visible.
async fn endpoint_named(call: &ApiCall, app: AppId, named: &str) -> Result<EndpointId, ApiError> {
    let named = EndpointRef::parse(named).map_err(|wrong| ApiError::query("endpoint_id", wrong.reason))?;
    match (call.store().endpoint(&call.tenant, app, &named).await?, named) {
        (Some(endpoint), _) => Ok(endpoint.id),
        (None, EndpointRef::Id(id)) => Ok(id),
        (None, EndpointRef::Uid(_)) => Err(ApiError::not_found("endpoint")),
    }
}

/// List an endpoint's attempts
///
/// Lists the attempts to deliver messages to an endpoint, newest first.
#[utoipa::path(
    get, path = "/app/{app_id}/attempt/endpoint/{endpoint_id}", params(PageParams, MessageFilterParams, AttemptParams),
    responses((status = 200, body = ListOut<AttemptOut>))
)]
pub(in crate::api) async fn of_endpoint(call: ApiCall) -> ApiResult {
    let (query, request) = call.list_query::<AttemptId>(Order::Descending, false)?;
    let filter = filter(&query)?;
    let endpoint = call.endpoint().await?;
    let filter = filter.map(|filter| AttemptFilter { endpoint: Some(endpoint.id), ..filter });
    list(&call, endpoint.app_id, filter, &request).await
}

async fn list(
    call: &ApiCall,
    app: AppId,
    filter: Option<AttemptFilter>,
    request: &PageRequest<AttemptId>,
) -> ApiResult {
    let query = call.query();
    let (content, with_message) = (query.flag("with_content", true)?, query.flag("with_msg", false)?);
    let page = match filter {
        Some(filter) => call.store().attempts(&call.tenant, app, &filter, request).await?,
        None => Page { data: Vec::new(), more: false },
    };
    let messages = if with_message { messages_of(call, app, &page.data).await? } else { HashMap::new() };
    let list = ListOut::of(
        &page,
        request,
        |attempt| attempt.id,
        |attempt| {
            let message = messages.get(&attempt.message_id);
            let msg = message.map(|message| MessageOut::new(message, PayloadOut::LeftOut));
            AttemptOut { msg, ..AttemptOut::new(attempt, content) }
        },
    )?;
    json(StatusCode::OK, &list)
}

/// The messages of a page of attempts.
async fn messages_of(call: &ApiCall, app: AppId, page: &[Attempt]) -> Result<HashMap<MessageId, Message>, ApiError> {
    let mut ids: Vec<MessageId> = page.iter().map(|attempt| attempt.message_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut messages = HashMap::with_capacity(ids.len());
    // In small batches, so only a few payloads are in memory at a time.
    for some in ids.chunks(16) {
        let loaded = call.store().load_messages(some).await?.into_iter().filter(|message| message.app_id == app);
        messages.extend(loaded.map(|message| (message.id, Message { payload: None, ..message })));
    }
    Ok(messages)
}

/// Retrieve an attempt
///
/// Retrieves an attempt by its id.
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", responses((status = 200, body = AttemptOut))
)]
pub(in crate::api) async fn read_one(call: ApiCall) -> ApiResult {
    call.query().flag("expanded_statuses", false)?;
    let message = call.message().await?;
    let found = call.store().attempt(&call.tenant, message.app_id, message.id, named(&call)?).await?;
    let attempt = require(found, "attempt")?;
    json(StatusCode::OK, &AttemptOut::new(&attempt, true))
}

/// The id of the attempt in the path.
fn named(call: &ApiCall) -> Result<AttemptId, ApiError> {
    call.path_param("attempt").parse().map_err(|_| ApiError::not_found("attempt"))
}

/// Delete an attempt's response
///
/// Deletes the response body and headers. The attempt remains. Needs an organization token.
#[utoipa::path(delete, path = "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content", responses((status = 204)))]
pub(in crate::api) async fn delete_content(call: ApiCall) -> ApiResult {
    call.require_organization()?;
    let message = call.message().await?;
    let deleted =
        call.store().delete_attempt_content(&call.tenant, message.app_id, message.id, named(&call)?, call.now).await?;
    no_content_if(deleted, "attempt")
}
