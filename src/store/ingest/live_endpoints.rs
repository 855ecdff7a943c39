//! Loading [`LiveEndpoint`]s. Endpoints whose current version is in the [`RoutingCache`] come from there; only the
//! others are read and their secrets decrypted, [`CHUNK`] at a time.
//!
//! `endpoint.version` is the application's version at the last change of the endpoint, its headers or its secrets. An
//! endpoint that was read at that version or a later one is current.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use url::Url;
use uuid::Uuid;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::signing::master_key::MasterKey;
use crate::domain::signing::secret::Secret;
use crate::domain::signing::signature::Signing;
use crate::domain::{AppId, EndpointId, Invalid, Time};
use crate::store::db::codec::from_row;
use crate::store::db::codec::{self, EndpointRow};
use crate::store::db::sqlite;
use crate::store::ingest::message_routing::{AppRow, LiveEndpoint, apps};
use crate::store::ingest::routing_cache::{PARTIAL, RoutingCache};
use crate::store::{AppRef, Store, StoreError, Tx};

/// Endpoints per statement (a few KiB each, with their secrets).
const CHUNK: usize = 1_000;

/// The detail of attempts to an unreadable endpoint. Customers see it; the log has the reason for the operator.
const UNREADABLE: &str =
    "nothing was sent: this endpoint's signing secret or headers cannot be read; see the server's log for the reason";

from_row! {
    /// An endpoint and the version of its application at its last change.
    pub(in crate::store) struct EndpointVersion {
        pub(in crate::store) id: EndpointId,
        pub(in crate::store) app_id: AppId,
        version: i64,
        pub(in crate::store) deleted: bool,
    }
}

/// The result of [`load`].
#[derive(Default)]
pub(in crate::store) struct LoadedEndpoints {
    /// Sorted by id.
    pub(in crate::store) all: Vec<Arc<LiveEndpoint>>,
    /// The subset that was not cached.
    fresh: Vec<Arc<LiveEndpoint>>,
}

const LISTED: &str = "SELECT id, app_id, version, FALSE AS deleted FROM endpoint WHERE deleted_at IS NULL AND";

/// The endpoints of these applications, sorted by id.
pub(in crate::store) async fn of_apps(tx: &mut Tx, apps: Vec<Uuid>) -> Result<Vec<EndpointVersion>, StoreError> {
    select_among(tx, &format!("{LISTED} app_id"), apps, "ORDER BY id").await
}

/// The endpoints that changed since the given version of their application, including deleted ones; at most `limit`.
pub(in crate::store) async fn changed_since(
    tx: &mut Tx,
    since: &[(AppId, i64)],
    limit: i64,
) -> Result<Vec<EndpointVersion>, StoreError> {
    if since.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match tx {
        Tx::Sqlite(tx) => {
            // CROSS JOIN fixes the join order: otherwise SQLite may read every endpoint for each application.
            const SQL: &str = "SELECT e.id, e.app_id, e.version, e.deleted_at IS NOT NULL AS deleted
                 FROM json_each($1) k CROSS JOIN endpoint e
                 WHERE e.app_id = unhex(k.value ->> 0) AND e.version > k.value ->> 1 LIMIT $2";
            let since: Vec<_> = since.iter().map(|(app, version)| (app.0.simple().to_string(), version)).collect();
            sqlx::query_as(SQL).bind(codec::json(&since)?).bind(limit).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "SELECT e.id, e.app_id, e.version, e.deleted
                 FROM UNNEST($1::uuid[], $2::bigint[]) AS k (app, version)
                 CROSS JOIN LATERAL (SELECT id, app_id, endpoint.version, deleted_at IS NOT NULL AS deleted
                     FROM endpoint
                     WHERE app_id = k.app AND endpoint.version > k.version LIMIT $3) AS e LIMIT $3";
            let (apps, versions): (Vec<Uuid>, Vec<i64>) = since.iter().map(|(app, version)| (app.0, *version)).unzip();
            sqlx::query_as(SQL).bind(apps).bind(versions).bind(limit).fetch_all(&mut **tx).await?
        }
    })
}

