//! Sessions that have become useless: the server is going away, or takes no writes any more, which a session may remember for as long
//! as it lasts (a server that was demoted, a database that was read-only for a while).
//!
//! An error says so, and by then nobody knows which connection it came from. So all sessions that are older than the error are closed in
//! place of being used again. While the server stays as it is, that is done four times a second at the most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often sessions are condemned at the most.
const EVERY: Duration = Duration::from_millis(250);

/// Sessions opened before this are useless. One for the process, as there is one store.
static CONDEMNED: Condemned = Condemned(Mutex::new(None));

/// How many statements failed because of the server or the way to it.
static TROUBLES: AtomicU64 = AtomicU64::new(0);

struct Condemned(Mutex<Option<Instant>>);

/// A session has answered with this SQLSTATE, at `now`.
pub(in crate::store::db) fn answered(code: &str, now: Instant) {
    if is_useless(code) {
        troubled();
        CONDEMNED.condemn(now);
    }
}

/// A statement failed because of the server or the way to it.
pub(in crate::store::db) fn troubled() {
    TROUBLES.fetch_add(1, Ordering::Relaxed);
}

/// How many did so far.
pub(in crate::store::db) fn troubles() -> u64 {
    TROUBLES.load(Ordering::Relaxed)
}

/// Another server is used from `now` on.
pub(in crate::store::db) fn end_older(now: Instant) {
    *CONDEMNED.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
}

/// Whether a session that is so old at `now` may be used again.
pub(in crate::store::db) fn sound(age: Duration, now: Instant) -> bool {
    CONDEMNED.sound(age, now)
}

/// Read-only transaction (25006), the server shuts down or has crashed (57P0x), connection exception (class 08).
pub(in crate::store) fn is_useless(code: &str) -> bool {
    code == READ_ONLY || code.starts_with("57P0") || (code.len() == 5 && code.starts_with("08"))
}

/// The SQLSTATE of a write in a session that may only read.
pub(in crate::store) const READ_ONLY: &str = "25006";

impl Condemned {
    fn condemn(&self, now: Instant) {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| now.saturating_duration_since(before) >= EVERY) {
            *before = Some(now);
        }
    }

    fn sound(&self, age: Duration, now: Instant) -> bool {
        let before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        before.is_none_or(|before| now.checked_sub(age).is_some_and(|opened| opened > before))
    }
}

#[cfg(test)]
mod tests {
    use crate::store::db::postgres::sessions::*;

    #[test]
    fn only_what_the_session_will_say_again_makes_it_useless() {
        for code in ["25006", "57P01", "57P02", "57P03", "08006", "08003", "08P01"] {
            assert!(is_useless(code), "{code}");
        }
        for code in ["57014", "23505", "40001", "25P02", "53300", "55P03", "8", "08", ""] {
            assert!(!is_useless(code), "{code}");
        }
    }

    #[test]
    fn sessions_older_than_the_error_are_closed_and_new_ones_live_for_a_while() {
        let (condemned, start) = (Condemned(Mutex::new(None)), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert!(condemned.sound(Duration::from_secs(100), after(0)));
        condemned.condemn(after(1_000));
        assert!(!condemned.sound(Duration::from_millis(500), after(1_400)), "opened at 900");
        assert!(condemned.sound(Duration::from_millis(300), after(1_400)), "opened at 1,100");
        condemned.condemn(after(1_200));
        assert!(condemned.sound(Duration::from_millis(300), after(1_400)), "too soon after the last");
        condemned.condemn(after(1_250));
        assert!(!condemned.sound(Duration::from_millis(300), after(1_400)));
    }
}
