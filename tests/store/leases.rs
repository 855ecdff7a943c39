//! Leased consumers: what one was given is nobody else's until it is committed or its lease ends, and then it is given out again.

use std::time::Duration;

use sendoff::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec};
use sendoff::domain::feed::lease::CommitOutcome;
use sendoff::domain::feed::{FeedIterator, Position};
use sendoff::domain::{AppId, Time, limits};
use sendoff::store::Store;
use sendoff::store::feed::consumers::ConsumerPosition;
use sendoff::store::feed::leases::{LeaseResult, LeaseState};

use crate::home::*;
use crate::support::on_both;

const LONG: Duration = Duration::from_secs(3_600);

async fn polled(store: &Store, app: AppId) -> PollingEndpoint {
    store
        .create_polling_endpoint(&tenant(), app, PollingEndpointSpec::default(), NOW)
        .await
        .expect("a polling endpoint")
}

/// Where the consumer stands, by a clock that is right also where the database has its own.
async fn state(store: &Store, endpoint: &PollingEndpoint, name: &str, now: Time) -> LeaseState {
    store.lease_state(&tenant(), endpoint, name, endpoint.beginning(), now).await.expect("the store")
}

async fn take(
    store: &Store,
    endpoint: &PollingEndpoint,
    from: FeedIterator,
    seconds: &[u64],
    lease: Duration,
    now: Time,
) -> LeaseResult {
    let positions: Vec<Position> = seconds.iter().map(|seconds| Position::at(later(*seconds))).collect();
    store.take_lease(&tenant(), endpoint, "c", (from, &positions), lease, now).await.expect("the store")
}

async fn commit(store: &Store, endpoint: &PollingEndpoint, offset: u64, now: Time) -> Option<CommitOutcome> {
    store.commit_lease(&tenant(), endpoint, "c", offset, now).await.expect("the store")
}

/// The time by which leases go.
async fn clock(home: &Home) -> Time {
    if home.is_sqlite() {
        return NOW;
    }
    Time::from_micros(home.number("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)").await)
}

on_both! {
    leased_messages_belong_to_one_request_until_the_commit
    messages_not_committed_in_time_are_returned_again
    a_consumer_keeps_to_one_way
    messages_that_match_no_filter_are_skipped
}

async fn leased_messages_belong_to_one_request_until_the_commit(home: Home) {
    let store = &home.store;
    let now = clock(&home).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app).await;
    let from = endpoint.beginning();
    assert_eq!(state(store, &endpoint, "c", now).await, LeaseState::Free(from));
    assert_eq!(take(store, &endpoint, from, &[1, 2, 3], LONG, now).await, LeaseResult::From(1));
    let LeaseState::Held(until) = state(store, &endpoint, "c", now).await else { panic!("it is held") };
    assert!(until > now.plus(LONG / 2) && until < now.plus(LONG * 2), "{until}");
    assert_eq!(
        take(store, &endpoint, from, &[1, 2, 3], LONG, now).await,
        LeaseResult::Lost,
        "of two at once one is given them"
    );
    assert_eq!(
        state(store, &endpoint, "other", now).await,
        LeaseState::Free(from),
        "another consumer stands by itself"
    );

    assert_eq!(commit(store, &endpoint, 4, now).await, Some(CommitOutcome::UnknownOffset));
    assert_eq!(commit(store, &endpoint, 2, now).await, Some(CommitOutcome::Advanced(Position::at(later(2)))));
    assert_eq!(commit(store, &endpoint, 1, now).await, Some(CommitOutcome::AlreadyCommitted));
    assert!(matches!(state(store, &endpoint, "c", now).await, LeaseState::Held(_)), "one is left");
    assert_eq!(commit(store, &endpoint, 3, now).await, Some(CommitOutcome::Advanced(Position::at(later(3)))));
    let LeaseState::Free(next) = state(store, &endpoint, "c", now).await else { panic!("all is committed") };
    assert_eq!(next.position, Position::at(later(3)));
    assert_eq!(take(store, &endpoint, next, &[4], LONG, now).await, LeaseResult::From(4));
    for offset in [1, 3] {
        let again = commit(store, &endpoint, offset, now).await;
        assert_eq!(again, Some(CommitOutcome::AlreadyCommitted), "its first answer was lost, and another went on");
    }
    assert_eq!(take(store, &endpoint, from, &[1], LONG, now).await, LeaseResult::Lost, "it stands elsewhere");
    for (who, endpoint) in [(stranger(), &endpoint), (tenant(), &polled(store, app).await)] {
        assert_eq!(store.commit_lease(&who, endpoint, "c", 4, now).await.unwrap(), None);
    }
    assert_eq!(store.lease_state(&stranger(), &endpoint, "c", from, now).await.unwrap(), LeaseState::NotFound);
}

