//! What can go wrong with the store, sorted by who can do something about it.

use crate::domain::Invalid;
use crate::domain::secret::SealError;

/// Why the store did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, full or busy. Nothing was changed; the same call may go through later. A 503.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// More is waiting to be stored than fits. Nothing was changed. A 503.
    #[error("too much is waiting to be stored: try again in a moment")]
    Overloaded,
    /// A uid, name or event id that is taken already. A 409.
    #[error("{0} is taken already")]
    Taken(String),
    /// Values that break a rule which only the store can check. A 422.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// The store refused a value that we should not have given it: a defect of ours.
    #[error("the store refused a value: {0}")]
    Refused(String),
    /// What is stored cannot be understood: a defect, or somebody else wrote there.
    #[error("stored data cannot be read: {0}")]
    Damaged(String),
    /// Sealed with another master key, or altered.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The store cannot be used at all as things are; the sentence says what to do.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether the same call may go through later without anybody changing it.
    pub fn transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Overloaded)
    }
}

/// SQLite's primary result codes that say "not now" and not "not this": busy, locked, read-only, I/O, full, cannot open.
const SQLITE_NOT_NOW: [&str; 6] = ["5", "6", "8", "10", "13", "14"];

/// PostgreSQL's classes that say so: connection, transaction rollback (deadlock, serialization), resources, operator
/// intervention, system error, internal error, lock not available.
const POSTGRES_NOT_NOW: [&str; 7] = ["08", "40", "53", "57", "58", "XX", "55"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let text = error.to_string();
        match error {
            sqlx::Error::Database(inner) => {
                let code = inner.code().unwrap_or_default().into_owned();
                // SQLite's extended codes carry the primary one in their low byte.
                let primary = code.parse::<i32>().map(|code| (code & 0xff).to_string()).unwrap_or_default();
                let not_now = if code.len() == 5 {
                    POSTGRES_NOT_NOW.contains(&&code[..2])
                } else {
                    SQLITE_NOT_NOW.contains(&primary.as_str())
                };
                if not_now { StoreError::Unavailable(text) } else { StoreError::Refused(text) }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                StoreError::Damaged(text)
            }
            sqlx::Error::Encode(_) => StoreError::Refused(text),
            _ => StoreError::Unavailable(text),
        }
    }
}

/// Whether `error` says that a unique key is taken.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.is_unique_violation())
}
