//! What happens, and may have to be [told](crate::store::recording::operational): to endpoints, and to deliveries.
//!
//! * [`of_records`] finds what is worth telling in a batch of records.
//! * [`of_unsent`] – deliveries that have ended because something had become too old.

use crate::domain::operational::{DisabledBy, Kind, LastAttempt, Warning, Worth, of_attempt};
use crate::domain::{AppId, EndpointId, MessageId, OrgId, Time, Uid};
use crate::store::queue::dead::Ended;
use crate::store::recording::record::{Finished, Recorded};

/// Something that happened, and may have to be told.
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
    /// To the endpoint itself; its uid as it was before it was deleted.
    Endpoint {
        kind: Kind,
        uid: Option<Uid>,
    },
    Disabled {
        by: DisabledBy,
        uid: Option<Uid>,
        fail_since: Option<Time>,
    },
    /// It does nothing but fail.
    Failing {
        uid: Option<Uid>,
        fail_since: Time,
        warning: Warning,
    },
    /// To a delivery there, which was still pending; it had been tried so often.
    Expired {
        message: MessageId,
        attempts: i32,
    },
    /// To a delivery there; `number` is the attempt's.
    Attempt {
        worth: Worth,
        message: MessageId,
        number: i32,
        last: LastAttempt,
    },
}

impl Happening {
    /// The event's kind, as far as it is known without the past.
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

    /// The delivery that it is about, if it is about one.
    pub(in crate::store) fn delivery(&self) -> Option<(MessageId, EndpointId)> {
        match &self.what {
            What::Attempt { message, .. } | What::Expired { message, .. } => Some((*message, self.endpoint)),
            What::Endpoint { .. } | What::Disabled { .. } | What::Failing { .. } => None,
        }
    }
}

/// What is worth telling of a batch of records. One that was recorded before changes nothing, and is not told again.
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

/// What is to be told of deliveries that nobody meant to end: their message or its content had become too old.
pub(in crate::store) fn of_unsent(unsent: &[Ended], now: Time) -> Vec<Happening> {
    let happening = |one: &Ended| {
        let what = What::Expired { message: one.message_id, attempts: one.attempts };
        Happening { org: one.org.clone(), app: one.app_id, endpoint: one.endpoint_id, at: now, what }
    };
    unsent.iter().map(happening).collect()
}

/// Something that the record of `one` brings about.
pub(in crate::store) fn of_record(one: &Finished, what: What) -> Happening {
    Happening {
        org: one.org.clone(),
        app: one.attempt.app_id,
        endpoint: one.attempt.endpoint_id,
        at: one.attempt.at.plus(one.attempt.outcome.duration),
        what,
    }
}
