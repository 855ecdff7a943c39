//! The outbox: the table into which a team's own transaction inserts events. What is done with it from outside; how a step of the
//! relay goes is told in [`relay`].
//!
//! A row that cannot be routed stays, marked with the reason (it is *stuck*), and is looked at again: at once when an application
//! of its name appears, otherwise after it has been stuck as long again, 5 s to 10 min.

use std::collections::BTreeSet;

use sqlx::FromRow;

use crate::domain::{AppId, Time};
use crate::store::ingest::relay::{self, POSTGRES_LOOK_AT, SQLITE_LOOK_AT, postgres_floor};
use crate::store::{Engine, Store, StoreError, Tx, on, read, read_vital};

/// What the relay asks for.
#[derive(Clone, Copy, Debug)]
pub struct RelayRequest {
    /// At most this many rows.
    pub limit: i64,
    pub now: Time,
}

/// What became of the rows that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Messages now.
    pub accepted: usize,
    /// Repeats of an `event_id`: deleted, because what they stand for is in the store.
    pub duplicates: usize,
    /// Left where they are: application as written, reason.
    pub stuck: Vec<(String, String)>,
    /// How many of the rows found no room in the transaction: their turn comes with the next step.
    pub left: usize,
    /// Applications that have to be loaded before their rows can be accepted. The rows stay.
    pub not_loaded: BTreeSet<AppId>,
}

impl Relayed {
    /// How many rows were looked at.
    pub fn rows(&self) -> usize {
        self.accepted + self.duplicates + self.stuck.len()
    }
}

/// How the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows that the relay has not looked at yet.
    pub waiting: i64,
    /// Rows that could not be routed.
    pub stuck: i64,
}

/// A row that could not be routed, for people. The payload is not shown here: it can be of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckRow {
    /// Where it stands among the rows; a number to tell them apart by.
    pub id: i64,
    /// As written, at most 300 characters.
    pub application: Option<String>,
    pub event_type: Option<String>,
    pub stuck_reason: String,
    pub stuck_since: Time,
    pub look_at: Time,
}

/// A stuck row as it is read: bytes, for SQLite's text columns hold whatever was put there.
#[derive(FromRow)]
struct StuckColumns {
    id: i64,
    application: Option<Vec<u8>>,
    event_type: Option<Vec<u8>>,
    stuck_reason: Vec<u8>,
    stuck_since: Time,
    look_at: Time,
}

impl From<StuckColumns> for StuckRow {
    fn from(row: StuckColumns) -> StuckRow {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        StuckRow {
            id: row.id,
            application: row.application.map(text),
            event_type: row.event_type.map(text),
            stuck_reason: text(row.stuck_reason),
            stuck_since: row.stuck_since,
            look_at: row.look_at,
        }
    }
}

/// An application of these names has come to be: rows that wait for it are looked at now. After the commit, [`Store::unstuck`].
pub(in crate::store) async fn unstick(tx: &mut Tx, names: &[&str]) -> Result<(), StoreError> {
    // The cast is for SQLite, whose writers may have put bytes there.
    const SQL: &str = "UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL AND CAST(application AS TEXT) = $1";
    for name in names {
        on!(tx, db => sqlx::query(SQL).bind(*name).execute(db).await.map(drop))?;
    }
    Ok(())
}

impl Store {
    /// After the commit: rows were set free whose ids may be below the floor of this process.
    pub(in crate::store) fn unstuck(&self) {
        self.inner.outbox_floor.forget();
    }

    /// One step of the relay: looks at up to `limit` rows whose turn it is.
    ///
    /// # Errors
    /// The store is away, or ([`StoreError::Refused`]) a row upset it: ask again for fewer.
    pub async fn relay(&self, request: RelayRequest) -> Result<Relayed, StoreError> {
        self.inner.queues.relay(request).await
    }

