//! PostgreSQL: two connection pools, and the settings of their sessions.
//!
//! All tables are in the schema `sendoff`, so Sendoff can share a database with an application. The engine has its
//! own pool and never waits for a connection that requests and pages hold.
//!
//! * [`servers`]: the servers of a URL, and failover. [`sessions`]: sessions that are invalid after a server error.

pub(in crate::store) mod servers;
pub(in crate::store) mod sessions;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio::time::timeout;

use crate::store::db::postgres::servers::Servers;
use crate::store::partitions::Partitions;
use crate::store::{Backend, Inner, StoreError};

pub(in crate::store) const SCHEMA: &str = "sendoff";
/// The oldest supported server, as `server_version_num`.
const LEAST_VERSION: i32 = 140_000;
/// Interval at which idle connections are sampled, and samples after which unused ones are closed.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);
const SAMPLES: usize = 20;
/// Maximum wait for a connection: a request should fail with 503 rather than hang. While the server is unreachable,
/// the pool retries at a fifth of this.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings of all sessions.
/// * `statement_timeout`: a longer statement is stuck, and its caller has given up.
/// * `jit`: no statement runs long enough to be worth compiling.
/// * `idle_in_transaction_session_timeout`: a process that was paused or lost in a transaction must not keep its locks.
///   Our transactions wait only for the database.
/// * `default_transaction_isolation`: a statement must see changes that were committed before the previous statement
///   acquired its locks.
const SETTINGS: &str = "SET statement_timeout = '30s'; SET jit = off; SET idle_in_transaction_session_timeout = '5s'; \
     SET default_transaction_isolation = 'read committed'";
/// Additional settings of the engine's sessions, to force index scans. Its queries read the first rows of an index of
/// huge tables, by lists of keys for which the planner has only average statistics. Otherwise the planner sometimes
/// collects and sorts all pending deliveries, or keeps a plan that was made while the table was small.
const ENGINE_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off";

/// Additional settings of sessions for requests and pages: no generic plans. A generic plan estimates a range of ids as
/// 0.5 % of the table and sorts the range.
const FRONT_SETTINGS: &str = "SET plan_cache_mode = force_custom_plan";

/// Maximum connections of a process to PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// For requests and pages.
    front: u32,
    /// For everything else; one of them listens.
    engine: u32,
}

impl Connections {
    /// With fewer, heartbeats would wait for other work.
    pub const LEAST: usize = 8;
    pub const MOST: usize = 1_000;
    /// The default number of connections.
    pub const USUAL: usize = 17;

    /// `most` connections in total, clamped to the bounds above. About half of them are for requests and pages.
    pub fn up_to(most: usize) -> Connections {
        let most = u32::try_from(most.clamp(Connections::LEAST, Connections::MOST)).unwrap_or(u32::MAX);
        let front = (most / 2).min(most - 5);
        Connections { front, engine: most - front }
    }
}

impl Connections {
    /// Connections for [scans](crate::store::db::scans): those for requests and pages, except for some that are
    /// reserved for authentication and short reads.
    pub(in crate::store) fn scans(self) -> usize {
        const RESERVED: u32 = 2;
        self.front.saturating_sub(RESERVED).max(1) as usize
    }
}

impl Default for Connections {
    fn default() -> Connections {
        Connections::up_to(Connections::USUAL)
    }
}

/// The two pools.
#[derive(Debug)]
pub struct Postgres {
    /// For requests and pages.
    pub(in crate::store) front: PgPool,
    /// For writers, relay, lanes and leases.
    pub(in crate::store) engine: PgPool,
    pub(in crate::store) servers: Arc<Servers>,
    pub(in crate::store) partitions: Arc<Partitions>,
}

