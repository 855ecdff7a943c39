//! **Operational events** notify an organization about its own endpoints and deliveries. They are messages of a hidden
//! **operational application**, delivered to the organization's **operational endpoints**.
//!
//! * [`OperationalKind`]: the event types.
//! * [`event_for_attempt`]: the event that an attempt triggers. Failures count since acceptance or the last resend, as
//!   in the schedule.
//! * [`failure_reported`]: whether a failure event was already sent for a delivery that was resent.
//! * [`OperationalPayload`]: the payload.

use serde::Serialize;

use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::deliveries::delivery::{DeadReason, Progress, Transition};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, OrgId, PollingEndpointId, Time, Uid};

/// The number of consecutive failures that triggers [`OperationalKind::AttemptFailing`].
pub const FAILING_AFTER: i32 = 4;

/// The type of an operational event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationalKind {
    EndpointCreated,
    EndpointUpdated,
    EndpointDeleted,
    EndpointDisabled,
    /// Every attempt has failed for a while; the endpoint will be disabled if this continues.
    EndpointFailing,
    /// The delivery is dead: the schedule is exhausted, or the endpoint responded with 410.
    AttemptExhausted,
    /// The fourth attempt failed and another will follow.
    AttemptFailing,
    /// Delivered after an `AttemptFailing` or `AttemptExhausted` event.
    AttemptRecovered,
    /// The message exceeded the retention period while the delivery was pending.
    MessageExpired,
    /// A consumer of a polling endpoint has not polled for a while.
    ConsumerSilent,
    /// An outbox row could not be routed. Emitted once per row.
    OutboxStuck,
}

impl OperationalKind {
    /// All kinds.
    pub const ALL: [OperationalKind; 11] = [
        OperationalKind::EndpointCreated,
        OperationalKind::EndpointUpdated,
        OperationalKind::EndpointDeleted,
        OperationalKind::EndpointDisabled,
        OperationalKind::EndpointFailing,
        OperationalKind::AttemptExhausted,
        OperationalKind::AttemptFailing,
        OperationalKind::AttemptRecovered,
        OperationalKind::MessageExpired,
        OperationalKind::ConsumerSilent,
        OperationalKind::OutboxStuck,
    ];

    /// The event type, as in the message and in an operational endpoint's filter.
    pub const fn name(self) -> &'static str {
        match self {
            OperationalKind::EndpointCreated => "endpoint.created",
            OperationalKind::EndpointUpdated => "endpoint.updated",
            OperationalKind::EndpointDeleted => "endpoint.deleted",
            OperationalKind::EndpointDisabled => "endpoint.disabled",
            OperationalKind::EndpointFailing => "endpoint.failing",
            OperationalKind::AttemptExhausted => "message.attempt.exhausted",
            OperationalKind::AttemptFailing => "message.attempt.failing",
            OperationalKind::AttemptRecovered => "message.attempt.recovered",
            OperationalKind::MessageExpired => "message.expired",
            OperationalKind::ConsumerSilent => "consumer.silent",
            OperationalKind::OutboxStuck => "outbox.stuck",
        }
    }

    /// The description of the event type.
    pub const fn description(self) -> &'static str {
        match self {
            OperationalKind::EndpointCreated => "An endpoint was created.",
            OperationalKind::EndpointUpdated => "An endpoint or its secret was changed.",
            OperationalKind::EndpointDeleted => "An endpoint was deleted.",
            OperationalKind::EndpointDisabled => "An endpoint was disabled, manually or because it failed.",
            OperationalKind::EndpointFailing => {
                "An endpoint has been failing for a while and will be disabled if this continues."
            }
            OperationalKind::AttemptExhausted => {
                "A delivery was given up: its last attempt failed, or the endpoint returned 410."
            }
            OperationalKind::AttemptFailing => "The fourth attempt of a delivery failed; more attempts will follow.",
            OperationalKind::AttemptRecovered => "A delivery succeeded after it was reported as failing or exhausted.",
            OperationalKind::MessageExpired => "A message expired while its delivery was still pending.",
            OperationalKind::ConsumerSilent => "A consumer of a polling endpoint has not polled for a while.",
            OperationalKind::OutboxStuck => "An outbox row is stuck: it could not become a message.",
        }
    }

    /// Parses the event type.
    pub fn of(name: &str) -> Option<OperationalKind> {
        OperationalKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether `name` is an operational event type.
    pub fn known(name: &str) -> bool {
        OperationalKind::of(name).is_some()
    }

    /// The read-only entry in the catalog of `org`.
    pub fn event_type(self, org: &OrgId) -> EventType {
        let spec = EventTypeSpec {
            name: self.name().to_owned(),
            description: self.description().to_owned(),
            ..EventTypeSpec::default()
        };
        EventType { org: org.clone(), spec, created_at: Time::ZERO, updated_at: Time::ZERO }
    }
}

/// The event that an attempt triggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEvent {
    Emit(OperationalKind),
    /// [`OperationalKind::AttemptRecovered`] if a failure event was sent before. The delivery was resent, so this needs
    /// its past attempts.
    RecoveredIfReported,
}

