//! **Operational events**: what happens to an organization's endpoints and deliveries, told to the organization itself.
//! They travel as messages of a hidden application, to the *operational endpoints* that the organization has there.
//!
//! * [`Kind`] – the nine of them, each with the name under which it is sent and filtered.
//! * [`of_attempt`] – whether the record of an attempt is worth telling: pure, decided from where the delivery stood
//!   and what it came to. A delivery's failures are counted since it was accepted or last resent, as the schedule
//!   counts them.
//! * [`told_of_failure`] – the same question about the past, for a delivery that was resent.
//! * [`Event`] – an event with its data, as it is written into the payload.

use serde::Serialize;

use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::deliveries::delivery::{DeadReason, Next, Progress};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, OrgId, Time, Uid};

/// After so many failures in a row a delivery is told as failing.
pub const FAILING_AFTER: i32 = 4;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    EndpointCreated,
    EndpointUpdated,
    EndpointDeleted,
    EndpointDisabled,
    /// It does nothing but fail, and will be disabled if that goes on.
    EndpointFailing,
    /// The schedule is used up, or the endpoint has answered 410: the delivery is dead.
    AttemptExhausted,
    /// The fourth failure, and the schedule goes on.
    AttemptFailing,
    /// Delivered, after it was told as failing or exhausted.
    AttemptRecovered,
    /// The delivery was still pending when its message was older than the retention: it is gone, unsent.
    MessageExpired,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 9] = [
        Kind::EndpointCreated,
        Kind::EndpointUpdated,
        Kind::EndpointDeleted,
        Kind::EndpointDisabled,
        Kind::EndpointFailing,
        Kind::AttemptExhausted,
        Kind::AttemptFailing,
        Kind::AttemptRecovered,
        Kind::MessageExpired,
    ];

    /// The event type: what a message carries, and what an operational endpoint filters by.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::EndpointCreated => "endpoint.created",
            Kind::EndpointUpdated => "endpoint.updated",
            Kind::EndpointDeleted => "endpoint.deleted",
            Kind::EndpointDisabled => "endpoint.disabled",
            Kind::EndpointFailing => "endpoint.failing",
            Kind::AttemptExhausted => "message.attempt.exhausted",
            Kind::AttemptFailing => "message.attempt.failing",
            Kind::AttemptRecovered => "message.attempt.recovered",
            Kind::MessageExpired => "message.expired",
        }
    }

    /// When it is told, as its event type is described.
    pub const fn description(self) -> &'static str {
        match self {
            Kind::EndpointCreated => "An endpoint was created.",
            Kind::EndpointUpdated => "An endpoint or its secret was changed.",
            Kind::EndpointDeleted => "An endpoint was deleted.",
            Kind::EndpointDisabled => "An endpoint was disabled, by hand or because of its answers.",
            Kind::EndpointFailing => "An endpoint has only failed for a while, and will be disabled if that goes on.",
            Kind::AttemptExhausted => "A delivery was given up: its last attempt failed, or the endpoint answered 410.",
            Kind::AttemptFailing => "The fourth attempt of a delivery failed, and there will be another.",
            Kind::AttemptRecovered => "A delivery arrived that was told as failing or exhausted.",
            Kind::MessageExpired => "A message expired while its delivery was still pending.",
        }
    }

    /// The one of this name.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether there is one of this name.
    pub fn known(name: &str) -> bool {
        Kind::of(name).is_some()
    }

    /// Its event type in the catalog of `org`, where it can be read and not be written. It has always been there.
    pub fn event_type(self, org: &OrgId) -> EventType {
        let spec = EventTypeSpec {
            name: self.name().to_owned(),
            description: self.description().to_owned(),
            ..EventTypeSpec::default()
        };
        EventType { org: org.clone(), spec, created_at: Time::ZERO, updated_at: Time::ZERO }
    }
}

/// What the record of an attempt is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    Telling(Kind),
    /// [`Kind::AttemptRecovered`], if a failure was told before: the delivery was resent, so only its past knows.
    Recovery,
}

/// What is to be told of an attempt that moved its delivery from `before` to `next`. A failure that is the fourth and
/// the last is told as exhausted alone.
pub fn of_attempt(before: &Progress, next: &Next) -> Option<Worth> {
    match next {
        Next::Dead(DeadReason::Exhausted | DeadReason::Gone) => Some(Worth::Telling(Kind::AttemptExhausted)),
        Next::Retry { step, .. } if *step == FAILING_AFTER => Some(Worth::Telling(Kind::AttemptFailing)),
        Next::Delivered if before.step >= FAILING_AFTER => Some(Worth::Telling(Kind::AttemptRecovered)),
        // More attempts than failures in a row: somebody resent it.
        Next::Delivered if before.attempts > before.step => Some(Worth::Recovery),
        Next::Delivered | Next::Retry { .. } | Next::Dead(_) => None,
    }
}

/// An attempt of a delivery's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Somebody asked for it: with it, failures are counted anew.
    pub resent: bool,
    pub delivered: bool,
    /// Another attempt was due after it.
    pub went_on: bool,
}

/// Whether a failure was told since the last time that it was delivered. `past` begins with the first attempt.
pub fn told_of_failure(past: impl IntoIterator<Item = Past>) -> bool {
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

/// An operational event, as it stands in a payload: `{"type": …, "data": {…}}`.
#[derive(Clone, Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    name: &'static str,
    data: Data<'a>,
}

