//! PostgreSQL: two pools, one schema, and whatever about it differs from SQLite.
//!
//! Everything of ours lives in the schema `sendoff`, so that it can sit in the team's own database. The engine has a pool of
//! its own: pages and requests that read can never keep it waiting for a connection.

pub(in crate::store) mod servers;
pub(in crate::store) mod sessions;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio::time::timeout;

use crate::store::db::postgres::servers::Servers;
use crate::store::partitions::Partitions;
use crate::store::{Engine, Inner, StoreError};

/// The schema in which all of our tables live.
pub(in crate::store) const SCHEMA: &str = "sendoff";
/// The oldest server that is supported, as `server_version_num`.
const LEAST_VERSION: i32 = 140_000;
/// How often is looked how many connections are idle, and after how many looks those that were not needed are closed.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: usize = 20;
/// How long to wait for a connection: a request would rather hear 503 than hang. While the server is away, the pool tries again a fifth
/// of this apart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// What connections are set to. A statement that takes longer than 30 s is stuck; the caller has given up long before. None of ours runs
/// long enough to be worth compiling. A process that was stopped, or whose machine is gone, in the middle of a transaction must not keep
/// the locks that others wait for: our transactions never wait for anything but the database. What a statement sees has to be newer than the
/// locks that the one before it took, whatever the database's default is.
const SETTINGS: &str = "SET statement_timeout = '30s'; SET jit = off; SET idle_in_transaction_session_timeout = '5s'; \
     SET default_transaction_isolation = 'read committed'";
/// The same for the engine's. What it asks for are the first few rows along an index, of tables that may be huge, by lists of keys of which
/// the planner knows nothing but an average: with other statistics it would now and then rather collect all that is pending and sort it,
/// and a plan that it made while there was almost nothing it would keep.
const ENGINE_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off";

/// The same for requests and pages: a plan for the very values. A plan for any values would guess that a range of ids holds half a per
/// cent of the table, and sort it.
const FRONT_SETTINGS: &str = "SET plan_cache_mode = force_custom_plan";

/// The most connections of a process to PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// For requests and pages.
    front: u32,
    /// For everything else; one of them listens.
    engine: u32,
}

impl Connections {
    /// With fewer, heartbeats would wait for what they must not wait for.
    pub const LEAST: usize = 8;
    pub const MOST: usize = 1_000;
    /// What a process has if nobody says otherwise.
    pub const USUAL: usize = 17;

    /// `most` in all, from [`Connections::LEAST`] on: about half of them are for requests and pages.
    pub fn up_to(most: usize) -> Connections {
        let most = u32::try_from(most.clamp(Connections::LEAST, Connections::MOST)).unwrap_or(u32::MAX);
        let front = (most / 2).min(most - 5);
        Connections { front, engine: most - front }
    }
}

impl Connections {
    /// How many connections reads that scan may take: the rest of those for requests and pages is for authentication and short reads.
    pub(in crate::store) fn scans(self) -> usize {
        const LEFT: u32 = 2;
        self.front.saturating_sub(LEFT).max(1) as usize
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
    /// What requests and pages use.
    pub(in crate::store) front: PgPool,
    /// What the writers, the relay, the lanes and the leases use.
    pub(in crate::store) engine: PgPool,
    pub(in crate::store) servers: Arc<Servers>,
    pub(in crate::store) partitions: Arc<Partitions>,
}

impl Postgres {
    /// Connects to `url`, with up to so many connections.
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
                let sound = sessions::sound(session.age, Instant::now());
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
            // It tries again and again, and does not say what it hears.
            Err(sqlx::Error::PoolTimedOut) => {
                let silent = || Err(sqlx::Error::PoolTimedOut);
                let error = timeout(ACQUIRE_TIMEOUT, options.connect()).await.unwrap_or_else(|_| silent()).err();
                return Err(no_connection(&servers, error.unwrap_or(sqlx::Error::PoolTimedOut)));
            }
            Err(error) => return Err(no_connection(&servers, error)),
        };
        servers.check_pooler().await?;
        let version: String = sqlx::query_scalar("SHOW server_version_num").fetch_one(&engine).await?;
        if version.parse::<i32>().unwrap_or(0) < LEAST_VERSION {
            return Err(StoreError::Unusable(format!("PostgreSQL 14 or newer is needed, this one is {version}")));
        }
        let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&engine).await?;
        if encoding != "UTF8" {
            return Err(StoreError::Unusable(format!(
                "the database must be encoded in UTF8, this one is in {encoding}: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
            )));
        }
        Ok(Postgres {
            front: pool(connections.front, FRONT_SETTINGS).connect_lazy_with(options),
            engine,
            partitions: Arc::new(Partitions::new(Arc::clone(&servers))),
            servers,
        })
    }

    /// How a connection is made that is in neither of the pools.
    pub(in crate::store) fn options(&self) -> PgConnectOptions {
        self.servers.current()
    }
}

