//! SIGTERM while the store is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::api::Api;
use crate::support::{Answer, Durability, Kind, Postgres, Receiver, SOON};

const DRAIN: Duration = Duration::from_secs(3);
/// For what the system needs to end a process, and for a busy machine.
const SLACK: Duration = Duration::from_millis(1_500);

/// Starts a process, with something in flight.
async fn with_something_in_flight(api: &Api, receiver: &Receiver) {
    api.customer(receiver.url("/")).await;
    assert_eq!(api.send().await.0, 202);
    receiver.wait_for(1, SOON).await;
}

/// Asks it to end; gives back how long that took.
fn end(api: Api) -> (Duration, String) {
    let asked = Instant::now();
    api.server.terminate();
    let (status, output) = api.server.wait(Duration::from_secs(60));
    assert!(status.success(), "{status}: {output}");
    (asked.elapsed(), output)
}

fn settings() -> [(&'static str, &'static str); 2] {
    [("SENDOFF_DRAIN", "3s"), ("SENDOFF_LOG", "info")]
}

/// Answers once it is told, so that the result cannot be recorded any more.
fn receiver() -> (Receiver, Arc<AtomicBool>) {
    let told = Arc::<AtomicBool>::default();
    let theirs = told.clone();
    let receiver = Receiver::start(move |_| {
        while !theirs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Answer::ok()
    });
    (receiver, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_file_keeps_no_process_beyond_the_drain() {
    let api = Api::on(Kind::Sqlite, &settings());
    let (receiver, told) = receiver();
    with_something_in_flight(&api, &receiver).await;
    let options = SqliteConnectOptions::new().filename(api.file.as_ref().expect("SQLite").path());
    let mut locker = options.busy_timeout(Duration::from_secs(10)).connect().await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut locker).await.expect("the lock");
    told.store(true, Ordering::SeqCst);
    let (took, output) = tokio::task::spawn_blocking(|| end(api)).await.expect("it ends");
    assert!(took < DRAIN + SLACK, "{took:?}: {output}");
    assert!(output.contains("will be sent again"), "{output}");
    locker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_keeps_no_process_beyond_the_drain() {
    let postgres = Postgres::start(Durability::Off);
    let api = Api::at(&postgres.fresh_database(), &settings());
    let (receiver, told) = receiver();
    with_something_in_flight(&api, &receiver).await;
    postgres.crash();
    told.store(true, Ordering::SeqCst);
    let (took, output) = tokio::task::spawn_blocking(|| end(api)).await.expect("it ends");
    assert!(took < DRAIN + SLACK, "{took:?}: {output}");
    assert!(output.contains("will be sent again"), "{output}");
}
