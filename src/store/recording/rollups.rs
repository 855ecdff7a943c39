//! Rollups: attempt counts per minute, for each endpoint and (under the nil id) each organization, updated as
//! attempts are recorded. Charts read rollups and never count rows of the attempt table.
//!
//! [`rollup_compaction`](crate::store::maintenance::rollup_compaction) merges old minutes into hours and old hours
//! into days; [`counts`](crate::store::query::counts) reads all three.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::Time;
use crate::domain::deliveries::delivery::Transition;
use crate::store::db::codec::from_row;
use crate::store::db::sqlite;
use crate::store::recording::record::FinishedAttempt;
use crate::store::{StoreError, Tx};

/// The upper bounds of the latency histogram; a last bucket counts longer attempts.
pub const LATENCY_BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 15_000];
const BUCKETS: usize = LATENCY_BOUNDS_MS.len() + 1;
/// The number of counter columns.
const COUNTS: usize = 4 + BUCKETS;

/// A resolution of rollups, and its table.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RollupLevel {
    pub table: &'static str,
    /// The column with the start of the row's time span.
    pub column: &'static str,
    pub span: Duration,
}

pub(in crate::store) const MINUTES: RollupLevel =
    RollupLevel { table: "rollup", column: "minute", span: Duration::from_secs(60) };
pub(in crate::store) const HOURS: RollupLevel =
    RollupLevel { table: "rollup_hour", column: "hour", span: Duration::from_secs(3_600) };
pub(in crate::store) const DAYS: RollupLevel =
    RollupLevel { table: "rollup_day", column: "day", span: Duration::from_secs(86_400) };
/// Each attempt is counted in exactly one of these tables.
pub(in crate::store) const ROLLUP_LEVELS: [RollupLevel; 3] = [MINUTES, HOURS, DAYS];

/// Attempt counts over a time span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts answered with 2xx.
    pub delivered: i64,
    /// All other attempts.
    pub failed: i64,
    /// Failed attempts that will be retried.
    pub retried: i64,
    /// Failed attempts that ended their delivery.
    pub dead: i64,
    /// Attempts per bucket of [`LATENCY_BOUNDS_MS`], not cumulative.
    pub latency: [i64; BUCKETS],
}

/// The counts of one time span of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The start of the span.
    pub at: Time,
    pub counts: Counts,
}

impl Counts {
    fn add(&mut self, one: &FinishedAttempt) {
        match one.next {
            Transition::Delivered => self.delivered += 1,
            Transition::Retry { .. } => self.retried += 1,
            Transition::Dead(_) => self.dead += 1,
        }
        if !one.attempt.outcome.delivered() {
            self.failed += 1;
        }
        let millis = one.attempt.outcome.duration.as_millis() as u64;
        self.latency[LATENCY_BOUNDS_MS.partition_point(|bound| *bound < millis)] += 1;
    }

    /// Adds `part` multiplied by `times`, which is 1 or -1.
    pub(in crate::store) fn add_all(&mut self, part: &Counts, times: i64) {
        self.delivered += times * part.delivered;
        self.failed += times * part.failed;
        self.retried += times * part.retried;
        self.dead += times * part.dead;
        for (all, one) in self.latency.iter_mut().zip(part.latency) {
            *all += times * one;
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

    /// The latency quantile `share` (above 0, at most 1), by linear interpolation within the histogram's buckets.
    /// Attempts longer than the last bound count as that bound. `None`: there was no attempt.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: i64 = self.latency.iter().sum();
        let wanted = all as f64 * share;
        let mut seen = 0.0;
        for (bucket, count) in self.latency.iter().map(|count| *count as f64).enumerate() {
            if count > 0.0 && seen + count >= wanted {
                let bound = |bucket: usize| LATENCY_BOUNDS_MS[bucket.min(LATENCY_BOUNDS_MS.len() - 1)] as f64;
                let least = if bucket == 0 { 0.0 } else { bound(bucket - 1) };
                let millis = least + (bound(bucket) - least) * ((wanted - seen) / count).clamp(0.0, 1.0);
                return Some(Duration::from_secs_f64(millis / 1_000.0));
            }
            seen += count;
        }
        None
    }
}

/// The sum of several buckets.
pub fn total<'b>(buckets: impl IntoIterator<Item = &'b Bucket>) -> Counts {
    let mut sum = Counts::default();
    for bucket in buckets {
        sum.add_all(&bucket.counts, 1);
    }
    sum
}

/// The names of the counter columns.
pub(in crate::store) fn names() -> Vec<String> {
    let counts = ["delivered", "failed", "retried", "dead"].map(String::from);
    counts.into_iter().chain((0..BUCKETS).map(|bucket| format!("le{bucket}"))).collect()
}

static HEAD: LazyLock<String> =
    LazyLock::new(|| format!("INSERT INTO rollup (org, endpoint_id, minute, {}) ", names().join(", ")));

static TAIL: LazyLock<String> = LazyLock::new(|| on_conflict_add(MINUTES));

/// The end of an upsert that adds to existing counts.
pub(in crate::store) fn on_conflict_add(RollupLevel { table, column, .. }: RollupLevel) -> String {
    let sums: Vec<String> = names().iter().map(|name| format!("{name} = {table}.{name} + excluded.{name}")).collect();
    format!(" ON CONFLICT (org, endpoint_id, {column}) DO UPDATE SET {}", sums.join(", "))
}

static POSTGRES: LazyLock<String> = LazyLock::new(|| {
    let arrays: Vec<String> = (0..COUNTS).map(|n| format!("${}::bigint[]", n + 4)).collect();
    format!("{}SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], {}){}", *HEAD, arrays.join(", "), *TAIL)
});

/// Adds a batch of attempts to the rollups of their minutes.
pub(in crate::store) async fn add(tx: &mut Tx, finished: &[&FinishedAttempt]) -> Result<(), StoreError> {
    let mut sums: BTreeMap<(&str, Uuid, Time), Counts> = BTreeMap::new();
    for one in finished {
        let minute = one.attempt.at.floor(MINUTES.span);
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

from_row! {
    /// The counter columns of a row, or their sums.
    pub(in crate::store) struct CountsRow {
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
}

impl From<CountsRow> for Counts {
    fn from(row: CountsRow) -> Counts {
        let latency = [
            row.le0, row.le1, row.le2, row.le3, row.le4, row.le5, row.le6, row.le7, row.le8, row.le9, row.le10,
            row.le11,
        ];
        Counts { delivered: row.delivered, failed: row.failed, retried: row.retried, dead: row.dead, latency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated_within_buckets() {
        let mut counts = Counts::default();
        assert_eq!(counts.quantile(0.5), None);
        let millis = |counts: &Counts, share| counts.quantile(share).unwrap().as_millis();
        counts.latency[3] = 100; // 25 to 50 ms
        assert_eq!((millis(&counts, 0.5), millis(&counts, 1.0)), (37, 50));
        counts.latency[0] = 900;
        counts.latency[11] = 10; // longer than 15 s
        assert_eq!((millis(&counts, 0.5), millis(&counts, 0.95), millis(&counts, 0.999)), (2, 39, 15_000));
        counts.latency = [0; BUCKETS];
        counts.latency[11] = 1;
        assert_eq!((millis(&counts, 0.01), millis(&counts, 0.99)), (15_000, 15_000));
    }
}
