//! Operational events before they are [stored](crate::store::recording::operational): changes of endpoints and
//! deliveries that an organization may subscribe to.
//!
//! * [`of_records`]: the events of a batch of recorded attempts.
//! * [`of_unsent`]: the events of deliveries that expired.

use crate::domain::notifications::operational::{DisabledBy, Kind, LastAttempt, Warning, Worth, of_attempt};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, Time, Uid};
use crate::store::queue::dead::Ended;
use crate::store::recording::record::{Finished, Recorded};

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
        kind: Kind,
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
        worth: Worth,
        message: MessageId,
        number: i32,
        last: LastAttempt,
    },
}

impl Happening {
    /// The event's kind. A [`Worth::Recovery`] may turn out to be no event once earlier attempts are read.
    pub(in crate::store) fn kind(&self) -> Kind {
        match &self.what {
            What::Endpoint { kind, .. } => *kind,
            What::Disabled { .. } => Kind::EndpointDisabled,
            What::Failing { .. } => Kind::EndpointFailing,
            What::Expired { .. } => Kind::MessageExpired,
            What::Attempt { worth: Worth::Telling(kind), .. } => *kind,
            What::Attempt { worth: Worth::Recovery, .. } => Kind::AttemptRecovered,
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
pub(in crate::store) fn of_records(finished: &[Finished], recorded: &[Recorded]) -> Vec<Happening> {
    let applied = finished.iter().zip(recorded).filter(|(_, what)| **what == Recorded::Applied);
    let happening = |(one, _): (&Finished, &Recorded)| {
        let (worth, attempt) = (of_attempt(&one.before, &one.next)?, &one.attempt);
        let last = LastAttempt {
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
pub(in crate::store) fn of_unsent(unsent: &[Ended], now: Time) -> Vec<Happening> {
    let happening = |one: &Ended| {
        let what = What::Expired { message: one.message_id, attempts: one.attempts };
        Happening { org: one.org.clone(), app: one.app_id, endpoint: one.endpoint_id, at: now, what }
    };
    unsent.iter().map(happening).collect()
}

/// An event caused by the record of `one`.
pub(in crate::store) fn of_record(one: &Finished, what: What) -> Happening {
    Happening {
        org: one.org.clone(),
        app: one.attempt.app_id,
        endpoint: one.attempt.endpoint_id,
        at: one.attempt.at.plus(one.attempt.outcome.duration),
        what,
    }
}
