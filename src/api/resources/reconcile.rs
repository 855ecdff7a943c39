//! Reconciliation over REST: a receiver names the ids of the messages that it has, and gets what it misses, or has it
//! sent again.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::authn::permissions::Right;
use crate::api::http::body::{Body, Fields};
use crate::api::http::errors::{Answer, ApiError};
use crate::api::http::idempotency::{Look, once};
use crate::api::http::request::{Call, json};
use crate::api::openapi::schemas;
use crate::api::resources::attempt::Status;
use crate::api::resources::background;
use crate::api::resources::background::{TaskOut, again, target, times};
use crate::api::resources::endpoint::must_be_enabled;
use crate::api::resources::message::{MessageOut, PayloadOut};
use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::{Invalid, MessageId, Time, limits};
use crate::store::jobs::reconcile::{Missed, ReceivedIds, ReconcileSpec};

/// How many messages a page has if nothing is said.
const LIMIT: u64 = 50;

/// The ids that a receiver has, and the period to compare.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase", example = json!({"since": "2026-11-21T00:00:00Z", "has": ["msg_01kapvcrj2e8zvm4h6x0c5w9nd"]}))]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct ReconcileIn {
    since: Time,
    /// Up to then; now if nothing is said.
    until: Option<Time>,
    /// The messages that the receiver has: the `webhook-id` of each. Ids of any time can be among them.
    #[schema(value_type = Option<schemas::ReceivedIds>)]
    has: Option<Vec<String>>,
    /// `true`: these ids are the first of more, in ascending order (they sort as texts). What follows the last of them
    /// is left to the next request, which begins with `iterator` and names the ids that follow.
    has_more: Option<bool>,
    /// `true`: what is missing is sent again behind the answer, in place of being given out.
    resend: Option<bool>,
    /// How many messages a page has at most.
    #[schema(minimum = 1, maximum = 250)]
    limit: Option<u16>,
    /// The `iterator` of the answer before: only what follows it is compared.
    iterator: Option<MessageId>,
}

/// A page of what a receiver misses.
#[derive(Serialize, ToSchema)]
struct ReconcileOut<'a> {
    /// The oldest first.
    data: Vec<MissedMessageOut<'a>>,
    /// The last message that was compared: go on from there until `done`. `null`: none was.
    iterator: Option<MessageId>,
    /// Everything was compared.
    done: bool,
}

/// A message that a receiver misses.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MissedMessageOut<'a> {
    #[serde(flatten)]
    message: MessageOut<'a>,
    /// How its delivery stands; `null`: there is none, because the endpoint was disabled when it was accepted.
    #[schema(value_type = Option<schemas::ExpandedStatus>)]
    status: Option<u8>,
    #[schema(value_type = Option<schemas::ExpandedStatusText>)]
    status_text: Option<&'static str>,
}

impl<'a> From<&'a Missed> for MissedMessageOut<'a> {
    fn from(missed: &'a Missed) -> MissedMessageOut<'a> {
        let status = missed.standing.map(|standing| Status::of(standing, false, true));
        MissedMessageOut {
            message: MessageOut::new(&missed.message, PayloadOut::of(&missed.message, true)),
            status: status.map(Status::code),
            status_text: status.map(Status::word),
        }
    }
}

/// The body of the request.
struct Asked {
    since: Time,
    until: Time,
    received: ReceivedIds,
    bounded: bool,
    resend: bool,
    limit: usize,
    after: Option<MessageId>,
}

/// Find out what an endpoint's receiver misses
///
/// Compares the messages that were meant for the endpoint with those that its receiver has. What is missing was
/// delivered and lost behind the answer, or ended undelivered, or was accepted while the endpoint was disabled. What
/// still waits for an attempt is on its way and not missing. Gives a page of it, with payloads; or has it sent again
/// (`resend`). A page can be short, or empty, and not the last: go on by `iterator` until `done`.
#[utoipa::path(
    post, path = "/app/{app_id}/endpoint/{endpoint_id}/reconcile", request_body = ReconcileIn,
    responses(
        (status = 200, description = "A page of what is missing.", body = ReconcileOut),
        (status = 202, description = "It is sent again behind this answer.", body = TaskOut),
        (status = 409, description = "Too much background work is running for the application already."),
    )
)]
pub(in crate::api) async fn reconcile(call: Call, body: Body) -> Answer {
    once(call, body.bytes(), Look::First, async |call| compare(call, &body).await, again).await
}

async fn compare(call: &Call, body: &Body) -> Answer {
    let endpoint = target(call).await?;
    let asked = read(body.fields()?, call.now)?;
    let spec = ReconcileSpec {
        app: endpoint.app_id,
        endpoint: endpoint.id,
        since: asked.since,
        until: asked.until,
        after: asked.after,
        received: &asked.received,
        bounded: asked.bounded,
    };
    if asked.resend {
        return resend(call, &endpoint, &spec).await;
    }
    let page = call.store().missed(&call.tenant, &spec, asked.limit).await?;
    let data = page.data.iter().map(MissedMessageOut::from).collect();
    json(StatusCode::OK, &ReconcileOut { data, iterator: page.last, done: page.done })
}

async fn resend(call: &Call, endpoint: &Endpoint, spec: &ReconcileSpec<'_>) -> Answer {
    call.caller.rights.check(Right::Attempt)?;
    must_be_enabled(endpoint)?;
    background::answer(call.store().begin_reconciliation(&call.tenant, spec, "the REST API", call.now).await?)
}

fn read(mut fields: Fields<'_>, now: Time) -> Result<Asked, ApiError> {
    let (since, until) = times(&mut fields, now);
    let mut of_message = |name: &'static str| {
        fields.parsed(name, |text| text.parse().map_err(|_| Invalid::new(name, "must be the id of a message"))).set()
    };
    let after = of_message("iterator");
    let named = fields.list("has").set().unwrap_or_default();
    let mut received = Vec::with_capacity(named.len().min(limits::RECEIVED_IDS));
    if named.len() > limits::RECEIVED_IDS {
        let reason = format!("must be at most {} ids: name the first ones, with hasMore", limits::RECEIVED_IDS);
        fields.note(Invalid::new("has", reason));
    } else {
        match named.iter().map(|id| id.parse()).collect::<Result<Vec<MessageId>, _>>() {
            Ok(ids) => received = ids,
            Err(_) => fields.note(Invalid::new("has", "must be ids of messages (msg_…), as webhook-id has them")),
        }
    }
    let bounded = fields.flag("hasMore").set().unwrap_or_default();
    if bounded && named.is_empty() {
        fields.note(Invalid::new("hasMore", "needs has: the ids that come first"));
    }
    let resend = fields.flag("resend").set().unwrap_or_default();
    let limit = fields.take::<u64>("limit", "a whole number").set().unwrap_or(LIMIT);
    if !(1..=limits::PAGE as u64).contains(&limit) {
        fields.note(Invalid::new("limit", format!("must be 1 to {}", limits::PAGE)));
    }
    fields.done(Ok(()))?;
    let (received, limit) = (ReceivedIds::new(received), limit as usize);
    Ok(Asked { since, until, received, bounded, resend, limit, after })
}
