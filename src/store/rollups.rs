//! Counts that are shown to people, kept by minute as attempts are recorded: of each endpoint, and (under the nil id) of the
//! whole organization. Pages read these and never count rows of the hot tables.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use uuid::Uuid;

use super::record::Finished;
use super::{Store, StoreError, Tenant, Tx, read, sqlite};
use crate::domain::delivery::Next;
use crate::domain::{AppId, EndpointId, Time};

/// The upper bounds of the latency histogram's buckets; one more takes what is longer.
pub const LATENCY_BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000];
const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;
/// The columns that are counted up.
const COUNTS: usize = 4 + BUCKETS;
const MINUTE: Duration = Duration::from_secs(60);

/// What was counted over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that were answered with 2xx.
    pub delivered: i64,
    /// Attempts that were not.
    pub failed: i64,
    /// Of the failed ones, those after which another attempt is due.
    pub retried: i64,
    /// Of the failed ones, those after which none is.
    pub dead: i64,
    /// How many attempts took at most [`LATENCY_BOUNDS_MS`], each bucket by itself.
    pub latency: [i64; BUCKETS],
}

/// Counts of one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minute {
    pub minute: Time,
    pub counts: Counts,
}

impl Counts {
    fn add(&mut self, one: &Finished) {
        match one.next {
            Next::Delivered => self.delivered += 1,
            Next::Retry { .. } => self.retried += 1,
            Next::Dead(_) => self.dead += 1,
        }
        if !one.attempt.outcome.delivered() {
            self.failed += 1;
        }
        let millis = one.attempt.outcome.duration.as_millis() as u64;
        self.latency[LATENCY_BOUNDS_MS.partition_point(|bound| *bound < millis)] += 1;
    }

    fn subtract(&mut self, part: &Counts) {
        self.delivered -= part.delivered;
        self.failed -= part.failed;
        self.retried -= part.retried;
        self.dead -= part.dead;
        for (all, one) in self.latency.iter_mut().zip(part.latency) {
            *all -= one;
        }
    }

    fn columns(&self) -> [i64; COUNTS] {
        let mut columns = [0; COUNTS];
        columns[..4].copy_from_slice(&[self.delivered, self.failed, self.retried, self.dead]);
        columns[4..].copy_from_slice(&self.latency);
        columns
    }

    /// All attempts.
    pub fn attempts(&self) -> i64 {
        self.delivered + self.failed
    }
}

fn names() -> Vec<String> {
    let counts = ["delivered", "failed", "retried", "dead"].map(String::from);
    counts.into_iter().chain((0..BUCKETS).map(|bucket| format!("le{bucket}"))).collect()
}

static HEAD: LazyLock<String> =
    LazyLock::new(|| format!("INSERT INTO rollup (org, endpoint_id, minute, {}) ", names().join(", ")));

static TAIL: LazyLock<String> = LazyLock::new(|| {
    let sums: Vec<String> = names().iter().map(|name| format!("{name} = rollup.{name} + excluded.{name}")).collect();
    format!(" ON CONFLICT (org, endpoint_id, minute) DO UPDATE SET {}", sums.join(", "))
});

static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let arrays: Vec<String> = (0..COUNTS).map(|n| format!("${}::bigint[]", n + 4)).collect();
    format!("{}SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], {}){}", *HEAD, arrays.join(", "), *TAIL)
});

/// Adds a batch of records to the counts of their minutes.
pub(super) async fn add(tx: &mut Tx, finished: &[&Finished]) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(&str, Uuid, Time), Counts> = BTreeMap::new();
    for one in finished {
        let minute = one.attempt.at.floor(MINUTE);
        for scope in [Uuid::nil(), one.attempt.endpoint_id.0] {
            sums.entry((one.org.as_str(), scope, minute)).or_default().add(one);
        }
    }
    let rows: Vec<_> = sums.into_iter().map(|(key, counts)| (key, counts.columns())).collect();
    match tx {
        Tx::Sqlite(tx) => {
            for chunk in sqlite::chunks(&rows, 3 + COUNTS) {
                sqlite::values(&HEAD, chunk, &TAIL, |mut row, ((org, scope, minute), counts)| {
                    row.push_bind((*org).to_owned()).push_bind(*scope).push_bind(*minute);
                    for count in counts {
                        row.push_bind(*count);
                    }
                })
                .build()
                .execute(&mut **tx)
                .await?;
            }
        }
        Tx::Postgres(_) if rows.is_empty() => {}
        Tx::Postgres(tx) => {
            let mut statement = sqlx::query(sqlx::AssertSqlSafe(POSTGRES.as_str()))
                .bind(rows.iter().map(|((org, ..), _)| *org).collect::<Vec<&str>>())
                .bind(rows.iter().map(|((_, scope, _), _)| *scope).collect::<Vec<Uuid>>())
                .bind(rows.iter().map(|((.., minute), _)| minute.micros()).collect::<Vec<i64>>());
            for column in 0..COUNTS {
                statement = statement.bind(rows.iter().map(|(_, counts)| counts[column]).collect::<Vec<i64>>());
            }
            statement.execute(&mut **tx).await?;
        }
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    minute: Time,
    delivered: i64,
    failed: i64,
    retried: i64,
    dead: i64,
    le0: i64,
    le1: i64,
    le2: i64,
    le3: i64,
    le4: i64,
    le5: i64,
    le6: i64,
    le7: i64,
    le8: i64,
    le9: i64,
    le10: i64,
    le11: i64,
}

