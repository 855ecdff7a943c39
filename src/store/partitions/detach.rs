//! Dropping partitions below the horizon that have no pending or dead deliveries and no event ids left.
//!
//! DETACH … CONCURRENTLY waits for readers, but nobody waits for it. Behind an open snapshot it hits the lock timeout.
//! The partition is then already invisible to new statements, and a later run completes it with FINALIZE.
//! `leaving_partition` records unfinished work, so a restart continues it.
//!
//! A message scheduled beyond its retention keeps its partition. If more than [`KEPT`] partitions are kept, the oldest
//! is merged into the first, under a lock with a short timeout.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::create::connect;
use super::{Layout, Partition, PartitionedTable};
use crate::domain::MessageId;
use crate::store::db::postgres;
use crate::store::db::store_error::{is_deadlock, is_lock_timeout};
use crate::store::{Backend, Store, StoreError};

/// Maximum partitions below the horizon that are kept for scheduled messages, in addition to the first.
pub(super) const KEPT: usize = 3;
/// Maximum rows of a partition to merge. Others wait while they are copied.
const MERGED: i64 = 20_000;
/// Timeout for locks that block neither readers nor writers. They do block the creation of partitions, once per table,
/// so the timeout is shorter than one attempt at a creation.
const LOCK_TIMEOUT: &str = "200ms";
/// Timeout for locks that block readers and writers.
const SHORT_LOCK_TIMEOUT: &str = "100ms";

impl Store {
    /// Drops unneeded partitions below the horizon, after finishing interrupted drops. Returns the number of dropped
    /// tables. A partition locked by an open snapshot is left for the next call.
    ///
    /// # Errors
    /// The store is unavailable, or the role does not own the tables.
    pub async fn drop_partitions(&self) -> Result<u64, StoreError> {
        let Backend::Postgres(backend) = &self.inner.backend else { return Ok(0) };
        let mut connection = connect(&backend.options(), LOCK_TIMEOUT).await?;
        let dropped = drop_past(&mut connection).await;
        let _ = connection.close().await;
        backend.partitions.refresh(&backend.engine).await?;
        dropped
    }
}

async fn drop_past(connection: &mut PgConnection) -> Result<u64, StoreError> {
    let mut dropped = 0;
    let begun: Vec<String> =
        sqlx::query_scalar("SELECT name FROM leaving_partition ORDER BY name DESC").fetch_all(&mut *connection).await?;
    for name in begun {
        if !finish(connection, &name).await? {
            return Ok(dropped);
        }
        dropped += 1;
    }
    let horizon: MessageId = sqlx::query_scalar("SELECT message_id FROM horizon").fetch_one(&mut *connection).await?;
    let layout = Layout::read(&mut *connection).await?;
    let mut kept = Vec::new();
    // Messages first: without them, lists do not show the attempts.
    for table in PartitionedTable::ALL {
        for one in layout.of_table(table).filter(|one| one.to <= horizon && !one.is_first()) {
            if has_pending(connection, one).await? || has_others(connection, one).await? {
                kept.push(one);
                continue;
            }
            let noted = "INSERT INTO leaving_partition (name) VALUES ($1) ON CONFLICT DO NOTHING";
            sqlx::query(noted).bind(&one.name).execute(&mut *connection).await?;
            if !finish(connection, &one.name).await? {
                return Ok(dropped);
            }
            dropped += 1;
        }
    }
    if kept.iter().filter(|one| one.table == PartitionedTable::Message).count() > KEPT {
        merge(connection, &layout, horizon).await?;
    }
    Ok(dropped)
}

/// Whether deliveries of its messages are pending or waiting for fan-out.
pub(super) async fn has_pending(connection: &mut PgConnection, one: &Partition) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM due WHERE message_id >= $1 AND message_id < $2)
             OR EXISTS (SELECT 1 FROM fan_out WHERE message_id >= $1 AND message_id < $2)";
    Ok(sqlx::query_scalar(SQL).bind(one.from).bind(one.to).fetch_one(connection).await?)
}

