//! Loading views into the [`RoutingCache`].
//!
//! An accepting transaction reads at most [`MAX_ENDPOINTS_READ`] endpoints: those of small applications, and those that
//! changed since a view was cached. Larger applications are [loaded](load) beforehand in a snapshot, while messages
//! to other applications are accepted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::signing::master_key::MasterKey;
use crate::domain::{AppId, EndpointId};
use crate::store::ingest::live_endpoints::{self, EndpointVersion};
use crate::store::ingest::message_routing::{AppRow, AppView, LiveEndpoint, apps};
use crate::store::ingest::routing_cache::{PARTIAL, RoutingCache};
use crate::store::{AppRef, Inner, StoreError, Tx};

/// Maximum endpoints that one accepting transaction reads, of all its applications together (some 10 µs each).
const MAX_ENDPOINTS_READ: usize = 2_000;

/// The result of [`load_bounded`].
#[derive(Default)]
pub(in crate::store) struct LoadedViews {
    pub(in crate::store) views: Vec<AppView>,
    /// Applications with too many endpoints to read.
    pub(in crate::store) not_loaded: HashSet<AppId>,
}

/// Loads the views of `apps`, up to [`MAX_ENDPOINTS_READ`] endpoints. `apps` has no duplicates.
pub(in crate::store) async fn load_bounded(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    apps: &[&AppRow],
) -> Result<LoadedViews, StoreError> {
    if apps.is_empty() {
        return Ok(LoadedViews::default());
    }
    let mut loaded = LoadedViews::default();
    let mut room = MAX_ENDPOINTS_READ;
    let (mut few, mut changed): (Vec<&AppRow>, Vec<(&AppRow, Arc<AppView>)>) = (Vec::new(), Vec::new());
    for app in apps {
        let cached = cache.get_any_version(app.id).filter(|view| view.version != PARTIAL);
        match cached.filter(|view| app.can_list_changes_since(view.version)) {
            Some(view) => changed.push((app, view)),
            None => plan_whole(app, &mut room, &mut few, &mut loaded),
        }
    }
    let since: Vec<(AppId, i64)> = changed.iter().map(|(app, view)| (app.id, view.version)).collect();
    let listed = live_endpoints::changed_since(tx, &since, room as i64 + 1).await?;
    if listed.len() > room {
        loaded.not_loaded.extend(changed.into_iter().map(|(app, _)| app.id));
    } else {
        room -= listed.len();
        // Each endpoint holds a copy of the application-wide values: if those changed, all its endpoints are read
        // again.
        let disagrees =
            |(app, view): &(&AppRow, Arc<AppView>)| !view.endpoints.iter().all(|live| live.agrees_with(app));
        for (app, _) in changed.extract_if(.., |one| disagrees(one)) {
            plan_whole(app, &mut room, &mut few, &mut loaded);
        }
        loaded.views.extend(apply_changes(tx, cache, master, &changed, listed).await?);
    }
    loaded.views.extend(load_whole(tx, cache, master, &few).await?);
    Ok(loaded)
}

/// Plans to load the whole application if `room` allows its maximum number of endpoints.
fn plan_whole<'a>(app: &'a AppRow, room: &mut usize, few: &mut Vec<&'a AppRow>, loaded: &mut LoadedViews) {
    match room.checked_sub(app.most_endpoints()) {
        Some(left) => {
            *room = left;
            few.push(app);
        }
        None => drop(loaded.not_loaded.insert(app.id)),
    }
}

/// The cached views of `changed`, with the `listed` endpoints reloaded.
async fn apply_changes(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    changed: &[(&AppRow, Arc<AppView>)],
    mut listed: Vec<EndpointVersion>,
) -> Result<Vec<AppView>, StoreError> {
    let stale: HashSet<EndpointId> = listed.iter().map(|one| one.id).collect();
    listed.retain(|one| !one.deleted);
    let by_id: HashMap<AppId, &AppRow> = changed.iter().map(|(app, _)| (app.id, *app)).collect();
    let mut now = by_app(live_endpoints::load(tx, cache, master, &by_id, &listed).await?.all);
    let view = |(app, before): &(&AppRow, Arc<AppView>)| {
        let kept = before.endpoints.iter().filter(|live| !stale.contains(&live.endpoint.id)).cloned();
        let mut endpoints: Vec<Arc<LiveEndpoint>> = kept.chain(now.remove(&app.id).unwrap_or_default()).collect();
        endpoints.sort_by_key(|live| live.endpoint.id);
        app.view(app.version, endpoints)
    };
    Ok(changed.iter().map(view).collect())
}

/// Loads the views of `apps`, regardless of their number of endpoints. Only endpoints whose version is not cached are
/// read.
pub(in crate::store) async fn load_whole(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    apps: &[&AppRow],
) -> Result<Vec<AppView>, StoreError> {
    if apps.is_empty() {
        return Ok(Vec::new());
    }
    let listed = live_endpoints::of_apps(tx, apps.iter().map(|app| app.id.0).collect()).await?;
    let by_id: HashMap<AppId, &AppRow> = apps.iter().map(|app| (app.id, *app)).collect();
    let mut endpoints = by_app(live_endpoints::load(tx, cache, master, &by_id, &listed).await?.all);
    Ok(apps.iter().map(|app| app.view(app.version, endpoints.remove(&app.id).unwrap_or_default())).collect())
}

fn by_app(all: Vec<Arc<LiveEndpoint>>) -> HashMap<AppId, Vec<Arc<LiveEndpoint>>> {
    let mut by_app: HashMap<AppId, Vec<Arc<LiveEndpoint>>> = HashMap::new();
    for live in all {
        by_app.entry(live.endpoint.app_id).or_default().push(live);
    }
    by_app
}

/// Loads an application into the cache, in its own snapshot. Succeeds if the application does not exist.
///
/// # Errors
/// The store is unavailable.
pub(in crate::store) async fn load(inner: &Inner, app: AppId) -> Result<(), StoreError> {
    let (cache, master) = (&inner.routing_cache, &inner.master);
    let mut tx = inner.snapshot().await?;
    let apps = apps(&mut tx, &[(None, AppRef::Id(app))]).await?;
    let unknown = |row: &&AppRow| cache.get(row.id, row.version).is_none();
    for row in apps.by_id.values().filter(unknown) {
        for view in load_whole(&mut tx, cache, master, &[row]).await? {
            cache.insert(&Arc::new(view));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
