//! Transactions and reads on either database. The macros run a statement, written once, on the database in use: on a
//! pool ([`read!`], [`read_vital!`]), in an open transaction ([`on!`]), or in its own transaction ([`write_one!`]).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::crash::{self, CrashPhase, CrashPoint};
use crate::store::partitions::Partitions;
use crate::store::{Store, StoreError};
use sqlx::{PgConnection, PgPool};

/// Runs `$body` on either database, with `$db` bound to the pool for requests and pages, and `Db` to sqlx's database
/// type.
macro_rules! read {
    ($store:expr, $db:ident => $body:expr) => {
        $crate::store::db::tx::read_from!($store, pages, front, $db => $body)
    };
}

/// Like `read!`, on a pool that pages never use: for short reads of authentication, acceptance and the engine. On
/// PostgreSQL, where the engine has its own pool, it is the same pool as for `read!`; [scans](crate::store::db::scans)
/// leave a part of it free.
macro_rules! read_vital {
    ($store:expr, $db:ident => $body:expr) => {
        $crate::store::db::tx::read_from!($store, vital, front, $db => $body)
    };
}

macro_rules! read_from {
    ($store:expr, $sqlite:ident, $postgres:ident, $db:ident => $body:expr) => {
        match &$store.inner.backend {
            $crate::store::Backend::Sqlite(backend) => {
                #[allow(dead_code)]
                type Db = sqlx::Sqlite;
                let $db = &backend.$sqlite;
                $body
            }
            $crate::store::Backend::Postgres(backend) => {
                #[allow(dead_code)]
                type Db = sqlx::Postgres;
                let $db = &backend.$postgres;
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

/// Runs one statement in a transaction of its own, again after a conflict. Evaluates to the number of affected rows.
macro_rules! write_one {
    ($store:expr, $query:expr) => {
        $store
            .retry_conflicts(|| async {
                let mut tx = $store.begin().await?;
                let affected =
                    $crate::store::on!(tx, db => $query.execute(db).await.map(|done| done.rows_affected()))?;
                tx.commit().await?;
                Ok(affected)
            })
            .await
    };
}

pub(crate) use {on, read, read_from, read_vital, write_one};

/// A write transaction; rolled back on drop.
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(PgTx),
}

/// A transaction on PostgreSQL, with the partitions that it inserts into.
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

/// The connection of a transaction.
pub(crate) enum Connection<'t> {
    Sqlite(&'t mut sqlx::SqliteConnection),
    Postgres(&'t mut sqlx::PgConnection),
}

impl Tx {
    /// Begins a transaction on a connection of `pool`.
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

    /// Commits. After an error the outcome is unknown.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.commit_of(&[CrashPoint::Change]).await
    }

    /// Commits, with [crash points](crate::crash) for the kinds of work in the transaction.
    pub(crate) async fn commit_of(self, places: &[CrashPoint]) -> Result<(), StoreError> {
        places.iter().for_each(|place| crash::point(*place, CrashPhase::Before));
        match self {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.tx.commit().await?,
        }
        places.iter().for_each(|place| crash::point(*place, CrashPhase::After));
        Ok(())
    }

    /// Rolls back at once. A dropped transaction is rolled back only when its connection is used again.
    pub(crate) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.rollback().await?,
            Tx::Postgres(tx) => tx.tx.rollback().await?,
        }
        Ok(())
    }
}