impl From<Row> for Minute {
    fn from(row: Row) -> Minute {
        let latency = [
            row.le0, row.le1, row.le2, row.le3, row.le4, row.le5, row.le6, row.le7, row.le8, row.le9, row.le10,
            row.le11,
        ];
        let counts =
            Counts { delivered: row.delivered, failed: row.failed, retried: row.retried, dead: row.dead, latency };
        Minute { minute: row.minute, counts }
    }
}

impl Store {
    /// The minutes since `since` in which something was attempted, oldest first: of one endpoint, or of the whole organization, but for
    /// what went to its operational endpoints.
    ///
    /// # Errors
    /// The store is away.
    pub async fn minutes(
        &self,
        tenant: &Tenant,
        endpoint: Option<EndpointId>,
        since: Time,
    ) -> Result<Vec<Minute>, StoreError> {
        const SQL: &str = "SELECT * FROM rollup WHERE org = $1 AND endpoint_id = $2 AND minute >= $3 ORDER BY minute";
        let (scope, since) = (endpoint.map_or(Uuid::nil(), |endpoint| endpoint.0), since.floor(MINUTE));
        // First, so that what is recorded meanwhile is not taken out of a sum that it is not in.
        let told = if endpoint.is_some() { Vec::new() } else { self.operational_minutes(tenant, since).await? };
        let rows: Vec<Row> = read!(self, db => {
            sqlx::query_as(SQL).bind(&tenant.org).bind(scope).bind(since).fetch_all(db).await
        })?;
        let mut minutes: Vec<Minute> = rows.into_iter().map(Minute::from).collect();
        for Minute { minute, counts } in told {
            if let Ok(place) = minutes.binary_search_by_key(&minute, |one| one.minute) {
                minutes[place].counts.subtract(&counts);
            }
        }
        minutes.retain(|one| one.counts != Counts::default());
        Ok(minutes)
    }

    /// The same of what went to the organization's operational endpoints, each minute of each endpoint by itself. It is told apart here and
    /// not where it is counted: an attempt does not know what it was for, and this is asked for rarely.
    ///
    /// # Errors
    /// The store is away.
    pub async fn operational_minutes(&self, tenant: &Tenant, since: Time) -> Result<Vec<Minute>, StoreError> {
        const SQL: &str = "SELECT * FROM rollup WHERE org = $1 AND minute >= $2 AND endpoint_id IN
                 (SELECT id FROM endpoint WHERE app_id = (SELECT id FROM application WHERE org = $1 AND operational))";
        let rows: Vec<Row> =
            read!(self, db => sqlx::query_as(SQL).bind(&tenant.org).bind(since.floor(MINUTE)).fetch_all(db).await)?;
        Ok(rows.into_iter().map(Minute::from).collect())
    }
}

/// Attempts over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct AttemptCounts {
    pub delivered: i64,
    pub failed: i64,
}

impl Store {
    /// How many attempts were made in the minutes from that of `since` up to `until`: to one endpoint of the tenant's application, or
    /// to all of them, deleted ones included.
    ///
    /// # Errors
    /// The store is away.
    pub async fn attempt_counts(
        &self,
        tenant: &Tenant,
        app: AppId,
        endpoint: Option<EndpointId>,
        since: Time,
        until: Time,
    ) -> Result<AttemptCounts, StoreError> {
        const SQL: &str = "SELECT CAST(COALESCE(SUM(delivered), 0) AS BIGINT) AS delivered,
                 CAST(COALESCE(SUM(failed), 0) AS BIGINT) AS failed
             FROM rollup WHERE org = $1 AND minute >= $2 AND minute < $3 AND endpoint_id IN
                 (SELECT e.id FROM endpoint e JOIN application p ON p.id = e.app_id
                  WHERE e.app_id = $4 AND p.org = $1 AND p.deleted_at IS NULL AND e.id >= $5 AND e.id <= $6)";
        if !tenant.sees(app) {
            return Ok(AttemptCounts::default());
        }
        let (least, most) = endpoint.map_or((Uuid::nil(), Uuid::max()), |endpoint| (endpoint.0, endpoint.0));
        Ok(read!(self, db => {
            sqlx::query_as(SQL)
                .bind(&tenant.org).bind(since.floor(MINUTE)).bind(until).bind(app).bind(least).bind(most)
                .fetch_one(db).await
        })?)
    }
}

/// The sum of several minutes.
pub fn total<'m>(minutes: impl IntoIterator<Item = &'m Minute>) -> Counts {
    let mut sum = Counts::default();
    for Minute { counts, .. } in minutes {
        sum.delivered += counts.delivered;
        sum.failed += counts.failed;
        sum.retried += counts.retried;
        sum.dead += counts.dead;
        for (all, one) in sum.latency.iter_mut().zip(counts.latency) {
            *all += one;
        }
    }
    sum
}
