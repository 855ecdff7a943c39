//! Recording: each attempt is kept exactly once, and moves its delivery on only where nobody else did.

use std::time::Duration;

use bytes::Bytes;
use sendoff::domain::catalog::endpoint::DisabledReason;
use sendoff::domain::deliveries::attempt::{Attempt, Failure, Outcome, Trigger};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, EndpointId, MessageId, OrgId};
use sendoff::store::Store;
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::counts::{ChartRange, CountScope};
use sendoff::store::recording::record::{FinishedAttempt, RecordOutcome};
use sendoff::store::recording::rollups::{Counts, total};

use crate::home::*;
use crate::support::on_both;

async fn attempts(store: &Store, app: AppId, message: MessageId) -> Vec<Attempt> {
    let filter = AttemptFilter { message: Some(message), ..AttemptFilter::default() };
    store.attempts(&tenant(), app, &filter, &first()).await.expect("the store").data
}

async fn record(store: &Store, one: FinishedAttempt) -> RecordOutcome {
    store.record(vec![one]).await.expect("the store")[0]
}

async fn counts(store: &Store, endpoint: Option<EndpointId>) -> Counts {
    let scope = endpoint.map_or(CountScope::Organization, CountScope::Endpoint);
    total(&store.buckets(&tenant(), scope, ChartRange::Hour, later(600)).await.expect("the store"))
}

fn failing_since(home: &crate::home::Home) -> impl Future<Output = i64> {
    home.number("SELECT coalesce(max(failing_since), 0) FROM endpoint")
}

on_both! {
    a_record_moves_the_delivery_and_keeps_the_attempt
    responses_with_any_bytes_are_stored
    the_same_batch_twice_changes_nothing
    two_attempts_of_one_delivery_in_one_batch_are_two_steps
    concurrent_changes_are_kept
    an_attempt_after_the_slot_was_lost_is_stored_and_changes_nothing
    gone_disables_the_endpoint_for_everybody
    failing_since_is_the_first_failure_after_the_last_delivery
    the_counts_are_what_was_recorded
}

async fn a_record_moves_the_delivery_and_keeps_the_attempt(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let first = finished(app.id, &only_waiting(store, made.id).await, answered(503), retry(60, 1));
    assert_eq!(record(store, first.clone()).await, RecordOutcome::Applied);
    let one = only_waiting(store, made.id).await;
    assert_eq!(
        (one.state, one.due_at, one.progress),
        (DeliveryState::Retry, later(60), progress(1, 1, 0, Trigger::Scheduled))
    );
    let second = finished(app.id, &one, answered(200), Transition::Delivered);
    assert_eq!(record(store, second.clone()).await, RecordOutcome::Applied);
    assert!(waiting(store, made.id).await.is_empty());
    let view = delivery(store, app.id, message, made.id).await;
    assert_eq!((view.state, view.attempts), (DeliveryState::Delivered, 2));
    assert_eq!(attempts(store, app.id, message).await, [first.attempt, second.attempt]);
}

async fn responses_with_any_bytes_are_stored(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let body: Vec<u8> = (0..16 * 1024).map(|n| (n % 256) as u8).collect();
    let headers = vec![
        ("content-type".to_owned(), "text/html; x=\u{fffd}\u{1}\u{7f}".to_owned()),
        ("x-empty".to_owned(), String::new()),
        ("x-colons".to_owned(), " a: b: \u{1F600} ".to_owned()),
    ];
    let outcome = Outcome {
        detail: "d\u{e9}tail ".repeat(20_000),
        response_headers: headers.clone(),
        response_body: Bytes::from(body),
        duration: Duration::from_secs(3_600),
        ..answered(599)
    };
    let one = finished(app.id, &only_waiting(store, made.id).await, outcome, retry(60, 1));
    assert_eq!(record(store, one.clone()).await, RecordOutcome::Applied);
    assert_eq!(attempts(store, app.id, message).await, [one.attempt]);

    let nul = Outcome {
        detail: "a\0b".into(),
        response_headers: vec![("x-nul".into(), "a\0b\r\nx-evil: 1".into())],
        ..Outcome::failed(Failure::Protocol, "", Duration::ZERO)
    };
    let one = finished(app.id, &only_waiting(store, made.id).await, nul, retry(90, 2));
    assert_eq!(record(store, one).await, RecordOutcome::Applied);
    let kept = attempts(store, app.id, message).await.remove(1);
    assert_eq!(kept.outcome.detail, "a\u{fffd}b");
    assert_eq!(kept.outcome.response_headers, [("x-nul".to_owned(), "a b  x-evil: 1".to_owned())]);
    assert_eq!((kept.outcome.status, kept.outcome.failure), (None, Some(Failure::Protocol)));
}

