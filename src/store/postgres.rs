//! PostgreSQL: two pools, one schema, and whatever about it differs from SQLite.
//!
//! Everything of ours lives in the schema `sendoff`, so that it can sit in the team's own database. The engine has a pool of
//! its own: pages and requests that read can never keep it waiting for a connection.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, PgPool};

use super::StoreError;

/// The schema in which all of our tables live.
pub(super) const SCHEMA: &str = "sendoff";
/// The oldest server that is supported, as `server_version_num`.
const LEAST_VERSION: i32 = 140_000;
/// Connections for requests and pages, and for the engine (one of which listens).
const FRONT_CONNECTIONS: u32 = 8;
const ENGINE_CONNECTIONS: u32 = 9;
/// How long to wait for a connection: a request would rather hear 503 than hang. While the server is away, the pool tries again a fifth
/// of this apart.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// What connections are set to. A statement that takes longer than 30 s is stuck; the caller has given up long before. None of ours runs
/// long enough to be worth compiling. A process that was stopped, or whose machine is gone, in the middle of a transaction must not keep
/// the locks that others wait for: our transactions never wait for anything but the database.
const SETTINGS: &str = "SET statement_timeout = '30s'; SET jit = off; SET idle_in_transaction_session_timeout = '5s'";
/// The same for the engine's. What it asks for are the first few rows along an index, of tables that may be huge, by lists of keys of which
/// the planner knows nothing but an average: with other statistics it would now and then rather collect all that is pending and sort it,
/// and a plan that it made while there was almost nothing it would keep.
const ENGINE_SETTINGS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off";

/// The same for requests and pages: a plan for the very values. A plan for any values would guess that a range of ids holds half a per
/// cent of the table, and sort it.
const FRONT_SETTINGS: &str = "SET plan_cache_mode = force_custom_plan";

/// The two pools.
#[derive(Debug)]
pub struct Postgres {
    /// What requests and pages use.
    pub(super) front: PgPool,
    /// What the writers, the relay, the lanes and the leases use.
    pub(super) engine: PgPool,
}

impl Postgres {
    /// Connects to `url`.
    pub(super) async fn open(url: &str) -> Result<Postgres, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| {
                StoreError::Unusable(
                    "SENDOFF_DATABASE_URL is not a URL such as postgres://user:password@host/database".into(),
                )
            })?
            .application_name("sendoff")
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(5));
        let pool = |connections, more: &'static str| {
            let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
            options.after_connect(move |connection, _| {
                Box::pin(async move {
                    let setup = format!("SET search_path = {SCHEMA}; {SETTINGS}; {more}");
                    connection.execute(sqlx::AssertSqlSafe(setup)).await?;
                    Ok(())
                })
            })
        };
        let engine = pool(ENGINE_CONNECTIONS, ENGINE_SETTINGS).connect_with(options.clone()).await.map_err(
            |error| match error {
                sqlx::Error::Database(inner) => StoreError::Unusable(format!("PostgreSQL refuses us: {inner}")),
                other => StoreError::Unavailable(format!("cannot reach PostgreSQL: {other}")),
            },
        )?;
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
        Ok(Postgres { front: pool(FRONT_CONNECTIONS, FRONT_SETTINGS).connect_lazy_with(options), engine })
    }
}
