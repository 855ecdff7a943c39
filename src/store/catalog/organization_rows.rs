//! Organizations: their names and defaults. Every process caches the values that it needs at each event or page for up
//! to [`FRESH`]; the process that changes one reads them again at once. Themes are not cached. The cache holds at most
//! [`CACHE_BYTES`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::domain::access::audit::action;
use crate::domain::catalog::organization_spec::{Organization, OrganizationSpec};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::{OrgId, Time, limits};
use crate::store::access::audit::NewAuditEntry;
use crate::store::db::codec::{self, from_row};
use crate::store::db::store_error::is_taken;
use crate::store::{Inner, Store, StoreError, on, read};

/// Other processes notice a change within this time.
const FRESH: Duration = Duration::from_secs(3);
/// Concurrent requests may create a few more organizations than the limit; these are read too.
const SPARE: usize = 100;
/// The most bytes of an entry: an id of 64, a name of 256 characters, a schedule of 20 waits, and the fixed part.
const ENTRY_BYTES: usize = 64 + 4 * limits::NAME + 16 * limits::RETRIES + 256;
/// The most bytes of the cache.
const CACHE_BYTES: usize = 20 * 1024 * 1024;
const _: () = assert!((limits::ORGANIZATIONS + SPARE) * ENTRY_BYTES <= CACHE_BYTES);

/// The cached values of an organization. `None`: as in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationDefault {
    pub name: String,
    pub payload_retention: Option<Duration>,
    pub retry_schedule: Option<RetrySchedule>,
    pub max_endpoints: Option<u32>,
    pub public_catalog: bool,
}

type Specs = HashMap<OrgId, Arc<OrganizationDefault>>;

/// The result of writing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrganizationWrite {
    Written,
    /// It was changed or created meanwhile.
    Stale,
    /// There are [`limits::ORGANIZATIONS`].
    TooMany,
}

/// The cached rows. Clones share them.
#[derive(Clone, Default)]
pub struct OrganizationDefaults {
    specs: Arc<RwLock<Arc<Specs>>>,
    read_at: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for OrganizationDefaults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OrganizationDefaults").finish_non_exhaustive()
    }
}

impl OrganizationDefaults {
    /// The organization's values as last read; `None`: it has no row.
    pub fn of(&self, org: &OrgId) -> Option<Arc<OrganizationDefault>> {
        self.specs.read().unwrap_or_else(PoisonError::into_inner).get(org).cloned()
    }

    /// Whether the caller should read the rows again: `true` once per [`FRESH`].
    fn is_due(&self, now: Instant) -> bool {
        let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) >= FRESH);
        if due {
            *read_at = Some(now);
        }
        due
    }

    fn put(&self, specs: Specs) {
        *self.specs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(specs);
    }
}

from_row! {
    struct Row {
        id: OrgId,
        name: String,
        theme: Option<String>,
        payload_retention_s: Option<i64>,
        retry_schedule: Option<String>,
        max_endpoints: Option<i32>,
        public_catalog: bool,
        created_at: Time,
        updated_at: Time,
    }
}

const COLUMNS: &str = Row::COLUMNS;

from_row! {
    struct DefaultRow {
        id: OrgId,
        name: String,
        payload_retention_s: Option<i64>,
        retry_schedule: Option<String>,
        max_endpoints: Option<i32>,
        public_catalog: bool,
    }
}