/// Loads the `listed` endpoints of `apps`. The applications must have been read before: a concurrent change can then
/// only make an endpoint look older than it is, never newer.
pub(in crate::store) async fn load(
    tx: &mut Tx,
    cache: &RoutingCache,
    master: &MasterKey,
    apps: &HashMap<AppId, &AppRow>,
    listed: &[EndpointVersion],
) -> Result<LoadedEndpoints, StoreError> {
    let cached: HashMap<AppId, _> = apps.keys().filter_map(|id| Some((*id, cache.get_any_version(*id)?))).collect();
    let mut found: BTreeMap<EndpointId, Arc<LiveEndpoint>> = BTreeMap::new();
    let mut missing: Vec<Uuid> = Vec::new();
    for one in listed {
        let Some(app) = apps.get(&one.app_id) else { continue };
        let present =
            |live: &&Arc<LiveEndpoint>| live.version >= one.version && live.agrees_with(app) && live.signing.is_ok();
        match cached.get(&one.app_id).and_then(|view| view.endpoint(one.id)).filter(present) {
            Some(live) => drop(found.insert(one.id, live.clone())),
            None => missing.push(one.id.0),
        }
    }
    let mut fresh = Vec::with_capacity(missing.len());
    for chunk in missing.chunks(CHUNK) {
        fresh.extend(read(tx, master, apps, chunk).await?);
    }
    found.extend(fresh.iter().map(|live| (live.endpoint.id, live.clone())));
    Ok(LoadedEndpoints { all: found.into_values().collect(), fresh })
}

/// Reads these endpoints and decrypts their secrets.
async fn read(
    tx: &mut Tx,
    master: &MasterKey,
    apps: &HashMap<AppId, &AppRow>,
    ids: &[Uuid],
) -> Result<Vec<Arc<LiveEndpoint>>, StoreError> {
    const COLUMNS: &str = codec::ENDPOINT;
    const SECRETS: &str = "SELECT endpoint_id, made_at, sealed, expires_at FROM endpoint_secret WHERE endpoint_id";
    let rows: Vec<EndpointRow> =
        select_among(tx, &format!("SELECT {COLUMNS} FROM endpoint WHERE deleted_at IS NULL AND id"), ids.to_vec(), "")
            .await?;
    let sealed: Vec<(EndpointId, Time, Vec<u8>, Option<Time>)> =
        select_among(tx, SECRETS, ids.to_vec(), "ORDER BY made_at DESC").await?;
    let mut secrets: HashMap<EndpointId, Vec<OpenedSecret>> = HashMap::new();
    for (endpoint, made_at, sealed, expires) in sealed {
        secrets.entry(endpoint).or_default().push((open_secret(master, endpoint, made_at, &sealed), expires));
    }
    let live = |row: EndpointRow| {
        let slot = row.slot();
        let (endpoint, fault) = row.read(master);
        let app = apps.get(&endpoint.app_id)?;
        let keys = secrets.remove(&endpoint.id).unwrap_or_default();
        Some(Arc::new(live_endpoint(app, endpoint, slot, fault, keys)))
    };
    Ok(rows.into_iter().filter_map(live).collect())
}

/// Completes `sql`, which ends with a column name, by the condition that the column is one of `ids`.
async fn select_among<T>(tx: &mut Tx, sql: &str, ids: Vec<Uuid>, order: &str) -> Result<Vec<T>, StoreError>
where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
{
    Ok(match tx {
        Tx::Sqlite(tx) => {
            let sql = sqlx::AssertSqlSafe(format!("{sql} IN (SELECT unhex(value) FROM json_each($1)) {order}"));
            sqlx::query_as(sql).bind(sqlite::id_list(ids)).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            let sql = sqlx::AssertSqlSafe(format!("{sql} = ANY($1) {order}"));
            sqlx::query_as(sql).bind(ids).fetch_all(&mut **tx).await?
        }
    })
}

