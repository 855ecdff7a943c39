//! Reconciliation: a receiver sends the ids of the messages it has, or a digest of them, and gets those it is missing, or
//! has them resent.

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::authn::permissions::Permission;
use crate::api::http::body::{Fields, JsonBody};
use crate::api::http::errors::{ApiError, ApiResult};
use crate::api::http::idempotency::{KeyLookup, idempotent};
use crate::api::http::request::{ApiCall, json};
use crate::api::openapi::schemas;
use crate::api::resources::background;
use crate::api::resources::background::{TaskOut, again, read_period};
use crate::api::resources::delivery::ApiStatus;
use crate::api::resources::endpoint::require_enabled;
use crate::api::resources::message::{MessageOut, PayloadOut};
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::deliveries::id_digest::{IdBucket, IdDigest, IdHash};
use crate::domain::{Invalid, MessageId, Time, TimeRange, limits};
use crate::store::jobs::reconcile::{MissingMessage, ReceivedMessageIds, ReconcileSpec};

/// The default page size.
const LIMIT: u64 = 50;

/// The period to compare, and the message ids that the receiver has: as `has` or as `digest`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"since": "2026-11-21T00:00:00Z", "has": ["msg_01kapvcrj2e8zvm4h6x0c5w9nd"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct ReconcileIn {
    since: Time,
    /// The end of the period; now by default.
    until: Option<Time>,
    /// The `webhook-id`s of the messages that the receiver has. Ids outside of the period are ignored.
    #[schema(value_type = Option<schemas::ReceivedIdList>)]
    has: Option<Vec<String>>,
    /// In place of `has`: a digest of the ids. Ids in no bucket are those that the receiver does not have.
    #[schema(max_items = 3000)]
    digest: Option<Vec<DigestBucket>>,
    /// `true` if more ids follow these, which are then the smallest (ids sort as text). Messages after the last of them
    /// are not compared: send the next ids with `iterator` in another request.
    has_more: Option<bool>,
    /// `true` resends the missing messages in the background instead of returning them.
    resend: Option<bool>,
    /// Maximum number of messages.
    #[schema(minimum = 1, maximum = 250)]
    limit: Option<u16>,
    /// The `iterator` of the previous response: only later messages are compared.
    iterator: Option<MessageId>,
}

/// Some of the ids that the receiver has, in the order of their text: all from `first` to `last`. Buckets do not overlap.
/// Sendoff computes which messages of a bucket are missing if there are at most 128 messages in its range; otherwise, if
/// the bucket differs, all of them count as missing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DigestBucket {
    /// The smallest id.
    first: MessageId,
    /// The greatest id.
    last: MessageId,
    /// The number of ids.
    #[schema(minimum = 1, maximum = 1000)]
    count: u32,
    /// The XOR of the ids' SHA-256 hashes, in hexadecimal. An id is hashed as text: `msg_…`.
    #[schema(pattern = "^[0-9a-fA-F]{64}$", min_length = 64, max_length = 64)]
    xor: String,
}

impl DigestBucket {
    fn bucket(self) -> Result<IdBucket, Invalid> {
        let mut xor = [0; 32];
        hex::decode_to_slice(&self.xor, &mut xor)
            .map_err(|_| Invalid::new("digest", format!("bucket {}: xor must be 64 hexadecimal digits", self.first)))?;
        let DigestBucket { first, last, count, .. } = self;
        Ok(IdBucket { first, last, count, xor: IdHash::from_bytes(xor) })
    }
}

/// A page of missing messages.
#[derive(Serialize, ToSchema)]
struct ReconcileOut<'a> {
    /// The missing messages, oldest first.
    data: Vec<MissedMessageOut<'a>>,
    /// The last message compared; `null` if none was. Continue from there until `done`.
    iterator: Option<MessageId>,
    /// Whether the whole period has been compared.
    done: bool,
}

/// A missing message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MissedMessageOut<'a> {
    #[serde(flatten)]
    message: MessageOut<'a>,
    /// The status of its delivery; `null` if it has none, because the endpoint was disabled when the message was
    /// accepted.
    #[schema(value_type = Option<schemas::ExpandedMessageStatus>)]
    status: Option<u8>,
    #[schema(value_type = Option<schemas::ExpandedMessageStatusText>)]
    status_text: Option<&'static str>,
}

impl<'a> From<&'a MissingMessage> for MissedMessageOut<'a> {
    fn from(missed: &'a MissingMessage) -> MissedMessageOut<'a> {
        let status = missed.standing.map(|standing| ApiStatus::of(standing, false, true));
        MissedMessageOut {
            message: MessageOut::new(&missed.message, PayloadOut::of(&missed.message, true)),
            status: status.map(ApiStatus::code),
            status_text: status.map(ApiStatus::word),
        }
    }
}

