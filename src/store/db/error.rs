//! What can go wrong with the store, sorted by who can do something about it.

use std::time::Instant;

use crate::domain::Invalid;
use crate::domain::signing::secret::SealError;
use crate::store::db::postgres::sessions;

/// Why the store did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, full or busy. Nothing was changed; the same call may go through later. A 503.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// PostgreSQL undid the transaction for the sake of another, each of the times it was [tried](crate::store::db::repeat). Nothing was
    /// changed; the same call may go through later. A 503.
    #[error("the store is not available: {0}")]
    Conflict(String),
    /// More is waiting to be stored than fits. Nothing was changed. A 503.
    #[error("too much is waiting to be stored: try again in a moment")]
    Overloaded,
    /// As many reads that scan go on for the caller as may. Nothing was read. A 429.
    #[error("as many lists and searches are under way as may be at a time: try again in a moment")]
    Crowded,
    /// A uid, name or event id that is taken already. A 409.
    #[error("{0} is taken already")]
    Taken(String),
    /// The call that the store acts for came before, and what it made is there. See [`Store::once`](crate::store::Store::once).
    #[error("the same request was made before")]
    Repeated,
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
        matches!(self, StoreError::Unavailable(_) | StoreError::Conflict(_) | StoreError::Overloaded)
    }
}

/// What says "not this value", by SQLite's primary result codes: too big, constraint, mismatch. Everything else is about the store and
/// not about what it was given, and may pass: busy, full, read-only, I/O, a file that somebody damaged.
const SQLITE_REFUSALS: [i32; 3] = [18, 19, 20];

/// The same by PostgreSQL's classes: data exception, integrity constraint, program limit.
const POSTGRES_REFUSALS: [&str; 3] = ["22", "23", "54"];

/// What says that PostgreSQL undid the transaction for the sake of another: serialization failure, deadlock.
const POSTGRES_CONFLICTS: [&str; 2] = ["40001", "40P01"];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let text = sentence(&error);
        if let Some(code) = error.as_database_error().and_then(|inner| inner.code()) {
            sessions::answered(&code, Instant::now());
        } else if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut) {
            sessions::troubled();
        }
        match error {
            // The next try makes one.
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

/// An error's message, without the line number of PostgreSQL's own source.
pub(in crate::store) fn sentence(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(inner) => format!("error returned from database: {}", inner.message()),
        other => other.to_string(),
    }
}

fn is_conflict(code: &str) -> bool {
    POSTGRES_CONFLICTS.contains(&code)
}

/// PostgreSQL's codes have five characters; SQLite's are numbers whose low byte is the primary code.
fn is_refusal(code: &str) -> bool {
    match code.len() {
        5 => POSTGRES_REFUSALS.contains(&&code[..2]),
        _ => code.parse::<i32>().is_ok_and(|code| SQLITE_REFUSALS.contains(&(code & 0xff))),
    }
}

/// Whether `error` says that a row fits into none of the partitions (PostgreSQL): a violated check that is none of the table's constraints.
pub(in crate::store) fn is_no_partition(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|inner| inner.code().as_deref() == Some("23514") && inner.constraint().is_none())
}

/// Whether `error` says that a unique key is taken.
pub(in crate::store) fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.is_unique_violation())
}

/// Whether `error` says that there is no such table.
pub(in crate::store) fn is_missing_table(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|inner| inner.code().as_deref() == Some("42P01") || inner.message().starts_with("no such table"))
}

/// Whether `error` says that a lock was not to be had in time (PostgreSQL).
pub(in crate::store) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("55P03"))
}

/// Whether `error` says that a deadlock was broken (PostgreSQL).
pub(in crate::store) fn is_deadlock(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|inner| inner.code().as_deref() == Some("40P01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_value_is_a_refusal() {
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