/// The event for an attempt that moved its delivery from `before` to `next`. If the fourth failure is also the last,
/// the event is [`OperationalKind::AttemptExhausted`] only.
pub fn event_for_attempt(before: &Progress, next: &Transition) -> Option<AttemptEvent> {
    match next {
        Transition::Dead(DeadReason::Exhausted | DeadReason::Gone) => {
            Some(AttemptEvent::Emit(OperationalKind::AttemptExhausted))
        }
        Transition::Retry { step, .. } if *step == FAILING_AFTER => {
            Some(AttemptEvent::Emit(OperationalKind::AttemptFailing))
        }
        Transition::Delivered if before.step >= FAILING_AFTER => {
            Some(AttemptEvent::Emit(OperationalKind::AttemptRecovered))
        }
        // More attempts than consecutive failures: the delivery was resent.
        Transition::Delivered if before.attempts > before.step => Some(AttemptEvent::RecoveredIfReported),
        Transition::Delivered | Transition::Retry { .. } | Transition::Dead(_) => None,
    }
}

/// A past attempt of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    /// Triggered by a resend, which resets the failure count.
    pub resent: bool,
    pub delivered: bool,
    /// Another attempt was scheduled after it.
    pub went_on: bool,
}

/// Whether a failure event was sent since the last success. `past` starts with the first attempt.
pub fn failure_reported(past: impl IntoIterator<Item = PastAttempt>) -> bool {
    let (mut told, mut failures) = (false, 0);
    for one in past {
        if one.resent || one.delivered {
            failures = 0;
        }
        if one.delivered {
            told = false;
            continue;
        }
        failures += 1;
        told |= !one.went_on || failures == FAILING_AFTER;
    }
    told
}

/// The payload of an operational event: `{"type": …, "data": {…}}`.
#[derive(Clone, Debug, Serialize)]
pub struct OperationalPayload<'a> {
    #[serde(rename = "type")]
    name: &'static str,
    data: OperationalData<'a>,
}

impl<'a> OperationalPayload<'a> {
    /// An event of this kind; `data` must be the variant for it.
    pub fn new(kind: OperationalKind, data: OperationalData<'a>) -> OperationalPayload<'a> {
        OperationalPayload { name: kind.name(), data }
    }
}

/// The `data` of an operational event.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum OperationalData<'a> {
    Endpoint(EndpointData<'a>),
    Attempt(AttemptData<'a>),
    Expired(ExpiredData<'a>),
    Consumer(ConsumerData<'a>),
    OutboxRow(OutboxRowData<'a>),
}

/// The application that an event is about.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
}

/// Data of `endpoint.*` events.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointData<'a> {
    #[serde(flatten)]
    pub app: AppData<'a>,
    pub endpoint_id: EndpointId,
    pub endpoint_uid: Option<&'a Uid>,
    /// The start of the failure streak, if the endpoint is failing or was disabled automatically.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<DisabledBy>,
    #[serde(flatten)]
    pub warning: Option<Warning>,
}

/// Additional data of `endpoint.failing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// The number of the warning, from 1.
    pub warning: i16,
    /// The time at which the endpoint will be disabled unless a delivery succeeds before.
    pub disable_at: Time,
}

/// The cause of a disabled endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DisabledBy {
    /// A caller or operator.
    Manual,
    /// A 410 response, or failures for too long.
    Automatic,
}

/// The delivery that an event is about.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryData<'a> {
    #[serde(flatten)]
    pub app: AppData<'a>,
    pub endpoint_id: EndpointId,
    pub msg_id: MessageId,
    pub msg_event_id: Option<&'a Uid>,
}

/// Data of `message.attempt.*` events.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptData<'a> {
    #[serde(flatten)]
    pub delivery: DeliveryData<'a>,
    pub last_attempt: LastAttemptData,
}

/// Data of `message.expired`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredData<'a> {
    #[serde(flatten)]
    pub delivery: DeliveryData<'a>,
    /// Number of attempts.
    pub attempts: i32,
}

/// Data of `consumer.silent`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerData<'a> {
    #[serde(flatten)]
    pub app: AppData<'a>,
    /// The polling endpoint.
    pub endpoint_id: PollingEndpointId,
    pub endpoint_uid: Option<&'a Uid>,
    /// The name of the consumer.
    pub consumer_id: &'a str,
    /// Accurate to about a minute.
    pub last_poll_at: Time,
}

/// Data of `outbox.stuck`. The row's own text is cut.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxRowData<'a> {
    /// The row's `id`; `None` if its writer left it out.
    pub row: Option<i64>,
    /// As written in the row.
    pub application: &'a str,
    pub event_type: &'a str,
    pub reason: &'a str,
}

/// The attempt that triggered the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttemptData {
    pub id: AttemptId,
    /// 0 without a response.
    pub response_status_code: u16,
    /// The start of the POST.
    pub timestamp: Time,
}

#[cfg(test)]
mod tests;
