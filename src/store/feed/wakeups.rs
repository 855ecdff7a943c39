//! Waking readers that wait for the next message of a feed.
//!
//! * [`FeedListener`] – a reader that waits for one application's next message. What was committed since it was made is noticed.
//! * [`FeedWakeups`] – the listeners of a process. A commit of this process wakes those of its applications at once.
//! * [`watch`] – where processes share a PostgreSQL: looks for what others committed, for all applications that are waited for in one
//!   statement. It runs while there are listeners.
//!
//! A wake-up is a hint to read again. One that is lost costs the rest of the wait.

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

/// How many readers of a process can wait at once.
pub const LISTENERS: usize = 20_000;
/// How often is looked for what other processes committed: a reader is to hear of it within 100 ms.
const LOOK: Duration = Duration::from_millis(50);
/// For how many applications one look asks. With more of them, they take turns.
const LOOK_APPS: usize = 500;
/// How long to wait after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The listeners of a process, by application.
#[derive(Debug, Default)]
pub(in crate::store) struct FeedWakeups {
    /// How many there are: commits look no further where there are none.
    count: AtomicUsize,
    watching: AtomicBool,
    closed: AtomicBool,
    apps: Mutex<HashMap<AppId, Waiting>>,
}

/// The listeners of an application.
#[derive(Debug)]
struct Waiting {
    listeners: usize,
    /// Something behind it is news to all of them.
    after: Position,
    woken: Sender<()>,
}

/// A reader that waits for the next message of one application.
#[derive(Debug)]
pub struct FeedListener {
    inner: Arc<Inner>,
    app: AppId,
    woken: Receiver<()>,
}

impl FeedListener {
    /// Waits until something may have been committed behind `after`, at most until `deadline`. `false`: nothing has, or all waits end because
    /// the process does.
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

    /// All waits have ended, because the process does.
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
    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Waiting>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits.
    pub fn is_idle(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Wakes those who wait for one of `apps`, for which something was committed.
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

    /// Up to [`LOOK_APPS`] applications from `from` on, in a circle, with what is no news to their listeners.
    fn some(&self, from: AppId) -> Vec<(AppId, Position)> {
        let mut some: Vec<(AppId, Position)> = self.apps().iter().map(|(app, one)| (*app, one.after)).collect();
        some.sort_unstable();
        let first = some.partition_point(|(app, _)| *app <= from);
        some.rotate_left(first);
        some.truncate(LOOK_APPS);
        some
    }
}

impl Store {
    /// A reader that is to wait for the next message of `app`; made before it reads, so that what is committed meanwhile wakes it. `None`:
    /// [`LISTENERS`] wait already, or the process is about to end.
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
            let new = || Waiting { listeners: 0, after: Position::START, woken: Sender::new(()) };
            let waiting = apps.entry(app).or_insert_with(new);
            waiting.listeners += 1;
            waiting.woken.subscribe()
        };
        let listener = FeedListener { inner: self.inner.clone(), app, woken };
        if self.shared() && !wakeups.watching.swap(true, Ordering::AcqRel) {
            tokio::spawn(watch(Arc::downgrade(&self.inner)));
        }
        Some(listener)
    }

    /// How many readers of this process wait for the next message of `app`, and the position that it has to be behind; `None`: nobody waits.
    pub fn feed_waits(&self, app: AppId) -> Option<(usize, Position)> {
        self.inner.wakeups.apps().get(&app).map(|waiting| (waiting.listeners, waiting.after))
    }

    /// Ends all waits, now and from now on: the process is about to end, and its connections with it.
    pub fn end_feed_waits(&self) {
        let wakeups = &self.inner.wakeups;
        wakeups.closed.store(true, Ordering::Release);
        wakeups.apps().values().for_each(|waiting| waiting.woken.send_replace(()));
    }
}

/// Looks for what other processes committed, as long as anybody waits.
async fn watch(store: Weak<Inner>) {
    let mut last = AppId(Uuid::nil());
    loop {
        let Some(inner) = store.upgrade() else { return };
        let some = inner.wakeups.some(last);
        if some.is_empty() {
            inner.wakeups.watching.store(false, Ordering::Release);
            // Somebody may have come just now, and seen that there is a watch.
            if inner.wakeups.is_idle() || inner.wakeups.watching.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        last = some.last().map_or(last, |(app, _)| *app);
        let begun = Instant::now();
        let pause = match news(&inner, &some).await {
            Ok(apps) => {
                inner.wakeups.wake(apps);
                // However long it takes, it takes a quarter of the time at most.
                LOOK.max(begun.elapsed() * 3)
            }
            Err(error) => {
                tracing::debug!(%error, "readers that wait do not hear of other processes' messages for a moment");
                LOOK_AGAIN
            }
        };
        drop(inner);
        sleep(pause).await;
    }
}

/// Those of these applications that have messages behind the given positions.
async fn news(inner: &Inner, some: &[(AppId, Position)]) -> Result<Vec<AppId>, StoreError> {
    // Along the index of applications, one step for each: see `feed_rows` about the order by both.
    const SQL: &str = "SELECT waiting.app_id FROM UNNEST($1::uuid[], $2::uuid[]) AS waiting (app_id, first)
         CROSS JOIN LATERAL (
             SELECT 1 FROM message m
             WHERE (m.app_id, m.id) >= (waiting.app_id, waiting.first) AND m.app_id <= waiting.app_id
                 AND m.id >= waiting.first AND m.id >= $3
             ORDER BY m.app_id, m.id LIMIT 1
         ) AS news";
    // Those that have not read yet need no hint.
    let read = || some.iter().filter(|(_, after)| *after > Position::START);
    let Backend::Postgres(backend) = &inner.backend else { return Ok(Vec::new()) };
    let firsts: Vec<Uuid> = read().map(|(_, after)| after.next().first_id().0).collect();
    let Some(least) = firsts.iter().min().copied() else { return Ok(Vec::new()) };
    let apps: Vec<Uuid> = read().map(|(app, _)| app.0).collect();
    Ok(sqlx::query_scalar(SQL).bind(apps).bind(&firsts).bind(least).fetch_all(&backend.engine).await?)
}
