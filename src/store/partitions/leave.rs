//! Partitions that leave: below the horizon, and without anything that is pending, dead or known by a caller's own id.
//!
//! DETACH … CONCURRENTLY waits for everybody who has read the table, and nobody waits for it. Behind an open snapshot it runs into the lock timeout; the
//! partition is invisible to new statements by then, and FINALIZE completes it at a later turn. What is to be done stands in `leaving_partition`, so that
//! it is finished whatever interrupts it.
//!
//! A message that is scheduled for later than its retention keeps its partition. More than [`KEPT`] of those are merged into the first one,
//! under a lock that is held for moments and given up when it is not to be had.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::make::connect;
use super::{Layout, Partition, Table};
use crate::domain::MessageId;
use crate::store::db::error::{is_deadlock, is_lock_timeout};
use crate::store::db::postgres;
use crate::store::{Engine, Store, StoreError};

/// How many partitions below the horizon stay because something scheduled waits in them, beside the first.
pub(super) const KEPT: usize = 3;
/// The most rows of a partition that is merged: they are copied while others wait.
const MERGED: i64 = 20_000;
/// How long a statement waits for a lock that no reader and no writer waits behind. Who makes a partition does wait behind it, once for each
/// table: shorter than one of its tries.
const LOCK_TIMEOUT: &str = "200ms";
/// and for one that everybody would wait behind.
const SHORT_LOCK_TIMEOUT: &str = "100ms";

impl Store {
    /// Drops the partitions that are below the horizon and of no use any more, and finishes what was interrupted. Gives back how many tables
    /// were dropped. What is held by an open snapshot is left for the next call.
    ///
    /// # Errors
    /// The store is away, or the role does not own the tables.
    pub async fn drop_partitions(&self) -> Result<u64, StoreError> {
        let Engine::Postgres(engine) = &self.inner.engine else { return Ok(0) };
        let mut connection = connect(&engine.options(), LOCK_TIMEOUT).await?;
        let dropped = drop_past(&mut connection).await;
        let _ = connection.close().await;
        engine.partitions.look_up(&engine.engine).await?;
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
    // The messages first: without them nothing is shown of the attempts.
    for table in Table::ALL {
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
    if kept.iter().filter(|one| one.table == Table::Message).count() > KEPT {
        merge(connection, &layout, horizon).await?;
    }
    Ok(dropped)
}

/// Whether any delivery of its messages is pending, or packed and about to be.
pub(super) async fn has_pending(connection: &mut PgConnection, one: &Partition) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM due WHERE message_id >= $1 AND message_id < $2)
             OR EXISTS (SELECT 1 FROM fan_out WHERE message_id >= $1 AND message_id < $2)";
    Ok(sqlx::query_scalar(SQL).bind(one.from).bind(one.to).fetch_one(connection).await?)
}

/// Whether a dead delivery or a caller's own id of its messages is left.
async fn has_others(connection: &mut PgConnection, one: &Partition) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM dead WHERE message_id >= $1 AND message_id < $2)
             OR EXISTS (SELECT 1 FROM message_key WHERE message_id >= $1 AND message_id < $2)";
    Ok(sqlx::query_scalar(SQL).bind(one.from).bind(one.to).fetch_one(connection).await?)
}

/// Detaches and drops a partition that is noted as leaving, from wherever that stands. `false`: somebody holds it.
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
                tracing::debug!(partition = name, %error, "a partition is held by somebody: it is dropped later");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
    }
    sqlx::query("DELETE FROM leaving_partition WHERE name = $1").bind(name).execute(connection).await?;
    tracing::info!(partition = name, "dropped a partition: all of it is past the retention");
    Ok(true)
}

/// Moves what is left in the oldest partition behind the first into the first, which then reaches to where that one ended. Does nothing if it
/// is too much, or somebody holds a lock.
async fn merge(connection: &mut PgConnection, layout: &Layout, horizon: MessageId) -> Result<(), StoreError> {
    let oldest = |table| layout.of_table(table).find(|one| !one.is_first() && one.to <= horizon);
    let Some(to) = oldest(Table::Message).map(|one| one.to) else { return Ok(()) };
    let mut steps = Vec::new();
    for table in Table::ALL {
        let Some(first) = layout.of_table(table).find(|one| one.is_first()) else { return Ok(()) };
        // Those of the two tables have the same bounds but for what was made on demand.
        let between: Vec<&Partition> = layout.of_table(table).filter(|one| !one.is_first() && one.from < to).collect();
        if between.len() > 1 || between.iter().any(|one| one.to != to || one.leaving) {
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
            tracing::debug!(%error, "partitions are merged later: somebody holds them");
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