async fn the_same_batch_twice_changes_nothing(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for _ in 0..3 {
        accept(store, app.id).await;
    }
    let all = waiting(store, made.id).await;
    let batch = vec![
        finished(app.id, &all[0], answered(200), Transition::Delivered),
        finished(app.id, &all[1], answered(500), retry(60, 1)),
        finished(app.id, &all[2], answered(500), Transition::Dead(DeadReason::Exhausted)),
    ];
    assert_eq!(store.record(batch.clone()).await.unwrap(), [RecordOutcome::Applied; 3]);
    let before = (counts(store, None).await, counts(store, Some(made.id)).await, failing_since(&home).await);
    assert_eq!(store.record(batch.clone()).await.unwrap(), [RecordOutcome::Superseded; 3]);
    let twice = [batch.clone(), batch].concat();
    assert_eq!(store.record(twice).await.unwrap(), [RecordOutcome::Superseded; 6]);
    let after = (counts(store, None).await, counts(store, Some(made.id)).await, failing_since(&home).await);
    assert_eq!((&after, before.0.attempts()), (&before, 3));
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 3);
    assert_eq!(home.number("SELECT sum(attempts) FROM delivery").await, 3);
    assert!(store.record(vec![]).await.unwrap().is_empty());
}

/// The store was away, and two attempts of one delivery wait to be recorded.
async fn two_attempts_of_one_delivery_in_one_batch_are_two_steps(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let fresh = only_waiting(store, made.id).await;
    let first = finished(app.id, &fresh, answered(500), retry(60, 1));
    let mut then = fresh;
    then.progress = progress(1, 1, 0, Trigger::Scheduled);
    let second = finished(app.id, &then, answered(200), Transition::Delivered);
    let recorded = store.record(vec![second, first]).await.unwrap();
    assert_eq!(recorded, [RecordOutcome::Applied; 2]);
    let view = delivery(store, app.id, message, made.id).await;
    assert_eq!((view.state, view.attempts), (DeliveryState::Delivered, 2));
}

async fn concurrent_changes_are_kept(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let sent = only_waiting(store, made.id).await;
    store.resend(&tenant(), app.id, (message, made.id), later(5)).await.unwrap();
    let done = finished(app.id, &sent, answered(200), Transition::Delivered);
    assert_eq!(record(store, done).await, RecordOutcome::Superseded);
    let again = only_waiting(store, made.id).await;
    assert_eq!(again.progress, progress(1, 0, 1, Trigger::Manual), "the attempt counts, the resend stands");
    let done = finished(app.id, &again, answered(200), Transition::Delivered);
    assert_eq!(record(store, done).await, RecordOutcome::Applied);
    let all = attempts(store, app.id, message).await;
    assert_eq!(
        all.iter().map(|one| (one.number, one.trigger)).collect::<Vec<_>>(),
        [(1, Trigger::Scheduled), (2, Trigger::Manual)]
    );

    let message = accept(store, app.id).await.id;
    let sent = only_waiting(store, made.id).await;
    store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap();
    store.cancel_pending_of_deleted(10, NOW).await.unwrap();
    assert_eq!(record(store, finished(app.id, &sent, answered(500), retry(60, 1))).await, RecordOutcome::Superseded);
    let view = delivery(store, app.id, message, made.id).await;
    assert_eq!((view.state, view.reason, view.attempts), (DeliveryState::Dead, Some(DeadReason::EndpointDeleted), 1));

    let gone = FinishedAttempt {
        attempt: Attempt {
            message_id: MessageId::new(NOW),
            ..finished(app.id, &sent, answered(200), Transition::Delivered).attempt
        },
        ..finished(app.id, &sent, answered(200), Transition::Delivered)
    };
    assert_eq!(record(store, gone).await, RecordOutcome::Superseded, "its message is gone, it is kept all the same");
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 4);
}

async fn an_attempt_after_the_slot_was_lost_is_stored_and_changes_nothing(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let one = only_waiting(store, made.id).await;
    home.execute("UPDATE slot SET epoch = 7 WHERE slot = 255").await;
    let under = |epoch| FinishedAttempt {
        slot: 255,
        epoch,
        ..finished(app.id, &one, answered(410), Transition::Dead(DeadReason::Gone))
    };
    let disabling = FinishedAttempt { disable: Some(DisabledReason::Gone), ..under(6) };
    assert_eq!(record(store, disabling).await, RecordOutcome::Fenced);
    assert_eq!(only_waiting(store, made.id).await, one);
    let made_now = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
    assert!(!made_now.spec.disabled);
    assert_eq!(attempts(store, app.id, message).await.len(), 1);
    assert_eq!(record(store, under(7)).await, RecordOutcome::Applied);
    assert_eq!(attempts(store, app.id, message).await.len(), 2);
}

