//! The directory: who wants what, remembered so that accepting a message reads one row and not twenty.
//!
//! * [`LiveEndpoint`] – an endpoint with everything that sending to it needs, its secrets opened.
//! * [`AppView`] – an application and its endpoints as of one *version*; every change of either makes the version grow.
//! * [`Directory`] – the views that this process remembers.
//!
//! What is remembered is never trusted: [`resolve`] compares its version with the store's **inside the accepting transaction**,
//! so an endpoint that another process created a moment ago gets its delivery.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use url::Url;
use uuid::Uuid;

use super::accept::Refusal;
use super::codec::{self, EndpointRow};
use super::{AppRef, StoreError, Tenant, Tx, on, sqlite};
use crate::domain::endpoint::Endpoint;
use crate::domain::secret::{MasterKey, Secret};
use crate::domain::signature::Signing;
use crate::domain::{AppId, EndpointId, Invalid, OrgId, Time, Uid};

/// How many applications are remembered before everything is forgotten at once: rare, simple, and cheap to get over.
const LIMIT: usize = 50_000;

/// An endpoint with everything that sending to it needs.
pub struct LiveEndpoint {
    pub org: OrgId,
    /// The version of its application that it was read at: the larger of two is the newer.
    pub version: i64,
    pub endpoint: Endpoint,
    /// Messages a second to all endpoints of its application together.
    pub app_throttle: Option<u16>,
    /// `None`: the stored URL is none, which every attempt will say.
    pub url: Option<Url>,
    pub signing: Signing,
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
    pub uid: Option<Uid>,
    pub version: i64,
    pub endpoints: Vec<Arc<LiveEndpoint>>,
}

impl AppView {
    fn is(&self, tenant: Option<&Tenant>, app: &AppRef) -> bool {
        tenant.is_none_or(|tenant| tenant.org == self.org && tenant.sees(self.id))
            && match app {
                AppRef::Id(id) => *id == self.id,
                AppRef::Uid(uid) => self.uid.as_ref() == Some(uid),
            }
    }
}

/// Whose application, and which. The outbox names no organization.
pub type Key = (Option<Tenant>, AppRef);

/// What this process remembers.
#[derive(Debug, Default)]
pub struct Directory {
    remembered: RwLock<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    views: HashMap<AppId, Arc<AppView>>,
    uids: HashMap<(OrgId, Uid), AppId>,
}

impl Directory {
    fn recall(&self, (tenant, app): &Key) -> Option<Arc<AppView>> {
        let remembered = self.remembered.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let id = match (app, tenant) {
            (AppRef::Id(id), _) => *id,
            (AppRef::Uid(uid), Some(tenant)) => *remembered.uids.get(&(tenant.org.clone(), uid.clone()))?,
            // Only the store knows whether a uid without an organization is the only one of its name.
            (AppRef::Uid(_), None) => return None,
        };
        remembered.views.get(&id).cloned()
    }

    fn remember(&self, view: &Arc<AppView>) {
        let mut remembered = self.remembered.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if remembered.views.len() >= LIMIT {
            *remembered = Remembered::default();
        }
        if let Some(uid) = &view.uid {
            remembered.uids.insert((view.org.clone(), uid.clone()), view.id);
        }
        remembered.views.insert(view.id, view.clone());
    }
}

