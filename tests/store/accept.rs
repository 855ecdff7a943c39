//! The door: what comes in, to whom it goes, and what is turned away without anybody else noticing.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::{AppId, EndpointId, MessageId, Uid};
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::queue::signals::Signal;
use sendoff::store::{MessageRef, Store, Tenant};

use crate::home::*;
use crate::support::on_both;

fn with_id(app: AppId, id: &str) -> AcceptItem {
    let mut one = item(app);
    one.spec.event_id = Some(uid(id));
    one
}

/// Who has something waiting, in the order of the list.
async fn received(store: &Store, endpoints: &[EndpointId]) -> Vec<usize> {
    let mut counts = Vec::new();
    for id in endpoints {
        counts.push(waiting(store, *id).await.len());
    }
    counts
}

on_both! {
    a_wide_fan_out_is_accepted_in_bounded_transactions
    the_bytes_that_come_in_are_the_bytes_that_are_kept
    each_item_gets_a_verdict_of_its_own
    without_an_organization_a_uid_must_be_the_only_one
    a_message_goes_to_the_endpoints_that_want_it
    a_message_for_one_endpoint_goes_there_and_nowhere_else
    changes_by_another_process_take_effect
    an_event_id_comes_in_once_for_each_application
    one_of_many_concurrent_duplicates_is_accepted
}

