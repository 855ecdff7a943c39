//! Limits of scans: filtered lists, searches, and counts over many rows. A scan occupies a read connection and a
//! processor, and one caller must not occupy all of them.
//!
//! * The callers of an application share [`APPLICATION`]'s permits and scan time, across all their tokens and portal
//!   sessions.
//! * The callers of an organization leave one scan for others.
//! * All scans together leave connections for short reads.
//!
//! Scan time is a token bucket. A scan is charged for its duration when it ends, so a bucket can be overdrawn; the
//! caller's next scan then waits, and its scans run one at a time. Concurrency alone is not enough: on SQLite, two at a
//! time were 425 short scans a second.
//!
//! A scan beyond a limit waits up to [`MAX_WAIT`] and then fails with [`StoreError::Crowded`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::domain::{AppId, OrgId};
use crate::store::{Store, StoreError, Tenant};

/// The limits of an application's callers: a quarter of a second of scans per second.
const APPLICATION: ScanShare = ScanShare { permits: 2, refill: 4 };
/// The limits of an organization's callers, who also leave one permit for others: a second of scans per second.
const ORGANIZATION: ScanShare = ScanShare { permits: Semaphore::MAX_PERMITS, refill: 1 };
/// The capacity of a bucket of scan time.
const CAPACITY: Duration = Duration::from_secs(2);
/// A longer scan is charged this much, so that no scan excludes its caller for long.
const MAX_CHARGE: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(2);
/// With this many callers in memory, those that neither scan nor have used up their time are removed.
const MAX_CALLERS: usize = 1_024;

/// Callers that share a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ScanCaller {
    Application(AppId),
    Organization(OrgId),
}

/// The limits of one caller.
#[derive(Clone, Copy, Debug)]
struct ScanShare {
    /// Concurrent scans.
    permits: usize,
    /// Seconds until the bucket has regained one second of scan time.
    refill: u32,
}

/// A bucket of scan time.
#[derive(Clone, Copy, Debug)]
struct ScanTime {
    refill: u32,
    full_at: Instant,
}

impl ScanTime {
    /// How long the next scan has to wait.
    fn wait(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now).saturating_sub(CAPACITY * self.refill)
    }

    fn charge(&mut self, took: Duration, now: Instant) {
        self.full_at = self.full_at.max(now) + took.min(MAX_CHARGE) * self.refill;
    }
}

/// The state of one caller's limits.
#[derive(Debug)]
struct CallerScans {
    permits: Arc<Semaphore>,
    /// The permit of a scan that began when the bucket was empty.
    overdrawn: Arc<Semaphore>,
    time: Mutex<ScanTime>,
}

impl CallerScans {
    fn new(share: ScanShare) -> CallerScans {
        let time = ScanTime { refill: share.refill, full_at: Instant::now() };
        CallerScans {
            permits: Arc::new(Semaphore::new(share.permits)),
            overdrawn: Arc::new(Semaphore::new(1)),
            time: Mutex::new(time),
        }
    }

    fn wait(&self) -> Duration {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).wait(Instant::now())
    }

    fn charge(&self, took: Duration) {
        self.time.lock().unwrap_or_else(PoisonError::into_inner).charge(took, Instant::now());
    }
}

/// The limits of a store.
#[derive(Debug)]
pub(in crate::store) struct ScanLimiter {
    all: Arc<Semaphore>,
    of_organization: usize,
    by_caller: Mutex<HashMap<ScanCaller, Arc<CallerScans>>>,
}

/// The permit of a running scan. Dropping it charges the caller for the scan.
#[derive(Debug)]
#[must_use = "the permit is released on drop"]
pub struct ScanPermit {
    caller: Arc<CallerScans>,
    began: Instant,
    _of_caller: OwnedSemaphorePermit,
    _overdrawn: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

impl Drop for ScanPermit {
    fn drop(&mut self) {
        self.caller.charge(self.began.elapsed());
    }
}

impl ScanLimiter {
    /// Limits with `all` concurrent scans in total.
    pub(in crate::store) fn new(all: usize) -> ScanLimiter {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        let of_organization = all.saturating_sub(1).max(1);
        ScanLimiter { all: Arc::new(Semaphore::new(all)), of_organization, by_caller: Mutex::default() }
    }

