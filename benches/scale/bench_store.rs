//! A store that is filled by SQL, and the real binary on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sendoff::domain::signing::master_key::MasterKey;
use sendoff::store::{Location, Store, StoreOptions, WIDE};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use super::common::rest::Rest;
use super::common::sync_file;
use super::plan::Plan;
use super::support::server::MASTER_KEY;
use super::support::{Binary, Durability, Kind, Postgres, Server, SqliteFile, backlog, sqlite_file};

/// The largest payload of any case.
const MAX_PAYLOAD: usize = 16 << 20;

pub struct BenchStore {
    pub kind: Kind,
    pub url: String,
    program: PathBuf,
    postgres: Option<Arc<Postgres>>,
    _file: Option<SqliteFile>,
}

impl BenchStore {
    /// Creates an empty store with its schema, and for PostgreSQL a server with durable commits.
    pub async fn on(plan: &Plan, kind: Kind) -> BenchStore {
        let postgres = (kind == Kind::Postgres).then(|| {
            let settings = format!("-c max_connections={}", 200 + 20 * plan.processes);
            Arc::new(Postgres::start_with(Durability::On, &settings))
        });
        BenchStore::empty(plan, postgres).await
    }

    /// Creates another store; on PostgreSQL in the same server.
    pub async fn beside(&self, plan: &Plan) -> BenchStore {
        BenchStore::empty(plan, self.postgres.clone()).await
    }

    async fn empty(plan: &Plan, postgres: Option<Arc<Postgres>>) -> BenchStore {
        let (kind, url, file) = match &postgres {
            Some(server) => (Kind::Postgres, server.fresh_database(), None),
            None => {
                let file = sqlite_file();
                (Kind::Sqlite, file.url(), Some(file))
            }
        };
        let location = Location::parse(&url).expect("a location");
        let options = StoreOptions { location, master: master(), max_payload: MAX_PAYLOAD, queue: 1_000, wide: WIDE };
        Store::open(options).await.expect("a store").migrate().await.expect("the schema");
        BenchStore { kind, url, program: plan.program.clone(), postgres, _file: file }
    }

    pub fn is_sqlite(&self) -> bool {
        self.kind == Kind::Sqlite
    }

    /// The PostgreSQL server.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_deref().expect("a PostgreSQL")
    }

    /// Creates applications with uids `app-0`, `app-1`, …, each with `endpoints` endpoints at the receiver on `port`.
    pub async fn customers(&self, applications: usize, endpoints: usize, port: u16) {
        let url = format!("http://127.0.0.1:{port}");
        self.fill(&backlog::customers(self.is_sqlite(), &master(), applications, endpoints, &url)).await;
    }

    /// Runs statements while nobody else uses the store. They become durable at the end.
    pub async fn fill(&self, statements: &[String]) {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
            let settings = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
                 PRAGMA cache_size = -500000; BEGIN";
            connection.execute(settings).await.expect("settings");
            for sql in statements {
                connection.execute(AssertSqlSafe(sql.clone())).await.expect("a statement");
            }
            connection.execute("COMMIT").await.expect("a commit");
            connection.close().await.expect("closed");
            sync_file(&self.url);
        } else {
            let mut connection = self.connect().await;
            connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'; BEGIN").await.expect("settings");
            for sql in statements {
                connection.execute(AssertSqlSafe(sql.clone())).await.expect("a statement");
            }
            connection.execute("COMMIT").await.expect("a commit");
            // Autovacuum would do it later, probably during a measurement.
            connection.execute("VACUUM ANALYZE").await.expect("statistics");
            connection.execute("CHECKPOINT").await.expect("a checkpoint");
            connection.close().await.expect("closed");
        }
    }

    /// Runs a statement while others use the store.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
            connection.execute("PRAGMA busy_timeout = 60000").await.expect("a setting");
            connection.execute(sql).await.expect("the statement");
        } else {
            self.connect().await.execute(sql).await.expect("the statement");
        }
    }

    /// A query's single value as text; `None` for no row or NULL.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS TEXT)"));
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a value")
        } else {
            sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.expect("a value")
        }
    }

    /// A query's single value as a number; 0 for none.
    pub async fn number(&self, sql: &str) -> f64 {
        self.value(sql).await.map_or(0.0, |text| text.parse().expect("a number"))
    }

    /// A PostgreSQL connection that uses Sendoff's schema.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL");
        connection.execute("SET search_path = sendoff").await.expect("the schema");
        connection
    }

    /// The measured program, on this store.
    pub fn binary(&self) -> Binary {
        let binary = Binary::on(&self.url).program(&self.program);
        binary.set("SENDOFF_LOG", "warn").set("SENDOFF_MAX_PAYLOAD", "16MiB")
    }

    /// Starts the program and returns it with the time until it was ready.
    pub fn start(&self) -> (Server, Duration) {
        start(self.binary())
    }
}

fn master() -> MasterKey {
    MasterKey::parse(MASTER_KEY).expect("a key")
}

/// Starts the program and returns it with the time until it was ready, at most two minutes.
pub fn start(binary: Binary) -> (Server, Duration) {
    let began = Instant::now();
    let mut server = binary.launch();
    while server.get_status("/readyz") != Some(200) {
        assert!(server.exited().is_none(), "sendoff ended:\n{}", server.output());
        assert!(began.elapsed() < Duration::from_secs(120), "not ready after two minutes:\n{}", server.output());
        std::thread::sleep(Duration::from_millis(2));
    }
    (server, began.elapsed())
}

/// The REST API of `server`, for the default organization.
pub fn rest(server: &Server) -> Rest {
    Rest::new(server.url().trim_start_matches("http://"), &server.token())
}
