//! How many reads that scan go on at a time: lists with filters, searches, counts over many rows. Each takes a reader for as long as it
//! lasts, and a caller who makes many of them must not take them all.
//!
//! * One application's callers have [`OF_APPLICATION`] at a time, whatever tokens and portal sessions they come by.
//! * An organization's own callers leave one for others.
//! * All together leave some of the connections for short reads.
//!
//! Another one waits for [`PATIENCE`] and is then refused with [`StoreError::Crowded`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::domain::{AppId, OrgId};
use crate::store::{Store, StoreError, Tenant};

/// How many reads that scan one application's callers have at a time.
const OF_APPLICATION: usize = 2;
/// How long a further one waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// From so many callers on, those that read nothing any more are forgotten.
const KEPT: usize = 1_024;

/// Whose reads are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Application(AppId),
    Organization(OrgId),
}

/// The places of a store.
#[derive(Debug)]
pub(in crate::store) struct Scans {
    all: Arc<Semaphore>,
    of_organization: usize,
    by_scope: Mutex<HashMap<Scope, Weak<Semaphore>>>,
}

/// A read that scans goes on while this is kept.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub struct Scan {
    _of_scope: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Scans {
    /// With room for `all` of them.
    pub(in crate::store) fn new(all: usize) -> Scans {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        let of_organization = all.saturating_sub(1).max(1);
        Scans { all: Arc::new(Semaphore::new(all)), of_organization, by_scope: Mutex::default() }
    }

    fn of_scope(&self, scope: Scope) -> Arc<Semaphore> {
        let most = match scope {
            Scope::Application(_) => OF_APPLICATION,
            Scope::Organization(_) => self.of_organization,
        };
        let mut by_scope = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        if by_scope.len() >= KEPT {
            by_scope.retain(|_, places| places.strong_count() > 0);
        }
        if let Some(places) = by_scope.get(&scope).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(most));
        by_scope.insert(scope, Arc::downgrade(&places));
        places
    }

    async fn place(&self, scope: Scope) -> Result<Scan, AcquireError> {
        // The caller's own first: those that wait for it take nothing from others.
        let _of_scope = self.of_scope(scope).acquire_owned().await?;
        let _of_all = self.all.clone().acquire_owned().await?;
        Ok(Scan { _of_scope, _of_all })
    }
}

impl Store {
    /// A place for a read that scans, on behalf of the tenant. The methods that scan take it themselves.
    ///
    /// # Errors
    /// [`StoreError::Crowded`]: none became free in time.
    pub async fn scan(&self, tenant: &Tenant) -> Result<Scan, StoreError> {
        let scope = match tenant.only {
            Some(app) => Scope::Application(app),
            None => Scope::Organization(tenant.org.clone()),
        };
        match timeout(PATIENCE, self.inner.scans.place(scope)).await {
            Ok(Ok(scan)) => Ok(scan),
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

    fn now(scans: &Scans, scope: &Scope) -> Option<Scan> {
        scans.place(scope.clone()).now_or_never()?.ok()
    }

    #[test]
    fn an_application_has_two_and_an_organization_leaves_one() {
        let scans = Scans::new(4);
        let one = Scope::Application(AppId::new(Time::from_micros(1)));
        let other = Scope::Application(AppId::new(Time::from_micros(2_000_000)));
        let org = Scope::Organization(OrgId::default_org());
        let mut held: Vec<Scan> = (0..2).map(|_| now(&scans, &one).unwrap()).collect();
        assert!(now(&scans, &one).is_none(), "a third of one application");
        held.push(now(&scans, &other).unwrap());
        held.push(now(&scans, &org).unwrap());
        assert!(now(&scans, &other).is_none(), "all are taken");
        drop(held.remove(0));
        assert!(now(&scans, &one).is_some());
        held.clear();
        let held: Vec<Scan> = (0..3).map(|_| now(&scans, &org).unwrap()).collect();
        assert!(now(&scans, &org).is_none() && now(&scans, &one).is_some());
        drop(held);
    }

    /// Pages that hold all their readers leave authentication, acceptance and the engine theirs.
    #[tokio::test]
    async fn pages_take_no_reader_that_is_vital() {
        let folder = tempfile::tempdir().unwrap();
        let location = crate::store::Location::Sqlite(folder.path().join("sendoff.db"));
        let master = crate::domain::signing::secret::MasterKey::generate();
        let options = crate::store::StoreOptions { location, master, max_payload: 1_024, queue: 10, wide: 10 };
        let store = Store::open(options).await.unwrap();
        store.migrate().await.unwrap();
        let crate::store::Engine::Sqlite(engine) = &store.inner.engine else { panic!("SQLite") };
        let mut held = Vec::new();
        while held.len() < engine.pages.options().get_max_connections() as usize {
            held.push(engine.pages.acquire().await.unwrap());
        }
        let now = Time::from_micros(1_763_800_000_000_000);
        let reads = async {
            assert!(store.api_key_of(&[7; 32]).await.unwrap().is_none());
            assert!(!store.is_token_revoked(&[7; 32]).await.unwrap());
            assert!(store.session(&[7; 32], now).await.unwrap().is_none());
            assert!(store.visit(&[7; 32], now).await.unwrap().is_none());
            assert!(store.operator_named("anna").await.unwrap().is_none());
            assert!(store.live_endpoints(&[crate::domain::EndpointId::new(now)]).await.unwrap().is_empty());
            assert!(store.pending_lanes(&[], 10).await.unwrap().is_empty());
            assert!(!store.outbox_has_work(now).await.unwrap());
            store.ready().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(20), reads).await.expect("none of them waits for a page's reader");
    }

    #[test]
    fn who_reads_nothing_is_forgotten() {
        let scans = Scans::new(4);
        let app = |n: i64| Scope::Application(AppId::new(Time::from_micros(n * 1_000_000)));
        let kept = app(0);
        let _held = now(&scans, &kept).unwrap();
        for n in 1..3 * KEPT as i64 {
            drop(now(&scans, &app(n)).unwrap());
            assert!(scans.by_scope.lock().unwrap().len() <= KEPT);
        }
        let second = now(&scans, &kept);
        assert!(second.is_some() && now(&scans, &kept).is_none(), "what is held counts on");
    }
}
