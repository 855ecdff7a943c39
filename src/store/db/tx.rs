//! Either database: how one statement is written once for both, to be read from a pool ([`read!`]) or inside a transaction ([`on!`]).

use crate::crash::{self, Place, When};
use crate::store::{Store, StoreError};

/// Runs `$body` on either database, with `$db` bound to a pool to read from and `Db` to the kind of database.
macro_rules! read {
    ($store:expr, $db:ident => $body:expr) => {
        match &$store.inner.engine {
            $crate::store::Engine::Sqlite(engine) => {
                #[allow(dead_code)]
                type Db = sqlx::Sqlite;
                let $db = &engine.readers;
                $body
            }
            $crate::store::Engine::Postgres(engine) => {
                #[allow(dead_code)]
                type Db = sqlx::Postgres;
                let $db = &engine.front;
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

pub(crate) use {on, read};

/// A write transaction; rolled back when it is dropped.
pub(crate) enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// What the statements of a transaction are executed on.
pub(crate) enum Connection<'t> {
    Sqlite(&'t mut sqlx::SqliteConnection),
    Postgres(&'t mut sqlx::PgConnection),
}

impl Tx {
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
        self.commit_of(&[Place::Change]).await
    }

    /// The same, where a test tells apart what it is that is committed.
    pub(crate) async fn commit_of(self, places: &[Place]) -> Result<(), StoreError> {
        places.iter().for_each(|place| crash::point(*place, When::Before));
        match self {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.commit().await?,
        }
        places.iter().for_each(|place| crash::point(*place, When::After));
        Ok(())
    }

    /// Undoes it now, and not only when the connection is used next.
    pub(crate) async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Tx::Sqlite(tx) => tx.rollback().await?,
            Tx::Postgres(tx) => tx.rollback().await?,
        }
        Ok(())
    }
}
