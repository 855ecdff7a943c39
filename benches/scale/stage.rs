//! A store that is filled past the product, and the real binary on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sendoff::domain::signing::secret::MasterKey;
use sendoff::store::{Location, Store, StoreOptions, WIDE};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use super::common::on_disk;
use super::common::rest::Rest;
use super::plan::Plan;
use super::support::server::MASTER_KEY;
use super::support::{Binary, Durability, Kind, Postgres, Server, SqliteFile, backlog, sqlite_file};

/// The most that a payload may have in any case.
const MAX_PAYLOAD: usize = 16 << 20;

/// A store of its own.
pub struct Stage {
    pub kind: Kind,
    pub url: String,
    program: PathBuf,
    postgres: Option<Arc<Postgres>>,
    _file: Option<SqliteFile>,
}

impl Stage {
    /// An empty store with its schema; a PostgreSQL is made for it, with everything that makes a commit durable.
    pub async fn on(plan: &Plan, kind: Kind) -> Stage {
        let postgres = (kind == Kind::Postgres).then(|| {
            let settings = format!("-c max_connections={}", 200 + 20 * plan.processes);
            Arc::new(Postgres::start_with(Durability::On, &settings))
        });
        Stage::empty(plan, postgres).await
    }

    /// Another one; on PostgreSQL in the same server.
    pub async fn beside(&self, plan: &Plan) -> Stage {
        Stage::empty(plan, self.postgres.clone()).await
    }

    async fn empty(plan: &Plan, postgres: Option<Arc<Postgres>>) -> Stage {
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
        Stage { kind, url, program: plan.program.clone(), postgres, _file: file }
    }

    pub fn is_sqlite(&self) -> bool {
        self.kind == Kind::Sqlite
    }

    /// The server, if it is a PostgreSQL.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.as_deref().expect("a PostgreSQL")
    }

    /// Makes `applications` with the uids `app-0`, `app-1`, … and `endpoints` of each at that receiver.
    pub async fn customers(&self, applications: usize, endpoints: usize, port: u16) {
        let url = format!("http://127.0.0.1:{port}");
        self.fill(&backlog::customers(self.is_sqlite(), &master(), applications, endpoints, &url)).await;
    }

    /// Runs the statements while nobody else uses the store: none of it has to be durable before the end.
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
            on_disk(&self.url);
        } else {
            let mut connection = self.connect().await;
            connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'; BEGIN").await.expect("settings");
            for sql in statements {
                connection.execute(AssertSqlSafe(sql.clone())).await.expect("a statement");
            }
            connection.execute("COMMIT").await.expect("a commit");
            // As autovacuum does some time later, most likely while something is measured.
            connection.execute("VACUUM ANALYZE").await.expect("statistics");
            connection.execute("CHECKPOINT").await.expect("a checkpoint");
            connection.close().await.expect("closed");
        }
    }

    /// Runs a statement beside whoever uses the store.
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

    /// The one value of a statement as text; `None` if there is no row, or it is NULL.
    pub async fn value(&self, sql: &str) -> Option<String> {
        let sql = AssertSqlSafe(format!("SELECT CAST(({sql}) AS TEXT)"));
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.expect("SQLite");
            sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("a value")
        } else {
            sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.expect("a value")
        }
    }

    /// The same as a number; 0 if there is none.
    pub async fn number(&self, sql: &str) -> f64 {
        self.value(sql).await.map_or(0.0, |text| text.parse().expect("a number"))
    }

    /// A connection to this PostgreSQL, with the schema that Sendoff uses.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.expect("PostgreSQL");
        connection.execute("SET search_path = sendoff").await.expect("the schema");
        connection
    }

    /// The program that is measured, on this store.
    pub fn binary(&self) -> Binary {
        let binary = Binary::on(&self.url).program(&self.program);
        binary.set("SENDOFF_LOG", "warn").set("SENDOFF_MAX_PAYLOAD", "16MiB")
    }

    /// Starts it; gives it, and how long it took until it was ready.
    pub fn start(&self) -> (Server, Duration) {
        start(self.binary())
    }
}

fn master() -> MasterKey {
    MasterKey::parse(MASTER_KEY).expect("a key")
}

/// Starts the program and waits until it is ready, for at most two minutes; gives it, and how long that took.
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

/// Its REST API, for the default organization.
pub fn rest(server: &Server) -> Rest {
    Rest::new(server.url().trim_start_matches("http://"), &server.token())
}
