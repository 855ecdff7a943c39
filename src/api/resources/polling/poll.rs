//! Fetching messages: a page of those behind a position, in the order in which they were accepted.
//!
//! A reader either keeps the iterator of the answer before and shows it, or is a consumer, whose position the server
//! keeps. Both may wait for the next message (`wait`), and are answered as soon as one is committed, by whichever
//! process.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::body::Body;
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::query::Query;
use crate::api::http::request::{Call, json};
use crate::api::resources::polling::endpoint::also;
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::domain::catalog::polling::{PollingEndpoint, check_consumer};
use crate::domain::feed::{FeedFilter, FeedIterator, PositionError};
use crate::domain::{Invalid, Time, ids, limits};
use crate::store::feed::consumers::Consumed;
use crate::store::feed::read::{FeedPage, FeedRequest};

/// How many messages a page has if nothing is said.
pub(super) const LIMIT: usize = 50;
/// How long a request waits at most.
const LONGEST_WAIT: u64 = 30;
/// `X-Poll-Interval` where nothing was found, and where the page was the last one, in seconds.
const IDLE: u64 = 5;
const LAST: u64 = 1;
/// How old an iterator is at most that a 304 leaves to its reader: it says until when the reader has missed nothing.
const LEFT: Duration = Duration::from_secs(3_600);

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(super) struct PollingEndpointOut<'a> {
    /// In the order in which they were accepted.
    data: Vec<PollingEndpointMessageOut<'a>>,
    /// Where to go on. It moves also where a page is empty.
    iterator: String,
    /// Nothing followed.
    done: bool,
}

/// How much is wanted, and when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `Asked::of` reads it")]
pub(super) struct Polled {
    /// How many messages at most.
    #[param(minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// The `iterator` of the answer before.
    iterator: Option<String>,
    /// How many seconds to wait if there is nothing. Answered as soon as there is something.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait: Option<u8>,
}

/// Which messages are wanted, beyond what the polling endpoint lets through.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `poll` reads it")]
pub(super) struct Chosen {
    /// Only those of this event type.
    event_type: Option<String>,
    /// Only those on this channel.
    channel: Option<String>,
    /// Only those accepted since this time, in place of an iterator. What is past the retention is left out.
    #[param(value_type = Option<Time>)]
    after: Option<Time>,
}

/// Which messages are wanted, by what became of their deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `poll` reads it")]
struct Pushed {
    /// `false`: only those of which a delivery to an endpoint waits, or ended without success; `true`: only the others.
    /// As it is now: a message that was passed over can fail later.
    delivery_success: Option<bool>,
}

/// The parameters of a request.
pub(super) struct Asked {
    pub(super) limit: usize,
    iterator: Option<FeedIterator>,
    wait: Duration,
    /// `None`: nobody asks.
    delivered: Option<bool>,
}

impl Asked {
    pub(super) fn of(call: &Call, endpoint: &PollingEndpoint) -> Result<Asked, ApiError> {
        let query = call.query();
        let limit = match query.one("limit")?.map(str::parse::<usize>) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=limits::PAGE).contains(&limit) => limit,
            Some(_) => return Err(ApiError::query("limit", format!("must be 1 to {}", limits::PAGE))),
        };
        let wait = match query.one("wait")?.map(str::parse::<u64>) {
            None => 0,
            Some(Ok(wait)) if wait <= LONGEST_WAIT => wait,
            Some(_) => return Err(ApiError::query("wait", format!("must be 0 to {LONGEST_WAIT}"))),
        };
        let iterator = chosen(&query, endpoint)?;
        Ok(Asked { limit, iterator, wait: Duration::from_secs(wait), delivered: None })
    }
}

/// The iterator that the query shows.
pub(super) fn chosen(query: &Query<'_>, endpoint: &PollingEndpoint) -> Result<Option<FeedIterator>, ApiError> {
    let iterator = query.text("iterator")?.map(|text| FeedIterator::parse(text, endpoint.app_id));
    iterator.transpose().map_err(|wrong| ApiError::query("iterator", wrong.reason))
}

/// Where a reader begins that shows an iterator, or a time, or neither.
pub(super) fn beginning(
    call: &Call,
    endpoint: &PollingEndpoint,
    shown: Option<FeedIterator>,
    after: Option<Time>,
) -> Result<FeedIterator, ApiError> {
    if after.is_some_and(|after| after > call.now) {
        return Err(ApiError::query("after", "must not be in the future"));
    }
    match (shown, after) {
        (Some(_), Some(_)) => Err(ApiError::query("after", "can't be combined with iterator: give one of them")),
        (Some(iterator), None) => Ok(iterator),
        (None, after) => Ok(kept(call, after.map_or_else(|| endpoint.beginning(), FeedIterator::since))),
    }
}

