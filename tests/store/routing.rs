//! What this process remembers of endpoints: a change is seen by whoever accepts next, and costs reading that endpoint alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec, HeaderChange};
use sendoff::domain::{AppId, EndpointId};
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::ingest::message_routing::LiveEndpoint;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::ingest::outbox::relay_batch_size::{RelayBatchSize, RelayStep};
use sendoff::store::queue::signals::{QueuedSignal, Signal};
use sendoff::store::{EndpointRef, Store};

use sqlx::Executor as _;
use tokio::sync::mpsc::Receiver;

use crate::home::*;
use crate::support::on_both;

const MANY: usize = 500;

/// Accepts a message, and gives back the endpoints as this process then knows them.
async fn accepted_for(store: &Store, signals: &mut Receiver<QueuedSignal>, app: AppId) -> Vec<Arc<LiveEndpoint>> {
    accept(store, app).await;
    loop {
        if let Signal::Accepted(admitted) = Signal::from(signals.recv().await.expect("a signal")) {
            return admitted[0].endpoints.clone();
        }
    }
}

fn unchanged(before: &[Arc<LiveEndpoint>], after: &[Arc<LiveEndpoint>]) -> usize {
    let before: BTreeMap<EndpointId, &Arc<LiveEndpoint>> = before.iter().map(|live| (live.endpoint.id, live)).collect();
    after.iter().filter(|live| before.get(&live.endpoint.id).is_some_and(|known| Arc::ptr_eq(known, live))).count()
}

async fn now(store: &Store, app: AppId, id: EndpointId) -> Endpoint {
    store.endpoint(&tenant(), app, &EndpointRef::Id(id)).await.unwrap().unwrap()
}

on_both! {
    a_change_of_one_endpoint_reads_that_one_alone
    each_change_of_an_endpoint_is_seen_by_the_next_accept_of_another_process
    a_throttle_of_the_application_reaches_endpoints_that_did_not_change
    an_application_with_many_endpoints_is_loaded_before_its_messages_are_accepted
}

async fn a_change_of_one_endpoint_reads_that_one_alone(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let mut ids = Vec::new();
    for _ in 0..MANY {
        ids.push(endpoint(store, app.id, endpoint_spec()).await.id);
    }
    // An engine's process asks for some at a time, one that accepts for all.
    let there = home.another().await;
    let asked = there.live_endpoints(&ids[..100]).await.unwrap();
    assert_eq!(asked.len(), 100);
    assert_eq!(unchanged(&asked, &there.live_endpoints(&ids[..200]).await.unwrap()), 100, "nothing is read twice");
    let mut signals = there.signals().listen().unwrap();
    let all = accepted_for(&there, &mut signals, app.id).await;
    assert_eq!((all.len(), unchanged(&asked, &all)), (MANY, 100));

    let before = now(store, app.id, ids[7]).await;
    let spec = EndpointSpec { url: "https://example.com/moved".into(), ..endpoint_spec() };
    updated(store, &before, spec.clone(), later(1)).await;
    let after = accepted_for(&there, &mut signals, app.id).await;
    assert_eq!((after.len(), unchanged(&all, &after)), (MANY, MANY - 1));
    assert!(after.iter().any(|live| live.endpoint.id == ids[7] && live.endpoint.spec == spec));
    let loaded = there.live_endpoints(&ids).await.unwrap();
    assert_eq!(unchanged(&after, &loaded), MANY);
    // A new one, and one that is gone, change nothing of the others.
    endpoint(store, app.id, endpoint_spec()).await;
    store.delete_endpoint(&tenant(), app.id, ids[8], later(2)).await.unwrap();
    let last = accepted_for(&there, &mut signals, app.id).await;
    assert_eq!((last.len(), unchanged(&after, &last)), (MANY, MANY - 1));
}

async fn each_change_of_an_endpoint_is_seen_by_the_next_accept_of_another_process(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    endpoint(store, app.id, endpoint_spec()).await;
    let there = home.another().await;
    let mut signals = there.signals().listen().unwrap();
    let find = |lives: Vec<Arc<LiveEndpoint>>| lives.into_iter().find(|live| live.endpoint.id == made.id);
    let signed = |live: &LiveEndpoint| live.signing.as_ref().unwrap().signature("msg_1", later(9), b"{}");
    let first = find(accepted_for(&there, &mut signals, app.id).await).unwrap();

    let hour = Duration::from_secs(3_600);
    assert!(store.rotate_secret(&tenant(), app.id, made.id, &secret(), hour, later(1)).await.unwrap());
    let rotated = find(accepted_for(&there, &mut signals, app.id).await).unwrap();
    assert_ne!(signed(&first), signed(&rotated));

    let headers = BTreeMap::from([("x-a".to_owned(), "1".to_owned())]);
    let change = HeaderChange::Replace(headers.clone());
    assert!(store.change_headers(&tenant(), app.id, made.id, &change, later(2)).await.unwrap());
    let changed = find(accepted_for(&there, &mut signals, app.id).await).unwrap();
    assert_eq!(changed.endpoint.spec.headers, headers);
    assert_eq!(signed(&changed), signed(&rotated));

    let before = now(store, app.id, made.id).await;
    let off = EndpointSpec { disabled: true, ..before.spec.clone() };
    let disabled = updated(store, &before, off, later(3)).await;
    let seen = find(accepted_for(&there, &mut signals, app.id).await);
    assert!(seen.is_none_or(|live| live.endpoint.spec.disabled));
    let loaded = there.live_endpoints(&[made.id]).await.unwrap().remove(0);
    assert!(loaded.endpoint.spec.disabled);
    let on = EndpointSpec { disabled: false, ..disabled.spec.clone() };
    updated(store, &disabled, on, later(4)).await;
    assert!(!find(accepted_for(&there, &mut signals, app.id).await).unwrap().endpoint.spec.disabled);

    assert!(store.delete_endpoint(&tenant(), app.id, made.id, later(5)).await.unwrap());
    assert!(find(accepted_for(&there, &mut signals, app.id).await).is_none());
    assert!(there.live_endpoints(&[made.id]).await.unwrap().is_empty());
}

