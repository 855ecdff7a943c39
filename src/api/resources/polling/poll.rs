//! Fetching messages: the page after a position, in the order of acceptance.
//!
//! A reader passes the iterator of its last response; a consumer's position is kept by the server. Both may wait for
//! the next message (`wait`) and get it as soon as any process commits it.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::query::Query;
use crate::api::http::request::{ApiCall, json, require};
use crate::api::resources::polling::endpoint::request_filter;
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::domain::catalog::polling::{PollingEndpoint, check_consumer};
use crate::domain::feed::{FeedFilter, FeedIterator, PositionError};
use crate::domain::{Invalid, Time, ids, limits};
use crate::store::feed::consumers::ConsumerPosition;
use crate::store::feed::feed_page::{FeedPage, FeedRequest};

/// The default page size.
pub(super) const LIMIT: usize = 50;
/// The longest wait, in seconds.
const WAIT_LIMIT: u64 = 30;
/// `X-Poll-Interval` after an empty page, in seconds.
const IDLE_INTERVAL: u64 = 5;
/// The same after a page with messages, if nothing followed it.
const LAST_PAGE_INTERVAL: u64 = 1;
/// Maximum age of an iterator that a 304 may confirm. An iterator records the time until which its reader has missed
/// nothing, so it must be renewed.
const ITERATOR_MAX_AGE: Duration = Duration::from_secs(3_600);

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(super) struct PollingEndpointOut<'a> {
    /// Messages in the order of acceptance.
    data: Vec<PollingEndpointMessageOut<'a>>,
    /// The position after this page. It advances on empty pages too.
    iterator: String,
    /// Whether no more messages follow.
    done: bool,
}

/// The parameters of every poll.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `PollRequest::of` reads it")]
pub(super) struct PollParams {
    /// Maximum number of messages.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `iterator` of the previous response.
    iterator: Option<String>,
    /// Seconds to wait for a message if there is none.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait: Option<u8>,
}

/// Filters in addition to the polling endpoint's.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `poll` reads it")]
pub(super) struct PollFilterParams {
    /// Only messages of this event type.
    event_type: Option<String>,
    /// Only messages on this channel.
    channel: Option<String>,
    /// Start at this time instead of an iterator. Messages past the retention are omitted.
    #[param(value_type = Option<Time>)]
    after: Option<Time>,
}

/// A filter by delivery.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `poll` reads it")]
struct DeliveryParams {
    /// `false`: only messages with a delivery that is pending or failed; `true`: only the others. Evaluated at the time
    /// of the request: a skipped message can fail later.
    delivery_success: Option<bool>,
}

/// The parsed parameters of a poll.
pub(super) struct PollRequest {
    pub(super) limit: usize,
    iterator: Option<FeedIterator>,
    wait: Duration,
    /// The delivery filter, if any.
    delivered: Option<bool>,
}

impl PollRequest {
    pub(super) fn of(call: &ApiCall, endpoint: &PollingEndpoint) -> Result<PollRequest, ApiError> {
        let query = call.query();
        let limit = match query.one("limit")?.map(str::parse::<usize>) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=limits::PAGE).contains(&limit) => limit,
            Some(_) => return Err(ApiError::query("limit", format!("must be 1 to {}", limits::PAGE))),
        };
        let wait = match query.one("wait")?.map(str::parse::<u64>) {
            None => 0,
            Some(Ok(wait)) if wait <= WAIT_LIMIT => wait,
            Some(_) => return Err(ApiError::query("wait", format!("must be 0 to {WAIT_LIMIT}"))),
        };
        let iterator = iterator_param(&query, endpoint)?;
        Ok(PollRequest { limit, iterator, wait: Duration::from_secs(wait), delivered: None })
    }
}

/// The iterator in the query.
pub(super) fn iterator_param(query: &Query<'_>, endpoint: &PollingEndpoint) -> Result<Option<FeedIterator>, ApiError> {
    let iterator = query.text("iterator")?.map(|text| FeedIterator::parse(text, endpoint.app_id));
    iterator.transpose().map_err(|wrong| ApiError::query("iterator", wrong.reason))
}

