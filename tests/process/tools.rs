//! The suite's own tools do what they say: the PostgreSQL, the receiver, and waiting.

use std::time::{Duration, Instant};

use crate::support::{Answer, Durability, Postgres, Receiver, SOON, eventually};
use sqlx::{Connection, PgConnection};

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

#[tokio::test]
async fn a_fresh_database_is_empty_and_the_next_is_another() {
    let (one, two) = (Postgres::shared().fresh_database(), Postgres::shared().fresh_database());
    assert_ne!(one, two);
    let mut connection = PgConnection::connect(&one).await.expect("a connection");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let count: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.expect("a count");
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_crashed_postgres_keeps_what_was_committed() {
    let postgres = Postgres::start(Durability::On);
    let url = postgres.fresh_database();
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.expect("a setting");
    assert_eq!(fsync, "on");
    sqlx::raw_sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").execute(&mut connection).await.expect("a table");
    postgres.crash();
    assert!(PgConnection::connect(&url).await.is_err(), "nothing answers after a crash");
    postgres.restart();
    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let n: i32 = sqlx::query_scalar("SELECT n FROM t").fetch_one(&mut connection).await.expect("the row");
    assert_eq!(n, 7);
}

#[tokio::test]
async fn a_receiver_records_the_request_as_it_came() {
    let receiver = Receiver::start(|request| Answer::status(201).header("x-path", &request.path).body("thanks"));
    let body = b"{\"a\": 1 }\x00\xff".to_vec();
    let request = client().post(receiver.url("/hook?q=1")).header("X-Mixed", "Case").body(body.clone());
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-path"], "/hook?q=1");
    assert_eq!(response.text().await.expect("a body"), "thanks");
    let received = receiver.wait_for(1, SOON).await.remove(0);
    assert_eq!((received.method.as_str(), received.path.as_str(), &received.body), ("POST", "/hook?q=1", &body));
    assert_eq!(received.header("x-mixed"), Some("Case"));
}

#[tokio::test]
async fn a_receiver_follows_its_script() {
    let drip = Answer::ok().body("abc").drip(Duration::from_millis(20));
    let late = Answer::status(503).after(Duration::from_millis(50));
    let receiver = Receiver::script([late, Answer::hang_up(), drip, Answer::never(), Answer::status(204)]);
    let client = client();
    let post = || client.post(receiver.url("/")).body("x").timeout(Duration::from_millis(500)).send();

    let start = Instant::now();
    assert_eq!(post().await.expect("an answer").status(), 503);
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(!post().await.expect_err("it hung up").is_timeout());
    assert_eq!(post().await.expect("an answer").text().await.expect("a body"), "abc");
    assert!(post().await.expect_err("it never answers").is_timeout());
    assert_eq!(post().await.expect("an answer").status(), 204);
    assert_eq!(post().await.expect("the last answer goes on").status(), 204);
    assert_eq!(receiver.count(), 6);

    let address = receiver.address();
    drop(receiver);
    eventually("the port to close", SOON, async || std::net::TcpStream::connect(address).is_err().then_some(())).await;
}

#[tokio::test]
#[should_panic(expected = "in vain for: what never comes")]
async fn waiting_in_vain_says_for_what() {
    eventually("what never comes", Duration::from_millis(20), async || None::<()>).await;
}
