//! The adaptive batch size of the relay. A failed step is retried with fewer rows until the row that fails is alone;
//! that row is then marked as stuck and blocks no others.

use crate::domain::Time;
use crate::store::ingest::outbox::{RelayRequest, Relayed};
use crate::store::ingest::routing_load;
use crate::store::{Store, StoreError};

/// Maximum rows per step.
const MOST: i64 = 256;
/// Consecutive failures of a single-row step, while the store is otherwise available, before the row is marked as
/// stuck. A row that the database rejects is marked at once.
const TRIES_ALONE: u32 = 5;

/// State between two steps of [`Store::relay_next`]; it may be lost at any time.
#[derive(Debug)]
pub struct RelayPace {
    limit: i64,
    /// Consecutive failures of a single-row step.
    failed_alone: u32,
}

impl Default for RelayPace {
    fn default() -> RelayPace {
        RelayPace { limit: MOST, failed_alone: 0 }
    }
}

/// The outcome of a relay step.
#[derive(Debug)]
pub enum RelayStep {
    /// No row is due.
    Nothing,
    Relayed(Relayed),
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
    pub async fn relay_next(&self, pace: &mut RelayPace, now: Time) -> Result<RelayStep, StoreError> {
        if !self.outbox_has_work(now).await? {
            *pace = RelayPace::default();
            return Ok(RelayStep::Nothing);
        }
        let alone = pace.limit == 1;
        match self.relay(RelayRequest { limit: pace.limit, now }).await {
            Ok(relayed) if !relayed.not_loaded.is_empty() => {
                // The next step waits for the load: skipping these rows would break the order within an application.
                for app in &relayed.not_loaded {
                    routing_load::load(&self.inner, *app).await?;
                }
                Ok(RelayStep::Relayed(relayed))
            }
            Ok(relayed) if relayed.rows() == 0 => {
                *pace = RelayPace::default();
                Ok(RelayStep::Nothing)
            }
            Ok(relayed) => {
                pace.failed_alone = 0;
                // Do not read rows again that the transaction has no room for.
                pace.limit = if relayed.left > 0 { relayed.rows() as i64 + 1 } else { (pace.limit * 2).min(MOST) };
                Ok(RelayStep::Relayed(relayed))
            }
            Err(StoreError::Refused(_)) if !alone => {
                pace.limit /= 2;
                Ok(RelayStep::Fewer)
            }
            Err(error) => {
                // The transaction may have been too large.
                pace.limit = (pace.limit / 2).max(1);
                pace.failed_alone += u32::from(alone);
                match error {
                    StoreError::Refused(reason) => self.mark_first(pace, now, reason).await,
                    StoreError::Unavailable(reason) if pace.failed_alone >= TRIES_ALONE => {
                        self.mark_first(pace, now, reason).await
                    }
                    error => Err(error),
                }
            }
        }
    }

    /// Marks the first due row as stuck.
    async fn mark_first(&self, pace: &mut RelayPace, now: Time, reason: String) -> Result<RelayStep, StoreError> {
        self.relay_give_up(now, &reason).await?;
        pace.failed_alone = 0;
        Ok(RelayStep::Marked(reason))
    }
}
