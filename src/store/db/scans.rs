//! Concurrency limit for scans: filtered lists, searches, and counts over many rows. A scan occupies a read
//! connection, and one caller must not occupy all of them.
//!
//! * The callers of an application share [`OF_APPLICATION`] scans, across all their tokens and portal sessions.
//! * The callers of an organization leave one scan for others.
//! * All scans together leave connections for short reads.
//!
//! A scan beyond a limit waits up to [`MAX_WAIT`] and then fails with [`StoreError::Crowded`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::domain::{AppId, OrgId};
use crate::store::{Store, StoreError, Tenant};

/// Concurrent scans of an application's callers.
const OF_APPLICATION: usize = 2;
const MAX_WAIT: Duration = Duration::from_secs(2);
/// With this many callers in memory, those without a running scan are removed.
const MAX_CALLERS: usize = 1_024;

/// Callers that share a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ScanCaller {
    Application(AppId),
    Organization(OrgId),
}

/// The concurrency limits of a store.
#[derive(Debug)]
pub(in crate::store) struct ScanLimiter {
    all: Arc<Semaphore>,
    of_organization: usize,
    by_caller: Mutex<HashMap<ScanCaller, Weak<Semaphore>>>,
}

/// The permit of a running scan.
#[derive(Debug)]
#[must_use = "the permit is released on drop"]
pub struct ScanPermit {
    _of_caller: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl ScanLimiter {
    /// A limit of `all` concurrent scans in total.
    pub(in crate::store) fn new(all: usize) -> ScanLimiter {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        let of_organization = all.saturating_sub(1).max(1);
        ScanLimiter { all: Arc::new(Semaphore::new(all)), of_organization, by_caller: Mutex::default() }
    }

    fn of_caller(&self, caller: ScanCaller) -> Arc<Semaphore> {
        let most = match caller {
            ScanCaller::Application(_) => OF_APPLICATION,
            ScanCaller::Organization(_) => self.of_organization,
        };
        let mut by_caller = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
        if by_caller.len() >= MAX_CALLERS {
            by_caller.retain(|_, permits| permits.strong_count() > 0);
        }
        if let Some(permits) = by_caller.get(&caller).and_then(Weak::upgrade) {
            return permits;
        }
        let permits = Arc::new(Semaphore::new(most));
        by_caller.insert(caller, Arc::downgrade(&permits));
        permits
    }

    async fn acquire(&self, caller: ScanCaller) -> Result<ScanPermit, AcquireError> {
        // Acquires the caller's permit first, so a caller that waits for it occupies no shared permit.
        let _of_caller = self.of_caller(caller).acquire_owned().await?;
        let _of_all = self.all.clone().acquire_owned().await?;
        Ok(ScanPermit { _of_caller, _of_all })
    }
}

impl Store {
    /// A permit for a scan on behalf of the tenant. Store methods that scan acquire it themselves.
    ///
    /// # Errors
    /// [`StoreError::Crowded`]: no permit became available in time.
    pub async fn scan(&self, tenant: &Tenant) -> Result<ScanPermit, StoreError> {
        let caller = match tenant.only {
            Some(app) => ScanCaller::Application(app),
            None => ScanCaller::Organization(tenant.org.clone()),
        };
        match timeout(MAX_WAIT, self.inner.scans.acquire(caller)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => {
                metrics::counter!("sendoff_http_rate_limited_total", "limit" => "scans").increment(1);
                Err(StoreError::Crowded)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::domain::Time;

    fn now(scans: &ScanLimiter, caller: &ScanCaller) -> Option<ScanPermit> {
        scans.acquire(caller.clone()).now_or_never()?.ok()
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