/// Fetch messages
///
/// Without `iterator` or `after`, from what was accepted since the polling endpoint was made. A message can be fetched
/// as soon as it is accepted. One whose content was deleted is left out.
///
/// `X-Poll-Interval` says how many seconds to wait before the next request. With `If-None-Match`, the answer is 304
/// where the page would be the one that the `ETag` is of.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}", params(Polled, Chosen, Pushed),
    responses(
        (status = 200, description = "A page of messages.", body = PollingEndpointOut),
        (status = 304, description = "It is the page that the reader has."),
        (status = 409, description = "The polling endpoint is disabled."),
        (status = 410, description = "Messages behind the iterator may be past the retention: go on with `after`."),
    )
)]
pub(in crate::api) async fn poll(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = enabled(call.polling_endpoint(app.id).await?)?;
    let mut asked = Asked::of(&call, &endpoint)?;
    let query = call.query();
    if query.one("delivery_success")?.is_some() {
        asked.delivered = Some(query.flag("delivery_success", true)?);
    }
    let filter = also(query.checked("event_type", ids::event_type)?, query.checked("channel", ids::channel)?);
    let from = beginning(&call, &endpoint, asked.iterator, query.time("after")?)?;
    answer(&call, &endpoint, &[endpoint.spec.filter.clone(), filter], from, &asked).await
}

/// Fetch messages as a consumer
///
/// The server keeps the position. A request with `iterator` says that everything before it was handled; one without
/// goes on from where the consumer asked last, so that what got lost on its way is given again. A consumer begins as a
/// reader without a position does.
#[utoipa::path(
    get, path = "/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}", params(Polled),
    responses(
        (status = 200, description = "A page of messages.", body = PollingEndpointOut),
        (status = 304, description = "It is the page that the reader has."),
        (status = 409, description = "The polling endpoint is disabled; or the consumer has gone on from a later position or was moved since the \
             iterator was given out; or there are 100 consumers."),
        (status = 410, description = "Messages behind the position may be past the retention: move the consumer."),
    )
)]
pub(in crate::api) async fn consumer_poll(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = enabled(call.polling_endpoint(app.id).await?)?;
    let name = consumer(&call)?;
    let asked = Asked::of(&call, &endpoint)?;
    if let Some(iterator) = asked.iterator {
        may_go_on(&call, iterator)?;
    }
    let consumed = call.store().consume(&call.tenant, &endpoint, &name, asked.iterator, call.now).await?;
    let from = went_on(consumed)?;
    answer(&call, &endpoint, std::slice::from_ref(&endpoint.spec.filter), from, &asked).await
}

/// Where a consumer is to go on.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"after": "2026-11-30T12:00:00Z"}))]
#[expect(dead_code, reason = "for the document alone: `seek` reads it")]
struct PollingEndpointConsumerSeekIn {
    /// At what was accepted since this time; not in the future.
    after: Time,
}

/// Where a consumer goes on.
#[derive(Serialize, ToSchema)]
struct PollingEndpointConsumerSeekOut {
    iterator: String,
}

/// Move a consumer
///
/// Forward or back. Iterators that it was given before are refused from then on.
#[utoipa::path(
    post, path = "/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek", request_body = PollingEndpointConsumerSeekIn,
    responses(
        (status = 200, description = "It goes on from there.", body = PollingEndpointConsumerSeekOut),
        (status = 409, description = "There are 100 other consumers, or a request with the same `idempotency-key` is still on its way."),
    )
)]
pub(in crate::api) async fn consumer_seek(call: Call, body: Body) -> Answer {
    let app = call.app().await?;
    let endpoint = call.polling_endpoint(app.id).await?;
    let name = consumer(&call)?;
    let act = async |call: &Call| {
        let mut fields = body.fields()?;
        fields.require("after");
        let after = fields.parsed("after", |text| match Time::parse(text) {
            Ok(time) if time > call.now => Err(Invalid::new("after", "must not be in the future")),
            Ok(time) => Ok(time),
            Err(error) => Err(Invalid::new("after", error.to_string())),
        });
        let after = after.set().unwrap_or_default();
        fields.done(Ok(()))?;
        let to = kept(call, FeedIterator::since(after));
        let to = went_on(call.store().move_consumer(&call.tenant, &endpoint, &name, to, call.now).await?)?;
        json(StatusCode::OK, &PollingEndpointConsumerSeekOut { iterator: to.text(app.id) })
    };
    let again = async |call: &Call, _: &str| {
        let moved = call.store().consumer(&call.tenant, &endpoint, &name).await?;
        let moved = moved.ok_or_else(|| ApiError::not_found("consumer"))?;
        json(StatusCode::OK, &PollingEndpointConsumerSeekOut { iterator: moved.iterator.text(app.id) })
    };
    once(call, body.bytes(), Look::First, act, again).await
}

/// Nothing is given out by a disabled one.
pub(super) fn enabled(endpoint: PollingEndpoint) -> Result<PollingEndpoint, ApiError> {
    match endpoint.spec.disabled {
        true => Err(ApiError::conflict("the polling endpoint is disabled: enable it first")),
        false => Ok(endpoint),
    }
}

/// The name of the consumer that the path has.
pub(super) fn consumer(call: &Call) -> Result<String, ApiError> {
    let name = call.part("consumer");
    check_consumer(name).map_err(|wrong| ApiError::path("consumer_id", wrong))?;
    Ok(name.to_owned())
}