/// The start position for an iterator, a time, or neither.
pub(super) fn start_position(
    call: &ApiCall,
    endpoint: &PollingEndpoint,
    shown: Option<FeedIterator>,
    after: Option<Time>,
) -> Result<FeedIterator, ApiError> {
    if after.is_some_and(|after| after > call.now) {
        return Err(ApiError::query("after", "must not be in the future"));
    }
    match (shown, after) {
        (Some(_), Some(_)) => Err(ApiError::query("after", "cannot be combined with iterator")),
        (Some(iterator), None) => Ok(iterator),
        (None, after) => Ok(within_retention(call, after.map_or_else(|| endpoint.beginning(), FeedIterator::since))),
    }
}

/// Fetch messages
///
/// Returns the messages after a position: `iterator`, `after`, or the creation of the polling endpoint. Messages can be
/// fetched as soon as they are accepted. Those with deleted content are omitted.
///
/// `X-Poll-Interval` is the number of seconds to wait before the next request. With `If-None-Match`, the response is
/// 304 if the page still has that `ETag`.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}", params(PollParams, PollFilterParams, DeliveryParams),
    responses(
        (status = 200, body = PollingEndpointOut),
        (status = 304, description = "The page has not changed."),
        (status = 409, description = "The polling endpoint is disabled."),
        (status = 410, description = "Messages after the iterator may be past the retention: continue with `after`."),
    )
)]
pub(in crate::api) async fn poll(call: ApiCall) -> ApiResult {
    let endpoint = check_enabled(call.polling_endpoint().await?)?;
    let mut request = PollRequest::of(&call, &endpoint)?;
    let query = call.query();
    if query.one("delivery_success")?.is_some() {
        request.delivered = Some(query.flag("delivery_success", true)?);
    }
    let filter = request_filter(query.checked("event_type", ids::event_type)?, query.checked("channel", ids::channel)?);
    let from = start_position(&call, &endpoint, request.iterator, query.time("after")?)?;
    page_response(&call, &endpoint, &[endpoint.spec.filter.clone(), filter], from, &request).await
}

/// Fetch messages as a consumer
///
/// Returns the next messages of a consumer, whose position the server keeps. `iterator` acknowledges everything before
/// it. Without `iterator`, the last page is returned again, so a lost response loses no messages. A new consumer starts
/// where a reader without a position does.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}", params(PollParams),
    responses(
        (status = 200, body = PollingEndpointOut),
        (status = 304, description = "The page has not changed."),
        (status = 409, description = "The polling endpoint is disabled, or the consumer has advanced or was moved \
                                      since the iterator was returned, or there are 100 consumers."),
        (status = 410, description = "Messages after the position may be past the retention: move the consumer."),
    )
)]
pub(in crate::api) async fn consumer_poll(call: ApiCall) -> ApiResult {
    let endpoint = check_enabled(call.polling_endpoint().await?)?;
    let name = consumer(&call)?;
    let request = PollRequest::of(&call, &endpoint)?;
    if let Some(iterator) = request.iterator {
        check_retention(&call, iterator)?;
    }
    let consumed = call.store().consume(&call.tenant, &endpoint, &name, request.iterator, call.now).await?;
    let from = consumer_position(consumed)?;
    page_response(&call, &endpoint, std::slice::from_ref(&endpoint.spec.filter), from, &request).await
}

/// The new position of a consumer.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"after": "2026-11-30T12:00:00Z"}))]
#[expect(dead_code, reason = "for the document alone: `seek` reads it")]
struct PollingEndpointConsumerSeekIn {
    /// Continue with messages accepted from this time on; not in the future.
    after: Time,
}

/// The new position of a consumer.
#[derive(Serialize, ToSchema)]
struct PollingEndpointConsumerSeekOut {
    iterator: String,
}

