//! The memory budget for request bodies: everything that is being read, or waits in a queue of the store, counts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::ApiError;

/// How many bytes the bodies of all requests of a process may have together: four of the largest that any setting allows.
const BODY_BYTES: usize = 4 * (2 * 16 * 1024 * 1024 + super::body::ENVELOPE);

/// A budget in bytes, shared by all requests of a process.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Semaphore>);

/// A body's share of the budget. It is returned when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Reserved(Option<OwnedSemaphorePermit>);

impl Default for BodyBudget {
    /// [`BODY_BYTES`] for the whole process.
    fn default() -> BodyBudget {
        BodyBudget::of(BODY_BYTES)
    }
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn of(bytes: usize) -> BodyBudget {
        BodyBudget(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Adds `bytes` to what a body has reserved.
    ///
    /// # Errors
    /// 503: other bodies use the budget up.
    pub(super) fn reserve(&self, reserved: &mut Reserved, bytes: usize) -> Result<(), ApiError> {
        let exhausted = |_| ApiError::unavailable("too many requests are being read: try again in a moment");
        let more = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(exhausted)?;
        match &mut reserved.0 {
            Some(permit) => permit.merge(more),
            None => reserved.0 = Some(more),
        }
        Ok(())
    }
}
