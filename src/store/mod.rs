//! Persistence on SQLite or PostgreSQL, with the same behavior on both. Come here to change what is stored, or how it
//! is queried.
//!
//! * [`Store`] is the shared handle. Its methods are implemented in the folder of their topic.
//! * [`Backend`] is the database in use: a closed enum, no `dyn`. [`Tx`] is a write transaction on either; on SQLite,
//!   which has one writer, transactions queue.
//! * [`ingest`]: accept and relay. [`queue`]: due deliveries. [`recording`]: attempts and their effects. [`feed`]:
//!   polling.
//! * [`catalog`]: applications, endpoints, event types. [`query`]: lists, search and counts. [`access`]: credentials
//!   and the audit log. [`jobs`]: background tasks.
//! * [`maintenance`]: retention and clean-up. [`partitions`]: PostgreSQL partitions by time. [`db`]: connections,
//!   transactions, codecs.
//!
//! Invariants:
//!
//! * Every method that serves a caller takes a [`Tenant`] and never reads or changes another organization's rows.
//! * Time is an argument, except in lease statements on PostgreSQL, which use the database's clock.
//! * No SQL outside this folder.

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
use std::time::{Duration, Instant};

use crate::domain::Time;
use crate::domain::access::audit::Actor;
use crate::domain::signing::master_key::MasterKey;
use crate::supervisor::{Component, Supervisor};
use tokio::sync::Mutex;

use crate::store::ingest::outbox::outbox_watermark;
pub use access::tenant::{AppRef, EndpointRef, MessageRef, PollingEndpointRef, Tenant};
use catalog::change::ChangeLocks;
pub use db::location::Location;
#[cfg(test)]
use db::migrations::SQLITE_MIGRATIONS;
pub use db::postgres::Connections;
use db::postgres::{self, Postgres};
pub use db::scans::ScanPermit;
use db::sqlite::{self, Sqlite};
pub use db::store_error::StoreError;
pub(crate) use db::tx::{Connection, Tx, on, read, read_vital, write_one};
use ingest::{idempotency, routing_cache, writer};
pub use query::page::{Order, Page, PageRequest, Scanned};
use queue::{notify, signals};

/// Settings of a store.
#[derive(Debug)]
pub struct StoreOptions {
    pub location: Location,
    /// Seals endpoint secrets.
    pub master: MasterKey,
    /// The largest payload, in bytes.
    pub max_payload: usize,
    /// Maximum items waiting for the writer; further requests are rejected.
    pub queue: usize,
    /// Maximum endpoints of a message before its deliveries are [fanned out](ingest::fan_out) in steps.
    pub wide: usize,
}

#[cfg(test)]
impl StoreOptions {
    /// An SQLite file in `folder`, with a new key.
    pub(crate) fn in_folder(folder: &tempfile::TempDir) -> StoreOptions {
        let (location, master) = (Location::Sqlite(folder.path().join("store.db")), MasterKey::generate());
        StoreOptions { location, master, max_payload: 1_024, queue: 10, wide: WIDE }
    }
}

/// Connection settings.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Connections to PostgreSQL.
    pub connections: Connections,
    /// The time a statement waits while another program locks the SQLite file.
    pub busy_timeout: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { connections: Connections::default(), busy_timeout: Duration::from_secs(5) }
    }
}

/// The default of [`StoreOptions::wide`]: the deliveries in one step of the fan-out.
pub const WIDE: usize = ingest::fan_out::STEP;

/// The default limit of endpoints per application: as many as one page of a filtered list scans.
pub const DEFAULT_MAX_ENDPOINTS: usize = query::page::SCAN;