    /// Marks the one row whose turn it is as stuck, because the store itself would not take it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn relay_give_up(&self, now: Time, reason: &str) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            for row in relay::take(&mut tx, &self.inner, &RelayRequest { limit: 1, now }).await? {
                relay::mark(&mut tx, &row, &format!("the store refused it: {reason}"), now).await?;
            }
            tx.commit().await
        })
        .await
    }

    /// Whether there is a row whose turn it is. Cheap: asked many times a second while nothing is there.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_has_work(&self, now: Time) -> Result<bool, StoreError> {
        match &self.inner.engine {
            Engine::Sqlite(engine) => {
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT 1 FROM outbox WHERE {SQLITE_LOOK_AT} <= $1 ORDER BY {SQLITE_LOOK_AT} LIMIT 1"
                ));
                let found: Option<i32> = sqlx::query_scalar(sql).bind(now).fetch_optional(&engine.vital).await?;
                Ok(found.is_some())
            }
            Engine::Postgres(engine) => {
                let from = self.inner.outbox_floor.begin(now);
                // The order keeps PostgreSQL on the index, however many rows its statistics promise.
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT {POSTGRES_LOOK_AT}, id FROM outbox WHERE {POSTGRES_LOOK_AT} <= $1 {}
                     ORDER BY {POSTGRES_LOOK_AT}, id LIMIT 1",
                    postgres_floor(from, "$2")
                ));
                let query = sqlx::query_as(sql).bind(now).bind(from);
                let found: Option<(i64, Option<i64>)> = query.fetch_optional(&engine.engine).await?;
                let first = found.and_then(|(look_at, id)| id.filter(|_| look_at == 0));
                self.inner.outbox_floor.looked(from, first, now);
                Ok(found.is_some())
            }
        }
    }

    /// Has every stuck row looked at again: a setting may have changed since.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_retry_all(&self) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            const SQL: &str = "UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL";
            on!(tx, db => sqlx::query(SQL).execute(db).await.map(drop))?;
            tx.commit().await?;
            self.unstuck();
            Ok(())
        })
        .await
    }

    /// How many rows wait and how many are stuck; counts up to 100,000 of each.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        const SQL: &str = "SELECT
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NULL LIMIT 100000) AS a),
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NOT NULL LIMIT 100000) AS b)";
        let (waiting, stuck): (i64, i64) = read_vital!(self, db => sqlx::query_as(SQL).fetch_one(db).await)?;
        Ok(OutboxDepth { waiting, stuck })
    }

    /// The rows that have been stuck for longest. Names that are no text (SQLite's columns take anything) are read as well as they can be.
    ///
    /// # Errors
    /// The store is away.
    pub async fn outbox_stuck(&self, limit: i64) -> Result<Vec<StuckRow>, StoreError> {
        // What a writer put into columns of ours is no reason to show nothing.
        let sql = match &self.inner.engine {
            Engine::Sqlite(_) => {
                "SELECT rowid AS id, substr(CAST(application AS BLOB), 1, 300) AS application,
                     substr(CAST(event_type AS BLOB), 1, 300) AS event_type, CAST(stuck_reason AS BLOB) AS stuck_reason,
                     CASE typeof(stuck_since) WHEN 'integer' THEN stuck_since ELSE 0 END AS stuck_since,
                     CASE typeof(look_at) WHEN 'integer' THEN look_at ELSE 0 END AS look_at
                 FROM outbox WHERE stuck_reason IS NOT NULL ORDER BY outbox.stuck_since, rowid LIMIT $1"
            }
            Engine::Postgres(_) => {
                "SELECT coalesce(id, 0) AS id, convert_to(left(application, 300), 'UTF8') AS application,
                     convert_to(left(event_type, 300), 'UTF8') AS event_type,
                     convert_to(stuck_reason, 'UTF8') AS stuck_reason, coalesce(stuck_since, 0) AS stuck_since,
                     coalesce(look_at, 0) AS look_at
                 FROM outbox WHERE stuck_reason IS NOT NULL ORDER BY outbox.stuck_since, outbox.id LIMIT $1"
            }
        };
        let rows: Vec<StuckColumns> = read!(self, db => sqlx::query_as(sql).bind(limit).fetch_all(db).await)?;
        Ok(rows.into_iter().map(StuckRow::from).collect())
    }
}
