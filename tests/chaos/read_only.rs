//! PostgreSQL answers, and takes no writes: what a name leads to after the server behind it was demoted, or a database that somebody has
//! made read-only. A session that began then goes on to be read-only after that is over.

use std::time::Duration;

use crate::support::{Durability, Postgres, SOON, eventually};
use crate::world::{Kind, REST, World};

/// Ends all sessions of Sendoff on this database.
fn end_sessions(postgres: &Postgres, database: &str) {
    postgres.execute(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'sendoff'"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_are_read_only_are_replaced_once_the_database_takes_writes() {
    let postgres = Postgres::start(Durability::On);
    let url = postgres.fresh_database();
    let database = url.rsplit('/').next().expect("a name");
    let mut world = World::at(Kind::Postgres, &url, None);
    let processes = ["all", "worker"].map(|role| world.start(role));
    world.furnish().await;
    let load = world.load();
    for _ in 0..2 {
        world.progress(40).await;
        postgres.execute(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
        end_sessions(&postgres, database);
        for process in processes {
            eventually("a process that cannot write is unready", SOON, async || {
                (world.server(process).get_status("/readyz") == Some(503)).then_some(())
            })
            .await;
            assert_eq!(world.server(process).get_status("/healthz"), Some(200));
        }
        // Long enough that each pool has only sessions of now, and that the leases have run out.
        let since = std::time::Instant::now();
        eventually("it lasts for a while", REST, async || (since.elapsed() > Duration::from_secs(5)).then_some(()))
            .await;
        world.refusal().await;
        postgres.execute(&format!("ALTER DATABASE {database} RESET default_transaction_read_only"));
        world.strike().await;
        world.recovery("the database takes writes again").await;
        for process in processes {
            eventually("a process that can write is ready", SOON, async || {
                (world.server(process).get_status("/readyz") == Some(200)).then_some(())
            })
            .await;
        }
    }
    load.end().await;
    let toll = world.judge("PostgreSQL is read-only for a while, and so are new sessions", 2).await;
    assert_eq!(toll.duplicates, 0, "what was answered meanwhile is held, and recorded");
}

/// Nobody takes it for a store, however long it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_somebody_else_keeps_locked_is_unready() {
    use sqlx::{ConnectOptions, Connection};
    let mut world = World::on(Kind::Sqlite);
    let process = world.start("all");
    world.furnish().await;
    let mut locker = world.books.sqlite().connect().await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut locker).await.expect("the lock");
    let (url, client) = (format!("{}/readyz", world.server(process).url()), world.sender.client.clone());
    // Later on it also lacks its leases, which is another reason.
    eventually("it is unready", SOON, async || {
        let answer = client.get(&url).send().await.ok()?;
        let (status, text) = (answer.status(), answer.text().await.ok()?);
        (status == 503 && text.contains("store_unavailable")).then_some(())
    })
    .await;
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.expect("no lock");
    locker.close().await.expect("it closes");
    eventually("it is ready", SOON, async || (world.server(process).get_status("/readyz") == Some(200)).then_some(()))
        .await;
}
