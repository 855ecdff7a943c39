//! Retention: what is older than the setting goes, in small steps, from the first day.
//!
//! Ids grow with time, so "older than" is a range of the key and each step reads only what it deletes.

use std::time::Duration;

use super::{Store, StoreError, Tx, on};
use crate::domain::{MessageId, Time};

/// How many messages one step takes.
const STEP: i64 = 500;

impl Store {
    /// Deletes up to a step's worth of messages accepted before `cutoff`, with their deliveries, attempts and keys. A delivery that is still
    /// pending that long after goes with its message. Gives back how many messages went: fewer than asked for means done.
    ///
    /// # Errors
    /// The store is away.
    pub async fn expire(&self, cutoff: Time) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        // The range is bounded by the id of the last message of this step, so that all four tables go step by step together.
        const LAST: &str = "SELECT id FROM message WHERE id < $1 ORDER BY id LIMIT 1 OFFSET $2";
        let floor = MessageId::floor(cutoff);
        let last: Option<MessageId> =
            on!(tx, db => sqlx::query_scalar(LAST).bind(floor).bind(STEP).fetch_optional(db).await)?;
        let bound = last.unwrap_or(floor);
        for sql in [
            "DELETE FROM attempt WHERE message_id < $1",
            "DELETE FROM delivery WHERE message_id < $1",
            "DELETE FROM message_key WHERE message_id < $1",
        ] {
            on!(tx, db => sqlx::query(sql).bind(bound).execute(db).await.map(drop))?;
        }
        const MESSAGES: &str = "DELETE FROM message WHERE id < $1";
        let gone = on!(tx, db => sqlx::query(MESSAGES).bind(bound).execute(db).await.map(|done| done.rows_affected()))?;
        forget_counts(&mut tx, cutoff).await?;
        tx.commit().await?;
        Ok(gone)
    }

    /// How many messages a step of [`Store::expire`] takes when there are enough.
    pub const EXPIRE_STEP: u64 = STEP as u64;
}

/// The counts of minutes that long ago.
async fn forget_counts(tx: &mut Tx, cutoff: Time) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM rollup WHERE minute < $1 AND minute < $2";
    // A step's worth at a time: the oldest minutes first.
    const OLDEST: &str = "SELECT min(minute) FROM rollup";
    let oldest: Option<Time> = on!(tx, db => sqlx::query_scalar(OLDEST).fetch_one(db).await)?;
    let Some(oldest) = oldest else { return Ok(()) };
    let end = oldest.plus(Duration::from_secs(3600));
    on!(tx, db => sqlx::query(SQL).bind(cutoff).bind(end).execute(db).await.map(drop))?;
    Ok(())
}
