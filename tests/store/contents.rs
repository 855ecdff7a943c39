//! Contents that go before their messages do.

use std::time::Duration;

use sendoff::domain::deliveries::attempt::{Outcome, Trigger};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, AttemptId, MessageId, Time};
use sendoff::store::queue::signals::Signal;
use sendoff::store::recording::record::RecordOutcome;
use sendoff::store::{Store, Tenant};

use crate::home::*;
use crate::support::on_both;

const HOUR: Duration = Duration::from_secs(3_600);

async fn content(store: &Store, app: AppId, message: MessageId) -> Option<bytes::Bytes> {
    store.message(&tenant(), app, &message.into()).await.unwrap().unwrap().payload
}

async fn keep(store: &Store, app: AppId, span: Duration) -> MessageId {
    let mut one = item(app);
    one.spec.keep_content = Some(span);
    offer(store, one).await.unwrap().id
}

on_both! {
    without_content_nothing_more_is_sent
    a_resend_and_a_deletion_come_one_after_the_other
    pending_deliveries_without_content_are_ended
    a_content_goes_when_its_time_is_over
    many_contents_go_in_steps
    an_attempts_answer_is_deleted_and_nothing_else_of_it
}

async fn without_content_nothing_more_is_sent(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let second = endpoint(store, app.id, endpoint_spec()).await;
    let (message, other) = (accept(store, app.id).await, accept(store, app.id).await);
    let of_it = |all: Vec<sendoff::store::queue::pending_deliveries::PendingDelivery>| {
        all.into_iter().find(|one| one.message_id == message.id).expect("it waits")
    };
    let (delivered, in_flight) = (of_it(waiting(store, made.id).await), of_it(waiting(store, second.id).await));
    store.record(vec![finished(app.id, &delivered, answered(200), Transition::Delivered)]).await.unwrap();
    let mut signals = store.signals().listen().unwrap();

    for (who, app) in [(stranger(), app.id), (Tenant { only: Some(AppId::new(NOW)), ..tenant() }, app.id)] {
        assert!(!store.delete_content(&who, app, message.id, NOW).await.unwrap());
    }
    assert!(!store.delete_content(&tenant(), app.id, MessageId::new(NOW), NOW).await.unwrap());
    assert!(content(store, app.id, message.id).await.is_some());

    assert!(store.delete_content(&tenant(), app.id, message.id, later(9)).await.unwrap());
    assert_eq!(content(store, app.id, message.id).await, None);
    assert!(content(store, app.id, other.id).await.is_some());
    assert_eq!(home.number("SELECT count(*) FROM message WHERE payload IS NULL").await, 1);
    let Some(Signal::Withdrawn(ended)) = signals.recv().await.map(Signal::from) else { panic!("the engine is told") };
    assert_eq!(ended, [(second.id, message.id)]);
    let stands = async |endpoint| {
        let view = delivery(store, app.id, message.id, endpoint).await;
        (view.state, view.reason, view.due_at)
    };
    let dead = (DeliveryState::Dead, Some(DeadReason::ContentDeleted), later(9));
    assert_eq!((stands(made.id).await, stands(second.id).await), ((DeliveryState::Delivered, None, NOW), dead));
    let left: Vec<MessageId> = waiting(store, second.id).await.into_iter().map(|one| one.message_id).collect();
    assert_eq!(left, [other.id]);

    // What was in flight is recorded and changes nothing; nobody sends it again.
    let done = store.record(vec![finished(app.id, &in_flight, answered(500), retry(60, 1))]).await.unwrap();
    assert_eq!(done, [RecordOutcome::Superseded]);
    assert_eq!(stands(second.id).await, dead);
    for endpoint in [made.id, second.id] {
        assert!(!store.resend(&tenant(), app.id, (message.id, endpoint), NOW).await.unwrap());
    }
    assert!(store.delete_content(&tenant(), app.id, message.id, later(9)).await.unwrap(), "again is as good");
    assert!(store.resend(&tenant(), app.id, (other.id, made.id), NOW).await.unwrap());
}

/// Of many who resend and one who deletes, whoever comes last sees what the other did.
async fn a_resend_and_a_deletion_come_one_after_the_other(home: Home) {
    let (app, made) = customer(&home.store, "acme").await;
    let another = home.another().await;
    let there = if home.is_sqlite() { &home.store } else { &another };
    for _ in 0..20 {
        let message = accept(&home.store, app.id).await.id;
        let owner = tenant();
        let resends = (0..4).map(|_| there.resend(&owner, app.id, (message, made.id), NOW));
        let deletes = home.store.delete_content(&owner, app.id, message, NOW);
        let (resends, deleted) = tokio::join!(futures_util::future::join_all(resends), deletes);
        assert!(deleted.unwrap() && resends.iter().all(Result::is_ok));
        let view = delivery(&home.store, app.id, message, made.id).await;
        assert_eq!((view.state, view.reason), (DeliveryState::Dead, Some(DeadReason::ContentDeleted)));
    }
}

