//! How many rows of the outbox the next step takes. A step that fails is tried again with fewer, until the row that makes it fail is alone;
//! that row is then marked as stuck, so that it holds up no other.

use crate::domain::Time;
use crate::store::ingest::outbox::{RelayRequest, Relayed};
use crate::store::ingest::routing_load;
use crate::store::{Store, StoreError};

/// How many rows one step takes at most.
const MOST: i64 = 256;
/// So often in a row the step of a single row fails, while the store answers otherwise, until the row is marked as stuck. A row that the store
/// refuses is marked at once.
const TRIES_ALONE: u32 = 5;

/// What a process remembers between two steps of [`Store::relay_next`]. Nothing is lost with it.
#[derive(Debug)]
pub struct RelayPace {
    limit: i64,
    /// How often in a row the step of a single row has failed.
    failed_alone: u32,
}

impl Default for RelayPace {
    fn default() -> RelayPace {
        RelayPace { limit: MOST, failed_alone: 0 }
    }
}

/// What a step of the relay came to.
#[derive(Debug)]
pub enum RelayStep {
    /// There is no row whose turn it is.
    Nothing,
    Relayed(Relayed),
    /// The store refused a row among several: the next step takes fewer.
    Fewer,
    /// A row that made each step fail was marked as stuck, for this reason.
    Marked(String),
}

impl Store {
    /// One step of the relay.
    ///
    /// # Errors
    /// The store is away, or the step failed for another reason than a value: the next one takes fewer rows.
    pub async fn relay_next(&self, pace: &mut RelayPace, now: Time) -> Result<RelayStep, StoreError> {
        if !self.outbox_has_work(now).await? {
            *pace = RelayPace::default();
            return Ok(RelayStep::Nothing);
        }
        let alone = pace.limit == 1;
        match self.relay(RelayRequest { limit: pace.limit, now }).await {
            Ok(relayed) if !relayed.not_loaded.is_empty() => {
                // Their rows come first in the next step as well. It waits, so that rows of one application keep their order.
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
                // Rows that find no room are not to be read again and again.
                pace.limit = if relayed.left > 0 { relayed.rows() as i64 + 1 } else { (pace.limit * 2).min(MOST) };
                Ok(RelayStep::Relayed(relayed))
            }
            Err(StoreError::Refused(_)) if !alone => {
                pace.limit /= 2;
                Ok(RelayStep::Fewer)
            }
            Err(error) => {
                // It may have been too much for one transaction.
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

    /// Marks the row whose turn it is.
    async fn mark_first(&self, pace: &mut RelayPace, now: Time, reason: String) -> Result<RelayStep, StoreError> {
        self.relay_give_up(now, &reason).await?;
        pace.failed_alone = 0;
        Ok(RelayStep::Marked(reason))
    }
}