/// Move a consumer
///
/// Moves a consumer forward or back. Iterators returned before are rejected from then on.
#[utoipa::path(
    post, path = "/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek",
    request_body = PollingEndpointConsumerSeekIn,
    responses(
        (status = 200, body = PollingEndpointConsumerSeekOut),
        (status = 409, description = "There are 100 other consumers, or a request with the same `idempotency-key` \
                                      is in progress."),
    )
)]
pub(in crate::api) async fn consumer_seek(call: ApiCall, body: JsonBody) -> ApiResult {
    let (endpoint, name) = endpoint_and_consumer(&call).await?;
    let act = async |call: &ApiCall| {
        let mut fields = body.fields()?;
        fields.require("after");
        let after = fields.parsed("after", |text| match Time::parse(text) {
            Ok(time) if time > call.now => Err(Invalid::new("after", "must not be in the future")),
            Ok(time) => Ok(time),
            Err(error) => Err(Invalid::new("after", error.to_string())),
        });
        let after = after.set().unwrap_or_default();
        fields.done(Ok(()))?;
        let to = within_retention(call, FeedIterator::since(after));
        let to = consumer_position(call.store().reset_consumer(&call.tenant, &endpoint, &name, to, call.now).await?)?;
        json(StatusCode::OK, &PollingEndpointConsumerSeekOut { iterator: to.text(endpoint.app_id) })
    };
    let again = async |call: &ApiCall, _: &str| {
        let moved = call.store().consumer(&call.tenant, &endpoint, &name).await?;
        let moved = require(moved, "consumer")?;
        json(StatusCode::OK, &PollingEndpointConsumerSeekOut { iterator: moved.iterator.text(endpoint.app_id) })
    };
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}

/// Rejects disabled polling endpoints.
pub(super) fn check_enabled(endpoint: PollingEndpoint) -> Result<PollingEndpoint, ApiError> {
    match endpoint.spec.disabled {
        true => Err(ApiError::conflict("the polling endpoint is disabled: enable it first")),
        false => Ok(endpoint),
    }
}

/// The name of the consumer in the path.
pub(super) fn consumer(call: &ApiCall) -> Result<String, ApiError> {
    let name = call.path_param("consumer");
    check_consumer(name).map_err(|wrong| ApiError::path("consumer_id", wrong))?;
    Ok(name.to_owned())
}

/// The polling endpoint and the name of the consumer, whether or not the endpoint is enabled.
pub(super) async fn endpoint_and_consumer(call: &ApiCall) -> Result<(PollingEndpoint, String), ApiError> {
    let endpoint = call.polling_endpoint().await?;
    Ok((endpoint, consumer(call)?))
}

/// The start of the retention period.
fn retention_start(call: &ApiCall) -> Time {
    call.now.minus(call.retention())
}

/// `from`, but not before the retention period. Only for readers that start at a time: a reader that continues would
/// skip messages without noticing.
pub(super) fn within_retention(call: &ApiCall, from: FeedIterator) -> FeedIterator {
    let oldest = FeedIterator::oldest(retention_start(call));
    if from.position < oldest.position { FeedIterator { moves: from.moves, ..oldest } } else { from }
}

pub(super) fn check_retention(call: &ApiCall, from: FeedIterator) -> Result<(), ApiError> {
    from.check(retention_start(call), call.now).map_err(|error| match error {
        PositionError::Gone(_) => ApiError::gone(error.to_string()),
        PositionError::Ahead => ApiError::query("iterator", error.to_string()),
    })
}

fn consumer_position(consumed: ConsumerPosition) -> Result<FeedIterator, ApiError> {
    match consumed {
        ConsumerPosition::From(from) => Ok(from),
        ConsumerPosition::Behind => Err(ApiError::conflict(
            "the consumer has advanced, or was moved, since this iterator was returned: omit the iterator to continue \
             from its position, and use one consumer for each program",
        )),
        ConsumerPosition::Leased => Err(ApiError::conflict(
            "this consumer commits messages (…/polling-endpoint/…): continue there, or use another consumer",
        )),
        ConsumerPosition::TooMany => Err(too_many_consumers()),
        ConsumerPosition::NotFound => Err(ApiError::not_found("polling endpoint")),
    }
}