impl<'a> Event<'a> {
    /// An event of this kind; `data` is the one that fits it.
    pub fn new(kind: Kind, data: Data<'a>) -> Event<'a> {
        Event { name: kind.name(), data }
    }
}

/// What an event says beyond its type.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    Endpoint(EndpointData<'a>),
    Attempt(AttemptData<'a>),
    Expired(ExpiredData<'a>),
}

/// What is said of an endpoint.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
    pub endpoint_id: EndpointId,
    pub endpoint_uid: Option<&'a Uid>,
    /// Of one that fails, or was disabled by itself: since when it has done nothing but fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<DisabledBy>,
    #[serde(flatten)]
    pub warning: Option<Warning>,
}

/// What is said of an endpoint that does nothing but fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Warning {
    /// Which of the warnings it is, from 1.
    pub warning: i16,
    /// When the endpoint will be disabled, if nothing is delivered before.
    pub disable_at: Time,
}

/// Who disabled an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DisabledBy {
    /// Somebody did.
    Manual,
    /// Its answers did: 410, or nothing but failures for too long.
    Automatic,
}

/// What is said of a delivery by its last attempt.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
    pub endpoint_id: EndpointId,
    pub msg_id: MessageId,
    pub msg_event_id: Option<&'a Uid>,
    pub last_attempt: LastAttempt,
}

/// What is said of a delivery that the retention ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
    pub endpoint_id: EndpointId,
    pub msg_id: MessageId,
    pub msg_event_id: Option<&'a Uid>,
    /// How often it was tried.
    pub attempts: i32,
}

/// The attempt that made it known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    pub id: AttemptId,
    /// 0 where no answer came.
    pub response_status_code: u16,
    /// When the POST began.
    pub timestamp: Time,
}

#[cfg(test)]
mod tests {
    use crate::domain::deliveries::attempt::Trigger;
    use crate::domain::notifications::operational::*;

    fn before(attempts: i32, step: i32) -> Progress {
        Progress { attempts, step, generation: 0, trigger: Trigger::Scheduled }
    }

    fn failed(step: i32) -> Next {
        Next::Retry { due: Time::ZERO, step }
    }

    #[test]
    fn a_delivery_is_told_failing_once_exhausted_once_and_recovered_once() {
        let telling = |kind| Some(Worth::Telling(kind));
        for step in 0..10 {
            let wanted = (step == 3).then_some(Worth::Telling(Kind::AttemptFailing));
            assert_eq!(of_attempt(&before(step, step), &failed(step + 1)), wanted, "failure {}", step + 1);
            let wanted = (step >= 4).then_some(Worth::Telling(Kind::AttemptRecovered));
            assert_eq!(of_attempt(&before(step, step), &Next::Delivered), wanted, "after {step} failures");
        }
        let exhausted = Next::Dead(DeadReason::Exhausted);
        for step in [0, 3, 9] {
            assert_eq!(of_attempt(&before(step, step), &exhausted), telling(Kind::AttemptExhausted));
        }
        assert_eq!(of_attempt(&before(0, 0), &Next::Dead(DeadReason::Gone)), telling(Kind::AttemptExhausted));
        for reason in [DeadReason::EndpointDeleted, DeadReason::Canceled] {
            assert_eq!(of_attempt(&before(3, 3), &Next::Dead(reason)), None);
        }
        assert_eq!(of_attempt(&before(10, 0), &Next::Delivered), Some(Worth::Recovery), "resent");
        assert_eq!(of_attempt(&before(10, 5), &Next::Delivered), telling(Kind::AttemptRecovered), "told since");
    }

    #[test]
    fn the_past_knows_whether_a_failure_was_told() {
        // f: failed, and went on; x: failed, and dead; d: delivered; R before it: resent.
        let told = |text: &str| {
            let mut past = Vec::new();
            let mut resent = false;
            for letter in text.chars() {
                match letter {
                    'R' => resent = true,
                    _ => {
                        past.push(Past { resent, delivered: letter == 'd', went_on: letter == 'f' });
                        resent = false;
                    }
                }
            }
            told_of_failure(past)
        };
        for text in ["x", "ffff", "ffffRf", "ffffx", "dRx", "ffRfffff"] {
            assert!(told(text), "{text}");
        }
        for text in ["", "d", "fff", "ffRff", "xRd", "ffffd", "ffffdRf", "dRdRdRdRd"] {
            assert!(!told(text), "{text}");
        }
    }

    #[test]
    fn an_event_says_what_the_dialect_says() {
        let (app, uid) = (AppId::new(Time::ZERO), Uid::parse("uid", "acme", AppId::PREFIX).unwrap());
        let endpoint = EndpointId::new(Time::ZERO);
        let data = EndpointData {
            app_id: app,
            app_uid: Some(&uid),
            endpoint_id: endpoint,
            endpoint_uid: None,
            fail_since: None,
            trigger: Some(DisabledBy::Manual),
            warning: None,
        };
        let text = serde_json::to_string(&Event::new(Kind::EndpointDisabled, Data::Endpoint(data))).unwrap();
        let wanted = format!(
            r#"{{"type":"endpoint.disabled","data":{{"appId":"{app}","appUid":"acme","endpointId":"{endpoint}","endpointUid":null,"trigger":"manual"}}}}"#
        );
        assert_eq!(text, wanted);
        assert!(Kind::ALL.iter().all(|kind| Kind::known(kind.name())) && !Kind::known("endpoint.gone"));
    }
}