fn retention(seconds: Option<i64>) -> Option<Duration> {
    seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

fn count(most: Option<i32>) -> Option<u32> {
    most.and_then(|most| u32::try_from(most).ok())
}

impl DefaultRow {
    fn entry(self) -> Result<(OrgId, Arc<OrganizationDefault>), StoreError> {
        let cached = OrganizationDefault {
            name: self.name,
            payload_retention: retention(self.payload_retention_s),
            retry_schedule: codec::read_schedule(self.retry_schedule.as_deref())?,
            max_endpoints: count(self.max_endpoints),
            public_catalog: self.public_catalog,
        };
        Ok((self.id, Arc::new(cached)))
    }
}

impl Row {
    fn organization(self) -> Result<Organization, StoreError> {
        let spec = OrganizationSpec {
            name: self.name,
            theme: codec::from_json_opt(self.theme.as_deref())?,
            payload_retention: retention(self.payload_retention_s),
            retry_schedule: codec::read_schedule(self.retry_schedule.as_deref())?,
            max_endpoints: count(self.max_endpoints),
            public_catalog: self.public_catalog,
        };
        Ok(Organization { id: self.id, spec, created_at: self.created_at, updated_at: self.updated_at })
    }
}

impl Inner {
    /// Reads the rows again if they are older than [`FRESH`]. After an error the cached values stay.
    pub(in crate::store) async fn refresh_organizations(&self) {
        if !self.organizations.is_due(Instant::now()) {
            return;
        }
        match self.read_organizations().await {
            Ok(specs) => self.organizations.put(specs),
            Err(error) => {
                tracing::warn!(%error, "the organizations' settings could not be read; the last ones are used")
            }
        }
    }

    async fn read_organizations(&self) -> Result<Specs, StoreError> {
        const SQL: &str = "SELECT id, name, payload_retention_s, retry_schedule, max_endpoints, public_catalog
             FROM organization ORDER BY id LIMIT $1";
        let most = (limits::ORGANIZATIONS + SPARE) as i64;
        let mut tx = self.snapshot().await?;
        let rows: Vec<DefaultRow> = on!(tx, db => sqlx::query_as(SQL).bind(most).fetch_all(db).await)?;
        rows.into_iter().map(DefaultRow::entry).collect()
    }
}

impl Inner {
    /// The organization's own retention of payloads.
    pub(in crate::store) fn payload_retention(&self, org: &OrgId) -> Option<Duration> {
        self.organizations.of(org)?.payload_retention
    }
}

impl Store {
    /// The cached defaults of all organizations.
    pub fn organization_defaults(&self) -> OrganizationDefaults {
        self.inner.organizations.clone()
    }

    /// Reads the cached defaults again if they are older than 3 s. Call about once a second.
    pub async fn refresh_organizations(&self) {
        self.inner.refresh_organizations().await;
    }

    /// The organization's row.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn organization(&self, id: &OrgId) -> Result<Option<Organization>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM organization WHERE id = $1"));
        let row: Option<Row> = read!(self, db => sqlx::query_as(sql).bind(id).fetch_optional(db).await)?;
        row.map(Row::organization).transpose()
    }

    /// Creates a row, or changes the one that was last changed at `seen`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_organization(
        &self,
        id: &OrgId,
        spec: &OrganizationSpec,
        seen: Option<Time>,
        now: Time,
    ) -> Result<OrganizationWrite, StoreError> {
        let theme = spec.theme.as_ref().map(codec::json).transpose()?;
        let retention = spec.payload_retention.and_then(|span| i64::try_from(span.as_secs()).ok());
        let schedule = codec::schedule(spec.retry_schedule.as_ref())?;
        let most = spec.max_endpoints.and_then(|most| i32::try_from(most).ok());
        let written = self
            .retry_conflicts(|| async {
                const INSERT: &str = "INSERT INTO organization (id, name, theme, payload_retention_s, retry_schedule,
                         max_endpoints, created_at, updated_at, public_catalog) VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8)";
                const UPDATE: &str = "UPDATE organization SET name = $2, theme = $3, payload_retention_s = $4,
                         retry_schedule = $5, max_endpoints = $6, updated_at = $7, public_catalog = $8
                     WHERE id = $1 AND updated_at = $9";
                const COUNT: &str = "SELECT count(*) FROM organization";
                let mut tx = self.begin().await?;
                if seen.is_none() {
                    let found: i64 = on!(tx, db => sqlx::query_scalar(COUNT).fetch_one(db).await)?;
                    if found >= limits::ORGANIZATIONS as i64 {
                        return Ok(OrganizationWrite::TooMany);
                    }
                }
                let done = on!(tx, db => {
                    let query = sqlx::query(if seen.is_some() { UPDATE } else { INSERT })
                        .bind(id).bind(&spec.name).bind(&theme).bind(retention).bind(&schedule).bind(most).bind(now)
                        .bind(spec.public_catalog);
                    let query = match seen {
                        Some(seen) => query.bind(seen),
                        None => query,
                    };
                    query.execute(db).await.map(|done| done.rows_affected())
                });
                match done {
                    Err(error) if is_taken(&error) => return Ok(OrganizationWrite::Stale),
                    done => {
                        if done? == 0 {
                            return Ok(OrganizationWrite::Stale);
                        }
                    }
                }
                let act = if seen.is_some() { action::ORGANIZATION_CHANGED } else { action::ORGANIZATION_CREATED };
                self.audit(&mut tx, NewAuditEntry::of(id, act, id.as_str()).with(&spec.name), now).await?;
                tx.commit().await?;
                Ok(OrganizationWrite::Written)
            })
            .await?;
        self.inner.organizations.put(self.inner.read_organizations().await?);
        Ok(written)
    }
}
