//! Old counts take less room: minutes are moved into the hours that they are of, and hours into days.
//!
//! A move adds to what is there and deletes what it added, in one transaction. So what was counted is at every moment the sum over all
//! three tables, and an attempt that is recorded late makes a row of minutes that is moved as any other is. Counting itself
//! knows nothing of this.

use crate::domain::Time;
use crate::store::query::counts::Range;
use crate::store::recording::rollups::{DAYS, HOURS, MINUTES, WIDTHS, Width, names, on_conflict_add};
use crate::store::{Store, StoreError, Tx, on};

/// How many rows one step moves.
const STEP: i64 = 2_000;

/// From where to where, and what reads the narrower ones: they stay as long as it looks back.
const MOVES: [(Width, Width, Range); 2] = [(MINUTES, HOURS, Range::Hour), (HOURS, DAYS, Range::Week)];

impl Store {
    /// Moves up to a step's worth of counts: minutes of hours that ended more than an hour before `now` into hours, hours of days
    /// that ended more than seven days before into days. Gives back how many rows were moved: fewer than a step's worth means done.
    ///
    /// # Errors
    /// The store is away.
    pub async fn widen_counts(&self, now: Time) -> Result<u64, StoreError> {
        let mut moved = 0;
        for (from, to, read) in MOVES {
            let before = now.minus(read.span()).floor(to.span);
            let step = self.repeated(|| async {
                let mut tx = self.begin().await?;
                let rows = move_rows(&mut tx, from, to, before).await?;
                tx.commit().await?;
                Ok(rows)
            });
            moved += step.await?;
        }
        Ok(moved)
    }

    /// How many rows a step of [`Store::widen_counts`] moves when there are enough.
    pub const WIDEN_STEP: u64 = STEP as u64;
}

/// Moves the oldest rows of `from` that begin before `before`.
async fn move_rows(tx: &mut Tx, from: Width, to: Width, before: Time) -> Result<u64, StoreError> {
    let (columns, column, span) = (names().join(", "), from.column, to.span.as_micros());
    let sums: Vec<String> = names().iter().map(|name| format!("SUM({name})")).collect();
    let insert = |rows: &str| {
        // In the order of the key: two that move at once wait for each other in one order.
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
            // Nobody else writes: both statements see the same rows.
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
            // One statement, which adds what it has deleted. A row that is being counted up or moved by another is left for the next time.
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

/// Forgets the oldest counts of each width, as many as one row's time holds (of minutes an hour's worth), if all of that time is before `cutoff`.
pub(in crate::store) async fn forget(tx: &mut Tx, cutoff: Time) -> Result<(), StoreError> {
    for Width { table, column, span } in WIDTHS {
        let oldest = sqlx::AssertSqlSafe(format!("SELECT min({column}) FROM {table}"));
        let oldest: Option<Time> = on!(tx, db => sqlx::query_scalar(oldest).fetch_one(db).await)?;
        let Some(oldest) = oldest else { continue };
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table} WHERE {column} <= $1 AND {column} < $2"));
        let (last, end) = (cutoff.minus(span), oldest.plus(span.max(HOURS.span)));
        on!(tx, db => sqlx::query(sql).bind(last).bind(end).execute(db).await.map(drop))?;
    }
    Ok(())
}
