//! Reading: messages and attempts in lists, by filters, and only by those whose they are.

use std::time::Duration;

use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::domain::deliveries::delivery::Transition;
use sendoff::domain::{AppId, AttemptId, MessageId};
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::query::topic_filter::TopicFilter;
use sendoff::store::{Order, PageRequest, Tenant};

use crate::home::*;
use crate::support::on_both;

const MICRO: Duration = Duration::from_micros(1);

on_both! {
    messages_by_what_they_are
    attempts_by_what_came_of_them
}

async fn messages_by_what_they_are(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await, application(store, "other").await);
    accept(store, other.id).await;
    let mut ids = Vec::new();
    for (n, (event_type, channels)) in
        [("a", vec![]), ("b", vec!["x"]), ("a", vec!["X", "a_c"]), ("c", vec!["abc"])].into_iter().enumerate()
    {
        let mut one = item(app.id);
        one.at = later(n as u64);
        (one.spec.event_type, one.spec.channels) = (event_type.into(), strings(&channels));
        ids.push(offer(store, one).await.unwrap().id);
    }
    let list = async |filter: MessageFilter| {
        let page = store.messages(&tenant(), app.id, &filter, &first()).await.unwrap();
        page.data.iter().map(|one| ids.iter().position(|id| *id == one.id).unwrap()).collect::<Vec<_>>()
    };
    let all = MessageFilter::default;
    assert_eq!(list(all()).await, [0, 1, 2, 3]);
    assert_eq!(list(MessageFilter { topics: of_types(&["a", "c"]), ..all() }).await, [0, 2, 3]);
    let on = |channel: &str| MessageFilter { topics: on_channel(channel), ..all() };
    assert_eq!(list(on("x")).await, [1], "a channel is its bytes");
    assert_eq!(list(on("a_c")).await, [2], "and no pattern");
    assert_eq!(list(on("a")).await, [] as [usize; 0]);
    assert_eq!(list(MessageFilter { before: Some(later(2)), ..all() }).await, [0, 1, 2]);
    assert_eq!(list(MessageFilter { after: Some(later(1)), ..all() }).await, [1, 2, 3]);
    let half = MessageFilter { after: Some(later(1).minus(MICRO)), before: Some(later(2).minus(MICRO)), ..all() };
    assert_eq!(list(half).await, [1]);

    let newest = PageRequest { limit: 2, order: Order::Descending, after: None, back: false };
    let page = store.messages(&tenant(), app.id, &all(), &newest).await.unwrap();
    assert_eq!((page.data.iter().map(|m| m.id).collect::<Vec<_>>(), page.more), (vec![ids[3], ids[2]], true));
    let sister = Tenant { only: Some(other.id), ..tenant() };
    for who in [stranger(), sister] {
        assert!(store.messages(&who, app.id, &all(), &first()).await.unwrap().data.is_empty());
        assert_eq!(store.message(&who, app.id, &ids[0].into()).await.unwrap(), None);
    }
    assert_eq!(store.message(&tenant(), other.id, &ids[0].into()).await.unwrap(), None, "another application's");
    assert_eq!(store.message(&tenant(), app.id, &MessageId::new(NOW).into()).await.unwrap(), None);
    store.delete_application(&tenant(), app.id, NOW).await.unwrap();
    assert!(store.messages(&tenant(), app.id, &all(), &first()).await.unwrap().data.is_empty());
    assert!(store.deliveries_of(&tenant(), app.id, ids[0]).await.unwrap().data.is_empty());
}

