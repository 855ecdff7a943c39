//! Routing: from an application reference to the endpoints that a message may go to.
//!
//! * [`LiveEndpoint`]: an endpoint with everything needed to send to it, secrets decrypted.
//! * [`AppView`]: an application and its endpoints at one *version*. Every change of either increments the version.
//! * [`RoutingCache`]: the views cached by this process.
//!
//! Invariant: no cached view is used before [`resolve`] has compared its version with the store's **inside the
//! accepting transaction**. An endpoint that another process created a moment ago gets its delivery.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use url::Url;
use uuid::Uuid;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::signing::master_key::MasterKey;
use crate::domain::signing::signature::Signing;
use crate::domain::{AppId, EndpointId, OrgId, Uid};
use crate::store::db::codec;
use crate::store::db::codec::from_row;
use crate::store::db::sqlite;
use crate::store::ingest::accept::Rejection;
use crate::store::ingest::routing_cache::RoutingCache;
use crate::store::ingest::routing_load;
use crate::store::queue::slots::slots_for;
use crate::store::{AppRef, StoreError, Tenant, Tx};

/// An endpoint with everything needed to send to it.
pub struct LiveEndpoint {
    pub org: OrgId,
    /// The version of its application when it was read; a higher version is newer. An unchanged endpoint keeps its
    /// version while that of the application grows.
    pub version: i64,
    pub endpoint: Endpoint,
    /// `None`: the stored URL does not parse, and every attempt fails.
    pub url: Option<Url>,
    /// `Err`: its secret or headers are unreadable; every attempt fails with this detail. Other endpoints are not
    /// affected.
    pub signing: Result<Signing, &'static str>,
    /// Assigned when the endpoint was created.
    pub slot: u8,
    /// `None`: its application has no limit.
    pub app_rate: Option<AppRate>,
}

/// The rate limit of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppRate {
    /// Messages per second to all its endpoints together.
    pub per_second: u16,
    /// The number of slots that its endpoints are spread over; each slot gets an equal share of the rate.
    pub slots: u16,
}

impl LiveEndpoint {
    /// Whether its application-wide values are those of `app`.
    pub(in crate::store) fn agrees_with(&self, app: &AppRow) -> bool {
        self.app_rate == app.rate()
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
    /// The organization's hidden application for operational events; it accepts no messages from callers.
    pub operational: bool,
    /// Sorted by id.
    pub endpoints: Vec<Arc<LiveEndpoint>>,
}

impl AppView {
    pub(in crate::store) fn endpoint(&self, id: EndpointId) -> Option<&Arc<LiveEndpoint>> {
        let at = self.endpoints.binary_search_by_key(&id, |live| live.endpoint.id).ok()?;
        self.endpoints.get(at)
    }
}

/// A reference to an application, and its caller; `None` for the outbox, whose rows name no organization.
pub type AppKey = (Option<Tenant>, AppRef);

/// The result of [`resolve`] for a key.
pub(in crate::store) enum Resolved {
    View(Arc<AppView>),
    Rejected(Rejection),
    /// An accepting transaction may not read that many endpoints: [load](crate::store::ingest::routing_load::load)
    /// the application first.
    NotLoaded(AppId),
}

/// The current view for each of `keys`, from the cache where the versions agree.
///
/// `tx` must not have changed an application: views read here are cached, and the change might not be committed.
pub(in crate::store) async fn resolve(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    keys: impl IntoIterator<Item = AppKey>,
) -> Result<HashMap<AppKey, Resolved>, StoreError> {
    let keys: Vec<AppKey> = keys.into_iter().collect();
    // The version is read before the endpoints. A concurrent change can only make the view look older than it is,
    // never newer.
    let apps = apps(tx, &keys).await?;
    let chosen: Vec<(AppKey, Result<AppId, Rejection>)> =
        keys.into_iter().map(|key| (key.clone(), apps.resolve_key(&key))).collect();
    let mut views: HashMap<AppId, Arc<AppView>> = HashMap::new();
    let mut unknown: HashMap<AppId, &AppRow> = HashMap::new();
    for id in chosen.iter().filter_map(|(_, app)| app.as_ref().ok()) {
        let Some(row) = apps.by_id.get(id) else { continue };
        match cache.get(row.id, row.version) {
            Some(view) => drop(views.insert(*id, view)),
            None => drop(unknown.insert(*id, row)),
        }
    }
    let unknown: Vec<&AppRow> = unknown.into_values().collect();
    let loaded = routing_load::load_bounded(tx, cache, master, &unknown).await?;
    for view in loaded.views {
        let view = Arc::new(view);
        cache.insert(&view);
        views.insert(view.id, view);
    }
    let outcome = |(key, app): (AppKey, Result<AppId, Rejection>)| {
        let resolved = match app {
            Ok(id) => match views.get(&id) {
                Some(view) => Resolved::View(view.clone()),
                None if loaded.not_loaded.contains(&id) => Resolved::NotLoaded(id),
                None => Resolved::Rejected(Rejection::UnknownApplication(key.1.to_string())),
            },
            Err(rejection) => Resolved::Rejected(rejection),
        };
        (key, resolved)
    };
    Ok(chosen.into_iter().map(outcome).collect())
}

/// The view of `app` inside `tx`, which may have changed it, so the view is not cached. Reading from the cache is
/// safe: cached views were committed, and an uncommitted change has another version.
pub(in crate::store) async fn view_in_transaction(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    app: AppId,
) -> Result<Option<Arc<AppView>>, StoreError> {
    let apps = apps(tx, &[(None, AppRef::Id(app))]).await?;
    let Some(row) = apps.by_id.get(&app) else { return Ok(None) };
    if let Some(view) = cache.get(row.id, row.version) {
        return Ok(Some(view));
    }
    Ok(routing_load::load_whole(tx, cache, master, &[row]).await?.pop().map(Arc::new))
}

from_row! {
    #[derive(Clone)]
    pub(in crate::store) struct AppRow {
        pub(in crate::store) id: AppId,
        pub(in crate::store) org: OrgId,
        uid: Option<Uid>,
        throttle_rate: Option<i32>,
        endpoints_made: i32,
        pub(in crate::store) version: i64,
        /// Changes up to this version cannot be listed: the rows of deleted endpoints may be gone.
        changes_from: i64,
        operational: bool,
    }
}

impl AppRow {
    /// Its rate limit.
    pub(in crate::store) fn rate(&self) -> Option<AppRate> {
        let per_second = self.throttle_rate.and_then(|rate| u16::try_from(rate).ok())?;
        Some(AppRate { per_second, slots: slots_for(i64::from(self.endpoints_made)) })
    }

