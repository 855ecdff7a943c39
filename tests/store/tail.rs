//! The tail: the newest attempts, and those that came since.

use std::time::Duration;

use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::{AppId, AttemptId, EndpointId};
use sendoff::store::query::attempts::ListedAttempt;
use sendoff::store::query::tail::TailFilter;
use sendoff::store::{Store, Tenant};

use crate::background_wide::make_operational;
use crate::home::*;
use crate::support::on_both;

/// One attempt of a new message to each endpoint of the application that is given, which began so much after [`NOW`].
async fn attempt(store: &Store, app: AppId, endpoint: EndpointId, at: u64, status: u16, took: Duration) {
    let mut one = item(app);
    (one.at, one.only_endpoint) = (later(at), Some(endpoint));
    offer(store, one).await.unwrap();
    let next = if status < 300 { Transition::Delivered } else { Transition::Dead(DeadReason::Exhausted) };
    let waits = waiting(store, endpoint).await;
    let mut done = finished(app, &waits[0], answered(status), next);
    done.attempt.id = AttemptId::floor(later(at));
    done.attempt.outcome.duration = took;
    store.record(vec![done]).await.unwrap();
}

fn statuses(lines: &[ListedAttempt]) -> Vec<i32> {
    lines.iter().filter_map(|line| line.status).collect()
}

on_both! {
    the_newest_attempts_are_those_of_the_tenant_that_the_filter_takes
}

async fn the_newest_attempts_are_those_of_the_tenant_that_the_filter_takes(home: Home) {
    let store = &home.store;
    let (acme, first) = customer(store, "acme").await;
    let second = endpoint(store, acme.id, endpoint_spec()).await;
    let (globex, third) = customer(store, "globex").await;
    let (house, told) = customer(store, "house").await;
    let short = Duration::from_millis(5);
    for (at, app, endpoint, status) in [
        (1, acme.id, first.id, 201),
        (2, acme.id, second.id, 502),
        (3, globex.id, third.id, 203),
        (4, globex.id, third.id, 504),
        (5, house.id, told.id, 205),
    ] {
        attempt(store, app, endpoint, at, status, short).await;
    }
    make_operational(&home, house.id).await;
    let all = TailFilter::default;
    let of = async |who: &Tenant, filter: TailFilter, limit| statuses(&store.tail(who, &filter, limit).await.unwrap());
    let (us, mine) = (tenant(), Tenant { only: Some(acme.id), ..tenant() });
    assert_eq!(of(&us, all(), 9).await, [504, 203, 502, 201]);
    assert_eq!(of(&us, all(), 2).await, [504, 203]);
    assert_eq!(of(&us, TailFilter { failed: true, ..all() }, 9).await, [504, 502]);
    assert_eq!(of(&us, TailFilter { app: Some(acme.id), ..all() }, 9).await, [502, 201]);
    assert_eq!(of(&us, TailFilter { endpoint: Some(first.id), ..all() }, 9).await, [201]);
    let none = TailFilter { event_type: Some("no.such".into()), ..all() };
    assert_eq!(of(&us, none, 9).await, Vec::<i32>::new());
    assert_eq!(of(&mine, all(), 9).await, [502, 201]);
    assert_eq!(of(&mine, TailFilter { app: Some(globex.id), ..all() }, 9).await, Vec::<i32>::new());
    assert_eq!(of(&stranger(), all(), 9).await, Vec::<i32>::new());

    let since = async |who: &Tenant, at, took| statuses(&store.attempts_since(who, later(at), took, 9).await.unwrap());
    assert_eq!(since(&us, 2, Duration::ZERO).await, [504, 203, 502]);
    assert_eq!(since(&us, 2, short * 2).await, Vec::<i32>::new());
    assert_eq!(since(&mine, 0, Duration::ZERO).await, [502, 201]);
    assert_eq!(since(&stranger(), 0, Duration::ZERO).await, Vec::<i32>::new());
    attempt(store, acme.id, first.id, 6, 200, Duration::from_secs(12)).await;
    assert_eq!(since(&us, 2, short * 2).await, [200]);
}
