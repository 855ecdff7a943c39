//! Invalidates sessions after a server error: the server shuts down, or a session has become permanently read-only (a
//! demoted server, a database that was read-only for a while).
//!
//! The error does not tell which connection it came from. Therefore all sessions older than the error are closed when
//! they return to their pool, at most four times per second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum interval between two invalidations.
const EVERY: Duration = Duration::from_millis(250);

/// Sessions opened before this are invalid. Global, because a process has one store.
static INVALIDATED: Invalidation = Invalidation(Mutex::new(None));

/// The number of statements that failed because of the server or the connection.
static SERVER_ERRORS: AtomicU64 = AtomicU64::new(0);

struct Invalidation(Mutex<Option<Instant>>);

/// A session returned an error with this SQLSTATE at `now`.
pub(in crate::store::db) fn on_sqlstate(code: &str, now: Instant) {
    if invalidates(code) {
        on_server_error();
        INVALIDATED.invalidate(now);
    }
}

/// A statement failed because of the server or the connection.
pub(in crate::store::db) fn on_server_error() {
    SERVER_ERRORS.fetch_add(1, Ordering::Relaxed);
}

/// The number of such failures since the start.
pub(in crate::store::db) fn server_errors() -> u64 {
    SERVER_ERRORS.load(Ordering::Relaxed)
}

/// Invalidates all sessions opened before `now`, after a failover.
pub(in crate::store::db) fn invalidate_older(now: Instant) {
    *INVALIDATED.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
}

/// Whether a session of this age may be used again at `now`.
pub(in crate::store::db) fn is_valid(age: Duration, now: Instant) -> bool {
    INVALIDATED.is_valid(age, now)
}

/// Read-only transaction (25006), server shutdown or crash (57P0x), connection exception (class 08).
pub(in crate::store) fn invalidates(code: &str) -> bool {
    code == READ_ONLY || code.starts_with("57P0") || (code.len() == 5 && code.starts_with("08"))
}

/// The SQLSTATE of a write in a read-only session.
pub(in crate::store) const READ_ONLY: &str = "25006";

impl Invalidation {
    fn invalidate(&self, now: Instant) {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= EVERY) {
            *before = Some(now);
        }
    }

    fn is_valid(&self, age: Duration, now: Instant) -> bool {
        let before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        before.is_none_or(|before| now.checked_sub(age).is_some_and(|opened| opened > before))
    }
}

#[cfg(test)]
mod tests {
    use crate::store::db::postgres::sessions::*;

    #[test]
    fn only_lasting_errors_invalidate_sessions() {
        for code in ["25006", "57P01", "57P02", "57P03", "08006", "08003", "08P01"] {
            assert!(invalidates(code), "{code}");
        }
        for code in ["57014", "23505", "40001", "25P02", "53300", "55P03", "8", "08", ""] {
            assert!(!invalidates(code), "{code}");
        }
    }

    #[test]
    fn sessions_older_than_the_error_are_closed_and_new_ones_live_for_a_while() {
        let (invalidated, start) = (Invalidation(Mutex::new(None)), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert!(invalidated.is_valid(Duration::from_secs(100), after(0)));
        invalidated.invalidate(after(1_000));
        assert!(!invalidated.is_valid(Duration::from_millis(500), after(1_400)), "opened at 900");
        assert!(invalidated.is_valid(Duration::from_millis(300), after(1_400)), "opened at 1,100");
        invalidated.invalidate(after(1_200));
        assert!(invalidated.is_valid(Duration::from_millis(300), after(1_400)), "too soon after the last");
        invalidated.invalidate(after(1_250));
        assert!(!invalidated.is_valid(Duration::from_millis(300), after(1_400)));
    }
}
