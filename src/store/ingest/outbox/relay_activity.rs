//! The number of rows that the relay has processed in the last hour, for the dashboard: counted per minute, by all
//! processes.

use std::time::Duration;

use crate::domain::Time;
use crate::store::{Store, StoreError, Tx, on, read};

/// The displayed time span.
const SHOWN: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// The relay's recent activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayActivity {
    /// Rows that became messages in the last hour, to the minute.
    pub last_hour: i64,
    /// The last time that a row became a message.
    pub last: Option<Time>,
}

/// Counts `rows` that became messages. Removes counts that are no longer shown, except the newest.
pub(in crate::store) async fn count(tx: &mut Tx, rows: usize, now: Time) -> Result<(), StoreError> {
    if rows == 0 {
        return Ok(());
    }
    const ADD: &str = "INSERT INTO outbox_relayed (minute, relayed, last_at) VALUES ($1, $2, $3)
         ON CONFLICT (minute) DO UPDATE SET relayed = outbox_relayed.relayed + excluded.relayed,
             last_at = excluded.last_at";
    const REMOVE: &str = "DELETE FROM outbox_relayed WHERE minute < $1";
    let minute = now.floor(MINUTE);
    on!(tx, db => sqlx::query(ADD).bind(minute).bind(rows as i64).bind(now).execute(db).await.map(drop))?;
    on!(tx, db => sqlx::query(REMOVE).bind(minute.minus(SHOWN)).execute(db).await.map(drop))?;
    Ok(())
}

impl Store {
    /// The relay's recent activity, in all processes.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn relay_activity(&self, now: Time) -> Result<RelayActivity, StoreError> {
        const SQL: &str = "SELECT CAST(COALESCE(SUM(CASE WHEN minute > $1 THEN relayed ELSE 0 END), 0) AS BIGINT),
                 MAX(last_at) FROM outbox_relayed";
        let since = now.minus(SHOWN).floor(MINUTE);
        let (last_hour, last): (i64, Option<Time>) =
            read!(self, db => sqlx::query_as(SQL).bind(since).fetch_one(db).await)?;
        Ok(RelayActivity { last_hour, last })
    }
}
