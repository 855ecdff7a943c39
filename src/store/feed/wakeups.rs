//! Waking readers that wait for the next message of a feed (long polling).
//!
//! * A [`FeedListener`] waits for one application's next message. It notices everything committed since it was created.
//! * [`FeedWakeups`] holds a process's listeners. A commit in the same process wakes them at once.
//! * [`watch`] polls PostgreSQL for messages that other processes committed, for all awaited applications in one
//!   statement. It runs only while there are listeners.
//!
//! A wake-up is a hint to read again. A lost one only delays the reader to its deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch::{Receiver, Sender};
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use crate::domain::AppId;
use crate::domain::feed::Position;
use crate::store::{Backend, Inner, Store, StoreError};

/// Maximum waiting readers per process.
pub const LISTENERS: usize = 20_000;
/// Maximum waiting readers per application and process.
pub const APPLICATION_LISTENERS: usize = LISTENERS / 4;
/// The polling interval for other processes' commits. Readers should learn of them within 100 ms.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum applications per poll. If there are more, they take turns.
const POLL_APPS: usize = 500;
/// The delay after a failed poll.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The listeners of a process, by application.
#[derive(Debug, Default)]
pub(in crate::store) struct FeedWakeups {
    /// Number of listeners; lets commits skip the map if there are none.
    count: AtomicUsize,
    watching: AtomicBool,
    closed: AtomicBool,
    apps: Mutex<HashMap<AppId, AppListeners>>,
}

#[derive(Debug)]
struct AppListeners {
    listeners: usize,
    /// A message after this position is new to all listeners.
    after: Position,
    woken: Sender<()>,
}

/// A reader waiting for the next message of one application.
#[derive(Debug)]
pub struct FeedListener {
    inner: Arc<Inner>,
    app: AppId,
    woken: Receiver<()>,
}

impl FeedListener {
    /// Waits until a message may have been committed after `after`, at most until `deadline`. `false`: the deadline
    /// passed, or the process is shutting down.
    pub async fn wait(&mut self, after: Position, deadline: Instant) -> bool {
        if let Some(waiting) = self.inner.wakeups.apps().get_mut(&self.app) {
            waiting.after = waiting.after.max(after);
        }
        if self.is_closed() {
            return false;
        }
        let woken = timeout_at(deadline, self.woken.changed()).await;
        matches!(woken, Ok(Ok(()))) && !self.is_closed()
    }

    /// Whether the process is shutting down.
    pub fn is_closed(&self) -> bool {
        self.inner.wakeups.closed.load(Ordering::Acquire)
    }
}

impl Drop for FeedListener {
    fn drop(&mut self) {
        let wakeups = &self.inner.wakeups;
        wakeups.count.fetch_sub(1, Ordering::AcqRel);
        let mut apps = wakeups.apps();
        if let Some(waiting) = apps.get_mut(&self.app) {
            waiting.listeners -= 1;
            if waiting.listeners == 0 {
                apps.remove(&self.app);
            }
        }
    }
}

impl FeedWakeups {
    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, AppListeners>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are no listeners.
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Wakes the listeners of `apps` after a commit.
    pub fn wake(&self, wake: impl IntoIterator<Item = AppId>) {
        if self.is_idle() {
            return;
        }
        let apps = self.apps();
        for app in wake {
            if let Some(waiting) = apps.get(&app) {
                waiting.woken.send_replace(());
            }
        }
    }

    /// Up to [`POLL_APPS`] awaited applications after `from` (round-robin), with the positions their listeners have
    /// read.
    fn some(&self, from: AppId) -> Vec<(AppId, Position)> {
        let mut some: Vec<(AppId, Position)> = self.apps().iter().map(|(app, one)| (*app, one.after)).collect();
        some.sort_unstable();
        let first = some.partition_point(|(app, _)| *app <= from);
        some.rotate_left(first);
        some.truncate(POLL_APPS);
        some
    }
}

