//! Errors of the store, classified by how a caller should react.

use std::time::{Duration, Instant};

use crate::domain::Invalid;
use crate::domain::signing::master_key::SealError;
use crate::store::db::postgres::sessions;

/// An error of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unreachable, full or busy. Nothing was changed; a retry may succeed. HTTP 503.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// PostgreSQL rolled the transaction back in favor of another one, on each of its
    /// [tries](crate::store::db::retry). Nothing was changed; a retry may succeed. HTTP 503.
    #[error("the store is not available: {0}")]
    Conflict(String),
    /// The queue of writes is full. Nothing was changed. HTTP 503.
    #[error("too many writes are queued: try again in a moment")]
    Overloaded,
    /// The caller's limit of [scans](crate::store::db::scans) is reached. Nothing was read. HTTP 429.
    #[error("too many lists and searches: try again in a moment")]
    Crowded {
        /// How long the caller's next scan would wait at least; may be zero.
        wait: Duration,
    },
    /// A UID, name or event id is in use. HTTP 409.
    #[error("{0} is already in use")]
    Taken(String),
    /// A call with the same idempotency key has already taken effect. See
    /// [`Store::with_idempotency_key`](crate::store::Store::with_idempotency_key).
    #[error("the same request was made before")]
    Repeated,
    /// Values violate a rule that only the store can check. HTTP 422.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Invalid>),
    /// The database rejected a value that passed all checks: a bug in Sendoff.
    #[error("the database rejected a value: {0}")]
    Refused(String),
    /// Stored data is invalid: a bug, or another program wrote it.
    #[error("stored data cannot be read: {0}")]
    Damaged(String),
    /// Encrypted with another master key, or modified.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// The store cannot be used until an operator acts; the message says how.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether an unchanged retry may succeed.
    pub fn transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Overloaded)
    }
}

/// SQLite's primary result codes that reject a value: too big, constraint, mismatch. All others concern the store and
/// may be transient: busy, full, read-only, I/O, a damaged file.
const SQLITE_REFUSALS: [i32; 3] = [18, 19, 20];

/// PostgreSQL's error classes that reject a value: data exception, integrity constraint, program limit.
const POSTGRES_REFUSALS: [&str; 3] = ["22", "23", "54"];

/// PostgreSQL rolled the transaction back in favor of another: serialization failure, deadlock.
const POSTGRES_CONFLICTS: [&str; 2] = ["40001", "40P01"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let text = sentence(&error);
        if let Some(code) = error.as_database_error().and_then(|inner| inner.code()) {
            sessions::on_sqlstate(&code, Instant::now());
        } else if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut) {
            sessions::on_server_error();
        }
        match error {
            // A retry creates the partition.
            ref missing if is_no_partition(missing) => StoreError::Unavailable(text),
            sqlx::Error::Database(inner) if is_conflict(&inner.code().unwrap_or_default()) => {
                StoreError::Conflict(text)
            }
            sqlx::Error::Database(inner) if is_refusal(&inner.code().unwrap_or_default()) => StoreError::Refused(text),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                StoreError::Damaged(text)
            }
            sqlx::Error::Encode(_) => StoreError::Refused(text),
            _ => StoreError::Unavailable(text),
        }
    }
}

/// An error's message, without the line number in PostgreSQL's source.
pub(in crate::store) fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => format!("error returned from database: {}", inner.message()),
        other => other.to_string(),
    }
}

fn is_conflict(code: &str) -> bool {
    POSTGRES_CONFLICTS.contains(&code)
}

/// PostgreSQL's codes have five characters; SQLite's are numbers with the primary code in the low byte.
fn is_refusal(code: &str) -> bool {
    match code.len() {
        5 => POSTGRES_REFUSALS.contains(&&code[..2]),
        _ => code.parse::<i32>().is_ok_and(|code| SQLITE_REFUSALS.contains(&(code & 0xff))),
    }
}

/// Whether no partition exists for a row (PostgreSQL): a check violation without the name of a constraint.
pub(in crate::store) fn is_no_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|inner| inner.code().as_deref() == Some("23514") && inner.constraint().is_none())
}

/// Whether a unique key is already in use.
pub(in crate::store) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.is_unique_violation())
}

/// Whether a table does not exist.
pub(in crate::store) fn is_missing_table(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|inner| inner.code().as_deref() == Some("42P01") || inner.message().starts_with("no such table"))
}

/// Whether a lock timed out (PostgreSQL).
pub(in crate::store) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("55P03"))
}

/// Whether the transaction was the victim of a deadlock (PostgreSQL).
pub(in crate::store) fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("40P01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_about_a_value_are_refusals() {
        for code in ["22021", "23505", "54000", "18", "19", "2067", "1555", "20"] {
            assert!(is_refusal(code), "{code}");
        }
        for code in [
            "40P01", "40001", "57P01", "53300", "25006", "42P01", "08006", "5", "261", "10", "13", "8", "11", "26",
            "1", "",
        ] {
            assert!(!is_refusal(code), "{code}");
            assert_eq!(is_conflict(code), ["40P01", "40001"].contains(&code), "{code}");
        }
    }
}
