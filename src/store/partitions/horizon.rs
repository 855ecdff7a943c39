//! Retention by partitions: expired messages are deleted a whole partition at a time, some of them later than
//! [`Store::expire`] would.
//!
//! 1. Raise the **horizon** to the end of the newest fully expired partition. Below it nothing enters `due` again.
//! 2. Below the horizon, delete rows of unpartitioned tables in bounded steps: pending deliveries that are not
//!    scheduled (with an operational event), then dead deliveries and event ids.
//! 3. Delete messages and attempts row by row only in partitions that stay: the first, and those kept for scheduled
//!    messages. [`detach`](super::detach) drops the others.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Layout, Partition, PartitionedTable, detach};
use crate::domain::{MessageId, Time};
use crate::store::maintenance::retention::{MESSAGES, ROWS, RetentionStep};
use crate::store::queue::dead::EndedDelivery;
use crate::store::recording::{operational, operational_event};
use crate::store::{Backend, Store, StoreError, Tx};

impl Store {
    /// One step of retention. On SQLite this is [`Store::expire`]. On PostgreSQL it only affects partitions entirely
    /// older than `cutoff`, and leaves droppable ones to [`Store::drop_partitions`]. A message and its data may stay
    /// for up to one [`width`](super::width) longer.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn retain(&self, cutoff: Time, now: Time) -> Result<RetentionStep, StoreError> {
        self.retry_conflicts(|| async {
            let Backend::Postgres(backend) = &self.inner.backend else { return self.expire(cutoff, now).await };
            let layout = Layout::read(&backend.engine).await?;
            let Some(horizon) = layout.expired_before(cutoff) else {
                self.commit_expired(self.begin().await?, cutoff, 0, Vec::new()).await?;
                return Ok(RetentionStep::default());
            };
            // Committed separately, before anything is deleted, because resends lock this row.
            sqlx::query("UPDATE horizon SET message_id = $1 WHERE message_id < $1")
                .bind(horizon)
                .execute(&backend.engine)
                .await?;

            let mut tx = self.begin().await?;
            let unsent = match &mut tx {
                Tx::Postgres(tx) => delete_pending(tx, horizon, cutoff).await?,
                Tx::Sqlite(_) => Vec::new(),
            };
            let emitted = operational::emit(&self.inner, &mut tx, operational_event::of_unsent(&unsent, now)).await?;
            let mut expired =
                RetentionStep { rows: unsent.len() as u64, more: unsent.len() as i64 >= ROWS, messages: 0 };
            if let (Tx::Postgres(tx), false) = (&mut tx, expired.more) {
                // Deliveries still queued below the horizon are scheduled and keep their message.
                delete_rest(tx, &layout, horizon, &mut expired).await?;
            }
            self.commit_expired(tx, cutoff, unsent.len(), emitted).await?;
            Ok(expired)
        })
        .await
    }
}

/// Deletes pending deliveries of messages below `horizon`, unless scheduled for `cutoff` or later.
async fn delete_pending(
    connection: &mut PgConnection,
    horizon: MessageId,
    cutoff: Time,
) -> Result<Vec<EndedDelivery>, StoreError> {
    // Not a join, which could read all messages below the horizon. There are many until their partitions are dropped.
    let sql = AssertSqlSafe(format!(
        "DELETE FROM due WHERE (message_id, endpoint_id) IN
             (SELECT message_id, endpoint_id FROM due WHERE message_id < $1
                  AND COALESCE((SELECT message.deliver_at < $2 FROM message WHERE message.id = due.message_id), TRUE)
              ORDER BY message_id, endpoint_id LIMIT {ROWS})
         RETURNING endpoint_id, message_id, app_id, attempts,
             (SELECT org FROM application WHERE application.id = due.app_id) AS org"
    ));
    Ok(sqlx::query_as(sql).bind(horizon).bind(cutoff).fetch_all(connection).await?)
}

/// Deletes one step of dead deliveries, event ids and payload warnings below `horizon`, and of rows in partitions that
/// are kept.
async fn delete_rest(
    connection: &mut PgConnection,
    layout: &Layout,
    horizon: MessageId,
    expired: &mut RetentionStep,
) -> Result<(), StoreError> {
    let tables =
        [("dead", "message_id, endpoint_id"), ("message_key", "app_id, event_id"), ("payload_warning", "message_id")];
    for (table, key) in tables {
        let sql = AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE ({key}) IN
                 (SELECT {key} FROM {table} WHERE message_id < $1
                      AND NOT EXISTS (SELECT 1 FROM due WHERE due.message_id = {table}.message_id)
                  ORDER BY message_id LIMIT {ROWS})"
        ));
        let gone = sqlx::query(sql).bind(horizon).execute(&mut *connection).await?.rows_affected();
        expired.rows += gone;
        expired.more |= gone >= ROWS.unsigned_abs();
    }
    for table in PartitionedTable::ALL.into_iter().rev() {
        for one in layout.of_table(table).filter(|one| one.to <= horizon && !one.detaching) {
            if one.is_first() || detach::has_pending(connection, one).await? {
                let (gone, most) = delete_rows(connection, one).await?;
                expired.rows += gone;
                expired.more |= gone >= most;
                expired.messages += if table == PartitionedTable::Message { gone } else { 0 };
            }
        }
    }
    Ok(())
}

/// Deletes rows of a partition that is kept, except those of messages with pending deliveries. Returns the number of
/// deleted rows and the limit per call.
async fn delete_rows(connection: &mut PgConnection, one: &Partition) -> Result<(u64, u64), StoreError> {
    let (key, most) = match one.table {
        PartitionedTable::Message => ("id", MESSAGES),
        PartitionedTable::Attempt => ("message_id, endpoint_id, id", ROWS),
    };
    let (table, id) = (one.table.name(), one.table.id());
    // The bounds are repeated in every clause: without them PostgreSQL would read all partitions.
    let none_in = |of: &str| {
        format!(
            "NOT EXISTS (SELECT 1 FROM {of} WHERE {of}.message_id = {table}.{id} AND {of}.message_id >= $1 AND {of}.message_id < $2)"
        )
    };
    let needless = match one.table {
        PartitionedTable::Message => ["due", "fan_out", "attempt"].map(none_in).join(" AND "),
        PartitionedTable::Attempt => none_in("due"),
    };
    let sql = AssertSqlSafe(format!(
        "DELETE FROM {table} WHERE {id} >= $1 AND {id} < $2 AND ({key}) IN
             (SELECT {key} FROM {table} WHERE {id} >= $1 AND {id} < $2 AND {needless} ORDER BY {key} LIMIT {most})"
    ));
    let gone = sqlx::query(sql).bind(one.from).bind(one.to).execute(connection).await?.rows_affected();
    Ok((gone, most.unsigned_abs()))
}
