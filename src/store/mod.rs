//! The store: everything that outlives the process, on SQLite or PostgreSQL, with one behaviour.
//!
//! - [`Store`] is the handle that everything shares. Its methods stand in the folder of what they are about.
//! - [`Engine`] says which database it is: a closed enum, no `dyn`. [`Tx`] is a write transaction on either; SQLite has one writer, so
//!   its transactions queue.
//! - [`ingest`]: accept and relay. [`queue`]: what still has to be sent. [`recording`]: what attempts came to. [`feed`]: what pollers read.
//! - [`catalog`], [`query`], [`access`]: what people manage, read and may do. [`jobs`]: their background work.
//! - [`maintenance`]: retention and clean-up. [`partitions`]: messages and attempts by time, on PostgreSQL. [`db`]: the databases themselves.
//!
//! Every method that serves a caller takes a [`Tenant`]: nothing is read or changed across organizations.

pub mod access;
pub mod catalog;
pub mod db;
pub mod feed;
pub mod ingest;
pub mod jobs;
pub mod maintenance;
pub mod partitions;
pub mod query;
pub mod queue;
pub mod recording;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use crate::domain::Time;
use crate::domain::access::audit::Actor;
use crate::domain::signing::secret::MasterKey;
use crate::supervisor::{Supervised, Supervisor};
use tokio::sync::Mutex;

use crate::store::ingest::outbox::outbox_floor;
pub use access::tenant::{AppRef, EndpointRef, MessageRef, PollingEndpointRef, Tenant};
use catalog::change::Turns;
pub use db::error::StoreError;
pub use db::location::Location;
#[cfg(test)]
use db::migrations::SQLITE_MIGRATIONS;
pub use db::postgres::Connections;
use db::postgres::{self, Postgres};
pub use db::scans::Scan;
use db::sqlite::{self, Sqlite};
pub(crate) use db::tx::{Connection, Tx, on, read, read_vital};
use ingest::{idempotency, routing_cache, writer};
pub use query::page::{Order, Page, PageRequest, Scanned};
use queue::{notify, signals};

/// What the store needs to know to open.
#[derive(Debug)]
pub struct StoreOptions {
    pub location: Location,
    /// Seals the endpoints' secrets.
    pub master: MasterKey,
    /// The most bytes a payload may have.
    pub max_payload: usize,
    /// How many items may wait to be stored before callers are turned away.
    pub queue: usize,
    /// To how many endpoints a message may go at most before its deliveries are [fanned out](ingest::fan_out) in steps.
    pub wide: usize,
}

/// How the store uses its database.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// To PostgreSQL.
    pub connections: Connections,
    /// How long a statement waits while another program keeps the SQLite file locked.
    pub busy_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { connections: Connections::default(), busy_timeout: Duration::from_secs(5) }
    }
}

/// [`StoreOptions::wide`] of a running Sendoff: as many deliveries as one step of the fan-out moves.
pub const WIDE: usize = ingest::fan_out::STEP;

/// How many endpoints an application may have, if nobody says otherwise: as many as one page of a filtered list looks at.
pub const ENDPOINTS: usize = query::page::SCAN;

/// Which database it is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per process")]
pub(crate) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// The handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// The call that this handle acts for, if that is to take effect once.
    once: Option<Arc<idempotency::Once>>,
    /// Who acts through this handle, for the audit log.
    actor: Option<Arc<Actor>>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    master: MasterKey,
    max_payload: usize,
    wide: usize,
    directory: routing_cache::RoutingCache,
    signals: signals::Signals,
    queues: writer::Queues,
    outbox_floor: outbox_floor::OutboxFloor,
    under_way: idempotency::Calls,
    /// Whose turn it is to change an endpoint.
    turns: Turns,
    wakeups: feed::wakeups::FeedWakeups,
    /// Deliveries were packed since [`Store::took_wide_message`] was asked.
    packed: AtomicBool,
    /// Contacts are written to.
    mailing: AtomicBool,
    /// How many endpoints an application may have.
    most_endpoints: AtomicUsize,
    supervisor: Supervisor,
    /// Whether the store took a write when it was last asked to.
    writable: db::writable::Asked,
    scans: db::scans::Scans,
}

