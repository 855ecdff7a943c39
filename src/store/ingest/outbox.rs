//! The transactional outbox: a table into which an application's own transactions insert events. [`relay`] moves them
//! into the store.
//!
//! A row that cannot be accepted is *stuck*: it stays in the table with the reason. It is retried with exponential
//! backoff (5 s to 10 min), and at once when an application of its name is created.
//!
//! * [`relay`]: one relay step. [`relay_batch_size`]: its size. [`row_checks`]: validation of payloads.
//!   [`outbox_watermark`]: the lowest id that a poll must read, on PostgreSQL.
//! * [`stuck_rows`]: stuck rows and their organizations. [`outbox_actions`]: retry, edit or discard one.
//! * [`relay_activity`]: the number of rows relayed in the last hour.
//!
//! Invariants: an event is either a row or a message, never both and never neither. The table has no constraint that
//! could fail the writer's transaction.

pub mod outbox_actions;
pub(in crate::store) mod outbox_watermark;
pub(in crate::store) mod relay;
pub mod relay_activity;
pub mod relay_batch_size;
mod row_checks;
pub(in crate::store) mod stuck_rows;

use std::collections::BTreeSet;

use crate::domain::{AppId, Time};
use crate::store::db::codec::from_row;
use crate::store::ingest::outbox::outbox_actions::StuckKey;
use crate::store::ingest::outbox::relay::{POSTGRES_LOOK_AT, SQLITE_LOOK_AT, from_watermark};
use crate::store::recording::operational;
use crate::store::{Backend, Store, StoreError, Tx, on, read, read_vital, write_one};

/// One step of the relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayRequest {
    /// Maximum rows.
    pub limit: i64,
    pub now: Time,
}

/// The result of one step of the relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayReport {
    /// Rows accepted as messages.
    pub accepted: usize,
    /// Rows deleted because their `event_id` is in the store already.
    pub duplicates: usize,
    /// Stuck rows: application as written, reason.
    pub stuck: Vec<(String, String)>,
    /// Rows left for the next step because the transaction was full.
    pub left: usize,
    /// Applications to load before their rows can be accepted. The rows stay.
    pub not_loaded: BTreeSet<AppId>,
}

impl RelayReport {
    /// The number of rows processed.
    pub fn rows(&self) -> usize {
        self.accepted + self.duplicates + self.stuck.len()
    }
}

/// The number of rows in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows that the relay has not processed yet.
    pub waiting: i64,
    pub stuck: i64,
}

/// A stuck row as shown to operators, without its payload, which can have any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckRow {
    /// Not necessarily unique, see [`outbox_actions`].
    pub id: i64,
    /// As written, at most 300 characters.
    pub application: Option<String>,
    pub event_type: Option<String>,
    pub stuck_reason: String,
    pub stuck_since: Time,
    pub look_at: Time,
}

