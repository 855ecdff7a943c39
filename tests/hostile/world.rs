//! The real binary on SQLite, asked over REST; its store, read past the product; and its process, as the system sees it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{Binary, Server, SqliteFile, eventually, sqlite_file};

/// What is sent of large payloads: more than the buffers of two sockets take, so that whoever does not read holds the sender up.
pub const LARGE: usize = 4 * 1024 * 1024;

/// What is left of a process's descriptors and threads when nothing goes on: some come and go by themselves (the store's, the runtime's).
const SLACK: usize = 12;
/// How long idle connections may stay: the pool's 4 s, and time for a busy machine.
const IDLE: Duration = Duration::from_secs(25);

/// One world at a time: the table's times are measured.
static ALONE: Mutex<()> = Mutex::const_new(());

pub struct World {
    server: Server,
    client: reqwest::Client,
    token: String,
    file: SqliteFile,
    _alone: MutexGuard<'static, ()>,
}

/// What the store has of an attempt beside what is told over REST.
pub struct Entry {
    /// Its endpoint's `uid`.
    pub uid: String,
    pub detail: String,
    /// The answer's body, as it was kept.
    pub body: Vec<u8>,
}

/// What a process has at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Belongings {
    pub descriptors: usize,
    pub threads: usize,
    /// Resident memory, in KiB.
    pub memory: usize,
}

impl World {
    /// With these settings beside the suite's own, and the application `hostile`. What signs the receivers' certificates is trusted.
    pub async fn start(settings: &[(&str, &str)]) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let alone = ALONE.lock().await;
        let file = sqlite_file();
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/root.pem");
        let binary = Binary::on(&file.url()).set("SENDOFF_MAX_PAYLOAD", "8MiB").set("SSL_CERT_FILE", root);
        let binary = settings.iter().fold(binary, |binary, (name, value)| binary.set(name, value));
        let server = binary.set("SENDOFF_LOG", "warn").serve();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().expect("a client");
        let world = World { token: server.token(), server, client, file, _alone: alone };
        world.call(Method::POST, "/app/", json!({"name": "Hostile", "uid": "hostile"})).await;
        for name in ["small", "large"] {
            world.call(Method::POST, "/event-type/", json!({"name": name, "description": ""})).await;
        }
        world
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.server.url().trim_start_matches("http://").to_owned()
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/api/v1{path}", self.server.url());
        let request = self.client.request(method, url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a text");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// An endpoint for small or for large payloads, tried again after these seconds.
    pub async fn endpoint(&self, uid: &str, url: &str, large: bool, waits: &[u32]) {
        let event_type = if large { "large" } else { "small" };
        let body = json!({"url": url, "uid": uid, "filterTypes": [event_type], "retrySchedule": waits});
        self.call(Method::POST, "/app/hostile/endpoint/", body).await;
    }

    /// Sends a message to all endpoints for small payloads, or for large ones; gives back its id.
    pub async fn send(&self, large: bool) -> String {
        let (event_type, size) = if large { ("large", LARGE) } else { ("small", 16) };
        let body = json!({"eventType": event_type, "payload": {"pad": "x".repeat(size)}});
        let message = self.call(Method::POST, "/app/hostile/msg/", body).await;
        message["id"].as_str().expect("an id").to_owned()
    }

    /// The attempts at an endpoint, as they are told over REST, the newest first.
    pub async fn attempts(&self, uid: &str) -> Vec<Value> {
        let path = format!("/app/hostile/attempt/endpoint/{uid}/?limit=250");
        let page = self.call(Method::GET, &path, Value::Null).await;
        page["data"].as_array().expect("a list").clone()
    }

    /// How a message's deliveries stand, as they are told over REST: the endpoints' uids, and words.
    pub async fn deliveries(&self, message: &str) -> Vec<(String, String)> {
        let path = format!("/app/hostile/msg/{message}/endpoint/?limit=250");
        let page = self.call(Method::GET, &path, Value::Null).await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = page["data"].as_array().expect("a list");
        list.iter().map(|one| (text(&one["uid"]), text(&one["statusText"]))).collect()
    }

    async fn books(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.file.path()).busy_timeout(Duration::from_secs(10));
        options.connect().await.expect("the store's file")
    }

    /// All attempts, as they are stored.
    pub async fn entries(&self) -> Vec<Entry> {
        let mut books = self.books().await;
        let sql = "SELECT e.uid, a.detail, a.response_body FROM attempt a JOIN endpoint e ON e.id = a.endpoint_id";
        let rows = sqlx::query(sql).fetch_all(&mut books).await.expect("the attempts");
        books.close().await.expect("it closes");
        rows.iter().map(|row| Entry { uid: row.get(0), detail: row.get(1), body: row.get(2) }).collect()
    }

    /// How many attempts there are, how many deliveries wait, and how long the longest body that was kept is.
    pub async fn counts(&self) -> (i64, i64, i64) {
        let mut books = self.books().await;
        let sql = "SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM delivery WHERE state <= 1),
                       (SELECT coalesce(max(length(response_body)), 0) FROM attempt)";
        let row = sqlx::query(sql).fetch_one(&mut books).await.expect("the counts");
        books.close().await.expect("it closes");
        (row.get(0), row.get(1), row.get(2))
    }

    /// How many attempts failed in which way, and how many did not.
    pub async fn failures(&self) -> Vec<(String, i64)> {
        let mut books = self.books().await;
        let sql = "SELECT coalesce(failure, 'delivered'), count(*) FROM attempt GROUP BY 1 ORDER BY 2 DESC";
        let rows = sqlx::query(sql).fetch_all(&mut books).await.expect("the failures");
        books.close().await.expect("it closes");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// A token of the application.
    pub async fn customer_token(&self) -> String {
        let access = self.call(Method::POST, "/auth/app-portal-access/hostile", json!({})).await;
        access["token"].as_str().expect("a token").to_owned()
    }

    /// A gauge of `/metrics`.
    pub fn gauge(&self, name: &str) -> Option<f64> {
        let metrics = self.server.get("/metrics");
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    pub fn in_flight(&self) -> Option<f64> {
        self.gauge("sendoff_in_flight")
    }

    pub fn belongings(&self) -> Belongings {
        let process = format!("/proc/{}", self.server.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(format!("{process}/fd")).expect("its descriptors").count();
        Belongings { descriptors, threads: number("Threads:"), memory: number("VmRSS:") }
    }

    /// Waits until nothing is in flight, and until it has no more descriptors and threads than `before`, give or take a few. Nobody
    /// has panicked, and it has not ended.
    pub async fn comes_to_rest(&mut self, before: Belongings) {
        eventually("nothing is in flight", IDLE, async || (self.in_flight() == Some(0.0)).then_some(())).await;
        let mut last = before;
        let rests = tokio::time::timeout(IDLE, async {
            loop {
                last = self.belongings();
                if last.descriptors <= before.descriptors + SLACK && last.threads <= before.threads + SLACK {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        assert!(rests.await.is_ok(), "before: {before:?}; what is left {IDLE:?} after: {last:?}");
        let ended = self.server.exited();
        assert!(ended.is_none(), "it has ended by itself: {ended:?}");
        assert!(!self.server.output().contains("panicked"), "{}", self.server.output());
    }
}
