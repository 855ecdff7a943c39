//! The filter of a list of deliveries.

use super::{DeliveryKey, DeliveryStatusFilter};
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, Time};

/// Selects deliveries; an empty list or `None` selects all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub status: Option<DeliveryStatusFilter>,
    pub app: Option<AppId>,
    pub endpoint: Option<EndpointId>,
    pub event_types: Vec<String>,
    /// Status class of the last attempt: 100, 200, … 500; 0: no response.
    pub class: Option<u16>,
    /// Messages accepted at this time or later.
    pub since: Time,
    /// Messages accepted before this time.
    pub until: Time,
    /// Only these messages.
    pub messages: Option<Vec<MessageId>>,
    /// Substring of the payload, compared by bytes.
    pub text: Option<String>,
    /// Only deliveries resent by this background task.
    pub resent: Option<BackgroundId>,
    /// Only these deliveries. `messages` names their messages too.
    pub rows: Option<Vec<DeliveryKey>>,
}

impl Default for DeliveryFilter {
    fn default() -> DeliveryFilter {
        DeliveryFilter {
            status: None,
            app: None,
            endpoint: None,
            event_types: Vec::new(),
            class: None,
            since: Time::ZERO,
            until: Time::MAX,
            messages: None,
            text: None,
            resent: None,
            rows: None,
        }
    }
}
