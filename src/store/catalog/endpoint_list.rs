//! Endpoints as shown in lists: with their application, health, backlog and last failure.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::QueryBuilder;

use crate::domain::catalog::endpoint::Endpoint;
use crate::domain::limits::PAGE_BYTES;
use crate::domain::{AppId, AttemptId, EndpointId, MessageId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::codec::{ENDPOINT, EndpointRow};
use crate::store::query::page::{SCAN, read_within};
use crate::store::{PageRequest, Scanned, Store, StoreError, Tenant, read};

/// Rows per statement. Between two statements other readers get the connection.
const CHUNK: usize = 500;
/// The number of newest attempts searched for the last failure.
const LOOKED_AT: i64 = 10_000;

/// An endpoint in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedEndpoint {
    pub endpoint: Endpoint,
    pub app_name: String,
    pub disabled_at: Option<Time>,
    /// The start of the failure streak.
    pub failing_since: Option<Time>,
    /// The time of the last warning about the streak.
    pub warned_at: Option<Time>,
    /// The end of the circuit breaker's pause, as of the last attempt.
    pub rests_until: Option<Time>,
}

/// The pause of an open circuit breaker: the endpoint is unreachable or asked for a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPause {
    /// Nothing is sent until then; the next attempt is a probe.
    Until(Time),
    /// The probe is in flight or about to start.
    Probing,
}

impl BreakerPause {
    /// The longest time for a probe and its record: above the longest timeout of an attempt.
    const PROBE: Duration = Duration::from_secs(45);

    /// The pause at `now`, from the value stored with the last attempt. A restarted engine forgets pauses; its next
    /// attempt clears the stored value.
    fn of(rests_until: Option<Time>, now: Time) -> Option<BreakerPause> {
        match rests_until? {
            until if until > now => Some(BreakerPause::Until(until)),
            until if until.plus(BreakerPause::PROBE) > now => Some(BreakerPause::Probing),
            _ => None,
        }
    }
}

/// A paused endpoint in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedEndpoint {
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub app_name: String,
    pub url: String,
    pub rest: BreakerPause,
}

/// The health of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointHealth {
    Enabled,
    /// Enabled, with a failure streak.
    Failing,
    Disabled,
}

/// Selects endpoints; `None` selects all.
#[derive(Clone, Debug, Default)]
pub struct EndpointListFilter {
    pub app: Option<AppId>,
    pub health: Option<EndpointHealth>,
    /// Case-insensitive substring of the URL.
    pub url: Option<String>,
}

from_row! {
    /// The last failure of an endpoint.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LastFailure {
        pub id: AttemptId,
        pub message_id: MessageId,
        pub at: Time,
        /// The word of a [`Failure`](crate::domain::deliveries::attempt::Failure).
        pub failure: Option<String>,
        pub status: Option<i32>,
    }
}

from_row! {
    struct Row {
        app_name: String,
        disabled_at: Option<Time>,
        failing_since: Option<Time>,
        warned_at: Option<Time>,
        rests_until: Option<Time>,
    } with {
        endpoint: EndpointRow,
    }
}

impl ListedEndpoint {
    /// The pause of its circuit breaker, if open.
    pub fn rest(&self, now: Time) -> Option<BreakerPause> {
        let failing = self.failing_since.is_some() && !self.endpoint.spec.disabled;
        BreakerPause::of(self.rests_until.filter(|_| failing), now)
    }

    pub fn health(&self) -> EndpointHealth {
        match (self.endpoint.spec.disabled, self.failing_since) {
            (true, _) => EndpointHealth::Disabled,
            (false, Some(_)) => EndpointHealth::Failing,
            (false, None) => EndpointHealth::Enabled,
        }
    }
}

