//! Fetching messages under a lease: what a consumer was given is its own until it commits it, or until the lease ends
//! and it is given out again. Two programs that read as one consumer are not given the same messages: the second is
//! refused for as long as the lease lasts.

use std::time::Duration;

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::api::http::body::Body;
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::request::{Call, json, nothing};
use crate::api::resources::polling::message::PollingEndpointMessageOut;
use crate::api::resources::polling::poll::{Asked, Polled, consumer, enabled, kept, pace, page_behind, too_many};
use crate::domain::Invalid;
use crate::domain::catalog::polling::PollingEndpoint;
use crate::domain::feed::lease::{Commit, LEASE, LONGEST_LEASE};
use crate::domain::feed::{FeedIterator, Position};
use crate::store::feed::leases::{LeaseState, LeaseTaken};

/// The greatest whole number that clients in JavaScript know.
const MOST_OFFSET: u64 = (1 << 53) - 1;

/// A page of messages that are leased to the consumer.
#[derive(Serialize, ToSchema)]
#[schema(as = PollerV2PollOut)]
struct LeasedOut<'a> {
    /// In the order in which they were accepted.
    data: Vec<LeasedMessageOut<'a>>,
    /// Nothing followed.
    done: bool,
}

/// A message that is leased to the consumer.
#[derive(Serialize, ToSchema)]
#[schema(as = PollerV2MessageOut)]
struct LeasedMessageOut<'a> {
    /// To commit. A message that is given out again has another one.
    #[schema(minimum = 1)]
    offset: u64,
    #[serde(flatten)]
    message: PollingEndpointMessageOut<'a>,
}

/// For how long, and where a consumer begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document alone: `receive` reads it")]
struct Leasing {
    /// How many milliseconds the consumer has to commit what it is given.
    #[param(minimum = 1, maximum = 43_200_000, default = 30_000)]
    lease_duration_ms: Option<u32>,
    /// Where a consumer begins that asks for the first time: at what was accepted since the polling endpoint was made,
    /// or at what comes next.
    #[param(inline)]
    starting_position: Option<StartingPosition>,
}

/// Where a consumer begins.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document alone")]
enum StartingPosition {
    Earliest,
    Latest,
}

/// Fetch messages under a lease
///
/// The server keeps the position, which commits move. Until what was given out is committed, or its lease ends, the
/// consumer is given nothing else; after that it is given the same again.
#[utoipa::path(
    get, path = "/app/{app_id}/polling-endpoint/{sink_id}/consumer/{consumer_id}", params(Polled, Leasing),
    responses(
        (status = 200, description = "A page of messages.", body = LeasedOut),
        (status = 409, description = "What the consumer was given last is leased still; or it keeps its position by iterators; or there are 100 \
             consumers; or the polling endpoint is disabled."),
        (status = 410, description = "Messages behind the position may be past the retention: move the consumer."),
    )
)]
pub(in crate::api) async fn receive(call: Call) -> Answer {
    let app = call.app().await?;
    let endpoint = enabled(call.polling_endpoint(app.id).await?)?;
    let name = consumer(&call)?;
    let asked = Asked::of(&call, &endpoint)?;
    let lease = lease(&call)?;
    let beginning = beginning(&call, &endpoint)?;
    let from = match call.store().lease_state(&call.tenant, &endpoint, &name, beginning, call.now).await? {
        LeaseState::Free(from) => from,
        LeaseState::Held(until) => {
            return Err(ApiError::conflict(format!(
                "what this consumer was given last is leased until {until}: commit it, or ask again then. Two programs need two consumers"
            )));
        }
        LeaseState::Otherwise => {
            return Err(ApiError::conflict(
                "this consumer keeps its position by iterators (…/poller/…): read on like that, or as another consumer",
            ));
        }
        LeaseState::TooMany => return Err(too_many()),
        LeaseState::Gone => return Err(ApiError::not_found("polling endpoint")),
    };
    let filters = std::slice::from_ref(&endpoint.spec.filter);
    let (page, now) = page_behind(&call, &endpoint, filters, from, &asked).await?;
    let positions: Vec<Position> = page.messages.iter().map(|message| Position::of(message.id)).collect();
    let first = if positions.is_empty() {
        let to = from.next(page.position, page.done, now);
        call.store().pass_over(&call.tenant, &endpoint, &name, (from, to), now).await?;
        1
    } else {
        match call.store().take_lease(&call.tenant, &endpoint, &name, (from, &positions), lease, now).await? {
            LeaseTaken::From(first) => first,
            LeaseTaken::Lost => {
                return Err(ApiError::conflict(
                    "another program reads as this consumer, and was given these messages a moment ago, or moved it: give each a consumer of its own",
                ));
            }
        }
    };
    let messages = page.messages.iter().map(PollingEndpointMessageOut::from);
    let data = (first..).zip(messages).map(|(offset, message)| LeasedMessageOut { offset, message }).collect();
    let mut answer = json(StatusCode::OK, &LeasedOut { data, done: page.done })?;
    pace(&mut answer, &page, &asked);
    Ok(answer)
}

