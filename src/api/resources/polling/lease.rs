//! Fetching messages under a lease: messages belong to the consumer until it commits them, or until the lease expires
//! and they are returned again. Two programs that read as one consumer never get the same messages: the second is
//! rejected while the lease lasts.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::body::JsonBody;
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json, no_content};
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::api::resources::polling::poll::{
    PollParams, PollRequest, check_enabled, consumer, endpoint_and_consumer, page_behind, set_poll_headers,
    too_many_consumers, within_retention,
};
use crate::domain::Invalid;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::lease::{CommitOutcome, DEFAULT_LEASE, MAX_LEASE};
use crate::domain::feed::{FeedIterator, Position};
use crate::store::feed::leases::{LeaseResult, LeaseState};

/// `Number.MAX_SAFE_INTEGER`, the largest exact integer in JavaScript.
const MOST_OFFSET: u64 = (1 << 53) - 1;

/// A page of leased messages.
#[derive(Serialize, ToSchema)]
#[schema(as = PollerV2PollOut)]
struct LeasedOut<'a> {
    /// Messages in the order of acceptance.
    data: Vec<LeasedMessageOut<'a>>,
    /// Whether no more messages follow.
    done: bool,
}

/// A leased message.
#[derive(Serialize, ToSchema)]
#[schema(as = PollerV2MessageOut)]
struct LeasedMessageOut<'a> {
    /// The offset to commit. A message that is returned again has a new offset.
    #[schema(minimum = 1)]
    offset: u64,
    #[serde(flatten)]
    message: PollingEndpointMessageOut<'a>,
}

/// The lease and start position.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `receive` reads it")]
struct LeaseParams {
    /// Milliseconds until the lease expires.
    #[param(minimum = 1, maximum = 43_200_000, default = 30_000)]
    lease_duration_ms: Option<u32>,
    /// The start position of a new consumer: the first message accepted after the polling endpoint was created, or the
    /// next message.
    #[param(inline)]
    starting_position: Option<StartingPosition>,
}

/// The start position of a new consumer.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum StartingPosition {
    Earliest,
    Latest,
}

/// Fetch messages under a lease
///
/// Returns the next messages of a consumer and leases them to it. The server keeps the position, which commits advance.
/// Until the messages are committed or the lease expires, the consumer gets no others; after the expiry it gets the
/// same ones again.
#[utoipa::path(
    get, path = "/app/{app_id}/polling-endpoint/{sink_id}/consumer/{consumer_id}", params(PollParams, LeaseParams),
    responses(
        (status = 200, body = LeasedOut),
        (status = 409, description = "The consumer's last messages are still leased, or it keeps its position by \
                                      iterators, or there are 100 consumers, or the polling endpoint is disabled."),
        (status = 410, description = "Messages after the position may be past the retention: move the consumer."),
    )
)]
pub(in crate::api) async fn receive(call: ApiCall) -> ApiResult {
    let endpoint = check_enabled(call.polling_endpoint().await?)?;
    let name = consumer(&call)?;
    let request = PollRequest::of(&call, &endpoint)?;
    let lease = lease(&call)?;
    let beginning = start_position(&call, &endpoint)?;
    let from = match call.store().lease_state(&call.tenant, &endpoint, &name, beginning, call.now).await? {
        LeaseState::Free(from) => from,
        LeaseState::Held(until) => {
            return Err(ApiError::conflict(format!(
                "this consumer's last messages are leased until {until}: commit them, or retry then. Two programs \
                 need two consumers"
            )));
        }
        LeaseState::NotLeased => {
            return Err(ApiError::conflict(
                "this consumer keeps its position by iterators (…/poller/…): continue there, or use another consumer",
            ));
        }
        LeaseState::TooMany => return Err(too_many_consumers()),
        LeaseState::NotFound => return Err(ApiError::not_found("polling endpoint")),
    };
    let filters = std::slice::from_ref(&endpoint.spec.filter);
    let (page, now) = page_behind(&call, &endpoint, filters, from, &request).await?;
    let positions: Vec<Position> = page.messages.iter().map(|message| Position::of(message.id)).collect();
    let first = if positions.is_empty() {
        let to = from.next(page.position, page.done, now);
        call.store().skip_to(&call.tenant, &endpoint, &name, (from, to), now).await?;
        1
    } else {
        match call.store().take_lease(&call.tenant, &endpoint, &name, (from, &positions), lease, now).await? {
            LeaseResult::From(first) => first,
            LeaseResult::Lost => {
                return Err(ApiError::conflict(
                    "another program fetched these messages as this consumer, or moved it: use one consumer for \
                     each program",
                ));
            }
        }
    };
    let messages = page.messages.iter().map(PollingEndpointMessageOut::from);
    let data = (first..).zip(messages).map(|(offset, message)| LeasedMessageOut { offset, message }).collect();
    let mut response = json(StatusCode::OK, &LeasedOut { data, done: page.done })?;
    set_poll_headers(&mut response, &page, &request);
    Ok(response)
}