/// Finds the server that takes writes, among several.
async fn find(servers: &Servers) -> Result<(), StoreError> {
    const BETWEEN: Duration = Duration::from_millis(250);
    let until = Instant::now() + ACQUIRE_TIMEOUT;
    loop {
        match servers.find().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => return Err(no_connection(servers, error)),
            // Perhaps one of them is about to start.
            Err(_) => tokio::time::sleep(BETWEEN).await,
        }
    }
}

/// Names the server, and never the password.
fn no_connection(servers: &Servers, error: sqlx::Error) -> StoreError {
    let server = match matches!(error, sqlx::Error::Database(_)) {
        true => servers::name(&servers.current()),
        false => servers.names(),
    };
    let unreachable = |why: &str| StoreError::Unavailable(format!("cannot reach PostgreSQL at {server}: {why}"));
    match error {
        sqlx::Error::Database(inner) => {
            StoreError::Unusable(format!("PostgreSQL at {server} refuses us: {}", inner.message()))
        }
        sqlx::Error::PoolTimedOut => unreachable(&format!("no answer within {} s", ACQUIRE_TIMEOUT.as_secs())),
        sqlx::Error::Io(error) => unreachable(&with_advice(&error.to_string())),
        other => unreachable(&with_advice(&other.to_string())),
    }
}

/// Advice about a server's certificate that is refused.
fn with_advice(why: &str) -> String {
    let advice = if why.contains("UnknownIssuer") {
        ". If its CA is your own, name the CA's certificate in SENDOFF_DATABASE_URL: sslrootcert=/path/ca.pem"
    } else if why.contains("not valid for name") || why.contains("NotValidForName") {
        ". verify-full wants the host's name in the certificate, verify-ca does not"
    } else {
        ""
    };
    format!("{why}{advice}")
}

/// Closes what a burst has opened and nobody needs any more, for as long as the store is open. A pool's own idle timeout never does: the pool
/// hands its connections out in turns, so that each of them is used now and then.
pub(in crate::store) async fn close_idle(store: Weak<Inner>) {
    let mut looks: [Vec<usize>; 2] = Default::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = store.upgrade() else { return };
        let Engine::Postgres(engine) = &inner.engine else { return };
        for (pool, idle) in [&engine.front, &engine.engine].into_iter().zip(&mut looks) {
            idle.push(pool.num_idle());
            if idle.len() == LOOKS {
                for _ in 0..spare(&mut std::mem::take(idle)) {
                    if let Some(connection) = pool.try_acquire() {
                        let _ = connection.close().await;
                    }
                }
            }
        }
    }
}

/// How many connections to close, by how many were idle at each look: those that were nearly always, but for one that stays for whoever comes
/// next.
fn spare(idle: &mut [usize]) -> usize {
    idle.sort_unstable();
    idle.get(idle.len() / 10).map_or(0, |nearly_always| nearly_always.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_nearly_always_idle_are_closed_but_for_one() {
        let spare_of = |idle: &[usize]| spare(&mut idle.to_vec());
        assert_eq!([spare_of(&[8; 20]), spare_of(&[1; 20]), spare_of(&[0; 20]), spare_of(&[])], [7, 0, 0, 0]);
        let busy_twice = [[3; 9].as_slice(), &[0, 0], &[3; 9]].concat();
        assert_eq!(spare_of(&busy_twice), 2);
        let busy_often = [[3; 15].as_slice(), &[0; 5]].concat();
        assert_eq!(spare_of(&busy_often), 0);
    }

    #[test]
    fn connections_are_shared_out() {
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
