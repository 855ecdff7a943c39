//! Compaction of old rollups: minutes are merged into hours, and hours into days.
//!
//! Each move adds rows to the wider table and deletes them from the narrower one in one transaction, so the sum over
//! all three tables is always correct. An attempt recorded late creates a new row by minute, which is moved later.
//! Recording is not aware of compaction.

use crate::domain::Time;
use crate::store::query::counts::ChartRange;
use crate::store::recording::rollups::{DAYS, HOURS, MINUTES, ROLLUP_LEVELS, RollupLevel, names, on_conflict_add};
use crate::store::{Store, StoreError, Tx, on};

/// Rows per step.
const STEP: i64 = 2_000;

/// Source, target, and the chart range that needs the source: rows move when they are older than it.
const MOVES: [(RollupLevel, RollupLevel, ChartRange); 2] =
    [(MINUTES, HOURS, ChartRange::Hour), (HOURS, DAYS, ChartRange::Week)];

impl Store {
    /// Moves one step of rollups: minutes into hours, one hour after the hour ended, and hours into days, seven days
    /// after the day ended. Returns the number of moved rows; fewer than a full step means done.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn compact_rollups(&self, now: Time) -> Result<u64, StoreError> {
        let mut moved = 0;
        for (from, to, read) in MOVES {
            let before = now.minus(read.span()).floor(to.span);
            let step = self.retry_conflicts(|| async {
                let mut tx = self.begin().await?;
                let rows = move_rows(&mut tx, from, to, before).await?;
                tx.commit().await?;
                Ok(rows)
            });
            moved += step.await?;
        }
        Ok(moved)
    }

    /// Rows per full step of [`Store::compact_rollups`].
    pub const COMPACTION_STEP: u64 = STEP as u64;
}

/// Moves the oldest rows of `from` that start before `before`.
async fn move_rows(tx: &mut Tx, from: RollupLevel, to: RollupLevel, before: Time) -> Result<u64, StoreError> {
    let (columns, column, span) = (names().join(", "), from.column, to.span.as_micros());
    let sums: Vec<String> = names().iter().map(|name| format!("SUM({name})")).collect();
    let insert = |rows: &str| {
        // In key order, so concurrent moves do not deadlock.
        format!(
            "INSERT INTO {} (org, endpoint_id, {}, {columns})
             SELECT org, endpoint_id, {column} - {column} % {span} AS begins, {} FROM {rows} AS old WHERE true
             GROUP BY org, endpoint_id, begins ORDER BY org, endpoint_id, begins{}",
            to.table,
            to.column,
            sums.join(", "),
            on_conflict_add(to),
        )
    };
    match tx {
        Tx::Sqlite(tx) => {
            // SQLite has one writer, so both statements see the same rows.
            let oldest = |what: &str| {
                let (table, order) = (from.table, format!("ORDER BY {column}, org, endpoint_id LIMIT $2"));
                format!("(SELECT {what} FROM {table} WHERE {column} < $1 {order})")
            };
            let copy = sqlx::AssertSqlSafe(insert(&oldest("*")));
            if sqlx::query(copy).bind(before).bind(STEP).execute(&mut **tx).await?.rows_affected() == 0 {
                return Ok(0);
            }
            let key = format!("org, endpoint_id, {column}");
            let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {} WHERE ({key}) IN {}", from.table, oldest(&key)));
            Ok(sqlx::query(delete).bind(before).bind(STEP).execute(&mut **tx).await?.rows_affected())
        }
        Tx::Postgres(tx) => {
            // One statement that adds the rows it deletes. Rows locked by another transaction are left for the next
            // step.
            let sql = format!(
                "WITH gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(
                     SELECT ctid FROM {table} WHERE {column} < $1 ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED))
                     RETURNING *),
                 added AS ({})
                 SELECT count(*) FROM gone",
                insert("gone"),
                table = from.table,
            );
            let moved: i64 =
                sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(before).bind(STEP).fetch_one(&mut **tx).await?;
            Ok(moved as u64)
        }
    }
}

/// Deletes the oldest rollups before `cutoff`: per table one row's time span, for minutes an hour.
pub(in crate::store) async fn delete_old_rollups(tx: &mut Tx, cutoff: Time) -> Result<(), StoreError> {
    for RollupLevel { table, column, span } in ROLLUP_LEVELS {
        let oldest = sqlx::AssertSqlSafe(format!("SELECT min({column}) FROM {table}"));
        let oldest: Option<Time> = on!(tx, db => sqlx::query_scalar(oldest).fetch_one(db).await)?;
        let Some(oldest) = oldest else { continue };
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE {column} <= $1 AND {column} < $2"));
        let (last, end) = (cutoff.minus(span), oldest.plus(span.max(HOURS.span)));
        on!(tx, db => sqlx::query(sql).bind(last).bind(end).execute(db).await.map(drop))?;
    }
    Ok(())
}