from_row! {
    /// A stuck row as read. Text is read as bytes, because SQLite's text columns accept any value.
    struct StuckColumns {
        id: i64,
        application: Option<Vec<u8>>,
        event_type: Option<Vec<u8>>,
        stuck_reason: Vec<u8>,
        stuck_since: Time,
        look_at: Time,
    }
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

/// Schedules an immediate retry of rows stuck on one of these application names. Call
/// [`Store::reset_outbox_watermark`] after the commit.
pub(in crate::store) async fn retry_stuck_rows(tx: &mut Tx, names: &[&str]) -> Result<(), StoreError> {
    // The cast is for SQLite, where the column may hold a BLOB.
    const SQL: &str = "UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL AND CAST(application AS TEXT) = $1";
    for name in names {
        on!(tx, db => sqlx::query(SQL).bind(*name).execute(db).await.map(drop))?;
    }
    Ok(())
}

impl Store {
    /// After the commit: rows to be retried may have ids below this process's watermark.
    pub(in crate::store) fn reset_outbox_watermark(&self) {
        self.inner.outbox_watermark.reset();
    }

    /// One step of the relay: processes up to `limit` rows that are due.
    ///
    /// # Errors
    /// The store is unavailable, or the database rejected a value ([`StoreError::Rejected`]): retry with a smaller
    /// limit.
    pub async fn relay(&self, request: RelayRequest) -> Result<RelayReport, StoreError> {
        self.inner.queues.relay(request).await
    }

    /// Marks the first due row as stuck, because the database rejects it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn mark_first_row_stuck(&self, now: Time, reason: &str) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let rows = relay::lock_due_rows(&mut tx, &self.inner, &RelayRequest { limit: 1, now }).await?;
            let stuck: Vec<_> = rows.iter().map(|row| (row, format!("the database rejected it: {reason}"))).collect();
            let emitted = stuck_rows::mark(&self.inner, &mut tx, &stuck, now).await?;
            tx.commit().await?;
            operational::signal_emitted(&self.inner, emitted);
            Ok(())
        })
        .await
    }

    /// Whether a row is due. Called many times per second while the outbox is empty, so it must be cheap.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_has_work(&self, now: Time) -> Result<bool, StoreError> {
        match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT 1 FROM outbox WHERE {SQLITE_LOOK_AT} <= $1 ORDER BY {SQLITE_LOOK_AT} LIMIT 1"
                ));
                let found: Option<i32> = sqlx::query_scalar(sql).bind(now).fetch_optional(&backend.vital).await?;
                Ok(found.is_some())
            }
            Backend::Postgres(backend) => {
                let from = self.inner.outbox_watermark.poll_start(now);
                // ORDER BY keeps PostgreSQL on the index, regardless of its statistics.
                let sql = sqlx::AssertSqlSafe(format!(
                    "SELECT {POSTGRES_LOOK_AT}, id FROM outbox WHERE {POSTGRES_LOOK_AT} <= $1 {}
                     ORDER BY {POSTGRES_LOOK_AT}, id LIMIT 1",
                    from_watermark(from, "$2")
                ));
                let query = sqlx::query_as(sql).bind(now).bind(from);
                let found: Option<(i64, Option<i64>)> = query.fetch_optional(&backend.engine).await?;
                let first = found.and_then(|(look_at, id)| id.filter(|_| look_at == 0));
                self.inner.outbox_watermark.polled(from, first, now);
                Ok(found.is_some())
            }
        }
    }

    /// Schedules an immediate retry of every stuck row: a setting may have changed.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_retry_all(&self) -> Result<(), StoreError> {
        write_one!(self, sqlx::query("UPDATE outbox SET look_at = 0 WHERE stuck_reason IS NOT NULL"))?;
        self.reset_outbox_watermark();
        Ok(())
    }

    /// Counts waiting and stuck rows, up to 100,000 of each.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        const SQL: &str = "SELECT
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NULL LIMIT 100000) AS a),
             (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE stuck_reason IS NOT NULL LIMIT 100000) AS b)";
        let (waiting, stuck): (i64, i64) = read_vital!(self, db => sqlx::query_as(SQL).fetch_one(db).await)?;
        Ok(OutboxDepth { waiting, stuck })
    }

    /// The rows that have been stuck longest. Names that are not UTF-8 are converted lossily.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_stuck(&self, limit: i64) -> Result<Vec<StuckRow>, StoreError> {
        self.read_stuck(None, limit).await
    }

    /// One stuck row; the first one if several have this key.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn outbox_stuck_row(&self, key: StuckKey) -> Result<Option<StuckRow>, StoreError> {
        Ok(self.read_stuck(Some(key), 1).await?.pop())
    }

    async fn read_stuck(&self, key: Option<StuckKey>, limit: i64) -> Result<Vec<StuckRow>, StoreError> {
        // Tolerates wrong types in our own columns: writers can insert anything.
        let (columns, id, order) = match &self.inner.backend {
            Backend::Sqlite(_) => (
                "SELECT rowid AS id, substr(CAST(application AS BLOB), 1, 300) AS application,
                     substr(CAST(event_type AS BLOB), 1, 300) AS event_type, CAST(stuck_reason AS BLOB) AS stuck_reason,
                     CASE typeof(stuck_since) WHEN 'integer' THEN stuck_since ELSE 0 END AS stuck_since,
                     CASE typeof(look_at) WHEN 'integer' THEN look_at ELSE 0 END AS look_at
                 FROM outbox WHERE stuck_reason IS NOT NULL",
                "rowid",
                "rowid",
            ),
            Backend::Postgres(_) => (
                "SELECT coalesce(id, 0) AS id, convert_to(left(application, 300), 'UTF8') AS application,
                     convert_to(left(event_type, 300), 'UTF8') AS event_type,
                     convert_to(stuck_reason, 'UTF8') AS stuck_reason, coalesce(stuck_since, 0) AS stuck_since,
                     coalesce(look_at, 0) AS look_at
                 FROM outbox WHERE stuck_reason IS NOT NULL",
                "coalesce(outbox.id, 0)",
                "outbox.id",
            ),
        };
        let condition = key.map_or_else(String::new, |_| format!(" AND outbox.stuck_since = $2 AND {id} = $3"));
        let sql = format!("{columns}{condition} ORDER BY outbox.stuck_since, {order} LIMIT $1");
        let rows: Vec<StuckColumns> = read!(self, db => {
            let query = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(limit);
            let query = match key {
                Some(key) => query.bind(key.since).bind(key.id),
                None => query,
            };
            query.fetch_all(db).await
        })?;
        Ok(rows.into_iter().map(StuckRow::from).collect())
    }
}
