//! Consumers that stop polling: each silence is reported once, and the next poll ends it.

use std::time::Duration;

use sendoff::domain::Time;
use sendoff::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use sendoff::domain::feed::{FeedIterator, Position};
use sendoff::store::Store;
use sendoff::store::catalog::change::UpdateResult;
use sendoff::store::feed::consumers::ConsumerPosition;
use sendoff::store::feed::leases::LeaseResult;
use sendoff::store::feed::silent_consumers::SilenceReport;
use serde_json::json;

use crate::home::*;
use crate::operational::{kinds, listener, payload, told};
use crate::support::on_both;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: u64 = 3_600;

/// So many hours after the beginning of these stories.
fn hour(hours: u64) -> Time {
    later(hours * HOUR)
}

async fn polled(store: &Store, app: sendoff::domain::AppId, name: &str) -> PollingEndpoint {
    let spec = PollingEndpointSpec { uid: Some(uid(name)), ..PollingEndpointSpec::default() };
    store.create_polling_endpoint(&tenant(), app, spec, NOW).await.expect("a polling endpoint")
}

async fn poll(store: &Store, endpoint: &PollingEndpoint, name: &str, at: Time) {
    let position = store.consume(&tenant(), endpoint, name, None, at).await.expect("the store");
    assert!(matches!(position, ConsumerPosition::From(_)), "{position:?}");
}

async fn report(store: &Store, at: Time) -> SilenceReport {
    store.report_silent_consumers(DAY, at).await.expect("the store")
}

/// The report of these consumers, by name.
fn silent(endpoint: &PollingEndpoint, names: &[&str]) -> SilenceReport {
    let silent = names.iter().map(|name| (endpoint.id, (*name).to_owned())).collect();
    SilenceReport { silent, ..SilenceReport::default() }
}

async fn marked(store: &Store, endpoint: &PollingEndpoint) -> Vec<String> {
    let consumers = store.consumers(&tenant(), endpoint).await.expect("the store");
    consumers.into_iter().filter(|one| one.silent).map(|one| one.name).collect()
}

on_both! {
    a_silence_is_reported_once_and_ends_with_the_next_poll
    a_lease_a_change_and_a_disabled_polling_endpoint_delay_the_report
    more_silent_consumers_than_one_step_handles_come_with_the_next
    two_processes_report_a_silence_once
}

async fn a_silence_is_reported_once_and_ends_with_the_next_poll(home: Home) {
    let store = &home.store;
    let ears = listener(store, endpoint_spec()).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app, "pull").await;
    poll(store, &endpoint, "a", hour(0)).await;
    poll(store, &endpoint, "b", hour(1)).await;
    assert_eq!(report(store, hour(23)).await, SilenceReport::default());
    assert_eq!(report(store, hour(24)).await, silent(&endpoint, &["a"]));
    assert_eq!(report(store, hour(24)).await, SilenceReport::default(), "once");
    assert_eq!(report(store, hour(25)).await, silent(&endpoint, &["b"]));
    assert_eq!(marked(store, &endpoint).await, ["a", "b"]);

    let events = told(store, ears.id).await;
    let data = json!({"appId": app.to_string(), "appUid": "acme", "endpointId": endpoint.id.to_string(),
        "endpointUid": "pull", "consumerId": "a", "lastPollAt": hour(0).to_string()});
    assert_eq!(payload(&events[0]), json!({"type": "consumer.silent", "data": data}));
    assert_eq!((events.len(), events[0].accepted_at), (2, hour(24)));

    poll(store, &endpoint, "a", hour(30)).await;
    assert_eq!(marked(store, &endpoint).await, ["b"]);
    assert_eq!(report(store, hour(53)).await, SilenceReport::default());
    assert_eq!(report(store, hour(54)).await, silent(&endpoint, &["a"]), "the next silence");
    store.reset_consumer(&tenant(), &endpoint, "b", endpoint.beginning(), hour(55)).await.unwrap();
    assert!(marked(store, &endpoint).await == ["a"], "a seek is a sign of life");
    assert_eq!(kinds(store, ears.id).await, ["consumer.silent"; 3]);
}

async fn a_lease_a_change_and_a_disabled_polling_endpoint_delay_the_report(home: Home) {
    let store = &home.store;
    let ears = listener(store, endpoint_spec()).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app, "pull").await;
    // PostgreSQL's clock sets the end of a lease.
    let now = sendoff::domain::time::Clock.now();
    let from = FeedIterator { position: Position::at(NOW), complete_at: NOW, moves: 0 };
    store.lease_state(&tenant(), &endpoint, "leased", from, now).await.unwrap();
    let given = (from, &[Position::at(later(1))][..]);
    let lease = Duration::from_secs(5 * HOUR);
    let taken = store.take_lease(&tenant(), &endpoint, "leased", given, lease, now).await.unwrap();
    assert_eq!(taken, LeaseResult::From(1));
    let end = now.plus(DAY);
    assert_eq!(report(store, end.plus(Duration::from_secs(4 * HOUR))).await, SilenceReport::default());
    assert_eq!(report(store, end.plus(Duration::from_secs(6 * HOUR))).await, silent(&endpoint, &["leased"]));

    let endpoint = polled(store, app, "other").await;
    poll(store, &endpoint, "c", hour(0)).await;
    let turn = async |disabled, at| {
        let work = |before: &PollingEndpoint| Ok::<_, ()>(PollingEndpointSpec { disabled, ..before.spec.clone() });
        let turned = store.update_polling_endpoint(&tenant(), app, endpoint.id, work, at).await.unwrap();
        assert!(matches!(turned, UpdateResult::Updated(_)), "{turned:?}");
    };
    turn(true, hour(20)).await;
    assert_eq!(report(store, hour(43)).await, SilenceReport::default());
    assert_eq!(report(store, hour(44)).await, SilenceReport::default(), "nobody can poll it");
    turn(false, hour(100)).await;
    assert_eq!(marked(store, &endpoint).await, [""; 0]);
    assert_eq!(report(store, hour(123)).await, SilenceReport::default());
    assert_eq!(report(store, hour(124)).await, silent(&endpoint, &["c"]));
    assert_eq!(kinds(store, ears.id).await, ["consumer.silent"; 2]);
}

async fn more_silent_consumers_than_one_step_handles_come_with_the_next(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    for name in ["one", "two"] {
        let endpoint = polled(store, app, name).await;
        for number in 0..60 {
            poll(store, &endpoint, &format!("c-{number:02}"), later(number)).await;
        }
    }
    let first = report(store, hour(48)).await;
    assert_eq!((first.silent.len(), first.more), (100, true));
    let second = report(store, hour(48)).await;
    assert_eq!((second.silent.len(), second.more), (20, false));
    assert_eq!(home.number("SELECT count(*) FROM polling_consumer WHERE silence_reported = polled_at").await, 120);
}

async fn two_processes_report_a_silence_once(home: Home) {
    let store = &home.store;
    let ears = listener(store, endpoint_spec()).await;
    let endpoint = polled(store, application(store, "acme").await.id, "pull").await;
    for name in ["a", "b", "c"] {
        poll(store, &endpoint, name, hour(0)).await;
    }
    let other = store.clone();
    let (first, second) = tokio::join!(report(store, hour(24)), report(&other, hour(24)));
    assert_eq!(first.silent.len() + second.silent.len(), 3, "{first:?} {second:?}");
    assert_eq!(kinds(store, ears.id).await.len(), 3);
}
