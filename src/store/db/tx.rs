//! Either database: how one statement is written once for both, to be read from a pool ([`read!`], [`read_vital!`]) or inside a transaction ([`on!`]).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::crash::{self, CrashPhase, CrashPoint};
use crate::store::partitions::Partitions;
use crate::store::{Store, StoreError};
use sqlx::{PgConnection, PgPool};

/// Runs `$body` on either database, with `$db` bound to the pool of requests and pages and `Db` to the kind of database.
macro_rules! read {
    ($store:expr, $db:ident => $body:expr) => {
        $crate::store::db::tx::read_from!($store, pages, front, $db => $body)
    };
}

/// The same with the pool that pages never take: for authentication, acceptance and the engine, whose reads are short. On PostgreSQL, where
/// the engine has a pool of its own, it is that of requests and pages, of which [scans](crate::store::db::scans) leave a part.
macro_rules! read_vital {
    ($store:expr, $db:ident => $body:expr) => {
        $crate::store::db::tx::read_from!($store, vital, front, $db => $body)
    };
}

macro_rules! read_from {
    ($store:expr, $sqlite:ident, $postgres:ident, $db:ident => $body:expr) => {
        match &$store.inner.engine {
            $crate::store::Engine::Sqlite(engine) => {
                #[allow(dead_code)]
                type Db = sqlx::Sqlite;
                let $db = &engine.$sqlite;
                $body
            }
            $crate::store::Engine::Postgres(engine) => {
                #[allow(dead_code)]
                type Db = sqlx::Postgres;
                let $db = &engine.$postgres;
                $body
            }
        }
    };
}

/// Runs `$body` on either database, with `$db` bound to the connection of a transaction.
macro_rules! on {
    ($tx:expr, $db:ident => $body:expr) => {
        match $tx.connection() {
            $crate::store::Connection::Sqlite($db) => $body,
            $crate::store::Connection::Postgres($db) => $body,
        }
    };
}

pub(crate) use {on, read, read_from, read_vital};

/// A write transaction; rolled back when it is dropped.
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(PgTx),
}

/// A transaction on PostgreSQL, and what knows the partitions into which it inserts.
pub(crate) struct PgTx {
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    partitions: Arc<Partitions>,
}

impl PgTx {
    pub(in crate::store) fn partitions(&self) -> Arc<Partitions> {
        self.partitions.clone()
    }
}

impl Deref for PgTx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.tx
    }
}

impl DerefMut for PgTx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.tx
    }
}

/// What the statements of a transaction are executed on.
pub(crate) enum Connection<'t> {
    Sqlite(&'t mut sqlx::SqliteConnection),
    Postgres(&'t mut sqlx::PgConnection),
}

impl Tx {
    /// Begins one on a connection of `pool`.
    pub(in crate::store) async fn on_postgres(pool: &PgPool, partitions: &Arc<Partitions>) -> Result<Tx, StoreError> {
        Ok(Tx::Postgres(PgTx { tx: pool.begin().await?, partitions: partitions.clone() }))
    }

    /// [`Store::kind`] of its store.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Tx::Sqlite(_) => Store::SQLITE,
            Tx::Postgres(_) => Store::POSTGRES,
        }
    }

    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match self {
            Tx::Sqlite(tx) => Connection::Sqlite(tx),
            Tx::Postgres(tx) => Connection::Postgres(tx),
        }
    }

    /// Makes it so. After an error nobody knows whether it was.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.commit_of(&[CrashPoint::Change]).await
    }

    /// The same, where a test tells apart what it is that is committed.
    pub(crate) async fn commit_of(self, places: &[CrashPoint]) -> Result<(), StoreError> {
        places.iter().for_each(|place| crash::point(*place, CrashPhase::Before));
        match self {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.tx.commit().await?,
        }
        places.iter().for_each(|place| crash::point(*place, CrashPhase::After));
        Ok(())
    }

    /// Undoes it now, and not only when the connection is used next.
    pub(crate) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.rollback().await?,
            Tx::Postgres(tx) => tx.tx.rollback().await?,
        }
        Ok(())
    }
}
