//! Messages over REST: the team's way in, and looking at what came.
//!
//! Creating one is the busiest call of all: its body is read once and borrowed from, the payload is cut out of the bytes that came,
//! and the answer carries those same bytes.

use actix_web::http::StatusCode;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::body::{Body, Field};
use super::call::{Call, json};
use super::errors::{Answer, ApiError};
use super::once::{Look, once};
use super::openapi::schemas::{self, Filtered, Paged};
use super::query::{ListOut, Query};
use crate::domain::message::{Message, MessageSpec};
use crate::domain::{Invalid, MessageId, Time, Uid};
use crate::store::accept::AcceptItem;
use crate::store::messages::MessageFilter;
use crate::store::{MessageRef, Order};

/// A message, as it is given out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageOut<'a> {
    id: MessageId,
    event_id: Option<&'a Uid>,
    event_type: &'a str,
    /// As it was written; `{}` for those who did not want it.
    #[schema(value_type = schemas::JsonObject)]
    payload: PayloadOut<'a>,
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<&'a [String]>,
    /// When it was accepted.
    timestamp: Time,
    /// When it happened, if its sender said so; else when it was accepted.
    occurred_at: Time,
}

/// An event that is to be sent.
#[derive(ToSchema)]
#[schema(
    rename_all = "camelCase",
    example = json!({"eventType": "invoice.paid", "eventId": "evt-1", "payload": {"invoice": "in_17", "amount": 4200}})
)]
#[expect(dead_code, reason = "for the document alone: `read` reads it")]
struct MessageIn {
    #[schema(value_type = schemas::Name)]
    event_type: String,
    /// The sender's own id of the event, unique in its application: it makes a repeat harmless.
    event_id: Option<Uid>,
    /// The event. It is signed and sent byte for byte as it stands in the request; nested at most 128 deep.
    #[schema(value_type = schemas::JsonObject)]
    payload: Box<RawValue>,
    /// At most 5. It goes to the endpoints that listen to one of them, and to those that listen to everything.
    #[schema(value_type = Option<schemas::Channels>, max_items = 5)]
    channels: Option<Vec<String>>,
    /// When it happened.
    occurred_at: Option<Time>,
}

/// The payload as it was written, or `{}` for those who did not want it.
#[derive(Clone, Copy)]
pub(super) enum PayloadOut<'a> {
    Written(&'a RawValue),
    LeftOut,
}

impl Serialize for PayloadOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PayloadOut::Written(raw) => raw.serialize(serializer),
            PayloadOut::LeftOut => serializer.serialize_map(Some(0))?.end(),
        }
    }
}

impl<'a> PayloadOut<'a> {
    fn of(message: &'a Message, wanted: bool) -> Result<PayloadOut<'a>, ApiError> {
        if !wanted {
            return Ok(PayloadOut::LeftOut);
        }
        serde_json::from_slice(&message.payload).map(PayloadOut::Written).map_err(|error| ApiError::internal(&error))
    }
}

impl<'a> MessageOut<'a> {
    pub fn new(message: &'a Message, payload: PayloadOut<'a>) -> MessageOut<'a> {
        MessageOut {
            id: message.id,
            event_id: message.event_id.as_ref(),
            event_type: &message.event_type,
            payload,
            channels: Some(&message.channels[..]).filter(|channels| !channels.is_empty()),
            timestamp: message.accepted_at,
            occurred_at: message.occurred_at,
        }
    }
}

