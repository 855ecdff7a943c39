//! An SQLite file that other programs use too.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::api::Api;
use crate::support::{Kind, Receiver, SOON, eventually};

/// Another program's connection to the file.
async fn other(api: &Api) -> SqliteConnection {
    let path = api.file.as_ref().expect("SQLite").path();
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
    options.connect().await.expect("a connection")
}

async fn run(connection: &mut SqliteConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.expect(sql);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_wait_one_busy_timeout_for_a_locked_file() {
    let api = Api::on(Kind::Sqlite, &[("SENDOFF_SQLITE_BUSY_TIMEOUT", "1s")]);
    api.customer(Receiver::ok().url("/")).await;
    let mut locker = other(&api).await;
    run(&mut locker, "BEGIN IMMEDIATE").await;
    let began = Instant::now();
    let asked = (0..24).map(|number| {
        let api = &api;
        async move {
            let (method, path, body) = match number % 4 {
                0 => (Method::POST, "/app/a/msg".to_owned(), json!({"eventType": "t", "payload": {}})),
                1 => (Method::POST, "/app".to_owned(), json!({"name": "B"})),
                2 => (Method::PATCH, "/app/a/endpoint/e".to_owned(), json!({"description": number.to_string()})),
                _ => (Method::POST, "/event-type".to_owned(), json!({"name": format!("t{number}"), "description": ""})),
            };
            // They come all the time, not only when the file is locked.
            tokio::time::sleep(Duration::from_millis(number * 50)).await;
            let asked = Instant::now();
            let (status, _) = api.ask(method, &path, body).await;
            (number, status, asked.elapsed())
        }
    });
    for (number, status, waited) in join_all(asked).await {
        assert_eq!(status, 503, "request {number}");
        assert!(waited < Duration::from_secs(2), "request {number} waited for {waited:?}");
    }
    assert!(began.elapsed() > Duration::from_secs(1));
    run(&mut locker, "ROLLBACK").await;
    eventually("a message is accepted", SOON, async || (api.send().await.0 == 202).then_some(())).await;
}

/// How large the WAL is, in MiB.
fn wal(api: &Api) -> u64 {
    let path = api.file.as_ref().expect("SQLite").path();
    let wal = path.with_file_name(format!("{}-wal", path.file_name().expect("a name").display()));
    std::fs::metadata(wal).map_or(0, |metadata| metadata.len() >> 20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wal_that_a_reader_pinned_shrinks_once_the_reader_has_gone() {
    let api = Api::on(Kind::Sqlite, &[]);
    let (mut reader, mut writer) = (other(&api).await, other(&api).await);
    run(&mut writer, "CREATE TABLE theirs (content BLOB)").await;
    run(&mut reader, "BEGIN; SELECT count(*) FROM theirs").await;
    while wal(&api) < 240 {
        run(&mut writer, "INSERT INTO theirs VALUES (zeroblob(4194304))").await;
    }
    writer.close().await.expect("it closes");
    run(&mut reader, "COMMIT").await;
    reader.close().await.expect("it closes");
    // Heartbeats commit every few seconds, if nobody else does.
    eventually("the WAL has shrunk", SOON, async || (wal(&api) <= 160).then_some(())).await;
}