/// The database in use.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one per process")]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// The handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// The idempotency key of the request that this handle serves.
    idempotency_key: Option<Arc<idempotency::IdempotencyKey>>,
    /// The actor for audit entries written through this handle.
    actor: Option<Arc<Actor>>,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    master: MasterKey,
    max_payload: usize,
    wide: usize,
    routing_cache: routing_cache::RoutingCache,
    signals: signals::Signals,
    queues: writer::Queues,
    accept_rate: writer::accept_rate::AcceptRate,
    outbox_watermark: outbox_watermark::OutboxWatermark,
    in_flight_keys: idempotency::InFlightKeys,
    /// Locks that serialize conflicting endpoint changes.
    change_locks: ChangeLocks,
    wakeups: feed::wakeups::FeedWakeups,
    payload_checks: ingest::payload_checks::PayloadChecks,
    /// A wide message was accepted since the last [`Store::take_packed_flag`].
    packed: AtomicBool,
    /// Mails to contacts are enabled.
    mailing: AtomicBool,
    organizations: catalog::organization_rows::OrganizationDefaults,
    /// Locked while the rules for a message are looked up, so messages are accepted in the order of their calls.
    /// Contains the last failure.
    accept_order: tokio::sync::Mutex<Option<(Instant, StoreError)>>,
    /// Limit of endpoints per application.
    max_endpoints: AtomicUsize,
    supervisor: Supervisor,
    /// Result of the last write check.
    writable: db::writable::CachedCheck,
    scans: db::scans::ScanLimiter,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.expect_ends();
    }
}

/// The row of `meta` with sealed data that verifies the master key.
const MASTER_KEY_CHECK: &str = "master-key-check";

/// PostgreSQL's clock.
const DATABASE_CLOCK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

impl Store {
    /// Connects without changing the schema, and starts the writers on the current tokio runtime.
    ///
    /// # Errors
    /// The database is unreachable, too old, or belongs to another application.
    pub async fn open(options: StoreOptions) -> Result<Store, StoreError> {
        Store::open_with(options, Tuning::default()).await
    }

