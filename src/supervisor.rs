//! Supervision of all long-running tasks: one that panics, ends or hangs is noticed.
//!
//! * An **essential** task has state that cannot be rebuilt (the event loop, the recorder, the lease keeper, the
//!   store's writers). If it is lost, the process is **down**: it exits, and its leases expire for others.
//! * A **restarting** task keeps no state between its steps. It is restarted with backoff.
//! * A [`Pulse`] records the last step of a loop. A loop that hangs neither panics nor ends, but its pulse stops, and
//!   readiness fails.
//!
//! A store has one supervisor, and all tasks that work on the store share it.
//!
//! Invariant: no task that must outlive a request is spawned without supervision.

mod component;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::domain::retry_backoff::RetryBackoff;

pub use component::Component;

/// The waits before restarts.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// A task that ran this long is healthy: its backoff starts over.
const HEALTHY: Duration = Duration::from_secs(60);
/// The delay before an essential task that ended without a panic is reported. Usually it ended because another task
/// panicked and closed its channels; the delay lets that task be reported first, as the cause.
const PANIC_WAIT: Duration = Duration::from_secs(1);

/// Starts and watches tasks. Cheap to clone; clones share the state.
#[derive(Clone, Debug)]
pub struct Supervisor {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The first essential task that was lost.
    down: watch::Sender<Option<Component>>,
    ends_expected: CancellationToken,
    pulses: Mutex<Vec<PulseEntry>>,
}

struct PulseEntry {
    of: Component,
    within: Duration,
    last: Arc<Mutex<Instant>>,
}

impl fmt::Debug for PulseEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PulseEntry").field(&self.of).finish()
    }
}

impl Default for Supervisor {
    fn default() -> Supervisor {
        let (down, ends_expected) = (watch::Sender::new(None), CancellationToken::new());
        Supervisor { shared: Arc::new(Inner { down, ends_expected, pulses: Mutex::default() }) }
    }
}

impl Supervisor {
    /// Starts a task that the process needs, on the current tokio runtime. If it panics, or ends before
    /// [`expect_ends`](Supervisor::expect_ends), the process is [down](Supervisor::down).
    pub fn essential(&self, name: Component, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            let why = match name.guard(work).await {
                Ok(()) if this.ends_expected() => return,
                Ok(()) => {
                    name.count();
                    let mut down = this.shared.down.subscribe();
                    drop(tokio::time::timeout(PANIC_WAIT, down.wait_for(Option::is_some)).await);
                    "it ended unexpectedly".to_owned()
                }
                Err(why) => why,
            };
            tracing::error!(task = name.word(), "an essential task was lost, so this process stops: {why}");
            this.shared.down.send_if_modified(|down| {
                let first = down.is_none();
                down.get_or_insert(name);
                first
            });
        })
    }

    /// Starts a task without state, on the current tokio runtime. If it panics, or ends before
    /// [`expect_ends`](Supervisor::expect_ends), `make` creates it again, after 100 ms, or up to 30 s if it keeps
    /// failing.
    pub fn restarting<F>(&self, name: Component, mut make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        tokio::spawn(async move {
            let mut backoff = BACKOFF;
            loop {
                let mut work = pin!(name.guard(make()));
                let ended = tokio::select! {
                    ended = &mut work => ended,
                    () = tokio::time::sleep(HEALTHY) => {
                        backoff.succeeded();
                        work.await
                    }
                };
                let why = match ended {
                    Ok(()) if this.ends_expected() => return,
                    Ok(()) => {
                        name.count();
                        "it ended unexpectedly".to_owned()
                    }
                    Err(why) => why,
                };
                let wait = backoff.failed();
                tracing::error!(task = name.word(), again = ?wait, "a task failed and will be restarted: {why}");
                if tokio::time::timeout(wait, this.shared.ends_expected.cancelled()).await.is_ok() {
                    return;
                }
            }
        })
    }

    /// Allows tasks to end, because the process shuts down or the store closes. A panic still counts.
    pub fn expect_ends(&self) {
        self.shared.ends_expected.cancel();
    }

    fn ends_expected(&self) -> bool {
        self.shared.ends_expected.is_cancelled()
    }

    /// The first essential task that was lost, if any.
    pub fn lost(&self) -> Option<Component> {
        *self.shared.down.borrow()
    }

    /// Waits until an essential task is lost. Returns the task.
    pub async fn down(&self) -> Component {
        let mut down = self.shared.down.subscribe();
        loop {
            if let Some(name) = *down.borrow_and_update() {
                return name;
            }
            // `self` holds the sender, so this cannot fail.
            let _ = down.changed().await;
        }
    }

    /// Creates the pulse of a loop that makes a step at least every `within`, counted from `now`. Replaces an earlier
    /// pulse of this task.
    pub fn pulse(&self, of: Component, within: Duration, now: Instant) -> Pulse {
        let last = Arc::new(Mutex::new(now));
        let mut pulses = locked(&self.shared.pulses);
        pulses.retain(|watched| watched.of != of);
        pulses.push(PulseEntry { of, within, last: Arc::clone(&last) });
        Pulse { last }
    }

    /// A task whose pulse has stopped, and the time since its last step.
    pub fn silent(&self, now: Instant) -> Option<(Component, Duration)> {
        locked(&self.shared.pulses).iter().find_map(|watched| {
            let since = now.saturating_duration_since(*locked(&watched.last));
            (since > watched.within).then_some((watched.of, since))
        })
    }
}

/// Records the steps of a loop.
#[derive(Clone, Debug)]
pub struct Pulse {
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    /// Records a step.
    pub fn beat(&self, now: Instant) {
        *locked(&self.last) = now;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
