//! Endpoints as lists show them: with their applications, since when they fail or are disabled, what waits for them and what failed
//! last.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::QueryBuilder;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::db::codec::{ENDPOINT, EndpointRow};
use crate::store::query::page::{SCAN, read_within};
use crate::store::{PageRequest, Scanned, Store, StoreError, Tenant, read};

/// How many rows one statement reads: between two of them, others get the connection.
const CHUNK: usize = 500;
/// Among how many of an endpoint's newest attempts its last failure is looked for.
const LOOKED_AT: i64 = 10_000;

/// An endpoint of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointLine {
    pub endpoint: Endpoint,
    pub app_name: String,
    /// Since when it is disabled.
    pub disabled_at: Option<Time>,
    /// Since when it has done nothing but fail.
    pub failing_since: Option<Time>,
    /// When that was warned of last.
    pub warned_at: Option<Time>,
    /// Until when its circuit breaker held back what waits, as of its last attempt.
    pub rests_until: Option<Time>,
}

/// An endpoint that cannot be reached, or asked for a pause: most of what waits for it is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is sent before then; then one attempt, the probe.
    Until(Time),
    /// The probe is on its way, or about to be.
    Probing,
}

impl Rest {
    /// How long a probe may take, and its record: longer than the longest timeout of an attempt.
    const PROBE: Duration = Duration::from_secs(45);

    /// At `now`, by what the last attempt left behind. The engine forgets a rest when it is restarted; then the next attempt does.
    fn of(rests_until: Option<Time>, now: Time) -> Option<Rest> {
        match rests_until? {
            until if until > now => Some(Rest::Until(until)),
            until if until.plus(Rest::PROBE) > now => Some(Rest::Probing),
            _ => None,
        }
    }
}

/// An endpoint that rests, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestingEndpoint {
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub app_name: String,
    pub url: String,
    pub rest: Rest,
}

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Enabled,
    /// Enabled, but it has done nothing but fail lately.
    Failing,
    Disabled,
}

/// Which endpoints are meant; `None` means all.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    pub app: Option<AppId>,
    pub health: Option<Health>,
    /// What is in its URL, in any case of its letters.
    pub url: Option<String>,
}

/// The last failure of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct LastFailure {
    pub id: AttemptId,
    pub message_id: MessageId,
    pub at: Time,
    pub detail: String,
    pub status: Option<i32>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    endpoint: EndpointRow,
    app_name: String,
    disabled_at: Option<Time>,
    failing_since: Option<Time>,
    warned_at: Option<Time>,
    rests_until: Option<Time>,
}

impl EndpointLine {
    /// Whether it rests.
    pub fn rest(&self, now: Time) -> Option<Rest> {
        let failing = self.failing_since.is_some() && !self.endpoint.spec.disabled;
        Rest::of(self.rests_until.filter(|_| failing), now)
    }

    pub fn health(&self) -> Health {
        match (self.endpoint.spec.disabled, self.failing_since) {
            (true, _) => Health::Disabled,
            (false, Some(_)) => Health::Failing,
            (false, None) => Health::Enabled,
        }
    }
}

impl LineFilter {
    /// The part of it that the statement answers.
    fn sql(&self) -> &'static str {
        match self.health {
            None => "",
            Some(Health::Disabled) => " AND e.disabled",
            Some(Health::Failing) => " AND NOT e.disabled AND e.failing_since IS NOT NULL",
            Some(Health::Enabled) => " AND NOT e.disabled AND e.failing_since IS NULL",
        }
    }

    /// The part that is answered here, alike on both stores whatever the letters.
    fn fits(&self, row: &Row) -> bool {
        self.url.as_ref().is_none_or(|part| row.endpoint.url.to_lowercase().contains(&part.to_lowercase()))
    }
}

