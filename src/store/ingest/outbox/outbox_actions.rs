//! Operator actions on a stuck outbox row: retry it, change its application or event type, or discard it.
//!
//! Rows have no primary key, and on PostgreSQL a writer may set any `id`. An action identifies its row by id and
//! `stuck_since`, and fails as ambiguous if another row has both.

use crate::domain::access::audit::action;
use crate::domain::{OrgId, Time};
use crate::store::access::audit::NewAuditEntry;
use crate::store::{Store, StoreError, Tx, on};

/// Identifies a stuck row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckKey {
    pub id: i64,
    pub since: Time,
}

/// An action on a stuck row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxAction {
    Retry,
    /// Change both and retry.
    Change {
        application: String,
        event_type: String,
    },
    /// Delete the row; it never becomes a message.
    Discard,
}

/// The outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxActionResult {
    Done,
    /// The row is no longer stuck.
    Gone,
    /// Several rows have this key.
    Ambiguous,
}

impl Store {
    /// Performs an action on a stuck row. The row belongs to no organization yet, so the audit entry goes to `org`,
    /// that of the operator.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn act_on_outbox(
        &self,
        org: &OrgId,
        key: StuckKey,
        what: &OutboxAction,
        now: Time,
    ) -> Result<OutboxActionResult, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let row = row_condition(&tx);
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM outbox WHERE {row}"));
            let found: i64 = on!(tx, db => sqlx::query_scalar(count).bind(key.id).bind(key.since).fetch_one(db).await)?;
            match found {
                0 => return Ok(OutboxActionResult::Gone),
                1 => {}
                _ => return Ok(OutboxActionResult::Ambiguous),
            }
            let change = match what {
                OutboxAction::Discard => format!("DELETE FROM outbox WHERE {row}"),
                OutboxAction::Retry => format!("UPDATE outbox SET look_at = 0 WHERE {row}"),
                OutboxAction::Change { .. } => {
                    format!("UPDATE outbox SET look_at = 0, application = $3, event_type = $4 WHERE {row}")
                }
            };
            let query = sqlx::AssertSqlSafe(change);
            let (name, detail) = match what {
                OutboxAction::Retry => (action::OUTBOX_ROW_RETRIED, String::new()),
                OutboxAction::Discard => (action::OUTBOX_ROW_DISCARDED, String::new()),
                OutboxAction::Change { application, event_type } => {
                    (action::OUTBOX_ROW_CHANGED, format!("{event_type} to {application}"))
                }
            };
            let changed = match what {
                OutboxAction::Change { application, event_type } => on!(tx, db => {
                    sqlx::query(query)
                        .bind(key.id).bind(key.since).bind(application).bind(event_type)
                        .execute(db).await.map(|done| done.rows_affected())
                })?,
                OutboxAction::Retry | OutboxAction::Discard => on!(tx, db => {
                    sqlx::query(query).bind(key.id).bind(key.since).execute(db).await.map(|done| done.rows_affected())
                })?,
            };
            if changed == 0 {
                return Ok(OutboxActionResult::Gone);
            }
            self.commit_audited(tx, NewAuditEntry::of(org, name, &format!("outbox row {}", key.id)).with(&detail), now)
                .await?;
            self.reset_outbox_watermark();
            Ok(OutboxActionResult::Done)
        })
        .await
    }
}

/// The SQL condition for a [`StuckKey`] bound as $1 and $2.
fn row_condition(tx: &Tx) -> &'static str {
    match tx {
        Tx::Sqlite(_) => "rowid = $1 AND stuck_since = $2 AND stuck_reason IS NOT NULL",
        Tx::Postgres(_) => "coalesce(id, 0) = $1 AND stuck_since = $2 AND stuck_reason IS NOT NULL",
    }
}
