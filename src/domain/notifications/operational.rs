//! **Operational events** notify an organization about its own endpoints and deliveries. They are messages of a hidden
//! **operational application**, delivered to the organization's **operational endpoints**.
//!
//! * [`Kind`] – the event types.
//! * [`of_attempt`] – the event that an attempt triggers. Failures count since acceptance or the last resend, as in the
//!   schedule.
//! * [`told_of_failure`] – whether a failure event was already sent for a delivery that was resent.
//! * [`Event`] – the payload.

use serde::Serialize;

use crate::domain::catalog::event_type::{EventType, EventTypeSpec};
use crate::domain::deliveries::delivery::{DeadReason, Next, Progress};
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, OrgId, Time, Uid};

/// The number of consecutive failures that triggers [`Kind::AttemptFailing`].
pub const FAILING_AFTER: i32 = 4;

/// The type of an operational event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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
}

impl Kind {
    /// All kinds.
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

    /// The event type, as in the message and in an operational endpoint's filter.
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

    /// The description of the event type.
    pub const fn description(self) -> &'static str {
        match self {
            Kind::EndpointCreated => "An endpoint was created.",
            Kind::EndpointUpdated => "An endpoint or its secret was changed.",
            Kind::EndpointDeleted => "An endpoint was deleted.",
            Kind::EndpointDisabled => "An endpoint was disabled, manually or because it failed.",
            Kind::EndpointFailing => "An endpoint has been failing for a while and will be disabled if this continues.",
            Kind::AttemptExhausted => "A delivery was given up: its last attempt failed, or the endpoint returned 410.",
            Kind::AttemptFailing => "The fourth attempt of a delivery failed; more attempts will follow.",
            Kind::AttemptRecovered => "A delivery succeeded after it was reported as failing or exhausted.",
            Kind::MessageExpired => "A message expired while its delivery was still pending.",
        }
    }

    /// Parses the event type.
    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether `name` is an operational event type.
    pub fn known(name: &str) -> bool {
        Kind::of(name).is_some()
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
pub enum Worth {
    Telling(Kind),
    /// [`Kind::AttemptRecovered`] if a failure event was sent before. The delivery was resent, so this needs its past
    /// attempts.
    Recovery,
}

/// The event for an attempt that moved its delivery from `before` to `next`. If the fourth failure is also the last,
/// the event is [`Kind::AttemptExhausted`] only.
pub fn of_attempt(before: &Progress, next: &Next) -> Option<Worth> {
    match next {
        Next::Dead(DeadReason::Exhausted | DeadReason::Gone) => Some(Worth::Telling(Kind::AttemptExhausted)),
        Next::Retry { step, .. } if *step == FAILING_AFTER => Some(Worth::Telling(Kind::AttemptFailing)),
        Next::Delivered if before.step >= FAILING_AFTER => Some(Worth::Telling(Kind::AttemptRecovered)),
        // More attempts than consecutive failures: the delivery was resent.
        Next::Delivered if before.attempts > before.step => Some(Worth::Recovery),
        Next::Delivered | Next::Retry { .. } | Next::Dead(_) => None,
    }
}

/// A past attempt of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Triggered by a resend, which resets the failure count.
    pub resent: bool,
    pub delivered: bool,
    /// Another attempt was scheduled after it.
    pub went_on: bool,
}

/// Whether a failure event was sent since the last success. `past` starts with the first attempt.
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

/// The payload of an operational event: `{"type": …, "data": {…}}`.
#[derive(Clone, Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    name: &'static str,
    data: Data<'a>,
}

impl<'a> Event<'a> {
    /// An event of this kind; `data` must be the variant for it.
    pub fn new(kind: Kind, data: Data<'a>) -> Event<'a> {
        Event { name: kind.name(), data }
    }
}

/// The `data` of an operational event.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Data<'a> {
    Endpoint(EndpointData<'a>),
    Attempt(AttemptData<'a>),
    Expired(ExpiredData<'a>),
}

/// Data of `endpoint.*` events.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
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

/// Data of `message.attempt.*` events.
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

/// Data of `message.expired`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredData<'a> {
    pub app_id: AppId,
    pub app_uid: Option<&'a Uid>,
    pub endpoint_id: EndpointId,
    pub msg_id: MessageId,
    pub msg_event_id: Option<&'a Uid>,
    /// Number of attempts.
    pub attempts: i32,
}

/// The attempt that triggered the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastAttempt {
    pub id: AttemptId,
    /// 0 without a response.
    pub response_status_code: u16,
    /// The start of the POST.
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
        // f: failed, retried; x: failed, dead; d: delivered; R before one of these: resent.
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
