//! When events are emitted, and their payloads.

use crate::domain::deliveries::attempt::Trigger;
use crate::domain::notifications::operational::*;

fn before(attempts: i32, step: i32) -> Progress {
    Progress { attempts, step, generation: 0, trigger: Trigger::Scheduled }
}

fn failed(step: i32) -> Transition {
    Transition::Retry { due: Time::ZERO, step }
}

#[test]
fn failing_exhausted_and_recovered_are_each_reported_once() {
    let telling = |kind| Some(AttemptEvent::Emit(kind));
    for step in 0..10 {
        let wanted = (step == 3).then_some(AttemptEvent::Emit(OperationalKind::AttemptFailing));
        assert_eq!(event_for_attempt(&before(step, step), &failed(step + 1)), wanted, "failure {}", step + 1);
        let wanted = (step >= 4).then_some(AttemptEvent::Emit(OperationalKind::AttemptRecovered));
        assert_eq!(event_for_attempt(&before(step, step), &Transition::Delivered), wanted, "after {step} failures");
    }
    let exhausted = Transition::Dead(DeadReason::Exhausted);
    for step in [0, 3, 9] {
        assert_eq!(event_for_attempt(&before(step, step), &exhausted), telling(OperationalKind::AttemptExhausted));
    }
    assert_eq!(
        event_for_attempt(&before(0, 0), &Transition::Dead(DeadReason::Gone)),
        telling(OperationalKind::AttemptExhausted)
    );
    for reason in [DeadReason::EndpointDeleted, DeadReason::Canceled] {
        assert_eq!(event_for_attempt(&before(3, 3), &Transition::Dead(reason)), None);
    }
    assert_eq!(
        event_for_attempt(&before(10, 0), &Transition::Delivered),
        Some(AttemptEvent::RecoveredIfReported),
        "resent"
    );
    assert_eq!(
        event_for_attempt(&before(10, 5), &Transition::Delivered),
        telling(OperationalKind::AttemptRecovered),
        "told since"
    );
}

#[test]
fn past_attempts_show_whether_a_failure_was_reported() {
    // f: failed, retried; x: failed, dead; d: delivered; R before one of these: resent.
    let told = |text: &str| {
        let mut past = Vec::new();
        let mut resent = false;
        for letter in text.chars() {
            match letter {
                'R' => resent = true,
                _ => {
                    past.push(PastAttempt { resent, delivered: letter == 'd', went_on: letter == 'f' });
                    resent = false;
                }
            }
        }
        failure_reported(past)
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
        app: AppData { app_id: app, app_uid: Some(&uid) },
        endpoint_id: endpoint,
        endpoint_uid: None,
        fail_since: None,
        trigger: Some(DisabledBy::Manual),
        warning: None,
    };
    let text = serde_json::to_string(&OperationalPayload::new(
        OperationalKind::EndpointDisabled,
        OperationalData::Endpoint(data),
    ))
    .unwrap();
    let wanted = format!(
        r#"{{"type":"endpoint.disabled","data":{{"appId":"{app}","appUid":"acme","endpointId":"{endpoint}","endpointUid":null,"trigger":"manual"}}}}"#
    );
    assert_eq!(text, wanted);
    assert!(
        OperationalKind::ALL.iter().all(|kind| OperationalKind::known(kind.name()))
            && !OperationalKind::known("endpoint.gone")
    );
}