async fn gone_disables_the_endpoint_for_everybody(home: Home) {
    let store = &home.store;
    let there = home.another().await;
    let (app, made) = customer(store, "acme").await;
    accept(&there, app.id).await;
    let one = only_waiting(store, made.id).await;
    let gone = FinishedAttempt {
        disable: Some(DisabledReason::Gone),
        ..finished(app.id, &one, answered(410), Transition::Dead(DeadReason::Gone))
    };
    assert_eq!(record(store, gone).await, RecordOutcome::Applied);
    let now = store.endpoint(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
    assert_eq!((now.spec.disabled, now.disabled_reason), (true, Some(DisabledReason::Gone)));
    accept(&there, app.id).await;
    assert!(waiting(store, made.id).await.is_empty(), "the other process knows it too");
}

async fn failing_since_is_the_first_failure_after_the_last_delivery(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let step = async |statuses: &[(u16, u64)]| {
        let mut batch = Vec::new();
        for _ in statuses {
            accept(store, app.id).await;
        }
        for (one, (status, at)) in waiting(store, made.id).await.iter().zip(statuses) {
            let mut one = finished(app.id, one, answered(*status), Transition::Delivered);
            one.attempt.at = later(*at);
            batch.push(one);
        }
        store.record(batch).await.unwrap();
        failing_since(&home).await
    };
    assert_eq!(step(&[(200, 1)]).await, 0);
    assert_eq!(step(&[(500, 5), (500, 4), (500, 6)]).await, later(4).micros());
    assert_eq!(step(&[(500, 9)]).await, later(4).micros());
    assert_eq!(step(&[(500, 10), (200, 11)]).await, 0);
    assert_eq!(step(&[(200, 12), (500, 13)]).await, 0);
    assert_eq!(step(&[(500, 14)]).await, later(14).micros());
}

async fn the_counts_are_what_was_recorded(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let ends = [endpoint(store, app.id, endpoint_spec()).await.id, endpoint(store, app.id, endpoint_spec()).await.id];
    for _ in 0..300 {
        accept(store, app.id).await;
    }
    let mut expected = [Counts::default(), Counts::default()];
    for (e, id) in ends.iter().enumerate() {
        let mut batch = Vec::new();
        for (n, one) in waiting(store, *id).await.iter().enumerate() {
            let (status, next) = match n % 3 {
                0 => (200, Transition::Delivered),
                1 => (500, retry(900, 1)),
                _ => (500, Transition::Dead(DeadReason::Exhausted)),
            };
            let mut one = finished(app.id, one, answered(status), next);
            one.attempt.at = later(n as u64);
            one.attempt.outcome.duration = Duration::from_millis([0, 5, 6, 15_000, 99_999][n % 5]);
            let c = &mut expected[e];
            *[&mut c.delivered, &mut c.retried, &mut c.dead][n % 3] += 1;
            c.failed = c.retried + c.dead;
            c.latency[[0, 0, 1, 10, 11][n % 5]] += 1;
            batch.push(one);
        }
        let chunk = batch.len() / 3 + e;
        for some in batch.chunks(chunk) {
            store.record(some.to_vec()).await.unwrap();
        }
    }
    for (e, id) in ends.iter().enumerate() {
        assert_eq!(counts(store, Some(*id)).await, expected[e]);
    }
    let all = store.buckets(&tenant(), CountScope::Organization, ChartRange::Hour, later(600)).await.unwrap();
    assert_eq!(total(&all).attempts(), 600);
    assert_eq!(all.iter().filter(|one| one.counts.attempts() > 0).count(), 5, "300 seconds of a whole minute on");
    assert!(all.is_sorted_by_key(|one| one.at));
    for scope in [CountScope::Organization, CountScope::Application(app.id), CountScope::Endpoint(ends[0])] {
        let none = store.buckets(&stranger(), scope, ChartRange::Hour, later(600)).await.unwrap();
        assert_eq!((none.len(), total(&none)), (61, Counts::default()), "{scope:?}");
    }
    assert_eq!(OrgId::default_org().as_str(), "org_default");
}
