//! Reports consumers that have stopped polling. One transaction marks a consumer and emits the operational event, so
//! each silence is reported once, even with several processes or a crash. The mark is the time of the consumer's last
//! poll, so the next poll clears it.
//!
//! Silence counts from the last poll, the end of the consumer's lease or the last change of its polling endpoint,
//! whichever is latest. Consumers of a disabled polling endpoint are marked without an event.

use crate::store::db::codec::from_row;
use std::time::Duration;

use crate::domain::{AppId, OrgId, PollingEndpointId, Time, Uid};
use crate::store::recording::operational;
use crate::store::recording::operational_event::{EventDetail, OperationalEvent};
use crate::store::{Store, StoreError, Tx, on, read_vital};

/// Maximum consumers per transaction.
const STEP: i64 = 100;

/// The result of a step of [`Store::report_silent_consumers`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SilenceReport {
    /// The polling endpoint and the name of each consumer that was reported.
    pub silent: Vec<(PollingEndpointId, String)>,
    /// More consumers are due: call again.
    pub more: bool,
}

from_row! {
    /// A consumer that is due.
    struct Row {
        polling_endpoint_id: PollingEndpointId,
        name: String,
        app_id: AppId,
        polled_at: Time,
        org: OrgId,
        uid: Option<Uid>,
        disabled: bool,
    }
}

impl Store {
    /// Reports consumers that have not polled for `after`. Handles a limited number, see [`SilenceReport::more`].
    ///
    /// # Errors
    /// The store is unavailable; nothing was changed.
    pub async fn report_silent_consumers(&self, after: Duration, now: Time) -> Result<SilenceReport, StoreError> {
        self.retry_conflicts(|| async {
            const DUE: &str = "SELECT c.polling_endpoint_id, c.name, c.app_id, c.polled_at, p.org, e.uid, e.disabled
                 FROM polling_consumer c
                     JOIN polling_endpoint e ON e.id = c.polling_endpoint_id
                     JOIN application p ON p.id = c.app_id
                 WHERE c.silence_reported <> c.polled_at AND c.polled_at <= $1 AND e.updated_at <= $1
                     AND (c.leased_until IS NULL OR c.leased_until <= $1)
                 ORDER BY c.polled_at LIMIT $2";
            let mut rows: Vec<Row> = read_vital!(self, db => {
                sqlx::query_as(DUE).bind(now.minus(after)).bind(STEP).fetch_all(db).await
            })?;
            let mut report = SilenceReport { more: rows.len() as i64 == STEP, ..SilenceReport::default() };
            if rows.is_empty() {
                return Ok(report);
            }
            // One order for all processes: they wait for each other instead of deadlocking.
            rows.sort_unstable_by(|a, b| (a.polling_endpoint_id, &a.name).cmp(&(b.polling_endpoint_id, &b.name)));
            let mut tx = self.begin().await?;
            let mut events = Vec::new();
            for row in rows {
                // Another process may have been first, or the consumer has polled.
                if !mark(&mut tx, &row).await? || row.disabled {
                    continue;
                }
                report.silent.push((row.polling_endpoint_id, row.name.clone()));
                let what = EventDetail::ConsumerSilent {
                    endpoint: row.polling_endpoint_id,
                    uid: row.uid,
                    consumer: row.name,
                    polled_at: row.polled_at,
                };
                events.push(OperationalEvent { org: row.org, app: row.app_id, at: now, what });
            }
            let emitted = operational::emit(&self.inner, &mut tx, events).await?;
            tx.commit().await?;
            operational::signal_emitted(&self.inner, emitted);
            Ok(report)
        })
        .await
    }
}

async fn mark(tx: &mut Tx, row: &Row) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE polling_consumer SET silence_reported = polled_at
         WHERE polling_endpoint_id = $1 AND name = $2 AND polled_at = $3 AND silence_reported <> polled_at";
    let marked = on!(tx, db => {
        sqlx::query(SQL)
            .bind(row.polling_endpoint_id).bind(&row.name).bind(row.polled_at)
            .execute(db).await.map(|done| done.rows_affected())
    })?;
    Ok(marked > 0)
}

/// Clears the marks of a polling endpoint that was just enabled: its consumers get the full time to come back.
pub(super) async fn watch_again(tx: &mut Tx, endpoint: PollingEndpointId) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE polling_consumer SET silence_reported = 0
         WHERE polling_endpoint_id = $1 AND silence_reported = polled_at";
    on!(tx, db => sqlx::query(SQL).bind(endpoint).execute(db).await.map(drop))?;
    Ok(())
}