fn lease(call: &Call) -> Result<Duration, ApiError> {
    let most = LONGEST_LEASE.as_millis();
    match call.query().one("lease_duration_ms")?.map(str::parse::<u32>) {
        None => Ok(LEASE),
        Some(Ok(millis)) if millis > 0 && u128::from(millis) <= most => Ok(Duration::from_millis(millis.into())),
        Some(_) => Err(ApiError::query("lease_duration_ms", format!("must be 1 to {most}"))),
    }
}

/// Where the consumer begins, if it asks for the first time.
fn beginning(call: &Call, endpoint: &PollingEndpoint) -> Result<FeedIterator, ApiError> {
    match call.query().one("starting_position")? {
        None | Some("earliest") => Ok(kept(call, endpoint.beginning())),
        Some("latest") => Ok(FeedIterator::since(call.now)),
        Some(_) => Err(ApiError::query("starting_position", "must be earliest or latest")),
    }
}

/// The state of a consumer.
#[derive(ToSchema)]
#[schema(as = PollerV2CommitIn, example = json!({"offset": 17}))]
#[expect(dead_code, reason = "for the document alone: `commit` reads it")]
struct CommitIn {
    /// The offset of a message: it and everything before it is done.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    offset: u64,
}

/// Commit messages
///
/// Everything up to the offset is done for this consumer. A commit that comes twice is done once.
#[utoipa::path(
    post, path = "/app/{app_id}/polling-endpoint/{sink_id}/consumer/{consumer_id}/commit", request_body = CommitIn,
    responses(
        (status = 204, description = "It is done."),
        (status = 409, description = "The lease has ended, and the messages are given out again."),
    )
)]
pub(in crate::api) async fn commit(call: Call, body: Body) -> Answer {
    let app = call.app().await?;
    let endpoint = call.polling_endpoint(app.id).await?;
    let name = consumer(&call)?;
    let act = async |call: &Call| {
        let mut fields = body.fields()?;
        fields.require("offset");
        let offset = fields.take::<u64>("offset", "a whole number").set().unwrap_or_default();
        if offset > MOST_OFFSET {
            fields.note(Invalid::new("offset", "was not given to this consumer"));
        }
        fields.done(Ok(()))?;
        match call.store().commit_lease(&call.tenant, &endpoint, &name, offset, call.now).await? {
            Some(Commit::Moves(_) | Commit::Already) => nothing(),
            Some(Commit::RanOut) => Err(ApiError::conflict(
                "the lease of this offset has ended, and its messages are given out again: receive them, and commit the offsets that come then",
            )),
            Some(Commit::NotGiven) => {
                Err(ApiError::refused(vec![Invalid::new("offset", "was not given to this consumer").into()]))
            }
            None => Err(ApiError::not_found("consumer")),
        }
    };
    let again = async |_: &Call, _: &str| nothing();
    once(call, body.bytes(), Look::First, act, again).await
}