fn columns() -> String {
    let own = ENDPOINT.split(',').map(|column| format!("e.{}", column.trim()));
    own.collect::<Vec<_>>().join(", ")
        + ", p.name AS app_name, e.disabled_at, e.failing_since, e.warned_at, e.rests_until"
}

impl Store {
    /// The tenant's endpoints by id, of all its applications or of one; at most [`SCAN`] of them are looked at, and a page ends early
    /// where they have more than [`PAGE_BYTES`].
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoint_lines(
        &self,
        tenant: &Tenant,
        filter: &LineFilter,
        page: &PageRequest<EndpointId>,
    ) -> Result<Scanned<EndpointLine, EndpointId>, StoreError> {
        let (least, most) = match (tenant.only, filter.app) {
            (Some(only), Some(app)) if only != app => return Ok(Scanned::nothing()),
            (Some(one), _) | (None, Some(one)) => (one.0, one.0),
            (None, None) => (uuid::Uuid::nil(), uuid::Uuid::max()),
        };
        let _scan = self.scan(tenant).await?;
        let (compare, direction) = page.sql();
        // Of one application, also the hidden one's.
        let hidden = if filter.app.is_some() { "" } else { " AND NOT p.operational" };
        let sql = format!(
            "SELECT {} FROM endpoint e JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.deleted_at IS NULL{hidden} AND e.deleted_at IS NULL AND e.app_id >= $2 AND e.app_id <= $3
                 AND e.id {compare} $4{} ORDER BY e.id {direction} LIMIT $5",
            columns(),
            filter.sql(),
        );
        let (mut found, mut next, mut looked, mut bytes) = (Vec::new(), page.clone(), 0, 0);
        let end = loop {
            let sql = sqlx::AssertSqlSafe(sql.clone());
            let made = |row: Row| {
                let (id, fits) = (row.endpoint.id, filter.fits(&row));
                let line = fits.then(|| self.line(row));
                let size = line.as_ref().map_or(0, |line| line.endpoint.spec.size());
                bytes += size;
                Ok(((id, line), size))
            };
            let (rows, cut) = read!(self, db => {
                let rows = sqlx::query_as(sql)
                    .bind(&tenant.org).bind(least).bind(most).bind(next.bound()).bind(CHUNK as i64)
                    .fetch(db);
                read_within(rows, made).await
            })?;
            let (read, last) = (rows.len(), rows.last().map(|(id, _)| *id));
            found.extend(rows.into_iter().filter_map(|(_, line)| line));
            looked += read;
            next.after = last;
            if (read < CHUNK && !cut) || found.len() > page.limit {
                break None;
            }
            if looked >= SCAN || bytes > PAGE_BYTES {
                break last;
            }
        };
        found.truncate(page.limit + 1);
        Ok(Scanned::new(page.page(found), end))
    }