fn lease(call: &ApiCall) -> Result<Duration, ApiError> {
    let most = MAX_LEASE.as_millis();
    match call.query().one("lease_duration_ms")?.map(str::parse::<u32>) {
        None => Ok(DEFAULT_LEASE),
        Some(Ok(millis)) if millis > 0 && u128::from(millis) <= most => Ok(Duration::from_millis(millis.into())),
        Some(_) => Err(ApiError::query("lease_duration_ms", format!("must be 1 to {most}"))),
    }
}

/// The start position of a new consumer.
fn start_position(call: &ApiCall, endpoint: &PollingEndpoint) -> Result<FeedIterator, ApiError> {
    match call.query().one("starting_position")? {
        None | Some("earliest") => Ok(within_retention(call, endpoint.beginning())),
        Some("latest") => Ok(FeedIterator::since(call.now)),
        Some(_) => Err(ApiError::query("starting_position", "must be earliest or latest")),
    }
}

/// The offset to commit.
#[derive(ToSchema)]
#[schema(as = PollerV2CommitIn, example = json!({"offset": 17}))]
#[expect(dead_code, reason = "for the document alone: `commit` reads it")]
struct CommitIn {
    /// The offset of a message. That message and all before it are done.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    offset: u64,
}

/// Commit messages
///
/// Marks all messages of the consumer up to an offset as done. Repeating a commit has no effect.
#[utoipa::path(
    post, path = "/app/{app_id}/polling-endpoint/{sink_id}/consumer/{consumer_id}/commit", request_body = CommitIn,
    responses(
        (status = 204),
        (status = 409, description = "The lease has expired, and the messages will be returned again."),
    )
)]
pub(in crate::api) async fn commit(call: ApiCall, body: JsonBody) -> ApiResult {
    let (endpoint, name) = endpoint_and_consumer(&call).await?;
    let act = async |call: &ApiCall| {
        let mut fields = body.fields()?;
        fields.require("offset");
        let offset = fields.take::<u64>("offset", "a whole number").set().unwrap_or_default();
        if offset > MOST_OFFSET {
            fields.note(Invalid::new("offset", "is not an offset of this consumer"));
        }
        fields.done(Ok(()))?;
        match call.store().commit_lease(&call.tenant, &endpoint, &name, offset, call.now).await? {
            Some(CommitOutcome::Advanced(_) | CommitOutcome::AlreadyCommitted) => no_content(),
            Some(CommitOutcome::LeaseExpired) => Err(ApiError::conflict(
                "the lease of this offset has expired: fetch its messages again and commit their new offsets",
            )),
            Some(CommitOutcome::UnknownOffset) => {
                Err(ApiError::invalid(vec![Invalid::new("offset", "is not an offset of this consumer").into()]))
            }
            None => Err(ApiError::not_found("consumer")),
        }
    };
    let again = async |_: &ApiCall, _: &str| no_content();
    idempotent(call, body.bytes(), KeyLookup::Eager, act, again).await
}
