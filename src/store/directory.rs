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

use super::accept::Refusal;
use super::codec::{self, EndpointRow};
use super::routing_cache::RoutingCache;
use super::slots::slots_for;
use super::{AppRef, StoreError, Tenant, Tx, sqlite};
use crate::domain::endpoint::Endpoint;
use crate::domain::secret::{MasterKey, Secret};
use crate::domain::signature::Signing;
use crate::domain::{AppId, EndpointId, Invalid, OrgId, Time, Uid};

/// An endpoint with everything that sending to it needs.
pub struct LiveEndpoint {
    pub org: OrgId,
    /// The version of its application that it was read at: the larger of two is the newer.
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

/// What the attempts of an endpoint say that cannot be read. Customers see it; the reason is for the operator, in the log.
const UNREADABLE: &str =
    "this endpoint's signing secret or headers cannot be read, so nothing was sent: the reason is in the server's log";

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
    pub endpoints: Vec<Arc<LiveEndpoint>>,
}

/// Whose application, and which. The outbox names no organization.
pub type Key = (Option<Tenant>, AppRef);

/// Finds the view of each of `keys` as it is inside `tx`; what is remembered and still right is not read again.
///
/// `tx` must not have changed any application itself: what it would remember might never be committed.
pub(super) async fn resolve(
    tx: &mut Tx,
    directory: &RoutingCache,
    master: &MasterKey,
    keys: impl IntoIterator<Item = Key>,
) -> Result<HashMap<Key, Result<Arc<AppView>, Refusal>>, StoreError> {
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
    for view in load(tx, master, &unknown.into_values().collect::<Vec<_>>()).await? {
        let view = Arc::new(view);
        directory.remember(&view);
        views.insert(view.id, view);
    }
    let found = |(key, app): (Key, Result<AppId, Refusal>)| {
        let unknown = || Refusal::UnknownApplication(key.1.to_string());
        let view = app.and_then(|id| views.get(&id).cloned().ok_or_else(unknown));
        (key, view)
    };
    Ok(chosen.into_iter().map(found).collect())
}

/// The view of `app` as it is inside `tx`, which may have changed it: nothing of it is remembered. What is remembered was committed, and
/// has another version than what is not.
pub(super) async fn view_inside(
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
    Ok(load(tx, master, &[row]).await?.pop().map(Arc::new))
}

#[derive(Clone, sqlx::FromRow)]
struct AppRow {
    id: AppId,
    org: OrgId,
    uid: Option<Uid>,
    throttle_rate: Option<i32>,
    endpoints_made: i32,
    version: i64,
    operational: bool,
}

