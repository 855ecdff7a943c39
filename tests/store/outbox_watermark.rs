//! PostgreSQL: a look at the outbox begins where rows still wait, however many were relayed while somebody holds a snapshot open.

use std::time::Duration;

use sendoff::domain::Time;
use sendoff::store::Store;
use sendoff::store::ingest::outbox::relay_batch_size::{RelayBatchSize, RelayStep};
use sqlx::{Connection, Executor};

use crate::home::*;
use crate::support::{SOON, eventually};

/// How many rows are relayed each time, and how often.
const ROWS: u64 = 100;
const TIMES: u64 = 60;

async fn insert(home: &Home, rows: u64) {
    home.execute(&format!(
        "INSERT INTO outbox (application, event_type, payload) SELECT 'acme', 'a', '{{}}' FROM generate_series(1, {rows})"
    ))
    .await;
}

/// Relays what waits at `now`; gives back how many rows.
async fn relay(store: &Store, now: Time) -> usize {
    let (mut pace, mut rows) = (RelayBatchSize::default(), 0);
    while let RelayStep::Relayed(relayed) = store.relay_next(&mut pace, now).await.expect("the store") {
        rows += relayed.rows();
    }
    rows
}

/// Rows come and are relayed, a second apart, from `second` on; gives back the second after the last.
async fn flow(home: &Home, second: u64) -> u64 {
    for second in second..second + TIMES {
        insert(home, ROWS).await;
        assert!(relay(&home.store, later(second)).await >= ROWS as usize);
    }
    second + TIMES
}

/// How many looks there were along the index, and how many entries they have read.
async fn read(home: &Home) -> (i64, i64) {
    const OF_INDEX: &str = "FROM pg_stat_user_indexes WHERE indexrelname = 'outbox_next'";
    let looks = home.number(&format!("SELECT idx_scan {OF_INDEX}")).await;
    (looks, home.number(&format!("SELECT idx_tup_read {OF_INDEX}")).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_reads_few_rows_although_a_snapshot_is_held() {
    let home = Home::postgres().await;
    application(&home.store, "acme").await;
    let Raw::Postgres(mut holder) = home.connect().await else { panic!("PostgreSQL") };
    let mut snapshot = holder.begin().await.unwrap();
    snapshot.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    snapshot.execute("SELECT count(*) FROM outbox").await.unwrap();
    let now = later(flow(&home, 0).await);
    // The first look takes in everything; a backend tells of its looks about a second later.
    let mut least = i64::MAX;
    for _ in 0..4 {
        let before = read(&home).await;
        let after = eventually("looks are counted", SOON, async || {
            for _ in 0..20 {
                assert!(!home.store.outbox_has_work(now).await.unwrap());
            }
            let after = read(&home).await;
            (after.0 >= before.0 + 20).then_some(after)
        })
        .await;
        least = least.min((after.1 - before.1) / (after.0 - before.0));
    }
    let all = (ROWS * TIMES) as i64;
    assert!(least <= all / 2, "{least} entries read in each look, of {all} that are dead");
    snapshot.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_below_the_watermark_are_found_by_the_next_full_scan() {
    let home = Home::postgres().await;
    application(&home.store, "acme").await;
    let Raw::Postgres(mut writer) = home.connect().await else { panic!("PostgreSQL") };
    // Drawn before all the others, and committed after them; one more has no id at all.
    let row = "INSERT INTO outbox (id, application, event_type, payload)";
    writer.execute("BEGIN").await.unwrap();
    for id in ["nextval('outbox_id')", "NULL"] {
        writer.execute(sqlx::AssertSqlSafe(format!("{row} VALUES ({id}, 'acme', 'late', '{{}}')"))).await.unwrap();
    }
    let now = later(flow(&home, 0).await);
    assert_eq!(relay(&home.store, now).await, 0);
    writer.execute("COMMIT").await.unwrap();
    assert_eq!(relay(&home.store, now).await, 0, "below the floor");
    let next = now.plus(Duration::from_secs(2));
    assert_eq!(relay(&home.store, next).await, 2);
    assert_eq!(home.number("SELECT count(*) FROM message WHERE event_type = 'late'").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_unblocked_by_a_new_application_are_found_at_once() {
    let home = Home::postgres().await;
    application(&home.store, "acme").await;
    home.execute("INSERT INTO outbox (application, event_type, payload) VALUES ('new', 'a', '{}')").await;
    assert_eq!(relay(&home.store, NOW).await, 1, "it is stuck");
    let now = later(flow(&home, 20).await - 1);
    assert!(!home.store.outbox_has_work(now).await.unwrap());
    application(&home.store, "new").await;
    assert_eq!(relay(&home.store, now).await, 1);
}