/// Since when everything is kept.
fn kept_since(call: &Call) -> Time {
    call.now.minus(call.retention())
}

/// `from`, or the oldest position of what is kept: for a reader that asked for all since then, and not for what follows
/// what it has.
pub(super) fn kept(call: &Call, from: FeedIterator) -> FeedIterator {
    let oldest = FeedIterator::since(kept_since(call));
    if from.position < oldest.position { FeedIterator { moves: from.moves, ..oldest } } else { from }
}

pub(super) fn may_go_on(call: &Call, from: FeedIterator) -> Result<(), ApiError> {
    from.check(kept_since(call), call.now).map_err(|error| match error {
        PositionError::Gone(_) => ApiError::gone(error.to_string()),
        PositionError::Ahead => ApiError::query("iterator", error.to_string()),
    })
}

fn went_on(consumed: Consumed) -> Result<FeedIterator, ApiError> {
    match consumed {
        Consumed::From(from) => Ok(from),
        Consumed::Behind => Err(ApiError::conflict(
            "the consumer has gone on from a later position, or was moved, since this iterator was given out: leave the iterator out to go \
             on from there, and let one program read as a consumer",
        )),
        Consumed::Otherwise => Err(ApiError::conflict(
            "this consumer commits what it has done (…/polling-endpoint/…): read on like that, or as another consumer",
        )),
        Consumed::TooMany => Err(too_many()),
        Consumed::Gone => Err(ApiError::not_found("polling endpoint")),
    }
}

/// There is no room for another consumer.
pub(super) fn too_many() -> ApiError {
    let most = limits::CONSUMERS;
    ApiError::conflict(format!(
        "the polling endpoint has {most} consumers, the most there can be: read as one of those"
    ))
}

/// The page behind `from`, and when it was read; waits for it, if that was asked for.
pub(super) async fn page_behind(
    call: &Call,
    endpoint: &PollingEndpoint,
    filters: &[FeedFilter],
    from: FeedIterator,
    asked: &Asked,
) -> Result<(FeedPage, Time), ApiError> {
    may_go_on(call, from)?;
    let deadline = Instant::now() + asked.wait;
    // Before the first look: what is committed after it wakes the reader.
    let mut listener = match asked.wait.is_zero() {
        true => None,
        false => call.store().listen_to_feed(endpoint.app_id),
    };
    let mut after = from.position;
    loop {
        let now = call.clock().now();
        let request = FeedRequest { after, filters, delivered: asked.delivered, limit: asked.limit, now };
        let page = call.store().feed(&call.tenant, endpoint.app_id, request).await?;
        after = page.position;
        // A page that ended before the feed does is answered: its reader has moved on.
        if !page.messages.is_empty() || !page.done {
            return Ok((page, now));
        }
        let woken = match &mut listener {
            Some(listener) => listener.wait(after, deadline).await,
            None => false,
        };
        if !woken {
            return Ok((page, now));
        }
    }
}

/// The answer with the page behind `from`.
async fn answer(
    call: &Call,
    endpoint: &PollingEndpoint,
    filters: &[FeedFilter],
    from: FeedIterator,
    asked: &Asked,
) -> Answer {
    let (page, now) = page_behind(call, endpoint, filters, from, asked).await?;
    let etag = etag(from, &page);
    let fresh = from.complete_at > now.minus(LEFT.min(call.retention() / 4));
    let has = call.request().headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let mut answer = match has {
        Some(has) if fresh && has.split(',').any(|one| one.trim().trim_start_matches("W/") == etag) => {
            HttpResponse::NotModified().finish()
        }
        _ => {
            let iterator = from.next(page.position, page.done, now).text(endpoint.app_id);
            let data = page.messages.iter().map(PollingEndpointMessageOut::from).collect();
            json(StatusCode::OK, &PollingEndpointOut { data, iterator, done: page.done })?
        }
    };
    pace(&mut answer, &page, asked);
    let headers = answer.headers_mut();
    if let Ok(etag) = header::HeaderValue::from_str(&format!("W/{etag}")) {
        headers.insert(header::ETAG, etag);
    }
    Ok(answer)
}

/// Says when to ask again, and that nobody but the reader keeps the answer.
pub(super) fn pace(answer: &mut HttpResponse, page: &FeedPage, asked: &Asked) {
    let interval = match (page.done, page.messages.is_empty()) {
        // A reader with `wait` has waited already.
        _ if !asked.wait.is_zero() => 0,
        (false, _) => 0,
        (true, false) => LAST,
        (true, true) => IDLE,
    };
    let headers = answer.headers_mut();
    headers.insert(header::HeaderName::from_static("x-poll-interval"), interval.into());
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
}

/// Of a page: what it was asked from, what it has, and how it ended.
fn etag(from: FeedIterator, page: &FeedPage) -> String {
    let mut hash = Sha256::new();
    for number in [from.position.number(), i64::from(from.moves), page.position.number(), i64::from(page.done)] {
        hash.update(number.to_be_bytes());
    }
    page.messages.iter().for_each(|message| hash.update(message.id.0.as_bytes()));
    format!("\"{}\"", hex::encode(&hash.finalize()[..12]))
}