    /// One endpoint of the tenant's application, as lists show it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoint_line(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<EndpointLine>, StoreError> {
        if !tenant.sees(app) {
            return Ok(None);
        }
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {} FROM endpoint e JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.deleted_at IS NULL AND e.deleted_at IS NULL AND e.app_id = $2 AND e.id = $3",
            columns()
        ));
        let row: Option<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(&tenant.org).bind(app).bind(id).fetch_optional(db).await
        })?;
        Ok(row.map(|row| self.line(row)))
    }

    fn line(&self, row: Row) -> EndpointLine {
        let endpoint = row.endpoint.endpoint(&self.inner.master);
        EndpointLine {
            endpoint,
            app_name: row.app_name,
            disabled_at: row.disabled_at,
            failing_since: row.failing_since,
            warned_at: row.warned_at,
            rests_until: row.rests_until,
        }
    }

    /// The tenant's endpoints that rest, the longest failing first, at most `most` of them; among the first [`SCAN`] that fail.
    ///
    /// # Errors
    /// The store is away.
    pub async fn resting(&self, tenant: &Tenant, now: Time, most: i64) -> Result<Vec<RestingEndpoint>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT e.id, e.app_id, p.name, e.url, e.rests_until
             FROM (SELECT id, app_id, url, disabled, deleted_at, rests_until, failing_since FROM endpoint
                   WHERE failing_since IS NOT NULL ORDER BY failing_since LIMIT {SCAN}) AS e JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.deleted_at IS NULL AND NOT p.operational AND ($2 IS NULL OR p.id = $2)
                 AND NOT e.disabled AND e.deleted_at IS NULL AND e.rests_until > $3
             ORDER BY e.failing_since, e.id LIMIT $4"
        ));
        type Found = (EndpointId, AppId, String, String, Option<Time>);
        let rows: Vec<Found> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(tenant.only).bind(now.minus(Rest::PROBE)).bind(most)
                .fetch_all(db).await
        })?;
        let resting = |(endpoint_id, app_id, app_name, url, until): Found| {
            Some(RestingEndpoint { endpoint_id, app_id, app_name, url, rest: Rest::of(until, now)? })
        };
        Ok(rows.into_iter().filter_map(resting).collect())
    }

    /// How many deliveries wait for each of these endpoints; counted up to `most`.
    ///
    /// # Errors
    /// The store is away.
    pub async fn backlogs(
        &self,
        tenant: &Tenant,
        endpoints: &[EndpointId],
        most: i64,
    ) -> Result<HashMap<EndpointId, i64>, StoreError> {
        const SQL: &str = "SELECT count(*) FROM (SELECT 1 FROM due
                 WHERE slot = (SELECT slot FROM endpoint WHERE id = $1) AND endpoint_id = $1 AND EXISTS (SELECT 1 FROM endpoint e
                     JOIN application p ON p.id = e.app_id WHERE e.id = $1 AND p.org = $2) LIMIT $3) AS found";
        let mut backlogs = HashMap::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let waiting: i64 = read!(self, db => {
                sqlx::query_scalar(SQL).bind(endpoint).bind(&tenant.org).bind(most).fetch_one(db).await
            })?;
            backlogs.insert(*endpoint, waiting);
        }
        Ok(backlogs)
    }

    /// The last failure among the newest attempts at an endpoint of the tenant's.
    ///
    /// # Errors
    /// The store is away.
    pub async fn last_failure(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<Option<LastFailure>, StoreError> {
        const SQL: &str = "SELECT id, message_id, at, detail, status FROM (
                 SELECT id, message_id, at, detail, status, failure FROM attempt WHERE endpoint_id = $1 AND app_id = $2
                     AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
                 ORDER BY id DESC LIMIT $4) AS newest
             WHERE failure IS NOT NULL ORDER BY id DESC LIMIT 1";
        if !tenant.sees(app) {
            return Ok(None);
        }
        Ok(read!(self, db => {
            sqlx::query_as(SQL)
                .bind(endpoint).bind(app).bind(&tenant.org).bind(LOOKED_AT)
                .fetch_optional(db).await
        })?)
    }

    /// How many endpoints each of the tenant's applications has.
    ///
    /// # Errors
    /// The store is away.
    pub async fn endpoints_in(&self, tenant: &Tenant, apps: &[AppId]) -> Result<HashMap<AppId, i64>, StoreError> {
        if apps.is_empty() {
            return Ok(HashMap::new());
        }
        let rows: Vec<(AppId, i64)> = read!(self, db => {
            let mut sql = QueryBuilder::<Db>::new(
                "SELECT e.app_id, count(*) FROM endpoint e JOIN application p ON p.id = e.app_id
                 WHERE e.deleted_at IS NULL AND p.org = ",
            );
            sql.push_bind(tenant.org.clone()).push(" AND e.app_id IN (");
            let mut list = sql.separated(", ");
            for app in apps {
                list.push_bind(*app);
            }
            sql.push(") GROUP BY e.app_id");
            sql.build_query_as().fetch_all(db).await
        })?;
        Ok(rows.into_iter().collect())
    }
}
