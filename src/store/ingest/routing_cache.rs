//! The routing cache: applications and their endpoints, so accepting a message reads one row instead of twenty. It is
//! bounded and evicts one application at a time, by the clock algorithm.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use crate::domain::AppId;
use crate::store::ingest::message_routing::AppView;

/// Maximum cached applications, and maximum cached endpoints of all of them together (about 1 KiB each).
const APPS: usize = 50_000;
const ENDPOINTS: usize = 200_000;

/// The version of a view that has only some of its application's endpoints. Versions in the store start at 1.
pub(in crate::store) const PARTIAL: i64 = -1;

#[derive(Debug)]
pub struct RoutingCache {
    views: RwLock<Views>,
    /// Applications, endpoints.
    limits: (usize, usize),
}

#[derive(Debug, Default)]
struct Views {
    by_app: HashMap<AppId, CacheEntry>,
    /// The same applications, in the order of the clock hand.
    order: VecDeque<AppId>,
    endpoints: usize,
}

#[derive(Debug)]
struct CacheEntry {
    view: Arc<AppView>,
    /// Used since the clock hand passed last.
    used: AtomicBool,
}

impl Default for RoutingCache {
    fn default() -> RoutingCache {
        RoutingCache::new(APPS, ENDPOINTS)
    }
}

impl RoutingCache {
    fn new(apps: usize, endpoints: usize) -> RoutingCache {
        RoutingCache { views: RwLock::default(), limits: (apps, endpoints) }
    }

    /// The cached view of an application, if it has this version.
    pub(in crate::store) fn get(&self, app: AppId, version: i64) -> Option<Arc<AppView>> {
        let views = self.views.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = views.by_app.get(&app).filter(|entry| entry.view.version == version)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(entry.view.clone())
    }

    /// The cached view of an application, of any version including [`PARTIAL`].
    pub(in crate::store) fn get_any_version(&self, app: AppId) -> Option<Arc<AppView>> {
        let views = self.views.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = views.by_app.get(&app)?;
        entry.used.store(true, Ordering::Relaxed);
        Some(entry.view.clone())
    }

    /// Caches a view and evicts others to make room. A view that is larger than the whole cache is kept alone.
    pub(in crate::store) fn insert(&self, view: &Arc<AppView>) {
        let mut views = self.views.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let views = &mut *views;
        if let Some(before) = views.by_app.get_mut(&view.id) {
            views.endpoints = views.endpoints - before.view.endpoints.len() + view.endpoints.len();
            before.view = view.clone();
        } else {
            views.by_app.insert(view.id, CacheEntry { view: view.clone(), used: AtomicBool::new(false) });
            views.order.push_back(view.id);
            views.endpoints += view.endpoints.len();
        }
        while (views.by_app.len() > self.limits.0 || views.endpoints > self.limits.1) && views.order.len() > 1 {
            let Some(app) = views.order.pop_front() else { break };
            let Some(entry) = views.by_app.get_mut(&app) else { continue };
            if app == view.id || std::mem::take(entry.used.get_mut()) {
                views.order.push_back(app);
            } else {
                views.endpoints -= entry.view.endpoints.len();
                views.by_app.remove(&app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OrgId;

    fn id(number: u128) -> AppId {
        AppId(uuid::Uuid::from_u128(number))
    }

    fn insert(cache: &RoutingCache, number: u128) {
        let (org, endpoints) = (OrgId::default_org(), Vec::new());
        cache.insert(&Arc::new(AppView { id: id(number), org, version: 1, operational: false, endpoints }));
    }

    #[test]
    fn a_full_cache_forgets_one_application_and_none_that_is_in_use() {
        let cache = RoutingCache::new(100, 100);
        (0..100).for_each(|number| insert(&cache, number));
        for number in 100..300 {
            assert!(cache.get(id(7), 1).is_some(), "it is used before each of the others comes");
            insert(&cache, number);
            let known = cache.views.read().unwrap();
            assert_eq!((known.by_app.len(), known.order.len()), (100, 100));
        }
        assert!(cache.get(id(299), 1).is_some());
        assert!(cache.get(id(8), 1).is_none());
    }
}
