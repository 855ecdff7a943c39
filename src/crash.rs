//! Crash points: places where a test kills the process, as a power cut would. There is one before and one after each
//! commit and each POST, because only these have effects outside the process.
//!
//! A debug build reads `SENDOFF_TEST_CRASH=PLACE.WHEN:N:SIGNAL` (`record.after:20:KILL`): it sends itself the signal,
//! KILL or STOP, at the Nth pass of that point. It also reads `SENDOFF_TEST_PANIC=TASK:N` (`event_loop:20`): the task
//! panics once, at its Nth step. Release builds contain neither.

/// Before the operation, or after it but before the process acts on its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPhase {
    Before,
    After,
}

/// The operation at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// The commit of messages accepted over REST.
    Accept,
    /// The commit of outbox rows accepted as messages.
    Relay,
    /// The commit of attempt results.
    Record,
    /// The commit of a heartbeat.
    Lease,
    /// The commit of a step of background work.
    Background,
    /// Any other commit.
    Change,
    /// The POST to a receiver.
    Post,
}

/// Kills the process here if a test asks for it.
#[inline(always)]
pub fn point(place: CrashPoint, phase: CrashPhase) {
    #[cfg(debug_assertions)]
    armed::reached(place, phase);
    #[cfg(not(debug_assertions))]
    let _ = (place, phase);
}

/// Panics here once if a test asks for it.
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

    use super::{CrashPhase, CrashPoint};

    const SIGNAL_DELAY: Duration = Duration::from_millis(200);
    /// The crash point, the pass, and the signal.
    static TARGET: LazyLock<Option<(String, u64, Signal)>> = LazyLock::new(|| {
        let wanted = std::env::var("SENDOFF_TEST_CRASH").ok()?;
        let mut parts = wanted.split(':');
        let (place, nth) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        Some((place, nth, if parts.next() == Some("STOP") { Signal::STOP } else { Signal::KILL }))
    });
    static PASSES: AtomicU64 = AtomicU64::new(0);
    /// The task that panics, and the step.
    static PANIC: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("SENDOFF_TEST_PANIC").ok()?;
        let (name, nth) = wanted.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    static STEPS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn panics(name: &str) {
        let Some((wanted, nth)) = PANIC.as_ref() else { return };
        if wanted == name && STEPS.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
            panic!("a test asked `{name}` to panic");
        }
    }

    pub(super) fn reached(place: CrashPoint, phase: CrashPhase) {
        let Some((wanted, nth, signal)) = TARGET.as_ref() else { return };
        if *wanted == format!("{place:?}.{phase:?}").to_lowercase()
            && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == *nth
        {
            let _ = kill_process(getpid(), *signal);
            // Another thread may receive the signal first. Stop this one meanwhile.
            std::thread::sleep(SIGNAL_DELAY);
        }
    }
}