impl EndpointListFilter {
    /// The conditions evaluated by the database.
    fn sql(&self) -> &'static str {
        match self.health {
            None => "",
            Some(EndpointHealth::Disabled) => " AND e.disabled",
            Some(EndpointHealth::Failing) => " AND NOT e.disabled AND e.failing_since IS NOT NULL",
            Some(EndpointHealth::Enabled) => " AND NOT e.disabled AND e.failing_since IS NULL",
        }
    }

    /// The condition evaluated here, because the databases fold case differently.
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
    /// The tenant's endpoints by id, of one or all of its applications. Scans at most [`SCAN`] rows and [`PAGE_BYTES`]
    /// per page.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn list_endpoints(
        &self,
        tenant: &Tenant,
        filter: &EndpointListFilter,
        page: &PageRequest<EndpointId>,
    ) -> Result<Scanned<ListedEndpoint, EndpointId>, StoreError> {
        let (least, most) = match (tenant.only, filter.app) {
            (Some(only), Some(app)) if only != app => return Ok(Scanned::nothing()),
            (Some(one), _) | (None, Some(one)) => (one.0, one.0),
            (None, None) => (uuid::Uuid::nil(), uuid::Uuid::max()),
        };
        let _scan = self.scan(tenant).await?;
        let (compare, direction) = page.sql();
        // The operational application is only listed by its id.
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

    /// One endpoint of the tenant's application, as in lists.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn listed_endpoint(
        &self,
        tenant: &Tenant,
        app: AppId,
        id: EndpointId,
    ) -> Result<Option<ListedEndpoint>, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {} FROM endpoint e JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.deleted_at IS NULL AND e.deleted_at IS NULL AND e.app_id = $2 AND e.id = $3",
            columns()
        ));
        let row: Option<Row> = read!(self, db => {
            sqlx::query_as(sql).bind(org).bind(app).bind(id).fetch_optional(db).await
        })?;
        Ok(row.map(|row| self.line(row)))
    }

    fn line(&self, row: Row) -> ListedEndpoint {
        let endpoint = row.endpoint.endpoint(&self.inner.master);
        ListedEndpoint {
            endpoint,
            app_name: row.app_name,
            disabled_at: row.disabled_at,
            failing_since: row.failing_since,
            warned_at: row.warned_at,
            rests_until: row.rests_until,
        }
    }

    /// Up to `most` paused endpoints of the tenant, longest failing first. Scans the [`SCAN`] longest-failing
    /// endpoints.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn paused_endpoints(
        &self,
        tenant: &Tenant,
        now: Time,
        most: i64,
    ) -> Result<Vec<PausedEndpoint>, StoreError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT e.id, e.app_id, p.name, e.url, e.rests_until
             FROM (SELECT id, app_id, url, disabled, deleted_at, rests_until, failing_since FROM endpoint
                   WHERE failing_since IS NOT NULL ORDER BY failing_since LIMIT {SCAN}) AS e JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.deleted_at IS NULL AND NOT p.operational AND ($2 IS NULL OR p.id = $2)
                 AND NOT e.disabled AND e.deleted_at IS NULL AND e.rests_until > $3
             ORDER BY e.failing_since, e.id LIMIT $4"
        ));
        type PausedRow = (EndpointId, AppId, String, String, Option<Time>);
        let rows: Vec<PausedRow> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(tenant.only).bind(now.minus(BreakerPause::PROBE)).bind(most)
                .fetch_all(db).await
        })?;
        let resting = |(endpoint_id, app_id, app_name, url, until): PausedRow| {
            Some(PausedEndpoint { endpoint_id, app_id, app_name, url, rest: BreakerPause::of(until, now)? })
        };
        Ok(rows.into_iter().filter_map(resting).collect())
    }

    /// The number of pending deliveries of each endpoint, counted up to `most`.
    ///
    /// # Errors
    /// The store is unavailable.
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

    /// The last failure among the newest 10,000 attempts to an endpoint.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn last_failure(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: EndpointId,
    ) -> Result<Option<LastFailure>, StoreError> {
        const SQL: &str = "SELECT id, message_id, at, failure, status FROM (
                 SELECT id, message_id, at, status, failure FROM attempt WHERE endpoint_id = $1 AND app_id = $2
                     AND EXISTS (SELECT 1 FROM application WHERE id = $2 AND org = $3 AND deleted_at IS NULL)
                 ORDER BY id DESC LIMIT $4) AS newest
             WHERE failure IS NOT NULL ORDER BY id DESC LIMIT 1";
        let Some(org) = tenant.org_of(app) else { return Ok(None) };
        Ok(read!(self, db => {
            sqlx::query_as(SQL)
                .bind(endpoint).bind(app).bind(org).bind(LOOKED_AT)
                .fetch_optional(db).await
        })?)
    }

    /// The number of endpoints of each application.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoint_counts_by_app(
        &self,
        tenant: &Tenant,
        apps: &[AppId],
    ) -> Result<HashMap<AppId, i64>, StoreError> {
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