/// What only two processes bring about: pending, and nothing there to send.
async fn pending_deliveries_without_content_are_ended(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let (gone, whole) = (accept(store, app.id).await.id, accept(store, app.id).await.id);
    let first = "id = (SELECT id FROM message ORDER BY id LIMIT 1)";
    assert_eq!(home.execute(&format!("UPDATE message SET payload = NULL WHERE {first}")).await, 1);
    assert_eq!(store.end_without_content(&[whole], later(1)).await.unwrap(), 0);
    assert_eq!(store.end_without_content(&[whole, gone], later(1)).await.unwrap(), 1);
    assert_eq!(store.end_without_content(&[whole, gone], later(1)).await.unwrap(), 0, "once");
    let view = delivery(store, app.id, gone, made.id).await;
    assert_eq!((view.state, view.reason), (DeliveryState::Dead, Some(DeadReason::ContentDeleted)));
    assert_eq!(only_waiting(store, made.id).await.message_id, whole);
}

async fn a_content_goes_when_its_time_is_over(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let (short, long) = (keep(store, app.id, HOUR).await, keep(store, app.id, 2 * HOUR).await);
    let usual = accept(store, app.id).await.id;
    let expire = async |now: Time| store.expire_contents(now).await.unwrap();
    assert_eq!(expire(NOW.plus(HOUR).minus(Duration::from_micros(1))).await, 0);
    assert_eq!((expire(NOW.plus(HOUR)).await, expire(NOW.plus(HOUR)).await), (1, 0), "once, and at its time");
    assert_eq!(content(store, app.id, short).await, None);
    assert!(content(store, app.id, long).await.is_some());
    let view = delivery(store, app.id, short, made.id).await;
    assert_eq!((view.state, view.reason), (DeliveryState::Dead, Some(DeadReason::ContentDeleted)));
    assert_eq!((expire(Time::MAX).await, expire(Time::MAX).await), (1, 0));
    assert!(content(store, app.id, usual).await.is_some(), "nobody asked for an end");
    assert_eq!(waiting(store, made.id).await.len(), 1);
}

async fn many_contents_go_in_steps(home: Home) {
    let (store, app) = (&home.store, application(&home.store, "acme").await);
    let count = 2 * Store::CONTENTS_STEP + 1;
    let kept = (0..count).map(|_| keep(store, app.id, HOUR));
    futures_util::future::join_all(kept).await;
    let mut steps = Vec::new();
    while steps.last() != Some(&0) {
        steps.push(store.expire_contents(later(3_600)).await.unwrap());
    }
    assert_eq!(steps, [Store::CONTENTS_STEP, Store::CONTENTS_STEP, 1, 0]);
}

async fn an_attempts_answer_is_deleted_and_nothing_else_of_it(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let message = accept(store, app.id).await.id;
    let outcome = Outcome {
        response_headers: vec![("x-secret".into(), "1".into())],
        response_body: "secret".into(),
        ..answered(500)
    };
    let done = finished(app.id, &only_waiting(store, made.id).await, outcome, retry(60, 1));
    let id = done.attempt.id;
    store.record(vec![done]).await.unwrap();
    let delete =
        async |who: Tenant, message, id| store.delete_attempt_content(&who, app.id, message, id, NOW).await.unwrap();
    assert!(!delete(stranger(), message, id).await);
    assert!(!delete(Tenant { only: Some(AppId::new(NOW)), ..tenant() }, message, id).await);
    assert!(!delete(tenant(), MessageId::new(NOW), id).await && !delete(tenant(), message, AttemptId::new(NOW)).await);
    let read = async || store.attempt(&tenant(), app.id, message, id).await.unwrap().unwrap();
    let mut before = read().await;
    assert_eq!(&before.outcome.response_body[..], b"secret");
    assert!(delete(tenant(), message, id).await);
    (before.outcome.response_headers, before.outcome.response_body) = (Vec::new(), "EXPUNGED".into());
    assert_eq!(read().await, before);
    assert_eq!(only_waiting(store, made.id).await.progress, progress(1, 1, 0, Trigger::Scheduled), "it goes on");
}
