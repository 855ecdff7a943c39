//! The adaptive batch size of the relay. A failed step is retried with fewer rows until the failing row is alone. That
//! row is then marked as stuck, so it blocks no others.

use crate::domain::Time;
use crate::store::ingest::outbox::{RelayReport, RelayRequest};
use crate::store::ingest::routing_load;
use crate::store::{Store, StoreError};

/// Maximum rows per step.
const MAX_ROWS: i64 = 256;
/// Consecutive failures of a single-row step, while the store is otherwise available, before the row is marked as
/// stuck. A row that the database rejects is marked at once.
const TRIES_ALONE: u32 = 5;

/// State between two steps of [`Store::relay_next`]; it may be lost at any time.
#[derive(Debug)]
pub struct RelayBatchSize {
    limit: i64,
    /// Consecutive failures of a single-row step.
    failed_alone: u32,
}

impl Default for RelayBatchSize {
    fn default() -> RelayBatchSize {
        RelayBatchSize { limit: MAX_ROWS, failed_alone: 0 }
    }
}

/// The outcome of a relay step.
#[derive(Debug)]
pub enum RelayStep {
    /// No row is due.
    Nothing,
    Relayed(RelayReport),
    /// The database rejected one of several rows: the next step takes fewer.
    Fewer,
    /// A row that made every step fail was marked as stuck, for this reason.
    Marked(String),
}

impl Store {
    /// One step of the relay.
    ///
    /// # Errors
    /// The store is unavailable, or the step failed otherwise: the next one takes fewer rows.
    pub async fn relay_next(&self, batch_size: &mut RelayBatchSize, now: Time) -> Result<RelayStep, StoreError> {
        if !self.outbox_has_work(now).await? {
            *batch_size = RelayBatchSize::default();
            return Ok(RelayStep::Nothing);
        }
        let alone = batch_size.limit == 1;
        match self.relay(RelayRequest { limit: batch_size.limit, now }).await {
            Ok(relayed) if !relayed.not_loaded.is_empty() => {
                // The next step waits for the load: skipping these rows would break the order within an application.
                for app in &relayed.not_loaded {
                    routing_load::load(&self.inner, *app).await?;
                }
                Ok(RelayStep::Relayed(relayed))
            }
            Ok(relayed) if relayed.rows() == 0 => {
                *batch_size = RelayBatchSize::default();
                Ok(RelayStep::Nothing)
            }
            Ok(relayed) => {
                batch_size.failed_alone = 0;
                // Do not read rows again that the transaction has no room for.
                batch_size.limit =
                    if relayed.left > 0 { relayed.rows() as i64 + 1 } else { (batch_size.limit * 2).min(MAX_ROWS) };
                Ok(RelayStep::Relayed(relayed))
            }
            Err(StoreError::Refused(_)) if !alone => {
                batch_size.limit /= 2;
                Ok(RelayStep::Fewer)
            }
            Err(error) => {
                // The transaction may have been too large.
                batch_size.limit = (batch_size.limit / 2).max(1);
                batch_size.failed_alone += u32::from(alone);
                match error {
                    StoreError::Refused(reason) => self.mark_first(batch_size, now, reason).await,
                    StoreError::Unavailable(reason) if batch_size.failed_alone >= TRIES_ALONE => {
                        self.mark_first(batch_size, now, reason).await
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Marks the first due row as stuck.
    async fn mark_first(
        &self,
        batch_size: &mut RelayBatchSize,
        now: Time,
        reason: String,
    ) -> Result<RelayStep, StoreError> {
        self.mark_first_row_stuck(now, &reason).await?;
        batch_size.failed_alone = 0;
        Ok(RelayStep::Marked(reason))
    }
}
