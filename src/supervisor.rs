//! Supervision: every task that runs for as long as the process does is started here, so that one that panics or ends is noticed.
//!
//! * An **essential** task has state that nothing can rebuild (the event loop, the recorder, the lease keeper, the store's writers). When
//!   it is lost, the process is **down**: it exits, and its leases run out for others.
//! * A **restarting** task is a loop without state: it is started again, with backoff.
//! * A [`Pulse`] says when a loop last made a step. A loop that hangs neither panics nor ends; its pulse stops, and readiness follows.
//!
//! Each store has one supervisor, and so has each process: what works on the store is supervised with it. Time is an argument.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::crash;

/// The first and the longest wait before a task is started again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A task that ran for this long is healthy: its next failure waits for the first backoff.
const HEALTHY: Duration = Duration::from_secs(60);

/// What is supervised. The words are labels of a metric and stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    EventLoop,
    Recorder,
    LeaseKeeper,
    Writer,
    Relay,
    Listener,
    Announcer,
    Maintenance,
    LocalUpkeep,
    Background,
    Mail,
    Metrics,
    /// One attempt.
    Send,
    /// One query of the event loop.
    Read,
    Number,
    Scan,
    Load,
}

impl Supervised {
    /// Everything that is supervised.
    pub const ALL: [Supervised; 17] = [
        Supervised::EventLoop,
        Supervised::Recorder,
        Supervised::LeaseKeeper,
        Supervised::Writer,
        Supervised::Relay,
        Supervised::Listener,
        Supervised::Announcer,
        Supervised::Maintenance,
        Supervised::LocalUpkeep,
        Supervised::Background,
        Supervised::Mail,
        Supervised::Metrics,
        Supervised::Send,
        Supervised::Read,
        Supervised::Number,
        Supervised::Scan,
        Supervised::Load,
    ];

    /// The label, as in `sendoff_task_failures_total{task="event_loop"}`.
    pub const fn word(self) -> &'static str {
        match self {
            Supervised::EventLoop => "event_loop",
            Supervised::Recorder => "recorder",
            Supervised::LeaseKeeper => "lease_keeper",
            Supervised::Writer => "writer",
            Supervised::Relay => "relay",
            Supervised::Listener => "listener",
            Supervised::Announcer => "announcer",
            Supervised::Maintenance => "maintenance",
            Supervised::LocalUpkeep => "local_upkeep",
            Supervised::Background => "background",
            Supervised::Mail => "mail",
            Supervised::Metrics => "metrics",
            Supervised::Send => "send",
            Supervised::Read => "read",
            Supervised::Number => "number",
            Supervised::Scan => "scan",
            Supervised::Load => "load",
        }
    }

    /// Where a test may let a debug build panic.
    #[inline(always)]
    pub fn panic_point(self) {
        crash::panics(self.word());
    }

    /// Awaits `work`, which ends or panics.
    ///
    /// # Errors
    /// It panicked: counted, and the panic's message.
    pub async fn guard<T>(self, work: impl Future<Output = T>) -> Result<T, String> {
        AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
            self.count();
            message(&*panic)
        })
    }

    fn count(self) {
        metrics::counter!("sendoff_task_failures_total", "task" => self.word()).increment(1);
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a message"))
}

/// The waits before the starts of one task.
struct Backoff(Duration);

impl Backoff {
    /// It failed: how long to wait.
    fn failed(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(BACKOFF.1);
        wait
    }
}

/// Starts tasks and watches over them. Cheap to clone; clones are the same supervisor.
#[derive(Clone, Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The first essential task that was lost.
    down: watch::Sender<Option<Supervised>>,
    ends_expected: watch::Sender<bool>,
    pulses: Mutex<Vec<Watched>>,
}

struct Watched {
    of: Supervised,
    within: Duration,
    last: Arc<Mutex<Instant>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.of).finish()
    }
}