/// The applications that some keys may mean, as they are now.
#[derive(Default)]
struct Apps {
    by_id: HashMap<AppId, AppRow>,
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

async fn apps(tx: &mut Tx, keys: &[Key]) -> Result<Apps, StoreError> {
    const COLUMNS: &str = "SELECT id, org, uid, throttle_rate, endpoints_made, version, operational FROM application WHERE deleted_at IS NULL AND";
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

/// Reads the views of `apps`: two statements, however many there are.
async fn load(tx: &mut Tx, master: &MasterKey, apps: &[&AppRow]) -> Result<Vec<AppView>, StoreError> {
    if apps.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = apps.iter().map(|app| app.id.0).collect();
    let by_id: HashMap<AppId, &AppRow> = apps.iter().map(|app| (app.id, *app)).collect();
    let mut secrets = secrets_of(tx, master, &ids).await?;
    let mut endpoints: HashMap<AppId, Vec<Arc<LiveEndpoint>>> = HashMap::new();
    for row in endpoints_of(tx, ids).await? {
        let slot = row.slot();
        let (endpoint, fault) = row.read(master);
        let Some(app) = by_id.get(&endpoint.app_id) else { continue };
        let keys = secrets.remove(&endpoint.id).unwrap_or_default();
        let live = live(app, endpoint, slot, fault, keys);
        endpoints.entry(app.id).or_default().push(Arc::new(live));
    }
    let view = |app: &&AppRow| AppView {
        id: app.id,
        org: app.org.clone(),
        version: app.version,
        operational: app.operational,
        endpoints: endpoints.remove(&app.id).unwrap_or_default(),
    };
    Ok(apps.iter().map(view).collect())
}

async fn endpoints_of(tx: &mut Tx, apps: Vec<Uuid>) -> Result<Vec<EndpointRow>, StoreError> {
    const COLUMNS: &str = codec::ENDPOINT;
    Ok(match tx {
        Tx::Sqlite(tx) => {
            let sql = format!(
                "SELECT {COLUMNS} FROM endpoint
                 WHERE app_id IN (SELECT unhex(value) FROM json_each($1)) AND deleted_at IS NULL ORDER BY id"
            );
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(sqlite::id_list(apps)).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql =
                format!("SELECT {COLUMNS} FROM endpoint WHERE app_id = ANY($1) AND deleted_at IS NULL ORDER BY id");
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(apps).fetch_all(&mut **tx).await?
        }
    })
}

/// A secret, or why it cannot be read, and when it stops signing; `None` is the current one.
type Keyed = (Result<Secret, StoreError>, Option<Time>);

/// `secrets` are the newest first. An unreadable one in grace is left out: what it signed for can only be verified by the new one.
fn live(app: &AppRow, endpoint: Endpoint, slot: u8, fault: Option<StoreError>, secrets: Vec<Keyed>) -> LiveEndpoint {
    let missing = || StoreError::Damaged("it has no secret".into());
    let current = secrets.iter().find(|(_, expires)| expires.is_none()).map(|(secret, _)| secret.as_ref());
    let signing = match (fault.as_ref(), current) {
        (None, Some(Ok(current))) => {
            let graced = secrets.iter().filter_map(|(secret, expires)| Some((secret.as_ref().ok()?, (*expires)?)));
            Ok(Signing::new(current, graced, &endpoint.spec.extra_signatures))
        }
        (Some(error), _) | (None, Some(Err(error))) => Err(error.clone()),
        (None, None) => Err(missing()),
    };
    let signing = signing.map_err(|error| {
        tracing::error!(endpoint = %endpoint.id, %error, "nothing can be sent to this endpoint");
        UNREADABLE
    });
    LiveEndpoint {
        org: app.org.clone(),
        version: app.version,
        slot,
        app_throttle: app.throttle_rate.and_then(|rate| u16::try_from(rate).ok()),
        app_slots: slots_for(i64::from(app.endpoints_made)),
        url: Url::parse(&endpoint.spec.url).ok(),
        endpoint,
        signing,
    }
}

/// The secrets of all endpoints of `apps`, newest first.
async fn secrets_of(
    tx: &mut Tx,
    master: &MasterKey,
    apps: &[Uuid],
) -> Result<HashMap<EndpointId, Vec<Keyed>>, StoreError> {
    const SECRETS: &str = "SELECT s.endpoint_id, s.sealed, s.expires_at FROM endpoint e
         JOIN endpoint_secret s ON s.endpoint_id = e.id WHERE e.deleted_at IS NULL AND e.app_id";
    const NEWEST_FIRST: &str = "ORDER BY s.made_at DESC";
    type Row = (EndpointId, Vec<u8>, Option<Time>);
    let rows: Vec<Row> = match tx {
        Tx::Sqlite(tx) => {
            let sql = format!("{SECRETS} IN (SELECT unhex(value) FROM json_each($1)) {NEWEST_FIRST}");
            let list = sqlite::id_list(apps.iter().copied());
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(list).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = format!("{SECRETS} = ANY($1) {NEWEST_FIRST}");
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(apps).fetch_all(&mut **tx).await?
        }
    };
    let mut secrets: HashMap<EndpointId, Vec<Keyed>> = HashMap::new();
    for (endpoint, sealed, expires) in rows {
        secrets.entry(endpoint).or_default().push((open_secret(master, endpoint, &sealed), expires));
    }
    Ok(secrets)
}

/// Opens a sealed secret of `endpoint`.
pub(super) fn open_secret(master: &MasterKey, endpoint: EndpointId, sealed: &[u8]) -> Result<Secret, StoreError> {
    let plain = master.open(endpoint.0.as_bytes(), sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| StoreError::Damaged("a secret is no text".into()))?;
    Secret::parse("secret", text).map_err(|Invalid { reason, .. }| StoreError::Damaged(format!("a secret {reason}")))
}

impl super::Store {
    /// Everything that sending to `endpoints` needs, as it is now; deleted ones are left out.
    ///
    /// # Errors
    /// The store is away.
    pub async fn live_endpoints(&self, endpoints: &[EndpointId]) -> Result<Vec<Arc<LiveEndpoint>>, StoreError> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let ids = codec::uuids(endpoints);
        let apps: Vec<(AppId,)> = match &self.inner.engine {
            super::Engine::Sqlite(engine) => {
                sqlx::query_as(
                    "SELECT DISTINCT app_id FROM endpoint WHERE id IN (SELECT unhex(value) FROM json_each($1))",
                )
                .bind(sqlite::id_list(ids))
                .fetch_all(&engine.readers)
                .await?
            }
            super::Engine::Postgres(engine) => {
                sqlx::query_as("SELECT DISTINCT app_id FROM endpoint WHERE id = ANY($1)")
                    .bind(ids)
                    .fetch_all(&engine.engine)
                    .await?
            }
        };
        let mut tx = self.inner.snapshot().await?;
        let keys = apps.into_iter().map(|(app,)| (None, AppRef::Id(app)));
        let views = resolve(&mut tx, &self.inner.directory, &self.inner.master, keys).await?;
        let wanted: std::collections::HashSet<Uuid> = endpoints.iter().map(|id| id.0).collect();
        let found = views.into_values().flatten().flat_map(|view| view.endpoints.clone());
        Ok(found.filter(|live| wanted.contains(&live.endpoint.id.0)).collect())
    }
}
