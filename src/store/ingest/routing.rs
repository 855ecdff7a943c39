//! The directory: who wants what, remembered so that accepting a message reads one row and not twenty.
//!
//! * [`LiveEndpoint`] – an endpoint with everything that sending to it needs, its secrets opened.
//! * [`AppView`] – an application and its endpoints as of one *version*; every change of either makes the version grow.
//! * [`RoutingCache`] – the views that this process remembers.
//!
//! What is remembered is never trusted: [`resolve`] compares its version with the store's **inside the accepting transaction**,
//! so an endpoint that another process created a moment ago gets its delivery.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use url::Url;
use uuid::Uuid;

use crate::domain::endpoint::Endpoint;
use crate::domain::secret::MasterKey;
use crate::domain::signature::Signing;
use crate::domain::{AppId, EndpointId, OrgId, Uid};
use crate::store::db::codec;
use crate::store::db::sqlite;
use crate::store::ingest::accept::Refusal;
use crate::store::ingest::routing_cache::RoutingCache;
use crate::store::ingest::routing_load;
use crate::store::queue::slots::slots_for;
use crate::store::{AppRef, StoreError, Tenant, Tx};

/// An endpoint with everything that sending to it needs.
pub struct LiveEndpoint {
    pub org: OrgId,
    /// The version of its application that it was read at: the larger of two is the newer. An endpoint that has not changed since keeps it,
    /// however the application's version grows.
    pub version: i64,
    pub endpoint: Endpoint,
    /// The slot that it was given when it was created.
    pub slot: u8,
    /// Messages a second to all endpoints of its application together.
    pub app_throttle: Option<u16>,
    /// Over how many slots that application's endpoints are spread: each has its part of the rate.
    pub app_slots: u16,
    /// `None`: the stored URL is none, which every attempt will say.
    pub url: Option<Url>,
    /// `Err`: nothing may be sent to it, because its secret or its headers cannot be read; the sentence that every attempt
    /// fails with. It takes down neither its application nor what else is in its lane's batch.
    pub signing: Result<Signing, &'static str>,
}

impl LiveEndpoint {
    /// Whether it has what `app` says for all its endpoints.
    pub(in crate::store) fn agrees_with(&self, app: &AppRow) -> bool {
        (self.app_throttle, self.app_slots) == (app.throttle(), app.slots())
    }
}

impl std::fmt::Debug for LiveEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveEndpoint").field("id", &self.endpoint.id).finish_non_exhaustive()
    }
}

/// An application and its endpoints, as of one version.
#[derive(Debug)]
pub struct AppView {
    pub id: AppId,
    pub org: OrgId,
    pub version: i64,
    /// It is the organization's hidden one, into which nobody sends from outside.
    pub operational: bool,
    /// By id.
    pub endpoints: Vec<Arc<LiveEndpoint>>,
}

impl AppView {
    /// The endpoint of this id, if the view has it.
    pub(in crate::store) fn endpoint(&self, id: EndpointId) -> Option<&Arc<LiveEndpoint>> {
        let at = self.endpoints.binary_search_by_key(&id, |live| live.endpoint.id).ok()?;
        self.endpoints.get(at)
    }
}

/// Whose application, and which. The outbox names no organization.
pub type Key = (Option<Tenant>, AppRef);

/// The result of [`resolve`] for a key.
pub(in crate::store) enum Resolved {
    View(Arc<AppView>),
    Refused(Refusal),
    /// Too many of its endpoints would have to be read for an accepting transaction: [load](crate::store::ingest::routing_load::load) it first.
    NotLoaded(AppId),
}

/// Finds the view of each of `keys` as it is inside `tx`; what is remembered and still right is not read again.
///
/// `tx` must not have changed any application itself: what it would remember might never be committed.
pub(in crate::store) async fn resolve(
    tx: &mut Tx,
    directory: &RoutingCache,
    master: &MasterKey,
    keys: impl IntoIterator<Item = Key>,
) -> Result<HashMap<Key, Resolved>, StoreError> {
    let keys: Vec<Key> = keys.into_iter().collect();
    // The version is read before what it stands for: a change in between makes the view older than it is, never newer.
    let apps = apps(tx, &keys).await?;
    let chosen: Vec<(Key, Result<AppId, Refusal>)> =
        keys.into_iter().map(|key| (key.clone(), apps.choose(&key))).collect();
    let mut views: HashMap<AppId, Arc<AppView>> = HashMap::new();
    let mut unknown: HashMap<AppId, &AppRow> = HashMap::new();
    for id in chosen.iter().filter_map(|(_, app)| app.as_ref().ok()) {
        let Some(row) = apps.by_id.get(id) else { continue };
        match directory.recall(row.id, row.version) {
            Some(view) => drop(views.insert(*id, view)),
            None => drop(unknown.insert(*id, row)),
        }
    }
    let unknown: Vec<&AppRow> = unknown.into_values().collect();
    let loaded = routing_load::within(tx, directory, master, &unknown).await?;
    for view in loaded.views {
        let view = Arc::new(view);
        directory.remember(&view);
        views.insert(view.id, view);
    }
    let found = |(key, app): (Key, Result<AppId, Refusal>)| {
        let resolved = match app {
            Ok(id) => match views.get(&id) {
                Some(view) => Resolved::View(view.clone()),
                None if loaded.not_loaded.contains(&id) => Resolved::NotLoaded(id),
                None => Resolved::Refused(Refusal::UnknownApplication(key.1.to_string())),
            },
            Err(refusal) => Resolved::Refused(refusal),
        };
        (key, resolved)
    };
    Ok(chosen.into_iter().map(found).collect())
}

