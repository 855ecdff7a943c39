//! The memory budget for request bodies: those being read and those queued in the store.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::http::errors::ApiError;

/// Bytes that all request bodies of a process may use together: four times the largest body that any setting allows.
const BODY_BYTES: usize = 4 * (2 * 16 * 1024 * 1024 + crate::api::http::body::ENVELOPE);

/// A budget in bytes, shared by all requests of a process.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Semaphore>);

/// A body's share of the budget, returned on drop.
#[derive(Debug, Default)]
pub(in crate::api) struct Reservation(Option<OwnedSemaphorePermit>);

impl Default for BodyBudget {
    /// [`BODY_BYTES`] for the whole process.
    fn default() -> BodyBudget {
        BodyBudget::of(BODY_BYTES)
    }
}

impl BodyBudget {
    /// A budget of `bytes`.
    pub fn of(bytes: usize) -> BodyBudget {
        BodyBudget(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Adds `bytes` to a body's reservation.
    ///
    /// # Errors
    /// 503: the budget is exhausted.
    pub(in crate::api) fn reserve(&self, reservation: &mut Reservation, bytes: usize) -> Result<(), ApiError> {
        let exhausted = |_| ApiError::unavailable("too many request bodies are being read: try again in a moment");
        let more = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(exhausted)?;
        match &mut reservation.0 {
            Some(permit) => permit.merge(more),
            None => reservation.0 = Some(more),
        }
        Ok(())
    }
}
