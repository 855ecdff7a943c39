//! The store goes away, or cannot keep up: 503, nothing accepted, and all is well again when it is back.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tokio::time::timeout;

use crate::support::{Durability, Postgres, SOON, eventually, sqlite_file};
use crate::world::{Settings, World, said};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_it_says_503_and_goes_on_by_itself() {
    let postgres = Postgres::start(Durability::On);
    let world = World::at(&postgres.fresh_database(), Settings::default()).await;
    world.app("a").await;
    postgres.crash();
    let message = json!({"eventType": "t", "payload": {"a": 1}, "eventId": "once"});
    let (answer, list, ready) = tokio::join!(
        world.call("POST", "/app/a/msg", message.clone()),
        world.get("/app"),
        said(world.request("GET", "/readyz"))
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.text.contains("127.0.0.1") && !answer.text.contains("sendoff_test"), "{}", answer.text);
    assert_eq!(answer.expect(503)["code"], "unavailable");
    assert_eq!(list.expect(503)["code"], "unavailable");
    assert_eq!(ready.expect(503)["code"], "store_unavailable");
    assert_eq!(said(world.request("GET", "/healthz")).await.status, 200);

    postgres.restart();
    eventually("the store to be back", SOON + Duration::from_secs(20), async || {
        (said(world.request("GET", "/readyz")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"], json!([]), "nothing was accepted meanwhile");
    world.call("POST", "/app/a/msg", message).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_rejects_requests_on_sqlite() {
    let file = sqlite_file();
    let world = World::at(&file.url(), Settings { queue: 1, ..Settings::default() }).await;
    world.app("a").await;
    let mut lock = SqliteConnection::connect(&file.url()).await.expect("a connection");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut lock).await.expect("the lock");
    let let_go = async || {
        sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.expect("its end");
    };
    turned_away(&world, let_go).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_rejects_requests_on_postgres() {
    let url = Postgres::shared().fresh_database();
    let world = World::at(&url, Settings { queue: 1, ..Settings::default() }).await;
    world.app("a").await;
    let mut lock = PgConnection::connect(&url).await.expect("a connection");
    let statement = "BEGIN; LOCK TABLE sendoff.message IN EXCLUSIVE MODE";
    sqlx::raw_sql(statement).execute(&mut lock).await.expect("the lock");
    let let_go = async || {
        sqlx::raw_sql("ROLLBACK").execute(&mut lock).await.expect("its end");
    };
    turned_away(&world, let_go).await;
}

/// Somebody else holds what the writer needs: few messages are with the writer or wait, the others hear so at once.
async fn turned_away(world: &World, let_go: impl AsyncFnOnce()) {
    let post = |_| world.call("POST", "/app/a/msg", json!({"eventType": "t", "payload": {}}));
    let mut answers: FuturesUnordered<_> = (0..40).map(post).collect();
    let (mut away, mut accepted) = (0, 0);
    while away < 20 {
        let answer = timeout(SOON, answers.next()).await.expect("an answer at once").expect("more than were kept");
        assert_eq!(answer.headers["retry-after"], "1");
        assert_eq!(answer.expect(503)["code"], "unavailable");
        away += 1;
    }
    let_go().await;
    while let Some(answer) = answers.next().await {
        match answer.status {
            202 => accepted += 1,
            _ => assert_eq!(answer.status, 503),
        }
    }
    assert!(accepted > 0, "those that waited were accepted");
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"].as_array().map(Vec::len), Some(accepted));
}
