//! Retrying transactions that PostgreSQL rolled back because of a conflict: a deadlock (40P01) or a serialization
//! failure (40001). Nothing of such a transaction is stored, even if its commit failed, so it can be repeated
//! unchanged.
//!
//! SQLite has no such conflicts: a transaction acquires the write lock when it begins.

use std::time::Duration;

use crate::domain::retry_backoff::RetryBackoff;
use crate::store::{Store, StoreError};

/// Maximum tries of a transaction.
pub const TRIES: u32 = 4;
/// The waits between tries. Half of each is jitter, so two transactions do not conflict again.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_millis(10), Duration::from_millis(40));

/// An error that may be a conflict with another transaction.
pub(in crate::store) trait ConflictError {
    fn is_conflict(&self) -> bool;
}

impl ConflictError for StoreError {
    fn is_conflict(&self) -> bool {
        matches!(self, StoreError::Conflict(_))
    }
}

/// Runs `transaction`, which begins and commits a transaction, up to [`TRIES`] times while it ends with a conflict.
///
/// # Errors
/// Those of `transaction`.
pub(in crate::store) async fn retry_conflicts<T, E: ConflictError, F: Future<Output = Result<T, E>>>(
    transaction: impl Fn() -> F,
) -> Result<T, E> {
    let mut backoff = BACKOFF;
    for tries in 1..TRIES {
        match transaction().await {
            Err(error) if error.is_conflict() => tracing::debug!(tries, "retrying a transaction after a conflict"),
            done => return done,
        }
        tokio::time::sleep(backoff.failed().mul_f64(rand::random_range(0.5..1.0))).await;
    }
    transaction().await
}

impl Store {
    /// Runs the body of a method, which begins and commits one transaction, up to [`TRIES`] times while it ends with
    /// a conflict.
    pub(in crate::store) async fn retry_conflicts<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        transaction: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        retry_conflicts(transaction).await
    }
}