async fn attempts_by_what_came_of_them(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let ends = [endpoint(store, app.id, endpoint_spec()).await.id, endpoint(store, app.id, endpoint_spec()).await.id];
    let mut one = item(app.id);
    (one.spec.event_type, one.spec.channels) = ("a".into(), strings(&["x"]));
    let first_message = offer(store, one).await.unwrap().id;
    accept(store, app.id).await;
    // Two messages to two endpoints: 200, 404, 503 and no answer.
    let outcomes = [answered(200), answered(404), answered(503), Outcome::failed(Failure::Dns, "x", Duration::ZERO)];
    let mut all: Vec<AttemptId> = Vec::new();
    let mut batch = Vec::new();
    for (e, id) in ends.iter().enumerate() {
        for (m, one) in waiting(store, *id).await.iter().enumerate() {
            let mut done = finished(app.id, one, outcomes[2 * e + m].clone(), Transition::Delivered);
            done.attempt.at = later((2 * e + m) as u64);
            all.push(done.attempt.id);
            batch.push(done);
        }
    }
    let kept = batch[1].attempt.clone();
    store.record(batch).await.unwrap();
    let list = async |filter: AttemptFilter| {
        let page = store.attempts(&tenant(), app.id, &filter, &first()).await.unwrap();
        page.data.iter().map(|one| all.iter().position(|id| *id == one.id).unwrap()).collect::<Vec<_>>()
    };
    let any = AttemptFilter::default;
    assert_eq!(list(any()).await, [0, 1, 2, 3]);
    assert_eq!(list(AttemptFilter { endpoint: Some(ends[1]), ..any() }).await, [2, 3]);
    assert_eq!(list(AttemptFilter { message: Some(first_message), ..any() }).await, [0, 2]);
    assert_eq!(list(AttemptFilter { delivered: Some(true), ..any() }).await, [0]);
    assert_eq!(list(AttemptFilter { delivered: Some(false), ..any() }).await, [1, 2, 3]);
    assert_eq!(list(AttemptFilter { status_class: Some(400), ..any() }).await, [1]);
    assert_eq!(list(AttemptFilter { status_class: Some(500), ..any() }).await, [2]);
    assert_eq!(list(AttemptFilter { status_class: Some(0), ..any() }).await, [3]);
    assert_eq!(list(AttemptFilter { topics: of_types(&["a", "z"]), ..any() }).await, [0, 2]);
    assert_eq!(list(AttemptFilter { topics: on_channel("x"), ..any() }).await, [0, 2]);
    assert_eq!(list(AttemptFilter { topics: on_channel("X"), ..any() }).await, [] as [usize; 0]);
    assert_eq!(list(AttemptFilter { before: Some(later(2)), after: Some(later(1)), ..any() }).await, [1, 2]);
    let both = AttemptFilter {
        topics: TopicFilter { event_types: strings(&["a"]), ..on_channel("x") },
        endpoint: Some(ends[0]),
        ..any()
    };
    assert_eq!(list(both).await, [0]);

    let message = kept.message_id;
    assert_eq!(store.attempt(&tenant(), app.id, message, kept.id).await.unwrap(), Some(kept.clone()));
    let other = application(store, "other").await;
    let sister = Tenant { only: Some(other.id), ..tenant() };
    for (who, of, message) in [
        (stranger(), app.id, message),
        (sister.clone(), app.id, message),
        (tenant(), other.id, message),
        (tenant(), app.id, first_message),
    ] {
        assert_eq!(store.attempt(&who, of, message, kept.id).await.unwrap(), None);
    }
    for who in [stranger(), sister] {
        assert!(store.attempts(&who, app.id, &any(), &first()).await.unwrap().data.is_empty());
    }

    let lines = store.newest_attempts(&tenant(), false, None, 3).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.id).collect::<Vec<_>>(), [all[3], all[2], all[1]]);
    assert_eq!((lines[2].app_name.as_str(), lines[2].status), ("acme", Some(404)));
    assert_eq!((lines[0].failure.as_deref(), lines[1].event_type.as_deref()), (Some("dns"), Some("a")));
    let failed = store.newest_attempts(&tenant(), true, Some(all[3]), 9).await.unwrap();
    assert_eq!(failed.iter().map(|line| line.id).collect::<Vec<_>>(), [all[2], all[1]]);
    assert!(store.newest_attempts(&stranger(), false, None, 9).await.unwrap().is_empty());
    let (owner, at) = (lines[0].app_id, lines[0].endpoint_id);
    let there = store.newest_attempts_to(&tenant(), owner, at, true, 9).await.unwrap();
    assert_eq!(there.first().map(|line| line.id), Some(all[3]), "the newest first");
    assert!(there.iter().all(|line| line.endpoint_id == at && line.failure.is_some()));
    assert_eq!(store.newest_attempts_to(&tenant(), owner, at, true, 1).await.unwrap().len(), 1);
    let elsewhere = [(stranger(), owner), (Tenant { only: Some(AppId::new(NOW)), ..tenant() }, owner)];
    for (who, app) in elsewhere {
        assert!(store.newest_attempts_to(&who, app, at, true, 9).await.unwrap().is_empty());
    }
    assert!(list(AttemptFilter { endpoint: Some(sendoff::domain::EndpointId::new(NOW)), ..any() }).await.is_empty());
    assert!(AppId::new(NOW) != app.id);
}
