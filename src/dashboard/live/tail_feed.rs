//! The feed of the live tails: attempts as they are recorded, by any process.
//!
//! * [`TailFeeds`] – the feeds of this process. While an organization has open tails, one loop polls the store for all
//!   of them.
//! * [`TailSubscription`] – an open tail: recent attempts, then [batches](AttemptBatch).
//!
//! Ids are not committed in order (`store/query/tail.rs`), so each poll re-reads the recent past and skips known
//! attempts: always the last [`SHORT`], and every [`ROUNDS`] polls the last [`LONG`] for slow attempts. Attempts
//! recorded even later, after an outage of the store, appear in the lists but not in the tail.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use crate::domain::time::Clock;
use crate::domain::{AppId, AttemptId, OrgId, Time};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::query::attempts::ListedAttempt;
use crate::store::{Store, StoreError, Tenant};

/// The maximum number of open tails per process.
const OPEN: usize = 32;
/// The maximum number of open tails per session.
const PER_SESSION: usize = 4;
/// The maximum number of open tails of an application's customers.
const PER_APPLICATION: usize = 8;
/// The maximum number of open tails of all customers; the others are for operators.
const OF_CUSTOMERS: usize = 24;
/// The polling interval.
pub const POLL: Duration = Duration::from_millis(500);
/// Lookback of each poll: longer than a usual attempt with its recording, and longer than clock skew between processes.
const SHORT: Duration = Duration::from_secs(5);
/// Lookback of a poll for slow attempts: longer than the longest timeout (30 s) with the recording.
const LONG: Duration = Duration::from_secs(45);
/// Minimum duration of a slow attempt.
const TOOK_LONG: Duration = Duration::from_secs(2);
/// Slow attempts are read in one of this many polls.
const ROUNDS: u32 = 10;
/// The maximum number of attempts per poll.
const MOST: i64 = 1_000;
/// Number of attempts that a new tail starts with.
const RECENT: usize = 200;
/// Maximum number of batches by which a slow reader may lag.
const BEHIND: usize = 16;

/// New attempts of one poll, oldest first.
#[derive(Debug, Default)]
pub struct AttemptBatch {
    pub lines: Vec<ListedAttempt>,
    /// The poll hit [`MOST`].
    pub cut: bool,
}

/// The feeds of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TailFeeds {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: Mutex<OpenTails>,
    feeds: Mutex<HashMap<OrgId, OrgFeed>>,
    closing: watch::Sender<bool>,
}

/// The number of open tails.
#[derive(Debug, Default)]
struct OpenTails {
    all: usize,
    of_customers: usize,
    by_session: HashMap<TokenHash, usize>,
    /// Open tails of customers, by application.
    by_application: HashMap<AppId, usize>,
}

/// The reason no tail was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailLimit {
    /// The session has [`PER_SESSION`], or the application's customers have [`PER_APPLICATION`].
    Session,
    /// The process has [`OPEN`], its customers have [`OF_CUSTOMERS`], or it is stopping.
    Process,
}

/// The shared feed of an organization.
#[derive(Debug)]
struct OrgFeed {
    sender: broadcast::Sender<Arc<AttemptBatch>>,
    recent: VecDeque<ListedAttempt>,
}

/// An open tail.
pub struct TailSubscription {
    /// Attempts before the first batch, oldest first.
    pub recent: Vec<ListedAttempt>,
    pub batches: broadcast::Receiver<Arc<AttemptBatch>>,
    /// Becomes true when the process stops.
    pub closing: watch::Receiver<bool>,
    _permit: TailPermit,
}

/// Counts an open tail until it is dropped.
struct TailPermit {
    inner: Arc<Inner>,
    session: TokenHash,
    /// A customer's.
    app: Option<AppId>,
}

impl Drop for TailPermit {
    fn drop(&mut self) {
        let mut open = self.inner.open();
        open.all = open.all.saturating_sub(1);
        count_down(&mut open.by_session, &self.session);
        if let Some(app) = self.app {
            open.of_customers = open.of_customers.saturating_sub(1);
            count_down(&mut open.by_application, &app);
        }
    }
}

fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Default for TailFeeds {
    fn default() -> TailFeeds {
        let closing = watch::Sender::new(false);
        TailFeeds { inner: Arc::new(Inner { open: Mutex::default(), feeds: Mutex::default(), closing }) }
    }
}

impl TailFeeds {
    /// Closes all tails and rejects new ones, so shutdown does not wait for them.
    pub fn close(&self) {
        self.inner.closing.send_replace(true);
    }

    /// Opens a tail of an organization; the session sees only the attempts of `tenant`.
    ///
    /// # Errors
    /// A limit is reached.
    pub fn open(
        &self,
        store: &Store,
        clock: Clock,
        tenant: &Tenant,
        session: TokenHash,
    ) -> Result<TailSubscription, TailLimit> {
        let org = &tenant.org;
        let permit = self.permit(session, tenant.only)?;
        let mut feeds = self.inner.feeds();
        let feed = feeds.entry(org.clone()).or_insert_with(|| {
            let (sender, recent) = (broadcast::Sender::new(BEHIND), VecDeque::with_capacity(RECENT));
            tokio::spawn(poll(self.inner.clone(), store.clone(), clock, org.clone()));
            OrgFeed { sender, recent }
        });
        // Under one lock, so no batch falls between the two.
        let (recent, batches) = (feed.recent.iter().cloned().collect(), feed.sender.subscribe());
        Ok(TailSubscription { recent, batches, closing: self.inner.closing.subscribe(), _permit: permit })
    }

