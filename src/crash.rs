//! Crash points: the places at which a test lets the process die, as a power cut would. They are before and after each commit and each
//! POST, because what is true of the world changes there.
//!
//! A debug build reads `SENDOFF_TEST_CRASH=PLACE.WHEN:N:SIGNAL` (`record.after:20:KILL`) and sends itself that signal, KILL or STOP, when it
//! comes there for the Nth time. It also reads `SENDOFF_TEST_PANIC=TASK:N` (`event_loop:20`), and that task panics once, at its Nth step. A
//! release build has nothing of either.

/// Before it is done, or after it was done and before anybody here knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// What is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The commit of messages that came over REST.
    Accept,
    /// The commit of outbox rows that become messages.
    Relay,
    /// The commit of what came of attempts.
    Record,
    /// The commit of a heartbeat.
    Lease,
    /// The commit of a step of background work.
    Background,
    /// Every other commit.
    Change,
    /// The POST to a receiver.
    Post,
}

/// Dies here, if this is where a test wants it.
#[inline(always)]
pub fn point(place: Place, when: When) {
    #[cfg(debug_assertions)]
    armed::reached(place, when);
    #[cfg(not(debug_assertions))]
    let _ = (place, when);
}

/// Panics here, once, if a test wants it of this task.
#[inline(always)]
pub fn panics(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::panics(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Place, When};

    const LONG_ENOUGH: Duration = Duration::from_millis(200);
    /// Where to die, at which time of coming there, and how.
    static WANTED: LazyLock<Option<(String, u64, Signal)>> = LazyLock::new(|| {
        let wanted = std::env::var("SENDOFF_TEST_CRASH").ok()?;
        let mut parts = wanted.split(':');
        let (place, nth) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        Some((place, nth, if parts.next() == Some("STOP") { Signal::STOP } else { Signal::KILL }))
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);
    /// Which task panics, and at which of its steps.
    static PANIC: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("SENDOFF_TEST_PANIC").ok()?;
        let (name, nth) = wanted.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static STEPS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn panics(name: &str) {
        let Some((wanted, nth)) = PANIC.as_ref() else { return };
        if wanted == name && STEPS.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
            panic!("a test wanted `{name}` to panic");
        }
    }

    pub(super) fn reached(place: Place, when: When) {
        let Some((wanted, nth, signal)) = WANTED.as_ref() else { return };
        if *wanted == format!("{place:?}.{when:?}").to_lowercase()
            && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
        {
            let _ = kill_process(getpid(), *signal);
            // The signal may reach another thread first: this one goes no further meanwhile.
            std::thread::sleep(LONG_ENOUGH);
        }
    }
}