/// Whether dead deliveries, event ids or payload warnings of its messages are left.
async fn has_others(connection: &mut PgConnection, one: &Partition) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM dead WHERE message_id >= $1 AND message_id < $2)
             OR EXISTS (SELECT 1 FROM message_key WHERE message_id >= $1 AND message_id < $2)
             OR EXISTS (SELECT 1 FROM payload_warning WHERE message_id >= $1 AND message_id < $2)";
    Ok(sqlx::query_scalar(SQL).bind(one.from).bind(one.to).fetch_one(connection).await?)
}

/// Detaches and drops a partition in `leaving_partition`, resuming at the step it had reached. `false`: it is locked.
async fn finish(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    const STANDS: &str = "SELECT p.relname, COALESCE(i.inhdetachpending, FALSE)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
             LEFT JOIN pg_class p ON p.oid = i.inhparent
         WHERE n.nspname = $1 AND c.relname = $2";
    loop {
        let stands: Option<(Option<String>, bool)> =
            sqlx::query_as(STANDS).bind(postgres::SCHEMA).bind(name).fetch_optional(&mut *connection).await?;
        let sql = match stands {
            Some((Some(parent), false)) => format!("ALTER TABLE {parent} DETACH PARTITION {name} CONCURRENTLY"),
            Some((Some(parent), true)) => format!("ALTER TABLE {parent} DETACH PARTITION {name} FINALIZE"),
            Some((None, _)) => format!("DROP TABLE {name}"),
            None => break,
        };
        match connection.execute(AssertSqlSafe(sql)).await {
            Ok(_) => {}
            Err(error) if is_lock_timeout(&error) || is_deadlock(&error) => {
                tracing::debug!(partition = name, %error, "partition is locked; dropping it later");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    sqlx::query("DELETE FROM leaving_partition WHERE name = $1").bind(name).execute(connection).await?;
    tracing::info!(partition = name, "dropped a partition older than the retention period");
    Ok(true)
}

/// Merges the second-oldest partition into the first. Does nothing if it has too many rows or is locked.
async fn merge(connection: &mut PgConnection, layout: &Layout, horizon: MessageId) -> Result<(), StoreError> {
    let oldest = |table| layout.of_table(table).find(|one| !one.is_first() && one.to <= horizon);
    let Some(to) = oldest(PartitionedTable::Message).map(|one| one.to) else { return Ok(()) };
    let mut steps = Vec::new();
    for table in PartitionedTable::ALL {
        let Some(first) = layout.of_table(table).find(|one| one.is_first()) else { return Ok(()) };
        // The bounds of the two tables only differ for partitions created on demand.
        let between: Vec<&Partition> = layout.of_table(table).filter(|one| !one.is_first() && one.from < to).collect();
        if between.len() > 1 || between.iter().any(|one| one.to != to || one.detaching) {
            return Ok(());
        }
        for one in between.iter().copied().chain([first]) {
            let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT $1) AS rows", one.name);
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(MERGED + 1).fetch_one(&mut *connection).await?;
            if rows > MERGED {
                return Ok(());
            }
        }
        let (parent, first) = (table.name(), &first.name);
        steps.push(format!("ALTER TABLE {parent} DETACH PARTITION {first}"));
        for Partition { name, .. } in between {
            steps.push(format!("ALTER TABLE {parent} DETACH PARTITION {name}"));
            steps.push(format!("INSERT INTO {first} SELECT * FROM {name}"));
            steps.push(format!("DROP TABLE {name}"));
        }
        steps.push(format!("ALTER TABLE {parent} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ('{}')", to.0));
    }
    match swap(connection, &steps).await {
        Err(error) if is_lock_timeout(&error) || is_deadlock(&error) => {
            tracing::debug!(%error, "partitions are locked; merging them later");
            Ok(())
        }
        done => Ok(done?),
    }
}

async fn swap(connection: &mut PgConnection, steps: &[String]) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    tx.execute(AssertSqlSafe(format!("SET LOCAL lock_timeout = '{SHORT_LOCK_TIMEOUT}'"))).await?;
    for step in steps {
        tx.execute(AssertSqlSafe(step.as_str())).await?;
    }
    tx.commit().await
}