/// A secret or its read error, and when its grace period ends; `None` for the current secret.
type OpenedSecret = (Result<Secret, StoreError>, Option<Time>);

/// `secrets` are sorted newest first. Unreadable secrets in their grace period are ignored: the current one still
/// signs.
fn live_endpoint(
    app: &AppRow,
    endpoint: Endpoint,
    slot: u8,
    fault: Option<StoreError>,
    secrets: Vec<OpenedSecret>,
) -> LiveEndpoint {
    let missing = || StoreError::Damaged("the endpoint has no secret".into());
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
        tracing::error!(endpoint = %endpoint.id, %error, "cannot send: unreadable secret or headers");
        UNREADABLE
    });
    LiveEndpoint {
        org: app.org.clone(),
        version: app.version,
        slot,
        app_rate: app.rate(),
        url: Url::parse(endpoint.spec.request_url()).ok(),
        endpoint,
        signing,
    }
}

/// Decrypts a secret of `endpoint` that was created at `made_at`.
pub(in crate::store) fn open_secret(
    master: &MasterKey,
    endpoint: EndpointId,
    made_at: Time,
    sealed: &[u8],
) -> Result<Secret, StoreError> {
    let plain = master.open(&codec::secret_aad(endpoint, made_at), sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| StoreError::Damaged("a secret is not UTF-8".into()))?;
    Secret::parse("secret", text).map_err(|Invalid { reason, .. }| StoreError::Damaged(format!("a secret {reason}")))
}

impl Store {
    /// Loads the current `endpoints`, without deleted ones. No other endpoints of their applications are read.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn live_endpoints(&self, endpoints: &[EndpointId]) -> Result<Vec<Arc<LiveEndpoint>>, StoreError> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let ids = codec::uuids(endpoints);
        let (cache, master) = (&self.inner.routing_cache, &self.inner.master);
        let mut tx = self.inner.snapshot().await?;
        let named: Vec<(AppId,)> =
            select_among(&mut tx, "SELECT DISTINCT app_id FROM endpoint WHERE id", ids.clone(), "").await?;
        let keys: Vec<_> = named.into_iter().map(|(app,)| (None, AppRef::Id(app))).collect();
        let found = apps(&mut tx, &keys).await?;
        let by_id: HashMap<AppId, &AppRow> = found.by_id.iter().map(|(id, row)| (*id, row)).collect();
        let listed: Vec<EndpointVersion> = select_among(&mut tx, &format!("{LISTED} id"), ids, "").await?;
        let loaded = load(&mut tx, cache, master, &by_id, &listed).await?;
        cache_fresh(cache, &by_id, loaded.fresh);
        Ok(loaded.all)
    }
}

/// Adds `fresh` to the cached views of their applications. A view keeps its version, which is older than that of
/// `fresh`. A view that is new here is [`PARTIAL`], so no message is routed by it.
fn cache_fresh(cache: &RoutingCache, apps: &HashMap<AppId, &AppRow>, fresh: Vec<Arc<LiveEndpoint>>) {
    let mut by_app: HashMap<AppId, BTreeMap<EndpointId, Arc<LiveEndpoint>>> = HashMap::new();
    for live in fresh {
        by_app.entry(live.endpoint.app_id).or_default().insert(live.endpoint.id, live);
    }
    for (id, mut endpoints) in by_app {
        let Some(app) = apps.get(&id) else { continue };
        let cached = cache.get_any_version(id);
        for live in cached.iter().flat_map(|view| &view.endpoints) {
            let newest = endpoints.entry(live.endpoint.id).or_insert_with(|| live.clone());
            if newest.version < live.version {
                *newest = live.clone();
            }
        }
        let version = cached.map_or(PARTIAL, |view| view.version);
        cache.insert(&Arc::new(app.view(version, endpoints.into_values().collect())));
    }
}