/// 409: too many consumers.
pub(super) fn too_many_consumers() -> ApiError {
    let most = limits::CONSUMERS;
    ApiError::conflict(format!("the polling endpoint has {most} consumers, the maximum: use one of them"))
}

/// The page after `from` and its time; waits for a message if requested.
pub(super) async fn page_behind(
    call: &ApiCall,
    endpoint: &PollingEndpoint,
    filters: &[FeedFilter],
    from: FeedIterator,
    request: &PollRequest,
) -> Result<(FeedPage, Time), ApiError> {
    check_retention(call, from)?;
    let deadline = Instant::now() + request.wait;
    // Subscribed before the first read, so no commit in between is missed.
    let mut listener = match request.wait.is_zero() {
        true => None,
        false => call.store().listen_to_feed(endpoint.app_id),
    };
    let hangup = call.hangup();
    let mut after = from.position;
    loop {
        let now = call.clock().now();
        let request = FeedRequest { after, filters, delivered: request.delivered, limit: request.limit, now };
        let page = call.store().feed(&call.tenant, endpoint.app_id, request).await?;
        after = page.position;
        // An empty page before the end of the feed is returned too, because its position has advanced.
        if !page.messages.is_empty() || !page.done {
            return Ok((page, now));
        }
        let woken = match &mut listener {
            Some(listener) => tokio::select! {
                woken = listener.wait(after, deadline) => woken,
                // The connection would stay open until there is a response.
                () = hangup.closed() => false,
            },
            None => false,
        };
        if !woken {
            return Ok((page, now));
        }
    }
}

/// The response with the page after `from`.
async fn page_response(
    call: &ApiCall,
    endpoint: &PollingEndpoint,
    filters: &[FeedFilter],
    from: FeedIterator,
    request: &PollRequest,
) -> ApiResult {
    let (page, now) = page_behind(call, endpoint, filters, from, request).await?;
    let etag = etag(from, &page);
    let fresh = from.complete_at > now.minus(ITERATOR_MAX_AGE.min(call.retention() / 4));
    let has = call.request().headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut response = match has {
        Some(has) if fresh && has.split(',').any(|one| one.trim().trim_start_matches("W/") == etag) => {
            HttpResponse::NotModified().finish()
        }
        _ => {
            let iterator = from.next(page.position, page.done, now).text(endpoint.app_id);
            let data = page.messages.iter().map(PollingEndpointMessageOut::from).collect();
            json(StatusCode::OK, &PollingEndpointOut { data, iterator, done: page.done })?
        }
    };
    set_poll_headers(&mut response, &page, request);
    let headers = response.headers_mut();
    if let Ok(etag) = header::HeaderValue::from_str(&format!("W/{etag}")) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Sets `X-Poll-Interval` and disables caching.
pub(super) fn set_poll_headers(response: &mut HttpResponse, page: &FeedPage, request: &PollRequest) {
    let interval = match (page.done, page.messages.is_empty()) {
        // `wait` has already paced the reader.
        _ if !request.wait.is_zero() => 0,
        (false, _) => 0,
        (true, false) => LAST_PAGE_INTERVAL,
        (true, true) => IDLE_INTERVAL,
    };
    let headers = response.headers_mut();
    headers.insert(header::HeaderName::from_static("x-poll-interval"), interval.into());
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
}

/// The ETag of a page: its start, its content and its end.
fn etag(from: FeedIterator, page: &FeedPage) -> String {
    let mut hash = Sha256::new();
    for number in [from.position.number(), i64::from(from.moves), page.position.number(), i64::from(page.done)] {
        hash.update(number.to_be_bytes());
    }
    page.messages.iter().for_each(|message| hash.update(message.id.0.as_bytes()));
    format!("\"{}\"", hex::encode(&hash.finalize()[..12]))
}
