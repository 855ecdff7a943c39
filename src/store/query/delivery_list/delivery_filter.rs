//! The filter of a list of deliveries.

use super::{DeliveryKey, DeliveryStatusFilter};
use crate::domain::{AppId, BackgroundId, EndpointId, MessageId, TimeRange};

/// Selects deliveries; an empty list or `None` selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub status: Option<DeliveryStatusFilter>,
    pub app: Option<AppId>,
    pub endpoint: Option<EndpointId>,
    pub event_types: Vec<String>,
    /// Status class of the last attempt: 100, 200, … 500; 0: no response.
    pub class: Option<u16>,
    /// The times at which the messages were accepted.
    pub accepted: TimeRange,
    /// Only these messages.
    pub messages: Option<Vec<MessageId>>,
    /// Substring of the payload, compared by bytes.
    pub text: Option<String>,
    /// Only deliveries resent by this background task.
    pub resent: Option<BackgroundId>,
    /// Only these deliveries. `messages` names their messages too.
    pub rows: Option<Vec<DeliveryKey>>,
}