impl Store {
    /// A listener for the next message of `app`. Create it before reading, so concurrent commits wake it. `None`: there
    /// are already [`LISTENERS`], the application has [`APPLICATION_LISTENERS`], or the process is shutting down.
    pub fn listen_to_feed(&self, app: AppId) -> Option<FeedListener> {
        let wakeups = &self.inner.wakeups;
        if wakeups.closed.load(Ordering::Acquire) {
            return None;
        }
        if wakeups.count.fetch_add(1, Ordering::AcqRel) >= LISTENERS {
            wakeups.count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let woken = {
            let mut apps = wakeups.apps();
            let new = || AppListeners { listeners: 0, after: Position::START, woken: Sender::new(()) };
            let waiting = apps.entry(app).or_insert_with(new);
            if waiting.listeners >= APPLICATION_LISTENERS {
                wakeups.count.fetch_sub(1, Ordering::AcqRel);
                return None;
            }
            waiting.listeners += 1;
            waiting.woken.subscribe()
        };
        let listener = FeedListener { inner: self.inner.clone(), app, woken };
        if self.shared() && !wakeups.watching.swap(true, Ordering::AcqRel) {
            tokio::spawn(watch(Arc::downgrade(&self.inner)));
        }
        Some(listener)
    }

    /// The number of listeners of `app` in this process, and the position they have read; `None`: no listeners.
    pub fn feed_listeners(&self, app: AppId) -> Option<(usize, Position)> {
        self.inner.wakeups.apps().get(&app).map(|waiting| (waiting.listeners, waiting.after))
    }

    /// Ends all current and future waits, at shutdown.
    pub fn close_feed_listeners(&self) {
        let wakeups = &self.inner.wakeups;
        wakeups.closed.store(true, Ordering::Release);
        wakeups.apps().values().for_each(|waiting| waiting.woken.send_replace(()));
    }
}

/// Polls for other processes' commits while there are listeners.
async fn watch(store: Weak<Inner>) {
    let mut last = AppId(Uuid::nil());
    loop {
        let Some(inner) = store.upgrade() else { return };
        let some = inner.wakeups.some(last);
        if some.is_empty() {
            inner.wakeups.watching.store(false, Ordering::Release);
            // A listener may have been added just now, when the watch still seemed to run.
            if inner.wakeups.is_idle() || inner.wakeups.watching.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        last = some.last().map_or(last, |(app, _)| *app);
        let begun = Instant::now();
        let pause = match news(&inner, &some).await {
            Ok(apps) => {
                inner.wakeups.wake(apps);
                // A slow poll uses at most a quarter of the time.
                POLL_INTERVAL.max(begun.elapsed() * 3)
            }
            Err(error) => {
                tracing::debug!(%error, "could not check for other processes' messages; waiting readers are woken later");
                RETRY_DELAY
            }
        };
        drop(inner);
        sleep(pause).await;
    }
}

/// The applications with messages after the given positions.
async fn news(inner: &Inner, some: &[(AppId, Position)]) -> Result<Vec<AppId>, StoreError> {
    // One index step per application; see `within_application` about the order by both columns.
    const SQL: &str = "SELECT waiting.app_id FROM UNNEST($1::uuid[], $2::uuid[]) AS waiting (app_id, first)
         CROSS JOIN LATERAL (
             SELECT 1 FROM message m
             WHERE (m.app_id, m.id) >= (waiting.app_id, waiting.first) AND m.app_id <= waiting.app_id
                 AND m.id >= waiting.first AND m.id >= $3
             ORDER BY m.app_id, m.id LIMIT 1
         ) AS news";
    // Listeners that have not read yet need no hint.
    let read = || some.iter().filter(|(_, after)| *after > Position::START);
    let Backend::Postgres(backend) = &inner.backend else { return Ok(Vec::new()) };
    let firsts: Vec<Uuid> = read().map(|(_, after)| after.next().first_id().0).collect();
    let Some(least) = firsts.iter().min().copied() else { return Ok(Vec::new()) };
    let apps: Vec<Uuid> = read().map(|(app, _)| app.0).collect();
    Ok(sqlx::query_scalar(SQL).bind(apps).bind(&firsts).bind(least).fetch_all(&backend.engine).await?)
}
