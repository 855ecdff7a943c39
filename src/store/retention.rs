//! Retention: what is older than the setting goes, in small steps, from the first day.
//!
//! Ids grow with time, so "older than" is a range of the key and each step reads only what it deletes.

use super::happening::{self, Unsent};
use super::{Store, StoreError, Tx, on, operational, record, widen};
use crate::domain::delivery::DeadReason;
use crate::domain::{MessageId, Time};

/// How many messages one step takes.
const STEP: i64 = 500;
/// Of how many deliveries of a step the organizations are told one by one that they went unsent. More there are only where a message had very
/// many endpoints that were all paused until it was too old; all are counted.
const TOLD: i64 = 5_000;

impl Store {
    /// Deletes up to a step's worth of messages accepted before `cutoff`, with their deliveries, attempts and keys. A delivery that is still
    /// pending that long after goes with its message, which is told; if it was scheduled, that long after its time. Gives back how many
    /// messages went: fewer than asked for means done.
    ///
    /// # Errors
    /// The store is away.
    pub async fn expire(&self, cutoff: Time, now: Time) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        // The range is bounded by the id of the last message of this step, so that all four tables go step by step together.
        let last = sqlx::AssertSqlSafe(format!(
            "SELECT id FROM message WHERE id < $1 AND NOT ({SCHEDULED}) ORDER BY id LIMIT 1 OFFSET $3"
        ));
        let floor = MessageId::floor(cutoff);
        let last: Option<MessageId> =
            on!(tx, db => sqlx::query_scalar(last).bind(floor).bind(cutoff).bind(STEP).fetch_optional(db).await)?;
        let bound = last.unwrap_or(floor);
        let kept = sqlx::AssertSqlSafe(format!(
            "SELECT count(*) FROM (SELECT 1 FROM message WHERE id < $1 AND {SCHEDULED} LIMIT 1) AS kept"
        ));
        let kept: i64 = on!(tx, db => sqlx::query_scalar(kept).bind(bound).bind(cutoff).fetch_one(db).await)?;
        let (unsent, count) = unsent_before(&mut tx, bound, cutoff, kept > 0).await?;
        let happened = happening::of_unsent(&mut tx, &unsent, now).await?;
        let told = operational::tell(&self.inner, &mut tx, happened).await?;
        let gone = delete_before(&mut tx, bound, cutoff, kept > 0).await?;
        widen::forget(&mut tx, cutoff).await?;
        tx.commit().await?;
        record::count_dead(DeadReason::Expired, count);
        operational::admit(&self.inner, told);
        Ok(gone)
    }

    /// How many messages a step of [`Store::expire`] takes when there are enough.
    pub const EXPIRE_STEP: u64 = STEP as u64;
}

/// A message that was not to be sent before a time that is not that long ago ($2), and waits still.
const SCHEDULED: &str = "deliver_at IS NOT NULL AND deliver_at >= $2
     AND EXISTS (SELECT 1 FROM delivery AS waiting WHERE waiting.message_id = message.id AND waiting.state <= 1)";

/// What waits still and is older than `bound`, but for what is scheduled if there is any: up to [`TOLD`] of it, and how much it is.
async fn unsent_before(
    tx: &mut Tx,
    bound: MessageId,
    cutoff: Time,
    some_kept: bool,
) -> Result<(Vec<Unsent>, u64), StoreError> {
    // The plus keeps SQLite from the index of all that is pending: what is deleted next is read along the key.
    let mut rest = "FROM delivery WHERE message_id < $1 AND +state <= 1".to_owned();
    if some_kept {
        rest.push_str(&format!(" AND message_id NOT IN (SELECT id FROM message WHERE id < $1 AND {SCHEDULED})"));
    }
    let list = sqlx::AssertSqlSafe(format!("SELECT endpoint_id, message_id, app_id, attempts {rest} LIMIT {TOLD}"));
    let unsent: Vec<Unsent> = on!(tx, db => {
        let list = sqlx::query_as(list).bind(bound);
        if some_kept { list.bind(cutoff) } else { list }.fetch_all(db).await
    })?;
    if (unsent.len() as i64) < TOLD {
        let count = unsent.len() as u64;
        return Ok((unsent, count));
    }
    let count = sqlx::AssertSqlSafe(format!("SELECT count(*) {rest}"));
    let count: i64 = on!(tx, db => {
        let count = sqlx::query_scalar(count).bind(bound);
        if some_kept { count.bind(cutoff) } else { count }.fetch_one(db).await
    })?;
    tracing::warn!(
        deliveries = count,
        told = unsent.len(),
        "more deliveries went unsent, past the retention, than are told one by one"
    );
    Ok((unsent, count as u64))
}

/// Deletes what is older than `bound`, but for what is scheduled if there is any. Gives back how many messages went.
async fn delete_before(tx: &mut Tx, bound: MessageId, cutoff: Time, some_kept: bool) -> Result<u64, StoreError> {
    let mut gone = 0;
    // The messages last: they say what is scheduled.
    for (table, column) in
        [("attempt", "message_id"), ("delivery", "message_id"), ("message_key", "message_id"), ("message", "id")]
    {
        let mut sql = format!("DELETE FROM {table} WHERE {column} < $1");
        if some_kept {
            sql.push_str(&format!(" AND {column} NOT IN (SELECT id FROM message WHERE id < $1 AND {SCHEDULED})"));
        }
        let sql = sqlx::AssertSqlSafe(sql);
        gone = on!(tx, db => {
            let delete = sqlx::query(sql).bind(bound);
            let delete = if some_kept { delete.bind(cutoff) } else { delete };
            delete.execute(db).await.map(|done| done.rows_affected())
        })?;
    }
    Ok(gone)
}
