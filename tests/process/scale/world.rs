//! A store filled by SQL, the real binary on it, and a receiver that counts the deliveries of each path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use sendoff::domain::signing::master_key::MasterKey;
use sendoff::store::{Location, Store, StoreOptions};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::support::server::MASTER_KEY;
use crate::support::{Answer, Binary, Database, Receiver, SOON, SqliteFile, eventually};
pub(crate) use crate::support::{Kind, on_both};

/// The number of times that each message came to each path.
type Arrived = Arc<Mutex<HashMap<(String, String), usize>>>;

pub struct World {
    pub kind: Kind,
    pub url: String,
    pub receiver: Receiver,
    arrived: Arrived,
    _file: Option<SqliteFile>,
}

pub fn master() -> MasterKey {
    MasterKey::parse(MASTER_KEY).expect("a key")
}

impl World {
    /// An empty store with its schema.
    pub async fn on(kind: Kind) -> World {
        let Database { url, file } = Database::migrated(kind).await;
        let location = Location::parse(&url).expect("a location");
        let options =
            StoreOptions { location, master: master(), max_payload: 1 << 20, queue: 1_000, wide: sendoff::store::WIDE };
        Store::open(options).await.expect("a store").migrate().await.expect("the schema");
        let arrived = Arrived::default();
        let theirs = Arc::clone(&arrived);
        let receiver = Receiver::start(move |request| {
            let message = request.header("webhook-id").unwrap_or_default().to_owned();
            *theirs.lock().expect("no panic").entry((request.path.clone(), message)).or_default() += 1;
            Answer::ok()
        });
        World { kind, url, receiver, arrived, _file: file }
    }

    pub fn is_sqlite(&self) -> bool {
        self.kind == Kind::Sqlite
    }

    /// Runs the statements in one transaction.
    pub async fn execute(&self, statements: &[String]) {
        let sql = AssertSqlSafe(format!("BEGIN; {}; COMMIT", statements.join("; ")));
        if self.is_sqlite() {
            SqliteConnection::connect(&self.url).await.expect("SQLite").execute(sql).await.expect("the statements");
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL");
            connection.execute("SET search_path = sendoff").await.expect("the schema");
            connection.execute(sql).await.expect("the statements");
        }
    }

    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number")
        } else {
            let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL");
            connection.execute("SET search_path = sendoff").await.expect("the schema");
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a number")
        }
    }

    pub fn binary(&self) -> Binary {
        Binary::on(&self.url)
    }

    /// How many different deliveries have arrived.
    pub fn arrived(&self) -> usize {
        self.arrived.lock().expect("no panic").len()
    }

    /// Waits until the queue is empty; then `wanted` deliveries have arrived, each once, and each has one attempt, which settles it.
    pub async fn all_delivered_once(&self, wanted: usize) {
        // The receiver is looked at first: questions to the store would slow down what is awaited.
        eventually("everything arrives", SOON * 9, async || (self.arrived() >= wanted).then_some(())).await;
        eventually("the queue is empty", SOON, async || {
            (self.number("SELECT count(*) FROM due").await == 0).then_some(())
        })
        .await;
        let arrived = self.arrived.lock().expect("no panic").clone();
        assert_eq!(arrived.len(), wanted, "deliveries that arrived");
        let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "these came more than once: {twice:?}");
        for (what, condition) in [("attempts", ""), ("attempts that settle", " WHERE settles = 1")] {
            let count = self.number(&format!("SELECT count(*) FROM attempt{condition}")).await;
            assert_eq!(count as usize, wanted, "{what}");
        }
    }
}

/// The most that a process has had in memory so far, in MiB.
pub fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process of ours");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1_024
}