impl Drop for Inner {
    /// The writers end with the store.
    fn drop(&mut self) {
        self.supervisor.expect_ends();
    }
}

/// The row of `meta` by which a process knows whether its master key is the store's.
const MASTER_KEY_CHECK: &str = "master-key-check";

/// PostgreSQL's own clock.
const DATABASE_CLOCK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

impl Store {
    /// Connects, without touching the schema; starts the writers on the current tokio runtime.
    ///
    /// # Errors
    /// The database cannot be reached, is too old, or is somebody else's.
    pub async fn open(options: StoreOptions) -> Result<Store, StoreError> {
        Store::open_with(options, Tuning::default()).await
    }

    /// The same, tuned.
    ///
    /// # Errors
    /// Those of [`Store::open`].
    pub async fn open_with(options: StoreOptions, tuning: Tuning) -> Result<Store, StoreError> {
        let Tuning { connections, busy_timeout } = tuning;
        let (engine, scans) = match &options.location {
            Location::Sqlite(path) => (Engine::Sqlite(Sqlite::open(path, busy_timeout).await?), sqlite::SCANS),
            Location::Postgres(url) => (Engine::Postgres(Postgres::open(url, connections).await?), connections.scans()),
        };
        let scans = db::scans::Scans::new(scans);
        let (queues, takers) = writer::queues(matches!(engine, Engine::Sqlite(_)), options.queue);
        let (signals, announcements) = signals::Signals::new(matches!(engine, Engine::Postgres(_)));
        let supervisor = Supervisor::default();
        let inner = Inner {
            engine,
            master: options.master,
            max_payload: options.max_payload,
            wide: options.wide,
            directory: routing_cache::RoutingCache::default(),
            signals,
            queues,
            outbox_floor: outbox_floor::OutboxFloor::default(),
            under_way: idempotency::Calls::default(),
            turns: Turns::default(),
            wakeups: feed::wakeups::FeedWakeups::default(),
            packed: AtomicBool::new(false),
            mailing: AtomicBool::new(false),
            most_endpoints: AtomicUsize::new(ENDPOINTS),
            supervisor: supervisor.clone(),
            writable: db::writable::Asked::default(),
            scans,
        };
        let store = Store { inner: Arc::new(inner), once: None, actor: None };
        for taker in takers {
            supervisor.essential(Supervised::Writer, writer::run(Arc::downgrade(&store.inner), taker));
        }
        if let Engine::Postgres(engine) = &store.inner.engine {
            tokio::spawn(postgres::close_idle(Arc::downgrade(&store.inner)));
            if engine.servers.several() {
                tokio::spawn(db::postgres::servers::follow(Arc::downgrade(&store.inner)));
            }
        }
        if let Some(announcements) = announcements {
            let (inner, announcements) = (Arc::downgrade(&store.inner), Arc::new(Mutex::new(announcements)));
            supervisor.restarting(Supervised::Announcer, move || notify::run(inner.clone(), announcements.clone()));
        }
        Ok(store)
    }

    /// Takes the lock of the one process that may serve an SQLite file. PostgreSQL is shared.
    ///
    /// # Errors
    /// Another process serves the file.
    pub fn lock(&self) -> Result<(), StoreError> {
        match &self.inner.engine {
            Engine::Sqlite(engine) => engine.lock(),
            Engine::Postgres(_) => Ok(()),
        }
    }

    pub(crate) const SQLITE: &'static str = "sqlite";
    pub(crate) const POSTGRES: &'static str = "postgres";