impl Postgres {
    pub(in crate::store) async fn open(url: &str, connections: Connections) -> Result<Postgres, StoreError> {
        let servers = Servers::parse(url)
            .map_err(|why| StoreError::Unusable(format!("SENDOFF_DATABASE_URL {why}")))
            .map(Arc::new)?;
        if servers.several() {
            find(&servers).await?;
        }
        let options = servers.current();
        let pool = |connections, more: &'static str| {
            let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
            let options = options.before_acquire(|_, session| {
                let sound = sessions::is_valid(session.age, Instant::now());
                Box::pin(async move { Ok(sound) })
            });
            options.after_connect(move |connection, _| {
                Box::pin(async move {
                    let setup = format!("SET search_path = {SCHEMA}; {SETTINGS}; {more}");
                    connection.execute(sqlx::AssertSqlSafe(setup)).await?;
                    Ok(())
                })
            })
        };
        let engine = match pool(connections.engine, ENGINE_SETTINGS).connect_with(options.clone()).await {
            Ok(engine) => engine,
            // The pool retries and hides the error of the connection: connect once more to see it.
            Err(sqlx::Error::PoolTimedOut) => {
                let timed_out = || Err(sqlx::Error::PoolTimedOut);
                let error = timeout(ACQUIRE_TIMEOUT, options.connect()).await.unwrap_or_else(|_| timed_out()).err();
                return Err(no_connection(&servers, error.unwrap_or(sqlx::Error::PoolTimedOut)));
            }
            Err(error) => return Err(no_connection(&servers, error)),
        };
        servers.check_pooler().await?;
        let version: String = sqlx::query_scalar("SHOW server_version_num").fetch_one(&engine).await?;
        if version.parse::<i32>().unwrap_or(0) < LEAST_VERSION {
            return Err(StoreError::Unusable(format!("PostgreSQL 14 or newer is required, this server is {version}")));
        }
        let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&engine).await?;
        if encoding != "UTF8" {
            return Err(StoreError::Unusable(format!(
                "the database must use the encoding UTF8, this one uses {encoding}: \
                 CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )));
        }
        Ok(Postgres {
            front: pool(connections.front, FRONT_SETTINGS).connect_lazy_with(options),
            engine,
            partitions: Arc::new(Partitions::new(Arc::clone(&servers))),
            servers,
        })
    }

    /// Options for a connection outside of the pools.
    pub(in crate::store) fn options(&self) -> PgConnectOptions {
        self.servers.current()
    }
}

/// Finds the server that accepts writes, with retries until [`ACQUIRE_TIMEOUT`].
async fn find(servers: &Servers) -> Result<(), StoreError> {
    const BETWEEN: Duration = Duration::from_millis(250);
    let until = Instant::now() + ACQUIRE_TIMEOUT;
    loop {
        match servers.find().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(no_connection(servers, error)),
            // A server may be starting.
            Err(_) => tokio::time::sleep(BETWEEN).await,
        }
    }
}

/// A connection error with the server's name and without the password.
fn no_connection(servers: &Servers, error: sqlx::Error) -> StoreError {
    let server = match matches!(error, sqlx::Error::Database(_)) {
        true => servers::name(&servers.current()),
        false => servers.names(),
    };
    let unreachable = |why: &str| StoreError::Unavailable(format!("cannot reach PostgreSQL at {server}: {why}"));
    match error {
        sqlx::Error::Database(inner) => {
            StoreError::Unusable(format!("PostgreSQL at {server} rejected the connection: {}", inner.message()))
        }
        sqlx::Error::PoolTimedOut => unreachable(&format!("no answer within {} s", ACQUIRE_TIMEOUT.as_secs())),
        sqlx::Error::Io(error) => unreachable(&with_advice(&error.to_string())),
        other => unreachable(&with_advice(&other.to_string())),
    }
}

/// Adds advice to TLS certificate errors.
fn with_advice(why: &str) -> String {
    let advice = if why.contains("UnknownIssuer") {
        ". For a private CA, set its certificate in SENDOFF_DATABASE_URL: sslrootcert=/path/ca.pem"
    } else if why.contains("not valid for name") || why.contains("NotValidForName") {
        ". verify-full requires the host name in the certificate, verify-ca does not"
    } else {
        ""
    };
    format!("{why}{advice}")
}

/// Closes connections that are no longer needed after a burst, until the store is dropped. The pool's idle timeout
/// never does, because it uses its connections round-robin and none is idle for long.
pub(in crate::store) async fn close_idle(store: Weak<Inner>) {
    let mut samples: [Vec<usize>; 2] = Default::default();
    loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let Some(inner) = store.upgrade() else { return };
        let Backend::Postgres(backend) = &inner.backend else { return };
        for (pool, idle) in [&backend.front, &backend.engine].into_iter().zip(&mut samples) {
            idle.push(pool.num_idle());
            if idle.len() == SAMPLES {
                for _ in 0..spare(&mut std::mem::take(idle)) {
                    if let Some(connection) = pool.try_acquire() {
                        let _ = connection.close().await;
                    }
                }
            }
        }
    }
}

/// The number of connections to close: those that were idle in 90 % of the samples, except for one.
fn spare(idle: &mut [usize]) -> usize {
    idle.sort_unstable();
    idle.get(idle.len() / 10).map_or(0, |tenth_percentile| tenth_percentile.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearly_always_idle_connections_are_closed_except_for_one() {
        let spare_of = |idle: &[usize]| spare(&mut idle.to_vec());
        assert_eq!([spare_of(&[8; 20]), spare_of(&[1; 20]), spare_of(&[0; 20]), spare_of(&[])], [7, 0, 0, 0]);
        let busy_twice = [[3; 9].as_slice(), &[0, 0], &[3; 9]].concat();
        assert_eq!(spare_of(&busy_twice), 2);
        let busy_often = [[3; 15].as_slice(), &[0; 5]].concat();
        assert_eq!(spare_of(&busy_often), 0);
    }

    #[test]
    fn connections_are_split_between_the_pools() {
        let parts = |most| {
            let connections = Connections::up_to(most);
            (connections.front, connections.engine)
        };
        assert_eq!(Connections::default(), Connections { front: 8, engine: 9 });
        assert_eq!([parts(8), parts(9), parts(20)], [(3, 5), (4, 5), (10, 10)]);
        assert_eq!([8, 17, 20].map(|most| Connections::up_to(most).scans()), [1, 6, 8]);
        assert_eq!((parts(0), parts(1_000_000)), (parts(Connections::LEAST), parts(Connections::MOST)));
    }
}
