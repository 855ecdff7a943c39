//! Reading [rollups](crate::store::recording::rollups): by time, by endpoint, and the endpoints that fail most.
//!
//! Each minute is counted in exactly one of three tables, by minute, hour or day, so every count is the sum over the
//! three. A row counts for a range if it overlaps it.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::{AppId, EndpointId, Time};
use crate::store::db::codec::from_row;
use crate::store::db::sqlite;
use crate::store::recording::rollups::{Bucket, Counts, CountsRow, HOURS, MINUTES, ROLLUP_LEVELS, RollupLevel, names};
use crate::store::{Backend, Store, StoreError, Tenant, read, read_vital};

/// The time range of a chart and its buckets. No bucket is narrower than the rollups of that age, see
/// [`rollup_compaction`](crate::store::maintenance::rollup_compaction).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChartRange {
    /// Buckets of a minute.
    Hour,
    /// Buckets of an hour.
    Day,
    /// Buckets of three hours.
    Week,
    /// 30 days, buckets of a day.
    Month,
}

impl ChartRange {
    pub const ALL: [ChartRange; 4] = [ChartRange::Hour, ChartRange::Day, ChartRange::Week, ChartRange::Month];

    /// The length of the range.
    pub const fn span(self) -> Duration {
        Duration::from_secs(match self {
            ChartRange::Hour => 3_600,
            ChartRange::Day => 86_400,
            ChartRange::Week => 7 * 86_400,
            ChartRange::Month => 30 * 86_400,
        })
    }

    /// The width of a bucket.
    pub const fn width(self) -> Duration {
        Duration::from_secs(match self {
            ChartRange::Hour => 60,
            ChartRange::Day => 3_600,
            ChartRange::Week => 3 * 3_600,
            ChartRange::Month => 86_400,
        })
    }

    /// The start of the range that ends at `now`, rounded down to a bucket.
    pub fn since(self, now: Time) -> Time {
        now.minus(self.span()).floor(self.width())
    }
}

/// The attempts to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountScope {
    /// The organization's, except those to operational endpoints.
    Organization,
    /// Those to the organization's operational endpoints.
    Operational,
    /// Those to all endpoints of an application, including deleted ones.
    Application(AppId),
    Endpoint(EndpointId),
}

/// An endpoint with failed attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingEndpoint {
    pub endpoint_id: EndpointId,
    pub app_id: AppId,
    pub app_name: String,
    pub url: String,
    pub counts: Counts,
}

from_row! {
    /// Counts of attempts in a time range.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct AttemptCounts {
        pub delivered: i64,
        pub failed: i64,
    }
}

from_row! {
    pub(super) struct BucketRow {
        /// The number of the bucket. A rollup that began before the first bucket may have a negative one.
        pub place: i64,
    } with {
        pub counts: CountsRow,
    }
}

from_row! {
    struct EndpointCountsRow {
        endpoint_id: EndpointId,
    } with {
        counts: CountsRow,
    }
}

/// The organization's ($1) endpoints, with application and endpoint between the bounds $4–$7.
const BETWEEN: &str = "endpoint_id IN (SELECT e.id FROM endpoint e JOIN application p ON p.id = e.app_id
     WHERE p.org = $1 AND p.deleted_at IS NULL AND p.id >= $4 AND p.id <= $5 AND e.id >= $6 AND e.id <= $7)";

/// Selects `columns` from the rollups of all widths: the organization's ($1) rows that overlap the time after $2 and
/// match `which`.
fn united(columns: &str, which: &str) -> String {
    let rows = |RollupLevel { table, column, span }: &RollupLevel| {
        let (columns, span) = (columns.replace("{at}", column), span.as_micros());
        format!("SELECT {columns} FROM {table} WHERE org = $1 AND {column} > $2 - {span} AND {which}")
    };
    ROLLUP_LEVELS.iter().map(rows).collect::<Vec<_>>().join(" UNION ALL ")
}

/// Sums of the count columns.
fn sums() -> String {
    let sums: Vec<String> = names().iter().map(|name| format!("CAST(SUM({name}) AS BIGINT) AS {name}")).collect();
    sums.join(", ")
}

/// Bounds that match one id, or any.
fn bounds(id: Option<Uuid>) -> (Uuid, Uuid) {
    id.map_or((Uuid::nil(), Uuid::max()), |id| (id, id))
}