    /// `sqlite` or `postgres`: for people and for what only speeds one of them up.
    pub fn kind(&self) -> &'static str {
        match self.inner.engine {
            Engine::Sqlite(_) => Store::SQLITE,
            Engine::Postgres(_) => Store::POSTGRES,
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match &self.inner.engine {
            Engine::Sqlite(engine) => Some(engine.path()),
            Engine::Postgres(_) => None,
        }
    }

    /// How much room everything of ours takes, in bytes: the SQLite file without what is in its WAL alone, or our schema's tables.
    ///
    /// # Errors
    /// The store is away.
    pub async fn size(&self) -> Result<i64, StoreError> {
        const PAGES: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        const TABLES: &str = "SELECT CAST(COALESCE(SUM(pg_total_relation_size(c.oid)), 0) AS BIGINT)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'";
        Ok(match &self.inner.engine {
            Engine::Sqlite(engine) => sqlx::query_scalar(PAGES).fetch_one(&engine.vital).await?,
            Engine::Postgres(engine) => {
                sqlx::query_scalar(TABLES).bind(postgres::SCHEMA).fetch_one(&engine.front).await?
            }
        })
    }

    /// Watches over the tasks of this store and of the engine on it.
    pub fn supervisor(&self) -> &Supervisor {
        &self.inner.supervisor
    }

    /// How the store tells an engine what has become due.
    pub fn signals(&self) -> &signals::Signals {
        &self.inner.signals
    }

    /// Tidies up behind the commits; called every second or so. SQLite's checkpoints are kept off the commit path.
    ///
    /// # Errors
    /// The store is away.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        /// Pages: 128 MiB.
        const WAL_RESTART: i64 = 16 * 1024;
        match &self.inner.engine {
            Engine::Sqlite(engine) => engine.checkpoint(WAL_RESTART).await,
            Engine::Postgres(_) => Ok(()),
        }
    }

    /// Begins a write transaction.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        self.inner.begin().await
    }

    /// The first time, leaves a sealed word in the store; from then on, tries to open it.
    async fn check_master_key(&self) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let sealed = self.inner.master.seal(MASTER_KEY_CHECK.as_bytes(), b"sendoff");
            // Of several processes that start at once with different keys, one is the first, and the others hear of it.
            on!(tx, db => {
                sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(MASTER_KEY_CHECK).bind(sealed).execute(db).await.map(drop)
            })?;
            let sealed: Vec<u8> = on!(tx, db => {
                sqlx::query_scalar("SELECT value FROM meta WHERE name = $1").bind(MASTER_KEY_CHECK).fetch_one(db).await
            })?;
            self.inner.master.open(MASTER_KEY_CHECK.as_bytes(), &sealed)?;
            tx.commit().await
        })
        .await
    }

    /// The lease table's clock: the database's own on PostgreSQL, where processes must agree; ours on SQLite, where there is one.
    pub(crate) async fn lease_clock(tx: &mut Tx, now: Time) -> Result<Time, StoreError> {
        match tx {
            Tx::Sqlite(_) => Ok(now),
            Tx::Postgres(tx) => Ok(sqlx::query_scalar(DATABASE_CLOCK).fetch_one(&mut **tx).await?),
        }
    }
}

impl Inner {
    /// A transaction to read in: on SQLite it does not wait for the writer.
    async fn snapshot(&self) -> Result<Tx, StoreError> {
        Ok(match &self.engine {
            Engine::Sqlite(engine) => Tx::Sqlite(engine.vital.begin().await?),
            Engine::Postgres(engine) => Tx::on_postgres(&engine.engine, &engine.partitions).await?,
        })
    }

    /// Whether the partitions have to be looked up anew.
    fn partitions_forgotten(&self) -> bool {
        matches!(&self.engine, Engine::Postgres(engine) if engine.partitions.forgotten())
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match &self.engine {
            Engine::Sqlite(engine) => Tx::Sqlite(engine.begin().await?),
            Engine::Postgres(engine) => Tx::on_postgres(&engine.engine, &engine.partitions).await?,
        })
    }
}