async fn messages_not_committed_in_time_are_returned_again(home: Home) {
    let store = &home.store;
    let now = clock(&home).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app).await;
    let from = endpoint.beginning();
    state(store, &endpoint, "c", now).await;
    assert_eq!(take(store, &endpoint, from, &[1, 2], Duration::ZERO, now).await, LeaseResult::From(1));
    assert_eq!(commit(store, &endpoint, 2, now).await, Some(CommitOutcome::LeaseExpired));
    assert_eq!(state(store, &endpoint, "c", now.plus(Duration::from_secs(60))).await, LeaseState::Free(from));
    assert_eq!(take(store, &endpoint, from, &[1, 2], LONG, now).await, LeaseResult::From(3), "under other offsets");
    assert_eq!(commit(store, &endpoint, 2, now).await, Some(CommitOutcome::LeaseExpired), "of the lease before");
    assert_eq!(commit(store, &endpoint, 4, now).await, Some(CommitOutcome::Advanced(Position::at(later(2)))));
    assert_eq!(
        commit(store, &endpoint, 2, now).await,
        Some(CommitOutcome::LeaseExpired),
        "by whom it was not committed"
    );
    // Moved: what it holds is not its own any more.
    let LeaseState::Free(at) = state(store, &endpoint, "c", now).await else { panic!("all is committed") };
    assert_eq!(take(store, &endpoint, at, &[3], LONG, now).await, LeaseResult::From(5));
    let back = store.reset_consumer(&tenant(), &endpoint, "c", from, NOW).await.unwrap();
    assert!(matches!(back, ConsumerPosition::From(_)));
    assert_eq!(commit(store, &endpoint, 5, now).await, Some(CommitOutcome::LeaseExpired));
    let LeaseState::Free(at) = state(store, &endpoint, "c", now).await else { panic!("nothing is held") };
    assert_eq!((at.position, at.moves), (from.position, 1));
}

async fn a_consumer_keeps_to_one_way(home: Home) {
    let store = &home.store;
    let now = clock(&home).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app).await;
    store.consume(&tenant(), &endpoint, "by-iterator", None, NOW).await.unwrap();
    assert_eq!(state(store, &endpoint, "by-iterator", now).await, LeaseState::NotLeased);
    state(store, &endpoint, "leased", now).await;
    assert_eq!(store.consume(&tenant(), &endpoint, "leased", None, NOW).await.unwrap(), ConsumerPosition::Leased);
    for n in 2..limits::CONSUMERS {
        state(store, &endpoint, &format!("c{n}"), now).await;
    }
    assert_eq!(state(store, &endpoint, "one-more", now).await, LeaseState::TooMany);
    assert_eq!(home.number("SELECT count(*) FROM polling_consumer WHERE leased_until IS NOT NULL").await, 99);
    store.delete_polling_endpoint(&tenant(), &endpoint, NOW).await.unwrap();
    assert_eq!(state(store, &endpoint, "leased", now).await, LeaseState::NotFound);
}

/// What its filters keep back moves it on; where there is nothing, nothing is written but once a minute that it came.
async fn messages_that_match_no_filter_are_skipped(home: Home) {
    let store = &home.store;
    let now = clock(&home).await;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app).await;
    let from = endpoint.beginning();
    state(store, &endpoint, "c", now).await;
    let pass = async |from, to| store.skip_to(&tenant(), &endpoint, "c", (from, to), NOW).await.unwrap();
    let idle = |from: FeedIterator, seconds| FeedIterator {
        complete_at: from.complete_at.plus(Duration::from_secs(seconds)),
        ..from
    };
    pass(from, idle(from, 59)).await;
    assert_eq!(state(store, &endpoint, "c", now).await, LeaseState::Free(from));
    let to = idle(from, 60);
    pass(from, to).await;
    assert_eq!(state(store, &endpoint, "c", now).await, LeaseState::Free(to));
    let on = FeedIterator { position: Position::at(later(9)), ..to };
    pass(from, on).await;
    assert_eq!(state(store, &endpoint, "c", now).await, LeaseState::Free(to), "it stands elsewhere by now");
    pass(to, on).await;
    assert_eq!(state(store, &endpoint, "c", now).await, LeaseState::Free(on));
    assert_eq!(take(store, &endpoint, on, &[10], LONG, now).await, LeaseResult::From(1));
    pass(on, FeedIterator { position: Position::at(later(11)), ..on }).await;
    assert_eq!(
        commit(store, &endpoint, 1, now).await,
        Some(CommitOutcome::Advanced(Position::at(later(10)))),
        "what is leased is not passed over"
    );
}
