//! Those who send events: some over REST, who ask again until they hear that their event is safe, and one who writes into the outbox.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, SqliteConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::books::Books;
use crate::ledger::Ledger;

/// How many ask over REST at the same time.
const CALLERS: usize = 4;
/// Between two events of one sender.
const PACE: Duration = Duration::from_millis(4);
/// How long an event may be refused: longer than any fault of the suite lasts.
const PATIENCE: Duration = Duration::from_secs(180);
/// After a refusal.
const AGAIN: Duration = Duration::from_millis(25);

/// Where events can be sent to: the servers that are up.
pub type Targets = Arc<Mutex<Vec<String>>>;

/// What all of them need.
#[derive(Clone)]
pub struct Sender {
    pub ledger: Arc<Ledger>,
    pub targets: Targets,
    pub token: String,
    pub client: reqwest::Client,
    pub numbers: Arc<AtomicUsize>,
    pub books: Books,
}

/// Senders at work.
pub struct Load {
    stop: watch::Sender<bool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins to send.
    pub fn start(sender: &Sender) -> Load {
        let (stop, stopped) = watch::channel(false);
        let mut senders: Vec<JoinHandle<()>> =
            (0..CALLERS).map(|_| tokio::spawn(sender.clone().call(stopped.clone()))).collect();
        senders.push(tokio::spawn(sender.clone().write(stopped)));
        Load { stop, senders }
    }

    /// Begins to send events of one type, one every `pace`.
    pub fn tick(sender: &Sender, event_type: &'static str, pace: Duration) -> Load {
        let (stop, stopped) = watch::channel(false);
        Load { stop, senders: vec![tokio::spawn(sender.clone().tick(event_type, pace, stopped))] }
    }

    /// Ends; what was begun is asked for until it is acknowledged.
    pub async fn end(self) {
        let _ = self.stop.send(true);
        for sender in self.senders {
            sender.await.expect("no sender panics");
        }
    }
}

impl Sender {
    /// A key that was never used, and a type.
    pub fn next(&self) -> (String, &'static str) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let event_type = match number % 20 {
            0 => "dying",
            1 | 11 => "flaky",
            _ => "t",
        };
        (format!("k{number}"), event_type)
    }

    async fn call(self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let (key, event_type) = self.next();
            self.send("chaos", &key, event_type).await;
            tokio::time::sleep(PACE).await;
        }
    }

    /// Sends one event of this type every `pace`.
    pub async fn tick(self, event_type: &'static str, pace: Duration, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let (key, _) = self.next();
            self.send("chaos", &key, event_type).await;
            tokio::time::sleep(pace).await;
        }
    }

    /// Sends one event until it is acknowledged.
    pub async fn send(&self, app: &str, key: &str, event_type: &str) {
        let first = self.numbers.load(Ordering::Relaxed);
        let begun = Instant::now();
        for turn in first.. {
            assert!(begun.elapsed() < PATIENCE, "event {key} was refused for {PATIENCE:?}");
            let target = {
                let targets = self.targets.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                targets.get(turn % targets.len().max(1)).cloned()
            };
            let Some(target) = target else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            let body = json!({"eventType": event_type, "eventId": key, "payload": {"key": key}});
            let path = format!("{target}/api/v1/app/{app}/msg/");
            let answer = self.ask(self.client.post(path), &body).await;
            match answer.map(|answer| answer.status().as_u16()) {
                // Or: "this event id was accepted before", after an answer that did not come through.
                Ok(202 | 409) => return self.ledger.acknowledge(key, event_type),
                Ok(503) | Err(_) => self.ledger.refuse(),
                Ok(status) => panic!("an event is answered with {status}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sends a request with the token and a body.
    pub async fn ask(&self, request: RequestBuilder, body: &Value) -> Result<Response, reqwest::Error> {
        let request = request.bearer_auth(&self.token).header("content-type", "application/json");
        request.body(body.to_string()).send().await
    }

    /// Commits events into the outbox. What did not commit for sure is not sent again: nobody acknowledged it.
    async fn write(self, stopped: watch::Receiver<bool>) {
        let mut connection = None;
        while !*stopped.borrow() {
            if connection.is_none() {
                connection = self.connect().await;
            }
            let (key, event_type) = self.next();
            let written = match &mut connection {
                Some(connection) => insert(connection, &key, event_type).await,
                None => false,
            };
            match written {
                true => self.ledger.acknowledge(&key, event_type),
                false => {
                    connection = None;
                    self.ledger.refuse();
                    tokio::time::sleep(AGAIN).await;
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn connect(&self) -> Option<Writer> {
        match self.books.is_sqlite() {
            true => self.books.sqlite().connect().await.ok().map(Writer::Sqlite),
            false => self.books.postgres().await.ok().map(Writer::Postgres),
        }
    }
}

enum Writer {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

async fn insert(writer: &mut Writer, key: &str, event_type: &str) -> bool {
    let sql = format!(
        "INSERT INTO outbox (application, event_type, payload, event_id)
         VALUES ('chaos', '{event_type}', '{{\"key\": \"{key}\"}}', '{key}')"
    );
    let sql = AssertSqlSafe(sql);
    let done = match writer {
        Writer::Sqlite(connection) => sqlx::query(sql).persistent(false).execute(connection).await.map(drop),
        Writer::Postgres(connection) => sqlx::query(sql).persistent(false).execute(connection).await.map(drop),
    };
    done.is_ok()
}
