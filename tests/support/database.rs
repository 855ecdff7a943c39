//! Databases for tests, on either kind of store: empty, or a copy of a template. Each goes when it is dropped, or with its
//! server.
//!
//! Migrating takes longer than most tests. A template is migrated once per process and kind; its copies have everything but
//! the check of the master key, so each may have a key of its own.

use sendoff::domain::signing::master_key::MasterKey;
use sendoff::store::{Location, Store, StoreOptions, WIDE};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tokio::sync::OnceCell;

use super::{Kind, Postgres, SqliteFile, own_process, sqlite_file};

/// A new database.
pub struct Database {
    pub url: String,
    pub file: Option<SqliteFile>,
}

/// A prepared database of each kind, to be copied.
pub struct Template {
    sqlite: OnceCell<SqliteFile>,
    postgres: OnceCell<String>,
}

impl Template {
    pub const fn new() -> Template {
        Template { sqlite: OnceCell::const_new(), postgres: OnceCell::const_new() }
    }
}

impl Database {
    /// An empty database: the store makes the schema.
    pub fn on(kind: Kind) -> Database {
        match kind {
            Kind::Sqlite => {
                let file = sqlite_file();
                Database { url: file.url(), file: Some(file) }
            }
            Kind::Postgres => Database { url: Postgres::shared().fresh_database(), file: None },
        }
    }

    /// With the schema of this build.
    pub async fn migrated(kind: Kind) -> Database {
        static SCHEMA: Template = Template::new();
        Database::copy_of(&SCHEMA, kind, async |url| drop(migrate(&url).await)).await
    }

    /// A copy of `template`, which the first caller prepares. A test in a process of its own makes no template.
    pub async fn copy_of<F: AsyncFnOnce(String)>(template: &Template, kind: Kind, prepare: F) -> Database {
        if own_process::is_alone() {
            let database = Database::on(kind);
            prepare(database.url.clone()).await;
            remove_key_check(kind, &database.url).await;
            return database;
        }
        match kind {
            Kind::Sqlite => {
                let template = template.sqlite.get_or_init(|| sqlite_template(prepare)).await;
                let file = sqlite_file();
                std::fs::copy(template.path(), file.path()).expect("a copy of the template");
                Database { url: file.url(), file: Some(file) }
            }
            Kind::Postgres => {
                let template = template.postgres.get_or_init(|| postgres_template(prepare)).await;
                Database { url: Postgres::shared().copy_of(template), file: None }
            }
        }
    }
}

/// A store on the database at `url`, migrated, under a key of no further use.
pub async fn migrate(url: &str) -> Store {
    let location = Location::parse(url).expect("a location");
    let options =
        StoreOptions { location, master: MasterKey::generate(), max_payload: 1 << 20, queue: 1_000, wide: WIDE };
    let store = Store::open(options).await.expect("a store");
    store.migrate().await.expect("the schema");
    store
}

async fn sqlite_template<F: AsyncFnOnce(String)>(prepare: F) -> SqliteFile {
    let (made, template) = (sqlite_file(), sqlite_file());
    prepare(made.url()).await;
    remove_key_check(Kind::Sqlite, &made.url()).await;
    // One file with all pages of the write-ahead log.
    let copy = AssertSqlSafe(format!("VACUUM INTO '{}'", template.path().display()));
    SqliteConnection::connect(&made.url()).await.expect("SQLite").execute(copy).await.expect("a template");
    template
}

async fn postgres_template<F: AsyncFnOnce(String)>(prepare: F) -> String {
    let url = Postgres::shared().fresh_database();
    prepare(url.clone()).await;
    remove_key_check(Kind::Postgres, &url).await;
    let name = url.rsplit('/').next().expect("a name").to_owned();
    // A database with connections cannot be copied, and the pool of a store closes its own a little later.
    Postgres::shared().execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    Postgres::shared()
        .execute(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    name
}

pub async fn remove_key_check(kind: Kind, url: &str) {
    let done = match kind {
        Kind::Sqlite => {
            let sql = "DELETE FROM meta WHERE name = 'master-key-check'";
            SqliteConnection::connect(url).await.expect("SQLite").execute(sql).await.map(|done| done.rows_affected())
        }
        Kind::Postgres => {
            let sql = "DELETE FROM sendoff.meta WHERE name = 'master-key-check'";
            PgConnection::connect(url).await.expect("PostgreSQL").execute(sql).await.map(|done| done.rows_affected())
        }
    };
    assert_eq!(done.expect("the check of the key"), 1, "the row of the key's check");
}
