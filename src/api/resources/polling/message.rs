//! A message as a poller gets it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::schemas;
use crate::api::resources::message::{MessageOut, PayloadOut};
use crate::domain::deliveries::message::Message;

/// A fetched message. It can be fetched before its scheduled delivery time.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct PollingEndpointMessageOut<'a> {
    #[serde(flatten)]
    message: MessageOut<'a>,
    /// A raw payload, which need not be JSON. `payload` is `{}` then.
    raw_payload: Option<&'a str>,
    /// The content type of a raw payload.
    #[schema(value_type = Option<schemas::RawHeaders>)]
    headers: Option<BTreeMap<&'static str, &'a str>>,
}

impl<'a> From<&'a Message> for PollingEndpointMessageOut<'a> {
    fn from(message: &'a Message) -> PollingEndpointMessageOut<'a> {
        let raw_type = message.raw_type.as_deref();
        let bytes = message.payload.as_deref().unwrap_or_default();
        PollingEndpointMessageOut {
            message: MessageOut::new(message, PayloadOut::of(message, true)),
            raw_payload: raw_type.and_then(|_| std::str::from_utf8(bytes).ok()),
            headers: raw_type.map(|kind| BTreeMap::from([("content-type", kind)])),
        }
    }
}