async fn a_throttle_of_the_application_reaches_endpoints_that_did_not_change(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let there = home.another().await;
    assert_eq!(there.live_endpoints(&[made.id]).await.unwrap()[0].app_rate, None);
    let spec = sendoff::domain::catalog::application::ApplicationSpec { throttle_rate: Some(5), ..app_spec("acme") };
    changed_app(store, &tenant(), app.id, spec, later(1)).await.unwrap();
    assert_eq!(there.live_endpoints(&[made.id]).await.unwrap()[0].app_rate.map(|rate| rate.per_second), Some(5));
}

/// How many endpoints an application may have is known from how many were ever made.
async fn an_application_with_many_endpoints_is_loaded_before_its_messages_are_accepted(home: Home) {
    let (large, made) = customer(&home.store, "large").await;
    let (small, _) = customer(&home.store, "small").await;
    home.execute("UPDATE application SET endpoints_made = 5000 WHERE uid = 'large'").await;
    home.execute(
        "INSERT INTO outbox (application, event_type, payload) VALUES
         ('large', 'a', '{\"n\":1}'), ('small', 'a', '{}'), ('large', 'a', '{\"n\":2}'), ('small', 'a', '{}')",
    )
    .await;
    let there = home.another().await;
    let step = there.relay(RelayRequest { limit: 100, now: NOW }).await.unwrap();
    assert_eq!((step.accepted, step.left, step.not_loaded), (2, 0, [large.id].into()), "of the small one");
    assert_eq!(
        home.number("SELECT count(*) FROM outbox WHERE application = 'large' AND stuck_reason IS NULL").await,
        2
    );
    let mut pace = RelayBatchSize::default();
    let mut accepted = 0;
    for _ in 0..3 {
        if let RelayStep::Relayed(step) = there.relay_next(&mut pace, NOW).await.unwrap() {
            accepted += step.accepted;
        }
    }
    assert_eq!(accepted, 2);
    let payloads = waiting(&there, made.id).await.into_iter().map(|one| one.message_id);
    let mut seen = Vec::new();
    for id in payloads {
        seen.push(there.message(&tenant(), large.id, &id.into()).await.unwrap().unwrap().payload.unwrap());
    }
    assert_eq!(seen, [r#"{"n":1}"#, r#"{"n":2}"#], "in their order");

    // Over REST it waits for no other call, and none for it.
    let there = home.another().await;
    accept(&there, large.id).await;
    accept(&there, small.id).await;
    assert_eq!(waiting(&there, made.id).await.len(), 3);
    // What changed is read inside the transaction, however many endpoints there are.
    disable(&home, large.id, made.id).await;
    let item = AcceptItem { only_endpoint: Some(made.id), ..item(large.id) };
    assert_eq!(offer(&there, item).await.unwrap_err(), Rejection::Unreachable);
}

/// Disables an endpoint, by another process.
async fn disable(home: &Home, app: AppId, id: EndpointId) {
    let before = now(&home.store, app, id).await;
    let spec = EndpointSpec { disabled: true, ..before.spec.clone() };
    updated(&home.store, &before, spec, later(1)).await;
}

/// While the endpoints of one application are read, and a lock holds that up, the messages of others are accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_holds_up_nobody_else() {
    let home = Home::postgres().await;
    let (large, _) = customer(&home.store, "large").await;
    let (small, _) = customer(&home.store, "small").await;
    home.execute("UPDATE application SET endpoints_made = 5000 WHERE uid = 'large'").await;
    let there = home.another().await;
    accept(&there, small.id).await;
    let Raw::Postgres(mut other) = home.connect().await else { panic!("PostgreSQL") };
    other.execute("BEGIN; LOCK TABLE endpoint_secret IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let first = tokio::spawn({
        let (there, app) = (there.clone(), large.id);
        async move { accept(&there, app).await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'endpoint_secret'::regclass";
    while home.number(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..5 {
        let accepted = tokio::time::timeout(Duration::from_secs(20), accept(&there, small.id)).await;
        accepted.expect("it waits for nobody");
    }
    assert!(!first.is_finished());
    other.execute("COMMIT").await.unwrap();
    first.await.unwrap();
}
