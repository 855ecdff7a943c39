//! Actions on a stuck row of the outbox: retry it, correct its application or event type, or discard it.
//!
//! A row has no key: on PostgreSQL its number may be anything that the writer put there. It is named by its number and since when it has been
//! stuck, and one that another row shares both with is left alone.

use crate::domain::audit::act;
use crate::domain::{OrgId, Time};
use crate::store::access::audit::Deed;
use crate::store::{Store, StoreError, Tx, on};

/// A stuck row, as a page names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckKey {
    pub id: i64,
    pub since: Time,
}

/// An action on a stuck row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxAct {
    /// The relay looks at it now.
    Retry,
    /// It is to go to this application, under this event type; then the relay looks at it.
    Change { application: String, event_type: String },
    /// It is deleted, and never becomes a message.
    Discard,
}

/// The outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxActed {
    Done,
    /// The row is stuck no longer.
    Gone,
    /// Several rows share its number and the moment.
    Ambiguous,
}

impl Store {
    /// Does something to a stuck row; it is noted in the audit log of `org`, that of whoever does it: the row itself belongs to none yet.
    ///
    /// # Errors
    /// The store is away.
    pub async fn act_on_outbox(
        &self,
        org: &OrgId,
        key: StuckKey,
        what: &OutboxAct,
        now: Time,
    ) -> Result<OutboxActed, StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let row = row(&tx);
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM outbox WHERE {row}"));
            let found: i64 = on!(tx, db => sqlx::query_scalar(count).bind(key.id).bind(key.since).fetch_one(db).await)?;
            match found {
                0 => return Ok(OutboxActed::Gone),
                1 => {}
                _ => return Ok(OutboxActed::Ambiguous),
            }
            let change = match what {
                OutboxAct::Discard => format!("DELETE FROM outbox WHERE {row}"),
                OutboxAct::Retry => format!("UPDATE outbox SET look_at = 0 WHERE {row}"),
                OutboxAct::Change { .. } => {
                    format!("UPDATE outbox SET look_at = 0, application = $3, event_type = $4 WHERE {row}")
                }
            };
            let query = sqlx::AssertSqlSafe(change);
            let (name, detail) = match what {
                OutboxAct::Retry => (act::OUTBOX_ROW_RETRIED, String::new()),
                OutboxAct::Discard => (act::OUTBOX_ROW_DISCARDED, String::new()),
                OutboxAct::Change { application, event_type } => {
                    (act::OUTBOX_ROW_CHANGED, format!("{event_type} to {application}"))
                }
            };
            let changed = match what {
                OutboxAct::Change { application, event_type } => on!(tx, db => {
                    sqlx::query(query)
                        .bind(key.id).bind(key.since).bind(application).bind(event_type)
                        .execute(db).await.map(|done| done.rows_affected())
                })?,
                OutboxAct::Retry | OutboxAct::Discard => on!(tx, db => {
                    sqlx::query(query).bind(key.id).bind(key.since).execute(db).await.map(|done| done.rows_affected())
                })?,
            };
            if changed == 0 {
                return Ok(OutboxActed::Gone);
            }
            self.note(&mut tx, Deed::of(org, name, &format!("outbox row {}", key.id)).with(&detail), now).await?;
            tx.commit().await?;
            self.unstuck();
            Ok(OutboxActed::Done)
        })
        .await
    }
}

/// The condition on a row: its number, and since when it has been stuck.
fn row(tx: &Tx) -> &'static str {
    match tx {
        Tx::Sqlite(_) => "rowid = $1 AND stuck_since = $2 AND stuck_reason IS NOT NULL",
        Tx::Postgres(_) => "coalesce(id, 0) = $1 AND stuck_since = $2 AND stuck_reason IS NOT NULL",
    }
}
