//! A message as a poller gets it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::schemas;
use crate::api::resources::message::PayloadOut;
use crate::domain::deliveries::message::Message;
use crate::domain::{MessageId, Time, Uid};

/// A fetched message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct PollingEndpointMessageOut<'a> {
    id: MessageId,
    event_id: Option<&'a Uid>,
    event_type: &'a str,
    /// The payload as sent; `{}` if there is a `rawPayload`.
    #[schema(value_type = schemas::JsonObject)]
    payload: PayloadOut<'a>,
    /// A raw payload, which need not be JSON.
    raw_payload: Option<&'a str>,
    /// The content type of a raw payload.
    #[schema(value_type = Option<schemas::RawHeaders>)]
    headers: Option<BTreeMap<&'static str, &'a str>>,
    #[schema(value_type = Option<schemas::Channels>)]
    channels: Option<&'a [String]>,
    #[schema(value_type = Option<schemas::Tags>)]
    tags: Option<&'a [String]>,
    /// When the message was accepted.
    timestamp: Time,
    /// When the event occurred, as given by the sender; by default when it was accepted.
    occurred_at: Time,
    /// The scheduled delivery time, if any. The message can be fetched before.
    deliver_at: Option<Time>,
}

impl<'a> From<&'a Message> for PollingEndpointMessageOut<'a> {
    fn from(message: &'a Message) -> PollingEndpointMessageOut<'a> {
        let raw_type = message.raw_type.as_deref();
        let bytes = message.payload.as_deref().unwrap_or_default();
        PollingEndpointMessageOut {
            id: message.id,
            event_id: message.event_id.as_ref(),
            event_type: &message.event_type,
            payload: PayloadOut::of(message, true),
            raw_payload: raw_type.and_then(|_| std::str::from_utf8(bytes).ok()),
            headers: raw_type.map(|kind| BTreeMap::from([("content-type", kind)])),
            channels: Some(&message.channels[..]).filter(|channels| !channels.is_empty()),
            tags: Some(&message.tags[..]).filter(|tags| !tags.is_empty()),
            timestamp: message.accepted_at,
            occurred_at: message.occurred_at,
            deliver_at: message.deliver_at,
        }
    }
}
