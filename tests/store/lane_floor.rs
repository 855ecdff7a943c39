//! A lane is read from its floors on: what lies below is not given out, and on PostgreSQL not passed over either.

use sendoff::domain::deliveries::delivery::Transition;
use sendoff::domain::{AppId, EndpointId, Time};
use sendoff::store::Store;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::queue::pending_deliveries::LaneRequest;
use sqlx::{Connection, Executor};

use crate::home::*;
use crate::support::on_both;
use crate::support::{SOON, eventually};

async fn accept_at(store: &Store, app: AppId, at: Time) {
    offer(store, AcceptItem { at, ..item(app) }).await.expect("accepted");
}

async fn due(store: &Store, want: LaneRequest) -> Vec<Time> {
    store.pending_deliveries(&[want]).await.unwrap().into_iter().map(|one| one.due_at).collect()
}

on_both! {
    deliveries_due_before_the_watermark_of_their_kind_are_skipped
}

async fn deliveries_due_before_the_watermark_of_their_kind_are_skipped(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for second in 1..=4 {
        accept_at(store, app.id, later(second)).await;
    }
    for one in &waiting(store, made.id).await[..2] {
        store
            .record(vec![finished(app.id, one, answered(500), retry(10 + one.due_at.since(NOW).as_secs(), 1))])
            .await
            .unwrap();
    }
    let all = wants(store, made.id, 9, 9).await;
    assert_eq!(due(store, all).await, [3, 4, 11, 12].map(later));
    assert_eq!(
        due(store, LaneRequest { fresh_from: later(4), ..all }).await,
        [4, 11, 12].map(later),
        "the floor itself is in"
    );
    assert_eq!(due(store, LaneRequest { retries_from: later(12), ..all }).await, [3, 4, 12].map(later));
    let some = LaneRequest { fresh: 1, fresh_from: later(4), retries: 1, retries_from: later(12), ..all };
    assert_eq!(due(store, some).await, [4, 12].map(later));
}

/// How many readings of lanes there were along the index, and how many entries they have read.
async fn read(home: &Home) -> (i64, i64) {
    const OF_INDEX: &str =
        "(SELECT CAST(sum(idx_scan) AS bigint) AS scans, CAST(sum(idx_tup_read) AS bigint) AS entries
         FROM pg_stat_user_indexes WHERE indexrelname = 'due_of_lane') AS stat";
    let scans = home.number(&format!("SELECT scans FROM {OF_INDEX}")).await;
    (scans, home.number(&format!("SELECT entries FROM {OF_INDEX}")).await)
}

/// How many entries of the index a reading from `fresh_from` on takes, on average of ten.
async fn entries(home: &Home, endpoint: EndpointId, fresh_from: Time) -> i64 {
    let want = LaneRequest { fresh_from, ..wants(&home.store, endpoint, 10, 0).await };
    let before = read(home).await;
    let after = eventually("readings are counted", SOON, async || {
        for _ in 0..10 {
            assert_eq!(due(&home.store, want).await.len(), 1);
        }
        let after = read(home).await;
        (after.0 >= before.0 + 10).then_some(after)
    })
    .await;
    (after.1 - before.1) / (after.0 - before.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_rows_below_the_floor_are_not_read_although_a_snapshot_is_held() {
    const TIMES: u64 = 20;
    const ROWS: i64 = 50;
    let home = Home::postgres().await;
    let (app, made) = customer(&home.store, "acme").await;
    let Raw::Postgres(mut holder) = home.connect().await else { panic!("PostgreSQL") };
    let mut snapshot = holder.begin().await.unwrap();
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    snapshot.execute("SELECT count(*) FROM due").await.unwrap();
    for second in 0..TIMES {
        for _ in 0..ROWS {
            accept_at(&home.store, app.id, later(second)).await;
        }
        let all = waiting(&home.store, made.id).await;
        let done: Vec<_> = all.iter().map(|one| finished(app.id, one, answered(200), Transition::Delivered)).collect();
        assert_eq!(home.store.record(done).await.unwrap().len(), ROWS as usize);
    }
    accept_at(&home.store, app.id, later(TIMES)).await;
    let dead = ROWS * TIMES as i64;
    // A backend tells of its readings about a second later, so that the first counts are of earlier ones.
    let all = |entries: i64| (entries >= dead).then_some(());
    let few = |entries: i64| (entries <= dead / 10).then_some(());
    eventually("all that are dead are read", SOON, async || all(entries(&home, made.id, Time::ZERO).await)).await;
    eventually("few of them are", SOON, async || few(entries(&home, made.id, later(TIMES)).await)).await;
    snapshot.rollback().await.unwrap();
}