    /// A permit for a session, which is a customer's if `app` is given.
    fn permit(&self, session: TokenHash, app: Option<AppId>) -> Result<TailPermit, TailLimit> {
        let mut open = self.inner.open();
        let theirs = open.by_session.get(&session).copied().unwrap_or(0);
        let of_app = app.and_then(|app| open.by_application.get(&app).copied()).unwrap_or(0);
        if theirs >= PER_SESSION || of_app >= PER_APPLICATION {
            return Err(TailLimit::Session);
        }
        let crowded = app.is_some() && open.of_customers >= OF_CUSTOMERS;
        if open.all >= OPEN || crowded || *self.inner.closing.borrow() {
            return Err(TailLimit::Process);
        }
        open.all += 1;
        open.by_session.insert(session, theirs + 1);
        if let Some(app) = app {
            open.of_customers += 1;
            open.by_application.insert(app, of_app + 1);
        }
        Ok(TailPermit { inner: self.inner.clone(), session, app })
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, OpenTails> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<OrgId, OrgFeed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a batch. `false`: the last tail was closed and the feed removed.
    fn send(&self, org: &OrgId, batch: AttemptBatch) -> bool {
        let mut feeds = self.feeds();
        let Some(feed) = feeds.get_mut(org) else { return false };
        if feed.sender.receiver_count() == 0 || *self.closing.borrow() {
            feeds.remove(org);
            return false;
        }
        if !batch.lines.is_empty() || batch.cut {
            let surplus = (feed.recent.len() + batch.lines.len()).saturating_sub(RECENT);
            feed.recent.drain(..surplus.min(feed.recent.len()));
            let newest = batch.lines.len().saturating_sub(RECENT);
            feed.recent.extend(batch.lines.iter().skip(newest).cloned());
            let _ = feed.sender.send(Arc::new(batch));
        }
        true
    }
}

/// Polls until the last tail is closed.
async fn poll(inner: Arc<Inner>, store: Store, clock: Clock, org: OrgId) {
    let tenant = Tenant::org(org.clone());
    let mut seen = BTreeSet::new();
    for round in 0_u32.. {
        let batch = poll_once(&store, &tenant, round, &mut seen, clock.now()).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "live tail: store unavailable");
            AttemptBatch::default()
        });
        if !inner.send(&org, batch) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Reads attempts that were not seen before.
async fn poll_once(
    store: &Store,
    tenant: &Tenant,
    round: u32,
    seen: &mut BTreeSet<AttemptId>,
    now: Time,
) -> Result<AttemptBatch, StoreError> {
    let mut lines = store.attempts_since(tenant, now.minus(SHORT), Duration::ZERO, MOST).await?;
    let cut = lines.len() as i64 >= MOST;
    if round.is_multiple_of(ROUNDS) {
        let long = store.attempts_since(tenant, now.minus(LONG), TOOK_LONG, MOST).await?;
        // The first poll skips attempts that ended before the tail was opened.
        let news = |line: &ListedAttempt| round > 0 || ended(line) >= now.minus(SHORT);
        let (news, old): (Vec<_>, Vec<_>) = long.into_iter().partition(news);
        seen.extend(old.iter().map(|line| line.id));
        lines.extend(news);
    }
    lines.retain(|line| seen.insert(line.id));
    lines.sort_by_key(|line| line.id);
    *seen = seen.split_off(&AttemptId::floor(now.minus(LONG * 2)));
    Ok(AttemptBatch { lines, cut })
}

fn ended(line: &ListedAttempt) -> Time {
    line.at.plus(Duration::from_micros(line.duration_us.max(0) as u64))
}

#[cfg(test)]
mod tests {
    use crate::dashboard::live::tail_feed::*;

    #[test]
    fn tail_permits_are_limited_and_returned() {
        let feeds = TailFeeds::default();
        let operator = |session| feeds.permit([session; 32], None);
        let mut held: Vec<TailPermit> = (0..PER_SESSION).map(|_| operator(1).unwrap()).collect();
        assert_eq!(operator(1).err(), Some(TailLimit::Session));
        for session in 2..=8 {
            held.extend((0..PER_SESSION).map(|_| operator(session).unwrap()));
        }
        assert_eq!(operator(9).err(), Some(TailLimit::Process));
        drop(held.remove(0));
        assert!(operator(9).is_ok());
        drop(held);
        assert!(feeds.inner.open().by_session.is_empty() && feeds.inner.open().all == 0);
        feeds.close();
        assert_eq!(operator(1).err(), Some(TailLimit::Process));
    }

    #[test]
    fn customers_of_one_application_leave_tails_for_others() {
        let feeds = TailFeeds::default();
        let apps: Vec<AppId> = (0..4).map(|_| AppId::new(Time::ZERO)).collect();
        let mut held: Vec<TailPermit> = Vec::new();
        for (n, app) in apps[..3].iter().enumerate() {
            for session in 0..2 {
                let session = [10 + 2 * n as u8 + session; 32];
                held.extend((0..PER_SESSION).map(|_| feeds.permit(session, Some(*app)).unwrap()));
            }
            assert_eq!(feeds.permit([9; 32], Some(*app)).err(), Some(TailLimit::Session), "another session of it");
        }
        assert_eq!(feeds.permit([9; 32], Some(apps[3])).err(), Some(TailLimit::Process));
        assert!(feeds.permit([9; 32], None).is_ok(), "operators have some of their own");
        held.clear();
        let open = feeds.inner.open();
        assert!(open.by_application.is_empty() && open.of_customers == 0 && open.all == 0);
    }
}
