//! Endpoints with everything that sending to them needs: those of which this process remembers the present
//! version are taken from the [`RoutingCache`], and only the others are read and their secrets opened, [`CHUNK`] at a time.
//!
//! `endpoint.version` is the version that its application got with the last change of the endpoint, its headers or its secrets. What was
//! read at that version of the application, or a later one, has that change in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use url::Url;
use uuid::Uuid;

use crate::domain::endpoint::Endpoint;
use crate::domain::secret::{MasterKey, Secret};
use crate::domain::signature::Signing;
use crate::domain::{AppId, EndpointId, Invalid, Time};
use crate::store::db::codec::{self, EndpointRow};
use crate::store::db::sqlite;
use crate::store::ingest::routing::{AppRow, LiveEndpoint, apps};
use crate::store::ingest::routing_cache::{PARTIAL, RoutingCache};
use crate::store::{AppRef, Store, StoreError, Tx};

/// How many endpoints one statement reads (a few KiB each, with their secrets).
const CHUNK: usize = 1_000;

/// What the attempts of an endpoint say that cannot be read. Customers see it; the reason is for the operator, in the log.
const UNREADABLE: &str =
    "this endpoint's signing secret or headers cannot be read, so nothing was sent: the reason is in the server's log";

/// An endpoint, and the version of its application when it last changed.
#[derive(sqlx::FromRow)]
pub(in crate::store) struct Listed {
    pub(in crate::store) id: EndpointId,
    pub(in crate::store) app_id: AppId,
    version: i64,
    pub(in crate::store) deleted: bool,
}

/// What [`load`] found.
#[derive(Default)]
pub(in crate::store) struct Loaded {
    /// By id.
    pub(in crate::store) all: Vec<Arc<LiveEndpoint>>,
    /// Those of them that were not remembered.
    fresh: Vec<Arc<LiveEndpoint>>,
}

const LISTED: &str = "SELECT id, app_id, version, FALSE AS deleted FROM endpoint WHERE deleted_at IS NULL AND";

/// The endpoints of these applications, by id.
pub(in crate::store) async fn of_apps(tx: &mut Tx, apps: Vec<Uuid>) -> Result<Vec<Listed>, StoreError> {
    among(tx, &format!("{LISTED} app_id"), apps, "ORDER BY id").await
}

/// The endpoints of these applications that changed since a version, deleted ones too; at most `limit`.
pub(in crate::store) async fn changed_since(
    tx: &mut Tx,
    since: &[(AppId, i64)],
    limit: i64,
) -> Result<Vec<Listed>, StoreError> {
    if since.is_empty() {
        return Ok(Vec::new());
    }
    Ok(match tx {
        Tx::Sqlite(tx) => {
            // The cross join keeps SQLite from reading every endpoint for each application.
            const SQL: &str = "SELECT e.id, e.app_id, e.version, e.deleted_at IS NOT NULL AS deleted
                 FROM json_each($1) k CROSS JOIN endpoint e
                 WHERE e.app_id = unhex(k.value ->> 0) AND e.version > k.value ->> 1 LIMIT $2";
            let since: Vec<_> = since.iter().map(|(app, version)| (app.0.simple().to_string(), version)).collect();
            sqlx::query_as(SQL).bind(codec::json(&since)?).bind(limit).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            const SQL: &str = "SELECT e.id, e.app_id, e.version, e.deleted
                 FROM UNNEST($1::uuid[], $2::bigint[]) AS k (app, version)
                 CROSS JOIN LATERAL (SELECT id, app_id, endpoint.version, deleted_at IS NOT NULL AS deleted FROM endpoint
                     WHERE app_id = k.app AND endpoint.version > k.version LIMIT $3) AS e LIMIT $3";
            let (apps, versions): (Vec<Uuid>, Vec<i64>) = since.iter().map(|(app, version)| (app.0, *version)).unzip();
            sqlx::query_as(SQL).bind(apps).bind(versions).bind(limit).fetch_all(&mut **tx).await?
        }
    })
}

/// Everything that sending to the `listed` endpoints of `apps` needs. The applications were read before their endpoints: a change in
/// between makes what is read older than it is, never newer.
pub(in crate::store) async fn load(
    tx: &mut Tx,
    directory: &RoutingCache,
    master: &MasterKey,
    apps: &HashMap<AppId, &AppRow>,
    listed: &[Listed],
) -> Result<Loaded, StoreError> {
    let known: HashMap<AppId, _> = apps.keys().filter_map(|id| Some((*id, directory.recall_any(*id)?))).collect();
    let mut found: BTreeMap<EndpointId, Arc<LiveEndpoint>> = BTreeMap::new();
    let mut lacking: Vec<Uuid> = Vec::new();
    for one in listed {
        let Some(app) = apps.get(&one.app_id) else { continue };
        let present =
            |live: &&Arc<LiveEndpoint>| live.version >= one.version && live.agrees_with(app) && live.signing.is_ok();
        match known.get(&one.app_id).and_then(|view| view.endpoint(one.id)).filter(present) {
            Some(live) => drop(found.insert(one.id, live.clone())),
            None => lacking.push(one.id.0),
        }
    }
    let mut fresh = Vec::with_capacity(lacking.len());
    for chunk in lacking.chunks(CHUNK) {
        fresh.extend(read(tx, master, apps, chunk).await?);
    }
    found.extend(fresh.iter().map(|live| (live.endpoint.id, live.clone())));
    Ok(Loaded { all: found.into_values().collect(), fresh })
}