impl Store {
    /// Counts of the range that ends at `now`, in buckets of its [width](ChartRange::width), oldest first, including
    /// empty ones.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn buckets(
        &self,
        tenant: &Tenant,
        scope: CountScope,
        range: ChartRange,
        now: Time,
    ) -> Result<Vec<Bucket>, StoreError> {
        let _scan = self.scan(tenant).await?;
        let (mut buckets, since) = (empty(range, now), range.since(now));
        // Read first: attempts recorded between the two reads must not be subtracted from a sum without them.
        let told = match scope {
            CountScope::Organization => self.counted(tenant, CountScope::Operational, since, range.width()).await?,
            _ => Vec::new(),
        };
        let counted = self.counted(tenant, scope, since, range.width()).await?;
        for (rows, times) in [(counted, 1), (told, -1)] {
            for row in rows {
                if let Some(bucket) = buckets.get_mut(row.place.max(0) as usize) {
                    bucket.counts.add_all(&Counts::from(row.counts), times);
                }
            }
        }
        Ok(buckets)
    }

    /// The nonempty buckets of a width from `since`. For the organization they include operational endpoints.
    pub(super) async fn counted(
        &self,
        tenant: &Tenant,
        scope: CountScope,
        since: Time,
        width: Duration,
    ) -> Result<Vec<BucketRow>, StoreError> {
        let (app, endpoint) = match scope {
            CountScope::Organization if tenant.only.is_some() => return Ok(Vec::new()),
            CountScope::Organization => (None, Some(Uuid::nil())),
            CountScope::Operational => match self.operational_application(tenant).await? {
                Some(house) => (Some(house.id), None),
                None => return Ok(Vec::new()),
            },
            CountScope::Application(app) if !tenant.sees(app) => return Ok(Vec::new()),
            CountScope::Application(app) => (Some(app), None),
            CountScope::Endpoint(endpoint) => (tenant.only, Some(endpoint.0)),
        };
        let (app, endpoint) = (bounds(app.map(|app| app.0)), bounds(endpoint));
        // The parameters are always bound, so the condition must use them.
        const WHOLE: &str = "endpoint_id = $6 AND $6 <= $7 AND $4 <= $5";
        let which = if scope == CountScope::Organization { WHOLE } else { BETWEEN };
        let sql = format!(
            "SELECT (at - $2) / $3 AS place, {} FROM ({}) AS counted GROUP BY 1",
            sums(),
            united(&format!("{{at}} AS at, {}", names().join(", ")), which),
        );
        let sql = sqlx::AssertSqlSafe(sql);
        Ok(read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(since).bind(width.as_micros() as i64)
                .bind(app.0).bind(app.1).bind(endpoint.0).bind(endpoint.1)
                .fetch_all(db).await
        })?)
    }

    /// The number of deliveries in all organizations that died by an attempt within the last 24 to 25 hours. Includes
    /// deliveries resent since, and those of operational events.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn dead_within_a_day(&self, now: Time) -> Result<i64, StoreError> {
        // Per organization, along the key of the rollups. Rollups by day are always older.
        let of = |RollupLevel { table, column, span }: &RollupLevel| {
            let span = span.as_micros();
            format!(
                "(SELECT COALESCE(SUM(dead), 0) FROM {table} WHERE {table}.org = one.org AND endpoint_id = $2
                     AND {column} > $1 - {span})"
            )
        };
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(dead), 0) AS BIGINT) FROM (SELECT {} + {} AS dead
             FROM (SELECT DISTINCT org FROM application) AS one) AS counted",
            of(&MINUTES),
            of(&HOURS)
        );
        let (sql, since) = (sqlx::AssertSqlSafe(sql), now.minus(Duration::from_secs(86_400)));
        Ok(read_vital!(self, db => sqlx::query_scalar(sql).bind(since).bind(Uuid::nil()).fetch_one(db).await)?)
    }

    /// Counts per endpoint in the range that ends at `now`. Endpoints without attempts, or of other tenants, are
    /// missing.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn endpoint_counts(
        &self,
        tenant: &Tenant,
        endpoints: &[EndpointId],
        range: ChartRange,
        now: Time,
    ) -> Result<HashMap<EndpointId, Counts>, StoreError> {
        if endpoints.is_empty() {
            return Ok(HashMap::new());
        }
        let list = match &self.inner.backend {
            Backend::Sqlite(_) => "IN (SELECT unhex(value) FROM json_each($5))",
            Backend::Postgres(_) => "= ANY($5)",
        };
        let which = format!(
            "endpoint_id IN (SELECT e.id FROM endpoint e JOIN application p ON p.id = e.app_id
                 WHERE p.org = $1 AND p.id >= $3 AND p.id <= $4 AND e.id {list})"
        );
        let columns = format!("endpoint_id, {}", names().join(", "));
        let sql = format!(
            "SELECT endpoint_id, {} FROM ({}) AS counted GROUP BY endpoint_id",
            sums(),
            united(&columns, &which)
        );
        let sql = sqlx::AssertSqlSafe(sql);
        let (app, since) = (bounds(tenant.only.map(|app| app.0)), range.since(now));
        let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.0).collect();
        let rows: Vec<EndpointCountsRow> = match &self.inner.backend {
            Backend::Sqlite(backend) => {
                let query = sqlx::query_as(sql).bind(&tenant.org).bind(since).bind(app.0).bind(app.1);
                query.bind(sqlite::id_list(ids)).fetch_all(&backend.pages).await?
            }
            Backend::Postgres(backend) => {
                let query = sqlx::query_as(sql).bind(&tenant.org).bind(since).bind(app.0).bind(app.1);
                query.bind(ids).fetch_all(&backend.front).await?
            }
        };
        Ok(rows.into_iter().map(|row| (row.endpoint_id, row.counts.into())).collect())
    }

    /// The endpoints with the most failed attempts in the range that ends at `now`, without deleted and operational
    /// ones.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn top_failing(
        &self,
        tenant: &Tenant,
        range: ChartRange,
        now: Time,
        limit: i64,
    ) -> Result<Vec<FailingEndpoint>, StoreError> {
        let sql = format!(
            "SELECT e.id, e.app_id, p.name, e.url
             FROM (SELECT endpoint_id, SUM(failed) AS failed FROM ({}) AS counted GROUP BY endpoint_id) AS f
                 JOIN endpoint e ON e.id = f.endpoint_id JOIN application p ON p.id = e.app_id
             WHERE p.org = $1 AND p.id >= $3 AND p.id <= $4 AND NOT p.operational
                 AND p.deleted_at IS NULL AND e.deleted_at IS NULL
             ORDER BY f.failed DESC, e.id LIMIT $5",
            united("endpoint_id, failed", "failed > 0"),
        );
        let (sql, app) = (sqlx::AssertSqlSafe(sql), bounds(tenant.only.map(|app| app.0)));
        let _scan = self.scan(tenant).await?;
        let rows: Vec<(EndpointId, AppId, String, String)> = read!(self, db => {
            sqlx::query_as(sql)
                .bind(&tenant.org).bind(range.since(now)).bind(app.0).bind(app.1).bind(limit)
                .fetch_all(db).await
        })?;
        let ids: Vec<EndpointId> = rows.iter().map(|(id, ..)| *id).collect();
        let mut counts = self.endpoint_counts(tenant, &ids, range, now).await?;
        let failing = |(endpoint_id, app_id, app_name, url)| FailingEndpoint {
            endpoint_id,
            app_id,
            app_name,
            url,
            counts: counts.remove(&endpoint_id).unwrap_or_default(),
        };
        Ok(rows.into_iter().map(failing).collect())
    }

    /// Attempts in `since..until` to one endpoint of the tenant's application, or to all including deleted ones. The
    /// resolution is a minute, an hour for rollups older than one or two hours, and a day after seven days; `since` is
    /// rounded down to it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn attempt_counts(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: Option<EndpointId>,
        since: Time,
        until: Time,
    ) -> Result<AttemptCounts, StoreError> {
        let Some(org) = tenant.org_of(app) else { return Ok(AttemptCounts::default()) };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT CAST(COALESCE(SUM(delivered), 0) AS BIGINT) AS delivered, CAST(COALESCE(SUM(failed), 0) AS BIGINT) AS failed
             FROM ({}) AS counted WHERE at < $3",
            united("{at} AS at, delivered, failed", BETWEEN)
        ));
        let (least, most) = bounds(endpoint.map(|endpoint| endpoint.0));
        let _scan = self.scan(tenant).await?;
        Ok(read!(self, db => {
            sqlx::query_as(sql)
                .bind(org).bind(since).bind(until).bind(app).bind(app).bind(least).bind(most)
                .fetch_one(db).await
        })?)
    }
}

/// The empty buckets of a range.
fn empty(range: ChartRange, now: Time) -> Vec<Bucket> {
    let (first, width) = (range.since(now), range.width());
    let count = now.since(first).as_micros() / width.as_micros() + 1;
    (0..count as u32).map(|n| Bucket { at: first.plus(width * n), counts: Counts::default() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_of_a_range_hold_all_of_it() {
        let now = Time::parse("2026-11-22T14:37:12Z").unwrap();
        for (range, count, first) in [
            (ChartRange::Hour, 61, "2026-11-22T13:37:00Z"),
            (ChartRange::Day, 25, "2026-11-21T14:00:00Z"),
            (ChartRange::Week, 57, "2026-11-15T12:00:00Z"),
            (ChartRange::Month, 31, "2026-10-23T00:00:00Z"),
        ] {
            let buckets = empty(range, now);
            assert_eq!((buckets.len(), buckets[0].at), (count, Time::parse(first).unwrap()), "{range:?}");
            let last = buckets[count - 1].at;
            assert!(last <= now && now < last.plus(range.width()), "{range:?}");
        }
    }
}
