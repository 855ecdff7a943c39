//! Operational events before they are [stored](crate::store::recording::operational): changes of endpoints and
//! deliveries that an organization may subscribe to.
//!
//! * [`of_records`]: the events of a batch of recorded attempts.
//! * [`of_unsent`]: the events of deliveries that expired.

use crate::domain::notifications::operational::{DisabledBy, OperationalKind, LastAttemptData, Warning, AttemptEvent, of_attempt};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, Time, Uid};
use crate::store::queue::dead::EndedDelivery;
use crate::store::recording::record::{FinishedAttempt, RecordOutcome};

/// An operational event. It is stored only if the organization has an endpoint that subscribes to it.
#[derive(Clone, Debug)]
pub(in crate::store) struct Happening {
    pub org: OrgId,
    pub app: AppId,
    pub endpoint: EndpointId,
    pub at: Time,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(in crate::store) enum What {
    /// The endpoint was created, changed or deleted; its UID before the deletion.
    Endpoint {
        kind: OperationalKind,
        uid: Option<Uid>,
    },
    Disabled {
        by: DisabledBy,
        uid: Option<Uid>,
        fail_since: Option<Time>,
    },
    /// Every attempt to the endpoint has failed since `fail_since`.
    Failing {
        uid: Option<Uid>,
        fail_since: Time,
        warning: Warning,
    },
    /// A pending delivery to the endpoint expired after this many attempts.
    Expired {
        message: MessageId,
        attempts: i32,
    },
    /// An attempt to the endpoint, with its number.
    Attempt {
        worth: AttemptEvent,
        message: MessageId,
        number: i32,
        last: LastAttemptData,
    },
}

impl Happening {
    /// The event's kind. A [`AttemptEvent::Recovery`] may turn out to be no event once earlier attempts are read.
    pub(in crate::store) fn kind(&self) -> OperationalKind {
        match &self.what {
            What::Endpoint { kind, .. } => *kind,
            What::Disabled { .. } => OperationalKind::EndpointDisabled,
            What::Failing { .. } => OperationalKind::EndpointFailing,
            What::Expired { .. } => OperationalKind::MessageExpired,
            What::Attempt { worth: AttemptEvent::Telling(kind), .. } => *kind,
            What::Attempt { worth: AttemptEvent::Recovery, .. } => OperationalKind::AttemptRecovered,
        }
    }

    /// The delivery that the event refers to, if any.
    pub(in crate::store) fn delivery(&self) -> Option<(MessageId, EndpointId)> {
        match &self.what {
            What::Attempt { message, .. } | What::Expired { message, .. } => Some((*message, self.endpoint)),
            What::Endpoint { .. } | What::Disabled { .. } | What::Failing { .. } => None,
        }
    }
}

/// The events of a batch of recorded attempts. Records that were not applied emit none.
pub(in crate::store) fn of_records(finished: &[FinishedAttempt], recorded: &[RecordOutcome]) -> Vec<Happening> {
    let applied = finished.iter().zip(recorded).filter(|(_, what)| **what == RecordOutcome::Applied);
    let happening = |(one, _): (&FinishedAttempt, &RecordOutcome)| {
        let (worth, attempt) = (of_attempt(&one.before, &one.next)?, &one.attempt);
        let last = LastAttemptData {
            id: attempt.id,
            response_status_code: attempt.outcome.status.unwrap_or(0),
            timestamp: attempt.at,
        };
        let what = What::Attempt { worth, message: attempt.message_id, number: attempt.number, last };
        Some(of_record(one, what))
    };
    applied.filter_map(happening).collect()
}

/// The events of deliveries that ended unsent because their message or its content expired.
pub(in crate::store) fn of_unsent(unsent: &[EndedDelivery], now: Time) -> Vec<Happening> {
    let happening = |one: &EndedDelivery| {
        let what = What::Expired { message: one.message_id, attempts: one.attempts };
        Happening { org: one.org.clone(), app: one.app_id, endpoint: one.endpoint_id, at: now, what }
    };
    unsent.iter().map(happening).collect()
}

/// An event caused by the record of `one`.
pub(in crate::store) fn of_record(one: &FinishedAttempt, what: What) -> Happening {
    Happening {
        org: one.org.clone(),
        app: one.attempt.app_id,
        endpoint: one.attempt.endpoint_id,
        at: one.attempt.at.plus(one.attempt.outcome.duration),
        what,
    }
}
