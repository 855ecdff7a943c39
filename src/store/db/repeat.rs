//! Repeats transactions that PostgreSQL undid for the sake of another one: a deadlock that it broke (40P01), or a serialization failure
//! (40001). Nothing of such a transaction is in the store, not even if its commit failed, so it can be repeated as it is.
//!
//! SQLite needs nothing of the kind: a transaction of ours takes the write lock when it begins, and waits there for other writers (its busy
//! timeout), so that nothing can come between.

use std::time::Duration;

use crate::store::{Store, StoreError};

/// How often a transaction is tried in all.
pub const TRIES: u32 = 4;
/// How long to wait before the second try; twice as long before each further one. Half of it is left to chance: two that got in each other's
/// way must not do so again.
const PAUSE: Duration = Duration::from_millis(10);

/// An error that says whether the database undid the transaction for the sake of another.
pub(in crate::store) trait Undone {
    fn undone(&self) -> bool;
}

impl Undone for StoreError {
    fn undone(&self) -> bool {
        matches!(self, StoreError::Conflict(_))
    }
}

/// Runs `transaction`, from its beginning to its commit, up to [`TRIES`] times until the database does not undo it.
///
/// # Errors
/// Those of `transaction`.
pub(in crate::store) async fn repeated<T, E: Undone, F: Future<Output = Result<T, E>>>(
    transaction: impl Fn() -> F,
) -> Result<T, E> {
    let mut pause = PAUSE;
    for tries in 1..TRIES {
        match transaction().await {
            Err(error) if error.undone() => tracing::debug!(tries, "PostgreSQL undid a transaction: it is repeated"),
            done => return done,
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause *= 2;
    }
    transaction().await
}

impl Store {
    /// Runs a method's body, whose one transaction it begins itself, up to [`TRIES`] times.
    pub(in crate::store) async fn repeated<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        transaction: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        repeated(transaction).await
    }
}