    /// An upper bound of its current number of endpoints.
    pub(in crate::store) fn most_endpoints(&self) -> usize {
        usize::try_from(self.endpoints_made).unwrap_or_default()
    }

    pub(in crate::store) fn can_list_changes_since(&self, version: i64) -> bool {
        version >= self.changes_from && version < self.version
    }

    /// The application's view with these endpoints, sorted by id.
    pub(in crate::store) fn view(&self, version: i64, endpoints: Vec<Arc<LiveEndpoint>>) -> AppView {
        AppView { id: self.id, org: self.org.clone(), version, operational: self.operational, endpoints }
    }
}

/// The applications that a set of keys may refer to.
#[derive(Default)]
pub(in crate::store) struct Apps {
    pub(in crate::store) by_id: HashMap<AppId, AppRow>,
    /// Several organizations may use the same UID.
    by_uid: HashMap<Uid, Vec<AppId>>,
}

impl Apps {
    /// The organization and id of an application named without an organization, if it is not ambiguous.
    pub(in crate::store) fn owner(&self, app: &AppRef) -> Option<(OrgId, AppId)> {
        let id = self.resolve_key(&(None, app.clone())).ok()?;
        self.by_id.get(&id).map(|row| (row.org.clone(), id))
    }

    fn resolve_key(&self, (tenant, app): &AppKey) -> Result<AppId, Rejection> {
        let named: &[AppId] = match app {
            AppRef::Id(id) => std::slice::from_ref(id),
            AppRef::Uid(uid) => self.by_uid.get(uid).map(Vec::as_slice).unwrap_or_default(),
        };
        let mut mine = named.iter().filter_map(|id| self.by_id.get(id)).filter(|row| match tenant {
            Some(tenant) => tenant.org == row.org && tenant.sees(row.id),
            None => true,
        });
        match (mine.next(), mine.next()) {
            (None, _) => Err(Rejection::UnknownApplication(app.to_string())),
            (Some(row), None) => Ok(row.id),
            (Some(_), Some(_)) => Err(Rejection::AmbiguousApplication(app.to_string())),
        }
    }
}

/// Reads the applications that `keys` may refer to.
pub(in crate::store) async fn apps(tx: &mut Tx, keys: &[AppKey]) -> Result<Apps, StoreError> {
    const COLUMNS: &str = "SELECT id, org, uid, throttle_rate, endpoints_made, version, changes_from, operational
         FROM application WHERE deleted_at IS NULL AND";
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
