//! Planner statistics of the partitioned tables. Autovacuum analyzes partitions but never their parents. Without the
//! parents' statistics the planner misjudges joins by message id, and a page of one organization would scan all
//! organizations' rows.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::PartitionedTable;
use super::create::connect;
use crate::store::db::postgres;
use crate::store::db::store_error::is_lock_timeout;
use crate::store::{Backend, Store, StoreError};

/// The interval between two analyses. The relevant fact, that ids are nearly unique, does not change.
const EVERY: Duration = Duration::from_secs(86_400);
/// Tables with fewer rows need no statistics.
const FEW: i64 = 1_000;
const LOCK_TIMEOUT: &str = "500ms";

impl Store {
    /// Analyzes the parent tables that have rows and were not analyzed within a day: 3,000 rows of the parent and of
    /// each partition, for the message's id only. Returns the number of analyzed tables.
    ///
    /// # Errors
    /// The store is unavailable, or the role does not own the tables.
    pub async fn analyze_partitions(&self) -> Result<usize, StoreError> {
        let Backend::Postgres(backend) = &self.inner.backend else { return Ok(0) };
        let mut stale = Vec::new();
        for table in PartitionedTable::ALL {
            const SQL: &str = "SELECT COALESCE(sum(c.reltuples), 0) >= $3 AND NOT
                     (EXISTS (SELECT 1 FROM pg_stats s WHERE s.schemaname = $1 AND s.tablename = $2 AND s.inherited)
                      AND COALESCE(pg_stat_get_last_analyze_time(p.oid) > now() - make_interval(secs => $4), FALSE))
                 FROM pg_class p JOIN pg_namespace n ON n.oid = p.relnamespace JOIN pg_inherits i ON i.inhparent = p.oid
                     JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE n.nspname = $1 AND p.relname = $2 GROUP BY p.oid";
            let is_stale: Option<bool> = sqlx::query_scalar(SQL)
                .bind(postgres::SCHEMA)
                .bind(table.name())
                .bind(FEW as f64)
                .bind(EVERY.as_secs_f64())
                .fetch_optional(&backend.engine)
                .await?;
            if is_stale == Some(true) {
                stale.push(table);
            }
        }
        if stale.is_empty() {
            return Ok(0);
        }
        let mut connection = connect(&backend.options(), LOCK_TIMEOUT).await?;
        let done = analyze(&mut connection, &stale).await;
        let _ = connection.close().await;
        match done {
            Err(error) if is_lock_timeout(&error) => Ok(0),
            done => done.map(|()| stale.len()).map_err(StoreError::from),
        }
    }
}

async fn analyze(connection: &mut PgConnection, tables: &[PartitionedTable]) -> Result<(), sqlx::Error> {
    // 3,000 rows per table instead of 30,000: there are 25 partitions, and each row may be on its own page.
    connection.execute("SET default_statistics_target = 10").await?;
    for table in tables {
        let sql = format!("ANALYZE (SKIP_LOCKED) {} ({})", table.name(), table.id());
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}
