//! However much is pending, the engine reads what it asked for and no more of it.

use sqlx::postgres::PgRow;
use sqlx::{Executor, Row};

use crate::home::*;
use crate::support::backlog::backlog;
use crate::support::{SOON, eventually};

const ENDPOINTS: i64 = 3;
/// How many of a lane are asked for.
const WANTED: i64 = 20;
/// Often enough that PostgreSQL keeps its plan.
const ROUNDS: i64 = 10;
/// What each round looks for in an index: a lane, the next, … and none; then what is fresh and what is retried in one of them.
const LOOKS: i64 = (ENDPOINTS + 1) + 2;
/// What it finds at most.
const FOUND: i64 = ENDPOINTS + WANTED;

/// Rows of deliveries that were read past the indexes, entries that were read in these, and how often something was looked for in them.
async fn read(home: &Home) -> (i64, i64, i64) {
    let Raw::Postgres(mut connection) = home.connect().await else { panic!("PostgreSQL") };
    let sql = "SELECT seq_tup_read, (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'due'),
                      (SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes WHERE relname = 'due')
               FROM pg_stat_user_tables WHERE relname = 'due'";
    let row: PgRow = connection.fetch_one(sql).await.expect("PostgreSQL counts");
    (row.get(0), row.get(1), row.get(2))
}

/// A plan that was made when there was almost nothing is kept when there is much.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_lane_costs_what_is_asked_of_it() {
    let home = Home::postgres().await;
    let app = application(&home.store, "acme").await;
    let mut end = None;
    for _ in 0..ENDPOINTS {
        end = Some(endpoint(&home.store, app.id, endpoint_spec()).await.id);
    }
    accept(&home.store, app.id).await;
    home.execute("VACUUM ANALYZE due").await;
    let (rows, entries, looks) = read(&home).await;
    let engine = home.another().await;
    let wants = wants(&engine, end.unwrap(), WANTED, WANTED).await;
    let round = async |waiting| {
        assert_eq!(pending_lanes(&engine).await.len() as i64, ENDPOINTS);
        assert_eq!(engine.pending_deliveries(&[wants]).await.unwrap().len() as i64, waiting);
    };
    for _ in 1..ROUNDS {
        round(1).await;
    }
    for sql in backlog(false, "acme", 2_000) {
        home.execute(&sql).await;
    }
    round(WANTED).await;

    // PostgreSQL counts what a connection did when that ends, if not before.
    drop(engine);
    let counted = eventually("what was read is counted", SOON, async || {
        let now = read(&home).await;
        (now.2 >= looks + ROUNDS * LOOKS || now.0 > rows).then_some(now)
    });
    let (rows_then, entries_then, _) = counted.await;
    assert_eq!(rows_then - rows, 0, "rows were read past the indexes");
    let entries = entries_then - entries;
    assert!(entries <= ROUNDS * FOUND, "{entries} entries were read, at most {FOUND} are asked for in a round");
}