/// The view of `app` as it is inside `tx`, which may have changed it: nothing of it is remembered. What is remembered was committed, and
/// has another version than what is not.
pub(in crate::store) async fn view_inside(
    tx: &mut Tx,
    directory: &RoutingCache,
    master: &MasterKey,
    app: AppId,
) -> Result<Option<Arc<AppView>>, StoreError> {
    let apps = apps(tx, &[(None, AppRef::Id(app))]).await?;
    let Some(row) = apps.by_id.get(&app) else { return Ok(None) };
    if let Some(view) = directory.recall(row.id, row.version) {
        return Ok(Some(view));
    }
    Ok(routing_load::whole(tx, directory, master, &[row]).await?.pop().map(Arc::new))
}

#[derive(Clone, sqlx::FromRow)]
pub(in crate::store) struct AppRow {
    pub(in crate::store) id: AppId,
    pub(in crate::store) org: OrgId,
    uid: Option<Uid>,
    throttle_rate: Option<i32>,
    endpoints_made: i32,
    pub(in crate::store) version: i64,
    /// Changes of this version or an older one cannot be listed: rows of deleted endpoints may be gone.
    changes_from: i64,
    operational: bool,
}

impl AppRow {
    /// Messages a second to all its endpoints together.
    pub(in crate::store) fn throttle(&self) -> Option<u16> {
        self.throttle_rate.and_then(|rate| u16::try_from(rate).ok())
    }

    /// Over how many slots its endpoints are spread.
    pub(in crate::store) fn slots(&self) -> u16 {
        slots_for(i64::from(self.endpoints_made))
    }

    /// The most endpoints that it can have now.
    pub(in crate::store) fn most_endpoints(&self) -> usize {
        usize::try_from(self.endpoints_made).unwrap_or_default()
    }

    /// Whether what changed since `version` can be listed.
    pub(in crate::store) fn lists_changes_since(&self, version: i64) -> bool {
        version >= self.changes_from && version < self.version
    }

    /// Its view with these endpoints, which are in the order of their ids.
    pub(in crate::store) fn view(&self, version: i64, endpoints: Vec<Arc<LiveEndpoint>>) -> AppView {
        AppView { id: self.id, org: self.org.clone(), version, operational: self.operational, endpoints }
    }
}

/// The applications that some keys may mean, as they are now.
#[derive(Default)]
pub(in crate::store) struct Apps {
    pub(in crate::store) by_id: HashMap<AppId, AppRow>,
    /// Several organizations may use the same name.
    by_uid: HashMap<Uid, Vec<AppId>>,
}

impl Apps {
    fn choose(&self, (tenant, app): &Key) -> Result<AppId, Refusal> {
        let named: &[AppId] = match app {
            AppRef::Id(id) => std::slice::from_ref(id),
            AppRef::Uid(uid) => self.by_uid.get(uid).map(Vec::as_slice).unwrap_or_default(),
        };
        let mut mine = named.iter().filter_map(|id| self.by_id.get(id)).filter(|row| match tenant {
            Some(tenant) => tenant.org == row.org && tenant.sees(row.id),
            None => true,
        });
        match (mine.next(), mine.next()) {
            (None, _) => Err(Refusal::UnknownApplication(app.to_string())),
            (Some(row), None) => Ok(row.id),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousApplication(app.to_string())),
        }
    }
}

/// The applications that `keys` may mean.
pub(in crate::store) async fn apps(tx: &mut Tx, keys: &[Key]) -> Result<Apps, StoreError> {
    const COLUMNS: &str = "SELECT id, org, uid, throttle_rate, endpoints_made, version, changes_from, operational FROM application WHERE deleted_at IS NULL AND";
    let (mut ids, mut uids) = (BTreeSet::new(), BTreeSet::new());
    for (_, app) in keys {
        match app {
            AppRef::Id(id) => drop(ids.insert(id.0)),
            AppRef::Uid(uid) => drop(uids.insert(uid.as_str())),
        }
    }
    let (ids, uids): (Vec<Uuid>, Vec<&str>) = (ids.into_iter().collect(), uids.into_iter().collect());
    let mut rows: Vec<AppRow> = Vec::new();
    match tx {
        Tx::Sqlite(tx) => {
            if !ids.is_empty() {
                let sql = format!("{COLUMNS} id IN (SELECT unhex(value) FROM json_each($1))");
                let list = sqlite::id_list(ids);
                rows.extend(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(list).fetch_all(&mut **tx).await?);
            }
            if !uids.is_empty() {
                let sql = format!("{COLUMNS} uid IN (SELECT value FROM json_each($1))");
                let list = codec::json(&uids)?;
                rows.extend(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(list).fetch_all(&mut **tx).await?);
            }
        }
        Tx::Postgres(tx) => {
            if !ids.is_empty() {
                let sql = format!("{COLUMNS} id = ANY($1)");
                rows.extend(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(ids).fetch_all(&mut **tx).await?);
            }
            if !uids.is_empty() {
                let sql = format!("{COLUMNS} uid = ANY($1)");
                rows.extend(sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(uids).fetch_all(&mut **tx).await?);
            }
        }
    }
    let mut apps = Apps::default();
    for row in rows {
        let (id, uid) = (row.id, row.uid.clone());
        if apps.by_id.insert(id, row).is_none() {
            uid.into_iter().for_each(|uid| apps.by_uid.entry(uid).or_default().push(id));
        }
    }
    Ok(apps)
}
