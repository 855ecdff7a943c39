//! The routing cache: the applications and endpoints that this process remembers, so that accepting a message reads one row and not
//! twenty. It is bounded, and evicts one application at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use crate::domain::AppId;
use crate::store::ingest::routing::AppView;

/// How many applications are remembered, and how many endpoints of all of them together (about 1 KiB each).
const APPS: usize = 50_000;
const ENDPOINTS: usize = 200_000;

/// The version of a view that has only some of its application's endpoints. No application has it: those of the store begin at 1.
pub(in crate::store) const PARTIAL: i64 = -1;

/// What this process remembers, within [`APPS`] and [`ENDPOINTS`].
#[derive(Debug)]
pub struct RoutingCache {
    views: RwLock<Views>,
    /// At most so many applications, and so many endpoints of all of them.
    limits: (usize, usize),
}

#[derive(Debug, Default)]
struct Views {
    by_app: HashMap<AppId, Remembered>,
    /// The same applications, in the order in which they are considered for eviction.
    order: VecDeque<AppId>,
    endpoints: usize,
}

#[derive(Debug)]
struct Remembered {
    view: Arc<AppView>,
    /// It was used since it was last considered for eviction.
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

    /// What is remembered of an application, if it is of this version.
    pub(in crate::store) fn recall(&self, app: AppId, version: i64) -> Option<Arc<AppView>> {
        let views = self.views.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let found = views.by_app.get(&app).filter(|found| found.view.version == version)?;
        found.used.store(true, Ordering::Relaxed);
        Some(found.view.clone())
    }

    /// What is remembered of an application, of whatever version, [`PARTIAL`] too.
    pub(in crate::store) fn recall_any(&self, app: AppId) -> Option<Arc<AppView>> {
        let views = self.views.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let found = views.by_app.get(&app)?;
        found.used.store(true, Ordering::Relaxed);
        Some(found.view.clone())
    }

    /// Remembers a view. Makes room by the clock algorithm: what was used since it was last considered gets a second chance. A view that is larger than
    /// all of it is remembered alone.
    pub(in crate::store) fn remember(&self, view: &Arc<AppView>) {
        let mut views = self.views.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let views = &mut *views;
        if let Some(before) = views.by_app.get_mut(&view.id) {
            views.endpoints = views.endpoints - before.view.endpoints.len() + view.endpoints.len();
            before.view = view.clone();
        } else {
            views.by_app.insert(view.id, Remembered { view: view.clone(), used: AtomicBool::new(false) });
            views.order.push_back(view.id);
            views.endpoints += view.endpoints.len();
        }
        while (views.by_app.len() > self.limits.0 || views.endpoints > self.limits.1) && views.order.len() > 1 {
            let Some(app) = views.order.pop_front() else { break };
            let Some(found) = views.by_app.get_mut(&app) else { continue };
            if app == view.id || std::mem::take(found.used.get_mut()) {
                views.order.push_back(app);
            } else {
                views.endpoints -= found.view.endpoints.len();
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

    fn remember(cache: &RoutingCache, number: u128) {
        let (org, endpoints) = (OrgId::default_org(), Vec::new());
        cache.remember(&Arc::new(AppView { id: id(number), org, version: 1, operational: false, endpoints }));
    }

    #[test]
    fn a_full_cache_forgets_one_application_and_none_that_is_in_use() {
        let cache = RoutingCache::new(100, 100);
        (0..100).for_each(|number| remember(&cache, number));
        for number in 100..300 {
            assert!(cache.recall(id(7), 1).is_some(), "it is used before each of the others comes");
            remember(&cache, number);
            let known = cache.views.read().unwrap();
            assert_eq!((known.by_app.len(), known.order.len()), (100, 100));
        }
        assert!(cache.recall(id(299), 1).is_some());
        assert!(cache.recall(id(8), 1).is_none());
    }
}