/// One transaction is bounded in deliveries: what finds no room goes with the next, and nobody is turned away.
async fn a_wide_fan_out_is_accepted_in_bounded_transactions(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for _ in 0..250 {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    let offers = join_all((0..200).map(|_| store.accept(item(app.id)))).await;
    let ids: BTreeSet<MessageId> = offers.into_iter().map(|offered| offered.unwrap().unwrap().id).collect();
    assert_eq!((ids.len(), store.pending_count(1_000_000).await.unwrap()), (200, 50_000));
    if !home.is_sqlite() {
        // A row carries the transaction that wrote it.
        let largest = "SELECT max(n) FROM (SELECT count(*) AS n FROM due GROUP BY CAST(xmin AS text)) AS written";
        let largest = home.number(largest).await;
        assert!(largest > 250 && largest <= 20_000, "{largest} deliveries in one transaction");
    }
}

async fn the_bytes_that_come_in_are_the_bytes_that_are_kept(home: Home) {
    let app = application(&home.store, "acme").await;
    let mut large = b"{\"a\":\"".to_vec();
    large.resize(MAX_PAYLOAD - 2, b'x');
    large.extend_from_slice(b"\"}");
    for payload in [&b" {\"b\" :1,\r\n\"a\":\t1e400, \"a\": \"\\u0000\\ud83d \xe2\x98\x82\"} "[..], b"{}", &large] {
        let mut one = item(app.id);
        one.spec.payload = Bytes::copy_from_slice(payload);
        one.spec.channels = strings(&["x", "Y_1"]);
        one.spec.event_id = Some(Uid::parse("e", &format!("id-{}", payload.len()), "msg_").unwrap());
        one.spec.occurred_at = Some(NOW.minus(std::time::Duration::from_secs(1)));
        let made = offer(&home.store, one).await.unwrap();
        let found = home.store.message(&tenant(), app.id, &made.id.into()).await.unwrap().unwrap();
        assert_eq!((&found, found.payload.as_deref()), (&*made, Some(payload)));
        let by_event_id = MessageRef::Uid(found.event_id.clone().unwrap());
        assert_eq!(home.store.message(&tenant(), app.id, &by_event_id).await.unwrap().as_ref(), Some(&*made));
    }
}

async fn each_item_gets_a_verdict_of_its_own(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let theirs = store.create_application(&stranger(), app_spec("theirs"), NOW).await.unwrap();
    offer(store, with_id(app.id, "before")).await.unwrap();
    let mut broken = item(app.id);
    broken.spec.payload = Bytes::from_static(b"[]");
    let mut too_large = item(app.id);
    too_large.spec.payload = vec![b' '; MAX_PAYLOAD + 1].into();
    let only_another = AcceptItem { tenant: Some(Tenant { only: Some(theirs.id), ..tenant() }), ..item(app.id) };
    let items = vec![
        item(app.id),
        item(named("acme")),
        item(named("nobody")),
        item(AppId::new(NOW)),
        item(theirs.id),
        item(named("theirs")),
        only_another,
        with_id(app.id, "before"),
        with_id(app.id, "fresh"),
        broken,
        too_large,
    ];
    let verdicts = join_all(items.into_iter().map(|one| store.accept(one))).await;
    let words: Vec<&str> =
        verdicts.iter().map(|v| v.as_ref().unwrap().as_ref().map_or_else(|no| no.word(), |_| "accepted")).collect();
    let unknown = "unknown_application";
    assert_eq!(
        words,
        [
            "accepted",
            "accepted",
            unknown,
            unknown,
            unknown,
            unknown,
            unknown,
            "duplicate",
            "accepted",
            "invalid",
            "invalid"
        ]
    );
    assert_eq!(store.max_payload(), MAX_PAYLOAD);
    assert_eq!(home.number("SELECT count(*) FROM message").await, 4);
}

async fn without_an_organization_a_uid_must_be_the_only_one(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let nobody = |name: &str| AcceptItem { tenant: None, ..item(named(name)) };
    assert_eq!(offer(store, nobody("acme")).await.unwrap().app_id, app.id);
    store.create_application(&stranger(), app_spec("acme"), NOW).await.unwrap();
    assert!(matches!(offer(store, nobody("acme")).await, Err(Rejection::AmbiguousApplication(_))));
    let by_id = AcceptItem { tenant: None, ..item(app.id) };
    assert!(offer(store, by_id).await.is_ok(), "an id is never ambiguous");
    assert!(offer(store, item(named("acme"))).await.is_ok(), "with an organization it is clear");
}

async fn a_message_goes_to_the_endpoints_that_want_it(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for name in ["a", "b"] {
        let spec = EventTypeSpec { name: name.into(), ..EventTypeSpec::default() };
        store.create_event_type(&tenant(), spec, NOW).await.unwrap();
    }
    let types = |names: &[&str]| EndpointSpec { event_types: Some(strings(names)), ..endpoint_spec() };
    let all = endpoint(store, app.id, endpoint_spec()).await;
    let only_a = endpoint(store, app.id, types(&["a"])).await;
    let tuned = EndpointSpec { channels: Some(strings(&["x"])), ..types(&["a", "b"]) };
    let tuned = endpoint(store, app.id, tuned).await;
    let disabled = endpoint(store, app.id, EndpointSpec { disabled: true, ..endpoint_spec() }).await;
    let ids = [all.id, only_a.id, tuned.id, disabled.id];
    let mut signals = store.signals().listen().unwrap();
    assert!(store.signals().listen().is_none(), "one engine for a store");
    let send = async |event_type: &str, channels: &[&str]| {
        let mut one = item(app.id);
        (one.spec.event_type, one.spec.channels) = (event_type.into(), strings(channels));
        offer(store, one).await.unwrap();
        received(store, &ids).await
    };
    assert_eq!(send("a", &[]).await, [1, 1, 0, 0]);
    assert_eq!(send("b", &["y"]).await, [2, 1, 0, 0]);
    assert_eq!(send("b", &["y", "x"]).await, [3, 1, 1, 0]);
    assert_eq!(send("no.such", &["x"]).await, [4, 1, 1, 0]);
    let Some(Signal::Accepted(due)) = signals.recv().await.map(Signal::from) else { panic!("a signal") };
    let told: Vec<EndpointId> = due[0].endpoints.iter().map(|live| live.endpoint.id).collect();
    assert_eq!(told, [all.id, only_a.id], "the engine of this process hears at once");
}

async fn a_message_for_one_endpoint_goes_there_and_nowhere_else(home: Home) {
    let store = &home.store;
    let (app, all) = customer(store, "acme").await;
    let never = endpoint(store, app.id, EndpointSpec { channels: Some(strings(&["x"])), ..endpoint_spec() }).await;
    let paused = endpoint(store, app.id, EndpointSpec { disabled: true, ..endpoint_spec() }).await;
    let (_, strangers) = customer(store, "sister").await;
    let only = |id| AcceptItem { only_endpoint: Some(id), ..with_id(app.id, "one") };
    for id in [paused.id, strangers.id] {
        assert_eq!(offer(store, only(id)).await, Err(Rejection::Unreachable));
    }
    assert_eq!(home.number("SELECT count(*) FROM message").await, 0);
    offer(store, only(never.id)).await.expect("the event id is not taken by what was refused");
    assert_eq!(received(store, &[all.id, never.id, paused.id]).await, [0, 1, 0]);
}

/// What another process changed a moment ago is known, whatever this one remembers.
async fn changes_by_another_process_take_effect(home: Home) {
    let (here, there) = (&home.store, home.another().await);
    let app = application(here, "acme").await;
    accept(here, app.id).await;
    let made = endpoint(&there, app.id, endpoint_spec()).await;
    accept(here, app.id).await;
    assert_eq!(received(here, &[made.id]).await, [1]);
    let disabled = EndpointSpec { disabled: true, ..endpoint_spec() };
    updated(&there, &made, disabled, NOW).await;
    accept(here, app.id).await;
    assert_eq!(received(here, &[made.id]).await, [1], "disabled there, no delivery from here");
    changed_app(&there, &tenant(), app.id, app_spec("renamed"), NOW).await.unwrap();
    assert!(matches!(offer(here, item(named("acme"))).await, Err(Rejection::UnknownApplication(_))));
    let new = application(&there, "acme").await;
    assert_eq!(offer(here, item(named("acme"))).await.unwrap().app_id, new.id);
    assert_eq!(offer(here, item(named("renamed"))).await.unwrap().app_id, app.id);
    there.delete_application(&tenant(), app.id, NOW).await.unwrap();
    assert!(matches!(offer(here, item(app.id)).await, Err(Rejection::UnknownApplication(_))));
    assert!(matches!(offer(here, item(named("renamed"))).await, Err(Rejection::UnknownApplication(_))));
}

async fn an_event_id_comes_in_once_for_each_application(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "one").await, application(store, "two").await);
    let twins = join_all((0..40).map(|n| store.accept(with_id(app.id, &format!("id-{}", n % 4))))).await;
    assert_eq!(twins.iter().filter(|verdict| verdict.as_ref().unwrap().is_ok()).count(), 4);
    let again = offer(store, with_id(app.id, "id-1")).await;
    assert_eq!(again, Err(Rejection::Duplicate("id-1".into())));
    assert!(offer(store, with_id(other.id, "id-1")).await.is_ok());
    assert!(offer(store, with_id(app.id, "ID-1")).await.is_ok(), "an id is its bytes");
    assert_eq!(home.number("SELECT count(*) FROM message_key").await, 6);
    assert_eq!(home.number("SELECT count(*) FROM message").await, 6);
}

/// Eight callers bring the same ids at once, each in another order and, on PostgreSQL, through processes of their own.
async fn one_of_many_concurrent_duplicates_is_accepted(home: Home) {
    let (app, made) = customer(&home.store, "acme").await;
    let stores = [&home.store, &home.another().await];
    let callers = (0..8u64).map(|caller| {
        let store = stores[if home.is_sqlite() { 0 } else { caller as usize % 2 }];
        let ids = (0..100u64).map(move |n| (n * (2 * caller + 1) + caller) % 100);
        let items: Vec<AcceptItem> = ids.map(|n| with_id(app.id, &format!("event-{n}"))).collect();
        join_all(items.into_iter().map(|one| store.accept(one)))
    });
    let (mut accepted, mut duplicates) = (0, 0);
    for verdict in join_all(callers).await.into_iter().flatten() {
        match verdict.expect("the store") {
            Ok(_) => accepted += 1,
            Err(Rejection::Duplicate(_)) => duplicates += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((accepted, duplicates), (100, 700));
    assert_eq!(received(&home.store, &[made.id]).await, [100]);
    assert_eq!(home.number("SELECT count(*) FROM message").await, 100);
}