/// What the body asks to have sent, and its payload as it stands there.
fn read(body: &Body) -> Result<(MessageSpec, &RawValue), ApiError> {
    let mut fields = body.fields()?;
    fields.require("eventType");
    fields.require("payload");
    let event_type = fields.text("eventType").set().unwrap_or_default();
    let event_id = fields.parsed("eventId", |text| Uid::parse("eventId", text)).set();
    let channels = fields.list("channels").set();
    if channels.as_ref().is_some_and(Vec::is_empty) {
        fields.note(Invalid::new("channels", "must not be empty: leave it out, or set it to null, for no channel"));
    }
    let occurred_at = fields
        .parsed("occurredAt", |text| Time::parse(text).map_err(|error| Invalid::new("occurredAt", error.to_string())));
    fields.unsupported("tags", &["[]"]);
    fields.unsupported("deliverAt", &[]);
    fields.unsupported("application", &[]);
    fields.unsupported("transformationsParams", &["{}"]);
    fields.unsupported("payloadRetentionPeriod", &["90"]);
    fields.unsupported("payloadRetentionHours", &[]);
    let payload = fields.raw("payload");
    fields.done(Ok(()))?;
    let Field::Set(payload) = payload else { return Err(ApiError::malformed("the payload is missing")) };
    let spec = MessageSpec {
        event_type,
        event_id,
        channels: channels.unwrap_or_default(),
        payload: body.bytes_of(payload),
        occurred_at: occurred_at.set(),
    };
    Ok((spec, payload))
}

/// Send a message
///
/// Answered once it is stored, and never before. Then it goes to every endpoint of the application that wants it.
#[utoipa::path(
    post, path = "/app/{app_id}/msg", request_body = MessageIn,
    params(("with_content" = Option<bool>, Query, description = "`false` leaves the payload out of the answer.")),
    responses(
        (status = 202, description = "It was accepted.", body = MessageOut),
        (status = 409, description = "The application has a message of this `eventId` already."),
    )
)]
pub(super) async fn create(call: Call, body: Body) -> Answer {
    call.for_the_organization()?;
    let app = call.app_ref()?;
    let wanted = call.query().flag("with_content", true)?;
    let act = async |call: &Call| {
        let (spec, payload) = read(&body)?;
        let item = AcceptItem { tenant: Some(call.tenant.clone()), app: app.clone(), spec, at: call.now, once: None };
        let message = call.store().accept(item).await??;
        let payload = if wanted { PayloadOut::Written(payload) } else { PayloadOut::LeftOut };
        json(StatusCode::ACCEPTED, &MessageOut::new(&message, payload))
    };
    let again = async |call: &Call, made: &str| {
        let missing = || ApiError::not_found("message");
        let named = MessageRef::parse(made).map_err(|_| missing())?;
        let app = call.app().await?;
        let message = call.store().message(&call.tenant, app.id, &named).await?.ok_or_else(missing)?;
        json(StatusCode::ACCEPTED, &MessageOut::new(&message, PayloadOut::of(&message, wanted)?))
    };
    once(call, body.bytes(), Look::Late, act, again).await
}

/// Read a message
#[utoipa::path(
    get, path = "/app/{app_id}/msg/{msg_id}",
    params(("with_content" = Option<bool>, Query, description = "`false` leaves the payload out.")),
    responses((status = 200, description = "The message.", body = MessageOut))
)]
pub(super) async fn read_one(call: Call) -> Answer {
    let wanted = call.query().flag("with_content", true)?;
    let app = call.app().await?;
    let message = call.message(app.id).await?;
    json(StatusCode::OK, &MessageOut::new(&message, PayloadOut::of(&message, wanted)?))
}

/// List messages
///
/// The newest first.
#[utoipa::path(
    get, path = "/app/{app_id}/msg",
    params(Paged, Filtered, ("with_content" = Option<bool>, Query, description = "`false` leaves the payloads out.")),
    responses((status = 200, description = "A page of them.", body = ListOut<MessageOut>))
)]
pub(super) async fn list(call: Call) -> Answer {
    let query = call.query();
    let request = query.page::<MessageId>(Order::Descending, false)?;
    let (filter, wanted) = (filter(&query)?, query.flag("with_content", true)?);
    let app = call.app().await?;
    let page = call.store().messages(&call.tenant, app.id, &filter, &request).await?;
    let list = ListOut::of(
        &page,
        &request,
        |message| message.id,
        |message| Ok(MessageOut::new(message, PayloadOut::of(message, wanted)?)),
    );
    json(StatusCode::OK, &list.whole()?)
}

fn filter(query: &Query<'_>) -> Result<MessageFilter, ApiError> {
    query.unsupported("tag", "")?;
    Ok(MessageFilter {
        event_types: query.list("event_types"),
        channel: query.text("channel")?.map(str::to_owned),
        before: query.time("before")?,
        after: query.time("after")?,
    })
}