/// The body of the request.
struct ReconcileRequest {
    accepted: TimeRange,
    received: ReceivedMessageIds,
    bounded: bool,
    resend: bool,
    limit: usize,
    after: Option<MessageId>,
}

/// Reconcile an endpoint
///
/// Compares the messages meant for the endpoint with those that its receiver has. Missing messages were delivered and
/// then lost, failed, or were accepted while the endpoint was disabled. Messages that wait for an attempt are not
/// missing. Returns a page of missing messages with payloads, or resends them all (`resend`). A page may be short or
/// empty without being the last one: continue with `iterator` until `done`.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/reconcile", request_body = ReconcileIn,
    responses((status = 200, body = ReconcileOut), (status = 202, body = TaskOut))
)]
pub(in crate::api) async fn reconcile(call: ApiCall, body: JsonBody) -> ApiResult {
    idempotent(call, body.bytes(), KeyLookup::Eager, async |call| compare(call, &body).await, again).await
}

async fn compare(call: &ApiCall, body: &JsonBody) -> ApiResult {
    let endpoint = call.endpoint().await?;
    let request = read(body.fields()?, call.now)?;
    let spec = ReconcileSpec {
        app: endpoint.app_id,
        endpoint: endpoint.id,
        accepted: request.accepted,
        after: request.after,
        received: &request.received,
        bounded: request.bounded,
    };
    if request.resend {
        return resend(call, &endpoint, &spec).await;
    }
    let page = call.store().missing_messages(&call.tenant, &spec, request.limit).await?;
    let data = page.data.iter().map(MissedMessageOut::from).collect();
    json(StatusCode::OK, &ReconcileOut { data, iterator: page.last, done: page.done })
}

async fn resend(call: &ApiCall, endpoint: &Endpoint, spec: &ReconcileSpec<'_>) -> ApiResult {
    call.caller.permissions.check(Permission::Attempt)?;
    require_enabled(endpoint)?;
    background::task_response(call.store().start_reconciliation(&call.tenant, spec, "the REST API", call.now).await?)
}

fn read(mut fields: Fields<'_>, now: Time) -> Result<ReconcileRequest, ApiError> {
    let accepted = read_period(&mut fields, now);
    let mut of_message = |name: &'static str| {
        fields.parsed(name, |text| text.parse().map_err(|_| Invalid::new(name, "must be the id of a message"))).set()
    };
    let after = of_message("iterator");
    let received = read_received(&mut fields);
    let bounded = fields.flag("hasMore").set().unwrap_or_default();
    if bounded && received.as_ref().is_some_and(ReceivedMessageIds::is_empty) {
        fields.note(Invalid::new("hasMore", "needs has or digest, with the first ids"));
    }
    let resend = fields.flag("resend").set().unwrap_or_default();
    let limit = fields.take::<u64>("limit", "a whole number").set().unwrap_or(LIMIT);
    if !(1..=limits::PAGE as u64).contains(&limit) {
        fields.note(Invalid::new("limit", format!("must be 1 to {}", limits::PAGE)));
    }
    fields.done(Ok(()))?;
    let (received, limit) = (received.unwrap_or_default(), limit as usize);
    Ok(ReconcileRequest { accepted, received, bounded, resend, limit, after })
}

/// The ids that the receiver has: `has` or `digest`. `None`: invalid, which was noted.
fn read_received(fields: &mut Fields<'_>) -> Option<ReceivedMessageIds> {
    let listed = fields.list("has").set();
    let digest = fields.take_with("digest", |text| {
        let wrong = |error| format!("must be a list of buckets with first, last, count and xor: {error}");
        serde_json::from_str::<Vec<DigestBucket>>(text).map_err(wrong)
    });
    let read = match (listed, digest.set()) {
        (Some(_), Some(_)) => Err(Invalid::new("digest", "must be left out if there is has: send one of them")),
        (Some(ids), None) => read_ids(&ids),
        (None, Some(buckets)) => read_digest(buckets),
        (None, None) => Ok(ReceivedMessageIds::default()),
    };
    read.map_err(|wrong| fields.note(wrong)).ok()
}

fn read_ids(ids: &[String]) -> Result<ReceivedMessageIds, Invalid> {
    if ids.len() > limits::RECEIVED_IDS {
        let reason = format!("must be at most {} ids: send the first ones with hasMore", limits::RECEIVED_IDS);
        return Err(Invalid::new("has", reason));
    }
    let ids: Result<Vec<MessageId>, _> = ids.iter().map(|id| id.parse()).collect();
    ids.map(ReceivedMessageIds::new).map_err(|_| Invalid::new("has", "must be message ids (msg_…), as in webhook-id"))
}

fn read_digest(buckets: Vec<DigestBucket>) -> Result<ReceivedMessageIds, Invalid> {
    let buckets: Result<Vec<IdBucket>, Invalid> = buckets.into_iter().map(DigestBucket::bucket).collect();
    IdDigest::new("digest", buckets?).map(ReceivedMessageIds::Digest)
}