/// Finds the view of each of `keys` as it is inside `tx`; what is remembered and still right is not read again.
pub(super) async fn resolve(
    tx: &mut Tx,
    directory: &Directory,
    master: &MasterKey,
    keys: impl IntoIterator<Item = Key>,
) -> Result<HashMap<Key, Result<Arc<AppView>, Refusal>>, StoreError> {
    let recalled: Vec<(Key, Option<Arc<AppView>>)> =
        keys.into_iter().map(|key| (key.clone(), directory.recall(&key))).collect();
    let mut ids: Vec<AppId> = recalled.iter().filter_map(|(_, view)| view.as_ref().map(|view| view.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let versions = versions(tx, &ids).await?;
    let mut resolved = HashMap::with_capacity(recalled.len());
    for (key, view) in recalled {
        let current =
            view.filter(|view| versions.get(&view.id) == Some(&view.version) && view.is(key.0.as_ref(), &key.1));
        let found = match current {
            Some(view) => Ok(view),
            None => look_up(tx, directory, master, &key).await?,
        };
        resolved.insert(key, found);
    }
    Ok(resolved)
}

async fn versions(tx: &mut Tx, ids: &[AppId]) -> Result<HashMap<AppId, i64>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(AppId, i64)> = match tx {
        Tx::Sqlite(tx) => {
            sqlx::query_as(
                "SELECT id, version FROM application
                 WHERE id IN (SELECT unhex(value) FROM json_each($1)) AND deleted_at IS NULL",
            )
            .bind(sqlite::id_list(codec::uuids(ids)))
            .fetch_all(&mut **tx)
            .await?
        }
        Tx::Postgres(tx) => {
            sqlx::query_as("SELECT id, version FROM application WHERE id = ANY($1) AND deleted_at IS NULL")
                .bind(codec::uuids(ids))
                .fetch_all(&mut **tx)
                .await?
        }
    };
    Ok(rows.into_iter().collect())
}

#[derive(sqlx::FromRow)]
struct AppRow {
    id: AppId,
    org: OrgId,
    uid: Option<Uid>,
    throttle_rate: Option<i32>,
    version: i64,
}

async fn look_up(
    tx: &mut Tx,
    directory: &Directory,
    master: &MasterKey,
    (tenant, app): &Key,
) -> Result<Result<Arc<AppView>, Refusal>, StoreError> {
    const BY_ID: &str =
        "SELECT id, org, uid, throttle_rate, version FROM application WHERE id = $1 AND deleted_at IS NULL";
    // Two rows are enough to know that a uid alone does not say which application is meant.
    const BY_UID: &str =
        "SELECT id, org, uid, throttle_rate, version FROM application WHERE uid = $1 AND deleted_at IS NULL";
    let rows: Vec<AppRow> = match app {
        AppRef::Id(id) => on!(tx, db => sqlx::query_as(BY_ID).bind(id).fetch_all(db).await)?,
        AppRef::Uid(uid) => on!(tx, db => sqlx::query_as(BY_UID).bind(uid).fetch_all(db).await)?,
    };
    let mut mine = rows.into_iter().filter(|row| match tenant {
        Some(tenant) => tenant.org == row.org && tenant.sees(row.id),
        None => true,
    });
    let Some(row) = mine.next() else { return Ok(Err(Refusal::UnknownApplication(app.to_string()))) };
    if mine.next().is_some() {
        return Ok(Err(Refusal::AmbiguousApplication(app.to_string())));
    }
    let view = Arc::new(load(tx, master, row).await?);
    directory.remember(&view);
    Ok(Ok(view))
}

async fn load(tx: &mut Tx, master: &MasterKey, app: AppRow) -> Result<AppView, StoreError> {
    let sql = format!("SELECT {} FROM endpoint WHERE app_id = $1 AND deleted_at IS NULL ORDER BY id", codec::ENDPOINT);
    let rows: Vec<EndpointRow> =
        on!(tx, db => sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(app.id).fetch_all(db).await)?;
    let secrets = secrets_of(tx, master, app.id).await?;
    let throttle = app.throttle_rate.and_then(|rate| u16::try_from(rate).ok());
    let mut endpoints = Vec::with_capacity(rows.len());
    for row in rows {
        let endpoint = row.endpoint(master)?;
        let keys = secrets.get(&endpoint.id).map(Vec::as_slice).unwrap_or_default();
        endpoints.push(Arc::new(live(&app, endpoint, throttle, keys)?));
    }
    Ok(AppView { id: app.id, org: app.org, uid: app.uid, version: app.version, endpoints })
}

/// A secret and when it stops signing; `None` is the current one.
pub(super) type Keyed = (Secret, Option<Time>);

fn live(
    app: &AppRow,
    endpoint: Endpoint,
    app_throttle: Option<u16>,
    secrets: &[Keyed],
) -> Result<LiveEndpoint, StoreError> {
    let current = secrets.iter().find(|(_, expires)| expires.is_none());
    let Some((current, _)) = current else {
        return Err(StoreError::Damaged(format!("endpoint {} has no secret", endpoint.id)));
    };
    let graced = secrets.iter().filter_map(|(secret, expires)| expires.map(|expires| (secret, expires)));
    let signing = Signing::new(current, graced, &endpoint.spec.extra_signatures);
    let url = Url::parse(&endpoint.spec.url).ok();
    Ok(LiveEndpoint { org: app.org.clone(), version: app.version, endpoint, app_throttle, url, signing })
}

/// The secrets of all endpoints of `app`, newest first.
async fn secrets_of(
    tx: &mut Tx,
    master: &MasterKey,
    app: AppId,
) -> Result<HashMap<EndpointId, Vec<Keyed>>, StoreError> {
    const SQL: &str = "SELECT s.endpoint_id, s.sealed, s.expires_at FROM endpoint_secret s
         JOIN endpoint e ON e.id = s.endpoint_id
         WHERE e.app_id = $1 AND e.deleted_at IS NULL ORDER BY s.made_at DESC";
    let rows: Vec<(EndpointId, Vec<u8>, Option<Time>)> =
        on!(tx, db => sqlx::query_as(SQL).bind(app).fetch_all(db).await)?;
    let mut secrets: HashMap<EndpointId, Vec<Keyed>> = HashMap::new();
    for (endpoint, sealed, expires) in rows {
        secrets.entry(endpoint).or_default().push((open_secret(master, endpoint, &sealed)?, expires));
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
    /// The store is away, or a row of it cannot be read.
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
