//! Retention by partitions: what is past goes a whole partition at a time, some of it later than [`Store::expire`] would take it.
//!
//! 1. The **horizon** is raised to the end of the newest partition that is wholly past. Below it nothing enters `due` again.
//! 2. What is not partitioned is deleted below the horizon in bounded steps: pending deliveries that are not scheduled, which is told; then
//!    dead ones and the callers' own ids.
//! 3. Messages and attempts are deleted row by row only where their partition stays: in the first one, and where something scheduled
//!    waits still. All others are left to [`leave`](super::leave).

use sqlx::{AssertSqlSafe, PgConnection};

use super::{Layout, Partition, Table, leave};
use crate::domain::deliveries::delivery::DeadReason;
use crate::domain::{MessageId, Time};
use crate::store::maintenance::retention::{Expired, MESSAGES, ROWS};
use crate::store::maintenance::rollup_compaction;
use crate::store::queue::dead::Ended;
use crate::store::recording::{operational, operational_event, record};
use crate::store::{Engine, Store, StoreError, Tx};

impl Store {
    /// One step of retention, as the maintenance takes it. With SQLite this is [`Store::expire`]. With PostgreSQL it goes by partitions:
    /// what lies in one that is wholly older than `cutoff` goes, and the rows of those that can be dropped are left to
    /// [`Store::drop_partitions`]. So a message stays for up to one [`width`](super::width) longer, together with all that hangs on it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn retain(&self, cutoff: Time, now: Time) -> Result<Expired, StoreError> {
        self.repeated(|| async {
            let Engine::Postgres(engine) = &self.inner.engine else { return self.expire(cutoff, now).await };
            let layout = Layout::read(&engine.engine).await?;
            let Some(horizon) = layout.past(cutoff) else {
                let mut tx = self.begin().await?;
                rollup_compaction::forget(&mut tx, cutoff).await?;
                tx.commit().await?;
                return Ok(Expired::default());
            };
            // By itself, before anything is deleted: resends hold the row.
            sqlx::query("UPDATE horizon SET message_id = $1 WHERE message_id < $1")
                .bind(horizon)
                .execute(&engine.engine)
                .await?;

            let mut tx = self.begin().await?;
            let unsent = match &mut tx {
                Tx::Postgres(tx) => delete_pending(tx, horizon, cutoff).await?,
                Tx::Sqlite(_) => Vec::new(),
            };
            let told = operational::tell(&self.inner, &mut tx, operational_event::of_unsent(&unsent, now)).await?;
            let mut expired = Expired { rows: unsent.len() as u64, more: unsent.len() as i64 >= ROWS, messages: 0 };
            if let (Tx::Postgres(tx), false) = (&mut tx, expired.more) {
                // What is still in the queue below the horizon is scheduled, and keeps its message.
                delete_rest(tx, &layout, horizon, &mut expired).await?;
            }
            rollup_compaction::forget(&mut tx, cutoff).await?;
            tx.commit().await?;
            record::count_dead(DeadReason::Expired, unsent.len() as u64);
            operational::admit(&self.inner, told);
            Ok(expired)
        })
        .await
    }
}

/// Deletes what is pending of messages before `horizon`, unless it was scheduled for `cutoff` or later.
async fn delete_pending(
    connection: &mut PgConnection,
    horizon: MessageId,
    cutoff: Time,
) -> Result<Vec<Ended>, StoreError> {
    // The inner query is no join: that could read all messages below the horizon, which are many until they are dropped.
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

/// Deletes up to a step's worth of dead deliveries and of ids below `horizon`, and the rows of partitions that stay.
async fn delete_rest(
    connection: &mut PgConnection,
    layout: &Layout,
    horizon: MessageId,
    expired: &mut Expired,
) -> Result<(), StoreError> {
    for (table, key) in [("dead", "message_id, endpoint_id"), ("message_key", "app_id, event_id")] {
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
    for table in Table::ALL.into_iter().rev() {
        for one in layout.of_table(table).filter(|one| one.to <= horizon && !one.leaving) {
            if one.is_first() || leave::has_pending(connection, one).await? {
                let (gone, most) = delete_rows(connection, one).await?;
                expired.rows += gone;
                expired.more |= gone >= most;
                expired.messages += if table == Table::Message { gone } else { 0 };
            }
        }
    }
    Ok(())
}

/// Deletes rows of a partition that stays, but for what belongs to a message of which something is pending; the attempts first. Gives back how
/// many, and how many it is at most.
async fn delete_rows(connection: &mut PgConnection, one: &Partition) -> Result<(u64, u64), StoreError> {
    let (key, most) = match one.table {
        Table::Message => ("id", MESSAGES),
        Table::Attempt => ("message_id, endpoint_id, id", ROWS),
    };
    let (table, id) = (one.table.name(), one.table.id());
    // The bounds stand everywhere: without them PostgreSQL would look into all partitions.
    let none_in = |of: &str| {
        format!(
            "NOT EXISTS (SELECT 1 FROM {of} WHERE {of}.message_id = {table}.{id} AND {of}.message_id >= $1 AND {of}.message_id < $2)"
        )
    };
    let needless = match one.table {
        Table::Message => ["due", "fan_out", "attempt"].map(none_in).join(" AND "),
        Table::Attempt => none_in("due"),
    };
    let sql = AssertSqlSafe(format!(
        "DELETE FROM {table} WHERE {id} >= $1 AND {id} < $2 AND ({key}) IN
             (SELECT {key} FROM {table} WHERE {id} >= $1 AND {id} < $2 AND {needless} ORDER BY {key} LIMIT {most})"
    ));
    let gone = sqlx::query(sql).bind(one.from).bind(one.to).execute(connection).await?.rows_affected();
    Ok((gone, most.unsigned_abs()))
}
