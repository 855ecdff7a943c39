//! Operational events before they are [stored](crate::store::recording::operational): changes of endpoints and
//! deliveries that an organization may subscribe to.
//!
//! * [`of_records`]: the events of a batch of recorded attempts.
//! * [`of_unsent`]: the events of deliveries that expired.

use crate::domain::notifications::operational::{
    AttemptEvent, DisabledBy, LastAttemptData, OperationalKind, Warning, event_for_attempt,
};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, PollingEndpointId, Time, Uid};
use crate::store::queue::dead::EndedDelivery;
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// An operational event. It is stored only if the organization has an endpoint that subscribes to it.
#[derive(Clone, Debug)]
pub(in crate::store) struct OperationalEvent {
    pub org: OrgId,
    pub app: AppId,
    pub at: Time,
    pub what: EventDetail,
}

#[derive(Clone, Debug)]
pub(in crate::store) enum EventDetail {
    /// The endpoint was created, changed or deleted; its UID before the deletion.
    Endpoint {
        endpoint: EndpointId,
        kind: OperationalKind,
        uid: Option<Uid>,
    },
    Disabled {
        endpoint: EndpointId,
        by: DisabledBy,
        uid: Option<Uid>,
        fail_since: Option<Time>,
    },
    /// Every attempt to the endpoint has failed since `fail_since`.
    Failing {
        endpoint: EndpointId,
        uid: Option<Uid>,
        fail_since: Time,
        warning: Warning,
    },
    /// A pending delivery to the endpoint expired after this many attempts.
    Expired {
        endpoint: EndpointId,
        message: MessageId,
        attempts: i32,
    },
    /// An outbox row is stuck. The application is nil unless the row names an existing one.
    OutboxStuck {
        row: Option<i64>,
        application: String,
        event_type: String,
        reason: String,
    },
    /// An attempt to the endpoint, with its number.
    Attempt {
        endpoint: EndpointId,
        worth: AttemptEvent,
        message: MessageId,
        number: i32,
        last: LastAttemptData,
    },
    /// A consumer of the polling endpoint has not polled since `polled_at`.
    ConsumerSilent {
        endpoint: PollingEndpointId,
        uid: Option<Uid>,
        consumer: String,
        polled_at: Time,
    },
}

impl OperationalEvent {
    /// The event's kind. For [`AttemptEvent::RecoveredIfReported`], earlier attempts decide whether it is emitted at
    /// all.
    pub(in crate::store) fn kind(&self) -> OperationalKind {
        match &self.what {
            EventDetail::Endpoint { kind, .. } => *kind,
            EventDetail::Disabled { .. } => OperationalKind::EndpointDisabled,
            EventDetail::Failing { .. } => OperationalKind::EndpointFailing,
            EventDetail::Expired { .. } => OperationalKind::MessageExpired,
            EventDetail::ConsumerSilent { .. } => OperationalKind::ConsumerSilent,
            EventDetail::OutboxStuck { .. } => OperationalKind::OutboxStuck,
            EventDetail::Attempt { worth: AttemptEvent::Emit(kind), .. } => *kind,
            EventDetail::Attempt { worth: AttemptEvent::RecoveredIfReported, .. } => OperationalKind::AttemptRecovered,
        }
    }

    /// The delivery that the event refers to, if any.
    pub(in crate::store) fn delivery(&self) -> Option<(MessageId, EndpointId)> {
        match &self.what {
            EventDetail::Attempt { message, endpoint, .. } | EventDetail::Expired { message, endpoint, .. } => {
                Some((*message, *endpoint))
            }
            EventDetail::Endpoint { .. }
            | EventDetail::Disabled { .. }
            | EventDetail::Failing { .. }
            | EventDetail::ConsumerSilent { .. }
            | EventDetail::OutboxStuck { .. } => None,
        }
    }
}

/// The events of a batch of recorded attempts. Records that were not applied emit none.
pub(in crate::store) fn of_records(finished: &[FinishedAttempt], recorded: &[RecordOutcome]) -> Vec<OperationalEvent> {
    let applied = finished.iter().zip(recorded).filter(|(_, what)| **what == RecordOutcome::Applied);
    let event = |(one, _): (&FinishedAttempt, &RecordOutcome)| {
        let (worth, attempt) = (event_for_attempt(&one.before, &one.next)?, &one.attempt);
        let last = LastAttemptData {
            id: attempt.id,
            response_status_code: attempt.outcome.status.unwrap_or(0),
            timestamp: attempt.at,
        };
        let (endpoint, message, number) = (attempt.endpoint_id, attempt.message_id, attempt.number);
        let what = EventDetail::Attempt { endpoint, worth, message, number, last };
        Some(of_record(one, what))
    };
    applied.filter_map(event).collect()
}

/// The events of deliveries that ended unsent because their message or its content expired.
pub(in crate::store) fn of_unsent(unsent: &[EndedDelivery], now: Time) -> Vec<OperationalEvent> {
    let event = |one: &EndedDelivery| {
        let what = EventDetail::Expired { endpoint: one.endpoint_id, message: one.message_id, attempts: one.attempts };
        OperationalEvent { org: one.org.clone(), app: one.app_id, at: now, what }
    };
    unsent.iter().map(event).collect()
}

/// An event caused by the record of `one`.
pub(in crate::store) fn of_record(one: &FinishedAttempt, what: EventDetail) -> OperationalEvent {
    OperationalEvent {
        org: one.org.clone(),
        app: one.attempt.app_id,
        at: one.attempt.at.plus(one.attempt.outcome.duration),
        what,
    }
}
