//! Nobody takes what a process prints: the reader of its log has gone, has stopped, or its disk is full. Then the store has a hiccup, of
//! which there is much to log. Delivery goes on as if the log were written.

use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::support::{Durability, Postgres, Prints, eventually, sqlite_file};
use crate::world::{Kind, REST, World};

const EVERYWHERE: [Prints; 3] = [Prints::Unheard, Prints::Refused, Prints::Blocked];

/// Starts a process whose log leads nowhere, and loads it.
async fn prints_nowhere(world: &mut World, prints: Prints) -> usize {
    world.prints(prints);
    // A full pipe takes no line, and the queue before it has room for thousands.
    let filter = if prints == Prints::Blocked { "trace" } else { "info" };
    world.set("SENDOFF_LOG", filter);
    let process = world.start("all");
    world.furnish().await;
    process
}

/// What has to hold after the hiccup.
async fn goes_on(world: &mut World, process: usize, prints: Prints) {
    world.recovery(&format!("{prints:?}: the store is back")).await;
    assert_eq!(world.server(process).get_status("/readyz"), Some(200), "{prints:?}");
    let reason = if prints == Prints::Blocked { "full" } else { "failed" };
    let counter = format!("sendoff_log_lines_dropped_total{{reason=\"{reason}\"}} ");
    eventually(&format!("{prints:?}: dropped lines are counted"), REST, async || {
        let metrics = world.server(process).get("/metrics");
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(&counter)?.parse::<u64>().ok());
        dropped.filter(|dropped| *dropped > 0)
    })
    .await;
}

/// Ends it in time, and judges.
async fn ends(world: &mut World, process: usize, prints: Prints) {
    let toll = world.judge(&format!("the log leads nowhere ({prints:?}), and the store has a hiccup"), 1).await;
    assert_eq!(toll.duplicates, 0, "{prints:?}");
    world.terminate(process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_cannot_be_written_stops_nothing_on_sqlite() {
    for prints in EVERYWHERE {
        let file = sqlite_file();
        let mut world = World::at(Kind::Sqlite, &file.url(), None);
        let process = prints_nowhere(&mut world, prints).await;
        let load = world.load();
        world.progress(40).await;
        let options: SqliteConnectOptions = file.url().parse().expect("a URL");
        let mut locker = options.busy_timeout(Duration::from_secs(10)).connect().await.expect("a connection");
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut locker).await.expect("the lock");
        world.refusal().await;
        sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.expect("no lock");
        locker.close().await.expect("it closes");
        world.strike().await;
        goes_on(&mut world, process, prints).await;
        load.end().await;
        ends(&mut world, process, prints).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_log_that_cannot_be_written_stops_nothing_on_postgres() {
    let postgres = Postgres::start(Durability::On);
    for prints in EVERYWHERE {
        let mut world = World::at(Kind::Postgres, &postgres.fresh_database(), None);
        let process = prints_nowhere(&mut world, prints).await;
        let load = world.load();
        world.progress(40).await;
        postgres.crash();
        world.refusal().await;
        postgres.restart();
        world.strike().await;
        goes_on(&mut world, process, prints).await;
        load.end().await;
        ends(&mut world, process, prints).await;
    }
}