/// Reads these endpoints and opens their secrets.
async fn read(
    tx: &mut Tx,
    master: &MasterKey,
    apps: &HashMap<AppId, &AppRow>,
    ids: &[Uuid],
) -> Result<Vec<Arc<LiveEndpoint>>, StoreError> {
    const COLUMNS: &str = codec::ENDPOINT;
    const SECRETS: &str = "SELECT endpoint_id, made_at, sealed, expires_at FROM endpoint_secret WHERE endpoint_id";
    let rows: Vec<EndpointRow> =
        among(tx, &format!("SELECT {COLUMNS} FROM endpoint WHERE deleted_at IS NULL AND id"), ids.to_vec(), "").await?;
    let sealed: Vec<(EndpointId, Time, Vec<u8>, Option<Time>)> =
        among(tx, SECRETS, ids.to_vec(), "ORDER BY made_at DESC").await?;
    let mut secrets: HashMap<EndpointId, Vec<Keyed>> = HashMap::new();
    for (endpoint, made_at, sealed, expires) in sealed {
        secrets.entry(endpoint).or_default().push((open_secret(master, endpoint, made_at, &sealed), expires));
    }
    let live = |row: EndpointRow| {
        let slot = row.slot();
        let (endpoint, fault) = row.read(master);
        let app = apps.get(&endpoint.app_id)?;
        let keys = secrets.remove(&endpoint.id).unwrap_or_default();
        Some(Arc::new(live(app, endpoint, slot, fault, keys)))
    };
    Ok(rows.into_iter().filter_map(live).collect())
}

/// The rows of `sql`, which ends with a column, where that is one of `ids`.
async fn among<T>(tx: &mut Tx, sql: &str, ids: Vec<Uuid>, order: &str) -> Result<Vec<T>, StoreError>
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
        app_throttle: app.throttle(),
        app_slots: app.slots(),
        url: Url::parse(&endpoint.spec.url).ok(),
        endpoint,
        signing,
    }
}

/// Opens a sealed secret of `endpoint`, which it got at `made_at`.
pub(in crate::store) fn open_secret(
    master: &MasterKey,
    endpoint: EndpointId,
    made_at: Time,
    sealed: &[u8],
) -> Result<Secret, StoreError> {
    let plain = master.open(&codec::secret_row(endpoint, made_at), sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| StoreError::Damaged("a secret is no text".into()))?;
    Secret::parse("secret", text).map_err(|Invalid { reason, .. }| StoreError::Damaged(format!("a secret {reason}")))
}

impl Store {
    /// Everything that sending to `endpoints` needs, as it is now; deleted ones are left out. Of their applications no other endpoints are
    /// read.
    ///
    /// # Errors
    /// The store is away.
    pub async fn live_endpoints(&self, endpoints: &[EndpointId]) -> Result<Vec<Arc<LiveEndpoint>>, StoreError> {
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let ids = codec::uuids(endpoints);
        let (directory, master) = (&self.inner.directory, &self.inner.master);
        let mut tx = self.inner.snapshot().await?;
        let named: Vec<(AppId,)> =
            among(&mut tx, "SELECT DISTINCT app_id FROM endpoint WHERE id", ids.clone(), "").await?;
        let keys: Vec<_> = named.into_iter().map(|(app,)| (None, AppRef::Id(app))).collect();
        let found = apps(&mut tx, &keys).await?;
        let by_id: HashMap<AppId, &AppRow> = found.by_id.iter().map(|(id, row)| (*id, row)).collect();
        let listed: Vec<Listed> = among(&mut tx, &format!("{LISTED} id"), ids, "").await?;
        let loaded = load(&mut tx, directory, master, &by_id, &listed).await?;
        remember(directory, &by_id, loaded.fresh);
        Ok(loaded.all)
    }
}

/// Adds `fresh` to what is remembered of their applications. A view keeps its version, which is older than that of `fresh`; where nothing was
/// remembered, `fresh` are not all endpoints, so nothing is accepted by it.
fn remember(directory: &RoutingCache, apps: &HashMap<AppId, &AppRow>, fresh: Vec<Arc<LiveEndpoint>>) {
    let mut by_app: HashMap<AppId, BTreeMap<EndpointId, Arc<LiveEndpoint>>> = HashMap::new();
    for live in fresh {
        by_app.entry(live.endpoint.app_id).or_default().insert(live.endpoint.id, live);
    }
    for (id, mut endpoints) in by_app {
        let Some(app) = apps.get(&id) else { continue };
        let known = directory.recall_any(id);
        for live in known.iter().flat_map(|view| &view.endpoints) {
            let newest = endpoints.entry(live.endpoint.id).or_insert_with(|| live.clone());
            if newest.version < live.version {
                *newest = live.clone();
            }
        }
        let version = known.map_or(PARTIAL, |view| view.version);
        directory.remember(&Arc::new(app.view(version, endpoints.into_values().collect())));
    }
}