impl Default for Supervisor {
    fn default() -> Supervisor {
        let (down, ends_expected) = (watch::Sender::new(None), watch::Sender::new(false));
        Supervisor { shared: Arc::new(Shared { down, ends_expected, pulses: Mutex::default() }) }
    }
}

impl Supervisor {
    /// Starts a task that the process cannot do without, on the current tokio runtime. If it panics, or ends before
    /// [`expect_ends`](Supervisor::expect_ends), the process is [down](Supervisor::down).
    pub fn essential(&self, name: Supervised, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            let why = match name.guard(work).await {
                Ok(()) if this.ends_expected() => return,
                Ok(()) => {
                    name.count();
                    "it ended by itself".to_owned()
                }
                Err(why) => why,
            };
            tracing::error!(task = name.word(), "a task that this process cannot do without was lost: {why}");
            this.shared.down.send_if_modified(|down| {
                let first = down.is_none();
                down.get_or_insert(name);
                first
            });
        })
    }

    /// Starts a task that keeps no state between its steps, on the current tokio runtime. If it panics, or ends before
    /// [`expect_ends`](Supervisor::expect_ends), `make` makes it again: after 100 ms, and up to 30 s if it fails again and again.
    pub fn restarting<F>(&self, name: Supervised, mut make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        tokio::spawn(async move {
            let mut backoff = Backoff(BACKOFF.0);
            loop {
                let mut work = pin!(name.guard(make()));
                let ended = tokio::select! {
                    ended = &mut work => ended,
                    () = tokio::time::sleep(HEALTHY) => {
                        backoff = Backoff(BACKOFF.0);
                        work.await
                    }
                };
                let why = match ended {
                    Ok(()) if this.ends_expected() => return,
                    Ok(()) => {
                        name.count();
                        "it ended by itself".to_owned()
                    }
                    Err(why) => why,
                };
                let wait = backoff.failed();
                tracing::error!(task = name.word(), again = ?wait, "a task failed and is started again: {why}");
                let mut ends = this.shared.ends_expected.subscribe();
                if tokio::time::timeout(wait, ends.wait_for(|expected| *expected)).await.is_ok() {
                    return;
                }
            }
        })
    }

    /// From now on tasks may end: the process shuts down, or the store is closed. A panic still counts.
    pub fn expect_ends(&self) {
        self.shared.ends_expected.send_replace(true);
    }

    fn ends_expected(&self) -> bool {
        *self.shared.ends_expected.borrow()
    }

    /// The first essential task that was lost, if one was.
    pub fn lost(&self) -> Option<Supervised> {
        *self.shared.down.borrow()
    }

    /// Waits until an essential task is lost; gives back which.
    pub async fn down(&self) -> Supervised {
        let mut down = self.shared.down.subscribe();
        loop {
            if let Some(name) = *down.borrow_and_update() {
                return name;
            }
            // The sender lives as long as `self`.
            let _ = down.changed().await;
        }
    }

    /// The pulse of a loop that makes a step at least every `within`, counted from `now`. It takes the place of an earlier one of the
    /// same name.
    pub fn pulse(&self, of: Supervised, within: Duration, now: Instant) -> Pulse {
        let last = Arc::new(Mutex::new(now));
        let mut pulses = locked(&self.shared.pulses);
        pulses.retain(|watched| watched.of != of);
        pulses.push(Watched { of, within, last: Arc::clone(&last) });
        Pulse { last }
    }

    /// A loop whose pulse has stopped, and for how long it has.
    pub fn silent(&self, now: Instant) -> Option<(Supervised, Duration)> {
        locked(&self.shared.pulses).iter().find_map(|watched| {
            let since = now.saturating_duration_since(*locked(&watched.last));
            (since > watched.within).then_some((watched.of, since))
        })
    }
}

/// Says that a loop makes progress.
#[derive(Clone, Debug)]
pub struct Pulse {
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    /// A step was made.
    pub fn beat(&self, now: Instant) {
        *locked(&self.last) = now;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
