//! Retention row by row: deletes messages older than the retention period, in small steps. On PostgreSQL, maintenance
//! drops [partitions](crate::store::partitions) instead.
//!
//! Ids grow with time, so "older than" is a range of the key and each step only reads rows it deletes. Steps are
//! bounded in rows rather than messages: a message may have any number of deliveries and attempts.

use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::{MessageId, Time};
use crate::store::ingest::sent_by_hand;
use crate::store::maintenance::rollup_compaction;
use crate::store::queue::dead::EndedDelivery;
use crate::store::queue::signals::Admission;
use crate::store::recording::{operational, operational_event, record};
use crate::store::{Store, StoreError, Tx, on};

/// Maximum messages per step.
pub(in crate::store) const MESSAGES: i64 = 500;
/// The approximate number of attempts, and of deliveries, per step.
pub(in crate::store) const ROWS: i64 = 4_000;

/// The result of one step of [`Store::expire`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionStep {
    pub messages: u64,
    /// Rows of all tables, including messages.
    pub rows: u64,
    /// There may be more to delete.
    pub more: bool,
}

impl Store {
    /// Deletes one step of messages accepted before `cutoff`, with their deliveries, attempts and keys. A pending
    /// delivery is deleted with its message and emits an operational event; a scheduled one expires relative to its
    /// scheduled time. A message with more rows than a step allows is deleted over several steps.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn expire(&self, cutoff: Time, now: Time) -> Result<RetentionStep, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let step = StepRange::plan(&mut tx, cutoff).await?;
            let unsent = step.delete_pending(&mut tx).await?;
            let emitted = operational::emit(&self.inner, &mut tx, operational_event::of_unsent(&unsent, now)).await?;
            let mut expired = RetentionStep { messages: 0, rows: unsent.len() as u64, more: step.more };
            for table in ["dead", "attempt"] {
                let gone = step.delete_rows(&mut tx, table).await?;
                expired.more |= gone >= ROWS as u64;
                expired.rows += gone;
            }
            expired.more |= unsent.len() as i64 >= ROWS;
            // Messages last, after all their rows.
            for table in ["message_key", "payload_warning", "message"] {
                expired.messages = step.delete_messages(&mut tx, table).await?;
                expired.rows += expired.messages;
            }
            self.commit_expired(tx, cutoff, unsent.len(), emitted).await?;
            Ok(expired)
        })
        .await
    }

    /// Commits a step of retention, without rollups before `cutoff`. Counts the `unsent` deliveries, and signals the
    /// operational events about them.
    pub(in crate::store) async fn commit_expired(
        &self,
        mut tx: Tx,
        cutoff: Time,
        unsent: usize,
        emitted: Vec<Admission>,
    ) -> Result<(), StoreError> {
        rollup_compaction::delete_old_rollups(&mut tx, cutoff).await?;
        sent_by_hand::delete_old_copies(&mut tx, cutoff).await?;
        tx.commit().await?;
        record::count_dead(DeadReason::Expired, unsent as u64);
        operational::signal_emitted(&self.inner, emitted);
        Ok(())
    }
}

/// Whether an old message is kept because it was scheduled for the cutoff ($2) or later and is still pending.
const SCHEDULED: &str = "message.deliver_at IS NOT NULL AND message.deliver_at >= $2
     AND EXISTS (SELECT 1 FROM due AS waiting WHERE waiting.message_id = message.id)";

/// The range of message ids of one step.
struct StepRange {
    /// Messages before it are deleted.
    bound: MessageId,
    cutoff: Time,
    /// Some messages in the range are kept because they are scheduled.
    some_kept: bool,
    /// There are more messages to delete after the bound.
    more: bool,
}

impl StepRange {
    async fn plan(tx: &mut Tx, cutoff: Time) -> Result<StepRange, StoreError> {
        let floor = MessageId::floor(cutoff);
        let last = sqlx::AssertSqlSafe(format!(
            "SELECT id FROM message WHERE id < $1 AND NOT ({SCHEDULED}) ORDER BY id LIMIT 1 OFFSET $3"
        ));
        let last: Option<MessageId> =
            on!(tx, db => sqlx::query_scalar(last).bind(floor).bind(cutoff).bind(MESSAGES).fetch_optional(db).await)?;
        let kept = sqlx::AssertSqlSafe(format!(
            "SELECT count(*) FROM (SELECT 1 FROM message WHERE id < $1 AND {SCHEDULED} LIMIT 1) AS kept"
        ));
        let bound = last.unwrap_or(floor);
        let kept: i64 = on!(tx, db => sqlx::query_scalar(kept).bind(bound).bind(cutoff).fetch_one(db).await)?;
        Ok(StepRange { bound, cutoff, some_kept: kept > 0, more: last.is_some() })
    }

    /// Selects the rows of `table` to delete: the oldest, at most [`ROWS`].
    fn rows(&self, table: &str) -> String {
        let mut rows = format!("FROM {table} WHERE message_id < $1");
        if self.some_kept {
            rows.push_str(&format!(" AND message_id NOT IN (SELECT id FROM message WHERE id < $1 AND {SCHEDULED})"));
        }
        rows.push_str(&format!(" ORDER BY message_id, endpoint_id LIMIT {ROWS}"));
        rows
    }

    /// Deletes pending deliveries and returns them.
    async fn delete_pending(&self, tx: &mut Tx) -> Result<Vec<EndedDelivery>, StoreError> {
        let delete = sqlx::AssertSqlSafe(format!(
            "DELETE FROM due WHERE (message_id, endpoint_id) IN (SELECT message_id, endpoint_id {})
             RETURNING endpoint_id, message_id, app_id, attempts,
                 (SELECT org FROM application WHERE application.id = due.app_id) AS org",
            self.rows("due")
        ));
        Ok(on!(tx, db => {
            let delete = sqlx::query_as(delete).bind(self.bound);
            if self.some_kept { delete.bind(self.cutoff) } else { delete }.fetch_all(db).await
        })?)
    }

    async fn delete_rows(&self, tx: &mut Tx, table: &str) -> Result<u64, StoreError> {
        let key = if table == "attempt" { "message_id, endpoint_id, id" } else { "message_id, endpoint_id" };
        let delete =
            sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} {})", self.rows(table)));
        Ok(on!(tx, db => {
            let delete = sqlx::query(delete).bind(self.bound);
            let delete = if self.some_kept { delete.bind(self.cutoff) } else { delete };
            delete.execute(db).await.map(|done| done.rows_affected())
        })?)
    }

    /// Deletes messages (or their keys) without remaining rows.
    async fn delete_messages(&self, tx: &mut Tx, table: &str) -> Result<u64, StoreError> {
        let column = if table == "message" { "id" } else { "message_id" };
        // Rows stay in `fan_out` only briefly, so the table is nearly always empty.
        let left = |of: &str| format!("NOT EXISTS (SELECT 1 FROM {of} WHERE {of}.message_id = {table}.{column})");
        let mut sql = format!(
            "DELETE FROM {table} WHERE {column} < $1 AND {}",
            ["attempt", "dead", "due", "fan_out"].map(left).join(" AND ")
        );
        if self.some_kept {
            sql.push_str(&format!(" AND {column} NOT IN (SELECT id FROM message WHERE id < $1 AND {SCHEDULED})"));
        }
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(on!(tx, db => {
            let delete = sqlx::query(sql).bind(self.bound);
            let delete = if self.some_kept { delete.bind(self.cutoff) } else { delete };
            delete.execute(db).await.map(|done| done.rows_affected())
        })?)
    }
}