    /// [`Store::open`] with connection settings.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub async fn open_with(options: StoreOptions, tuning: Tuning) -> Result<Store, StoreError> {
        let Tuning { connections, busy_timeout } = tuning;
        let (backend, scans) = match &options.location {
            Location::Sqlite(path) => (Backend::Sqlite(Sqlite::open(path, busy_timeout).await?), sqlite::SCANS),
            Location::Postgres(url) => {
                (Backend::Postgres(Postgres::open(url, connections).await?), connections.scans())
            }
        };
        let scans = db::scans::ScanLimiter::new(scans);
        let (queues, takers) = writer::queues(matches!(backend, Backend::Sqlite(_)), options.queue);
        let (signals, notification_queue) = signals::Signals::new(matches!(backend, Backend::Postgres(_)));
        let supervisor = Supervisor::default();
        let inner = Inner {
            backend,
            master: options.master,
            max_payload: options.max_payload,
            wide: options.wide,
            routing_cache: routing_cache::RoutingCache::default(),
            signals,
            queues,
            accept_rate: writer::accept_rate::AcceptRate::default(),
            outbox_watermark: outbox_watermark::OutboxWatermark::default(),
            in_flight_keys: idempotency::InFlightKeys::default(),
            change_locks: ChangeLocks::default(),
            wakeups: feed::wakeups::FeedWakeups::default(),
            payload_checks: ingest::payload_checks::PayloadChecks::default(),
            packed: AtomicBool::new(false),
            mailing: AtomicBool::new(false),
            organizations: catalog::organization_rows::OrganizationDefaults::default(),
            accept_order: tokio::sync::Mutex::default(),
            max_endpoints: AtomicUsize::new(DEFAULT_MAX_ENDPOINTS),
            supervisor: supervisor.clone(),
            writable: db::writable::CachedCheck::default(),
            scans,
        };
        let store = Store { inner: Arc::new(inner), idempotency_key: None, actor: None };
        for taker in takers {
            supervisor.essential(Component::Writer, writer::run(Arc::downgrade(&store.inner), taker));
        }
        if let Backend::Postgres(backend) = &store.inner.backend {
            tokio::spawn(postgres::close_idle(Arc::downgrade(&store.inner)));
            if backend.servers.several() {
                tokio::spawn(db::postgres::servers::follow_primary(Arc::downgrade(&store.inner)));
            }
        }
        if let Some(notification_queue) = notification_queue {
            let (inner, notification_queue) = (Arc::downgrade(&store.inner), Arc::new(Mutex::new(notification_queue)));
            supervisor.restarting(Component::Announcer, move || notify::run(inner.clone(), notification_queue.clone()));
        }
        Ok(store)
    }

    /// Takes the lock that allows one process per SQLite file. Does nothing on PostgreSQL.
    ///
    /// # Errors
    /// Another process has the lock.
    pub fn lock(&self) -> Result<(), StoreError> {
        match &self.inner.backend {
            Backend::Sqlite(backend) => backend.lock(),
            Backend::Postgres(_) => Ok(()),
        }
    }

    pub(crate) const SQLITE: &'static str = "sqlite";
    pub(crate) const POSTGRES: &'static str = "postgres";

    /// `sqlite` or `postgres`, for display and for optimizations of one database.
    pub fn kind(&self) -> &'static str {
        match self.inner.backend {
            Backend::Sqlite(_) => Store::SQLITE,
            Backend::Postgres(_) => Store::POSTGRES,
        }
    }

    /// The SQLite file.
    pub fn file(&self) -> Option<&Path> {
        match &self.inner.backend {
            Backend::Sqlite(backend) => Some(backend.path()),
            Backend::Postgres(_) => None,
        }
    }

    /// Size in bytes: the SQLite file without its WAL, or the tables and indexes of our schema.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn size(&self) -> Result<i64, StoreError> {
        const PAGES: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        const TABLES: &str = "SELECT CAST(COALESCE(SUM(pg_total_relation_size(c.oid)), 0) AS BIGINT)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relkind = 'r'";
        Ok(match &self.inner.backend {
            Backend::Sqlite(backend) => sqlx::query_scalar(PAGES).fetch_one(&backend.vital).await?,
            Backend::Postgres(backend) => {
                sqlx::query_scalar(TABLES).bind(postgres::SCHEMA).fetch_one(&backend.front).await?
            }
        })
    }

    /// Supervises the tasks of this store and of its engine.
    pub fn supervisor(&self) -> &Supervisor {
        &self.inner.supervisor
    }

    /// Signals to the engine: newly due deliveries and changed endpoints.
    pub fn signals(&self) -> &signals::Signals {
        &self.inner.signals
    }

    /// Runs an SQLite checkpoint off the commit path. Call about once a second.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        /// In pages: 128 MiB.
        const WAL_RESTART: i64 = 16 * 1024;
        match &self.inner.backend {
            Backend::Sqlite(backend) => backend.checkpoint(WAL_RESTART).await,
            Backend::Postgres(_) => Ok(()),
        }
    }

    /// Begins a write transaction.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        self.inner.begin().await
    }

    /// Verifies the master key with sealed data in `meta`, which the first start writes.
    async fn check_master_key(&self) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let sealed = self.inner.master.seal(MASTER_KEY_CHECK.as_bytes(), b"sendoff");
            // If several processes start with different keys, the first insert wins and the others fail to open the
            // sealed data.
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

    /// The clock for leases: the database's on PostgreSQL, where processes must agree; `now` on SQLite, which has one
    /// process.
    pub(crate) async fn lease_clock(tx: &mut Tx, now: Time) -> Result<Time, StoreError> {
        match tx {
            Tx::Sqlite(_) => Ok(now),
            Tx::Postgres(tx) => Ok(sqlx::query_scalar(DATABASE_CLOCK).fetch_one(&mut **tx).await?),
        }
    }
}

impl Inner {
    /// A read transaction. On SQLite it does not wait for the writer.
    async fn snapshot(&self) -> Result<Tx, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite(backend) => Tx::Sqlite(backend.vital.begin().await?),
            Backend::Postgres(backend) => Tx::on_postgres(&backend.engine, &backend.partitions).await?,
        })
    }

    /// Whether the cached partition layout was dropped.
    fn partitions_stale(&self) -> bool {
        matches!(&self.backend, Backend::Postgres(backend) if backend.partitions.is_stale())
    }

    async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match &self.backend {
            Backend::Sqlite(backend) => Tx::Sqlite(backend.begin().await?),
            Backend::Postgres(backend) => Tx::on_postgres(&backend.engine, &backend.partitions).await?,
        })
    }
}