    fn of_caller(&self, caller: ScanCaller) -> Arc<CallerScans> {
        let share = match caller {
            ScanCaller::Application(_) => APPLICATION,
            ScanCaller::Organization(_) => {
                ScanShare { permits: ORGANIZATION.permits.min(self.of_organization), ..ORGANIZATION }
            }
        };
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        if by_caller.len() >= MAX_CALLERS {
            by_caller.retain(|_, scans| Arc::strong_count(scans) > 1 || !scans.wait().is_zero());
        }
        by_caller.entry(caller).or_insert_with(|| Arc::new(CallerScans::new(share))).clone()
    }

    /// A permit for the caller, within [`MAX_WAIT`].
    async fn scan(&self, caller: ScanCaller) -> Result<ScanPermit, StoreError> {
        let caller = self.of_caller(caller);
        if caller.wait() <= MAX_WAIT
            && let Ok(Some(permit)) = timeout(MAX_WAIT, self.acquire(caller.clone())).await
        {
            return Ok(permit);
        }
        metrics::counter!("sendoff_http_rate_limited_total", "limit" => "scans").increment(1);
        Err(StoreError::Crowded { wait: caller.wait() })
    }

    async fn acquire(&self, caller: Arc<CallerScans>) -> Option<ScanPermit> {
        // Acquires the caller's permit first, so a caller that waits for it or for scan time occupies no shared permit.
        let _of_caller = caller.permits.clone().acquire_owned().await.ok()?;
        let mut _overdrawn = None;
        if !caller.wait().is_zero() {
            _overdrawn = Some(caller.overdrawn.clone().acquire_owned().await.ok()?);
        }
        // Another scan of the caller may end meanwhile and be charged.
        while let wait = caller.wait()
            && !wait.is_zero()
        {
            sleep(wait).await;
        }
        let _of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(ScanPermit { caller, began: Instant::now(), _of_caller, _overdrawn, _of_all })
    }
}

impl Store {
    /// A permit for a scan on behalf of the tenant. Store methods that scan acquire it themselves.
    ///
    /// # Errors
    /// [`StoreError::Crowded`]: no permit became available in time, or the caller's scan time is overdrawn.
    pub async fn scan(&self, tenant: &Tenant) -> Result<ScanPermit, StoreError> {
        let caller = match tenant.only {
            Some(app) => ScanCaller::Application(app),
            None => ScanCaller::Organization(tenant.org.clone()),
        };
        self.inner.scans.scan(caller).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::Time;

    fn now(scans: &ScanLimiter, caller: &ScanCaller) -> Option<ScanPermit> {
        scans.acquire(scans.of_caller(caller.clone())).now_or_never()?
    }

    #[test]
    fn an_application_has_two_and_an_organization_leaves_one() {
        let scans = ScanLimiter::new(4);
        let one = ScanCaller::Application(AppId::new(Time::from_micros(1)));
        let other = ScanCaller::Application(AppId::new(Time::from_micros(2_000_000)));
        let org = ScanCaller::Organization(OrgId::default_org());
        let mut held: Vec<ScanPermit> = (0..2).map(|_| now(&scans, &one).unwrap()).collect();
        assert!(now(&scans, &one).is_none(), "a third of one application");
        held.push(now(&scans, &other).unwrap());
        held.push(now(&scans, &org).unwrap());
        assert!(now(&scans, &other).is_none(), "all are taken");
        drop(held.remove(0));
        assert!(now(&scans, &one).is_some());
        held.clear();
        let held: Vec<ScanPermit> = (0..3).map(|_| now(&scans, &org).unwrap()).collect();
        assert!(now(&scans, &org).is_none() && now(&scans, &one).is_some());
        drop(held);
    }

    #[test]
    fn scans_of_5_ms_take_a_quarter_of_the_time() {
        let began = Instant::now();
        let mut time = ScanTime { refill: APPLICATION.refill, full_at: began };
        let (mut now, mut scanned, took) = (began, Duration::ZERO, Duration::from_millis(5));
        while now < began + Duration::from_secs(40) {
            now += time.wait(now) + took;
            time.charge(took, now);
            scanned += took;
        }
        // A full bucket, and a quarter of 40 s.
        assert!((11_900..12_100).contains(&scanned.as_millis()), "{scanned:?}");
        assert_eq!(time.wait(now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[tokio::test]
    async fn an_overdrawn_application_is_told_how_long_to_wait() {
        let scans = ScanLimiter::new(4);
        let one = ScanCaller::Application(AppId::new(Time::from_micros(1)));
        let other = ScanCaller::Application(AppId::new(Time::from_micros(2_000_000)));
        for _ in 0..4 {
            scans.of_caller(one.clone()).charge(Duration::from_secs(60));
        }
        // Each is charged as one second, of which the bucket held two.
        let refused = scans.scan(one.clone()).now_or_never().expect("it does not wait for so long");
        let Err(StoreError::Crowded { wait }) = refused else { panic!("{refused:?}") };
        assert!(wait > Duration::from_secs(7) && wait <= Duration::from_secs(8), "{wait:?}");
        assert!(scans.scan(other).await.is_ok());
    }

    #[tokio::test]
    async fn a_scan_is_charged_when_it_ends() {
        let scans = ScanLimiter::new(4);
        let one = ScanCaller::Application(AppId::new(Time::from_micros(1)));
        let permit = scans.scan(one.clone()).await.unwrap();
        let full_at = |scans: &ScanLimiter| scans.of_caller(one.clone()).time.lock().unwrap().full_at;
        let before = full_at(&scans);
        let took = permit.began.elapsed();
        drop(permit);
        assert!(full_at(&scans) - before >= took * APPLICATION.refill);
    }

    /// Pages cannot exhaust the readers of authentication, acceptance and the engine.
    #[tokio::test]
    async fn pages_leave_the_readers_of_the_engine_free() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(crate::store::StoreOptions::in_folder(&folder)).await.unwrap();
        store.migrate().await.unwrap();
        let crate::store::Backend::Sqlite(backend) = &store.inner.backend else { panic!("SQLite") };
        let mut held = Vec::new();
        while held.len() < backend.pages.options().get_max_connections() as usize {
            held.push(backend.pages.acquire().await.unwrap());
        }
        let now = Time::from_micros(1_763_800_000_000_000);
        let reads = async {
            assert!(store.api_key_by_hash(&[7; 32]).await.unwrap().is_none());
            assert!(!store.is_token_revoked(&[7; 32]).await.unwrap());
            assert!(store.session(&[7; 32], now).await.unwrap().is_none());
            assert!(store.portal_session(&[7; 32], now).await.unwrap().is_none());
            assert!(store.operator_named("anna").await.unwrap().is_none());
            assert!(store.live_endpoints(&[crate::domain::EndpointId::new(now)]).await.unwrap().is_empty());
            assert!(store.pending_lanes(&[], 10).await.unwrap().is_empty());
            assert!(!store.outbox_has_work(now).await.unwrap());
            store.ready().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(20), reads).await.expect("none of them waits for a page's reader");
    }

    #[test]
    fn callers_without_a_scan_are_removed() {
        let scans = ScanLimiter::new(4);
        let app = |n: i64| ScanCaller::Application(AppId::new(Time::from_micros(n * 1_000_000)));
        let kept = app(0);
        let _held = now(&scans, &kept).unwrap();
        for n in 1..3 * MAX_CALLERS as i64 {
            drop(now(&scans, &app(n)).unwrap());
            assert!(scans.by_caller.lock().unwrap().len() <= MAX_CALLERS);
        }
        let second = now(&scans, &kept);
        assert!(second.is_some() && now(&scans, &kept).is_none(), "a running scan still counts");
    }
}
