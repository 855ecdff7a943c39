//! Partitions on PostgreSQL: `message` and `attempt` are partitioned by the time in the message's id, so
//! [retention](crate::store::maintenance::retention) can drop whole partitions instead of deleting rows.
//!
//! * [`partition_layout`]: the layout, read from PostgreSQL's catalogs.
//! * [`create`]: creates partitions ahead of time, or on demand for an insert.
//! * [`horizon`]: raises the **horizon** and deletes rows that are not dropped with a partition.
//! * [`detach`]: detaches, drops and merges partitions below the horizon.
//! * [`statistics`]: analyzes the parent tables.
//!
//! Invariants:
//!
//! * The first partition of each table begins at MINVALUE and is never dropped. Retention deletes its rows.
//! * Readers and writers never wait for a change of partitions: every statement here has a short lock timeout and a
//!   connection outside the pools.
//! * Below the horizon nothing enters `due` again, except deliveries still waiting in `fan_out`. A partition below it
//!   without rows in either table can be dropped.

mod create;
mod detach;
mod horizon;
mod partition_layout;
mod statistics;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

pub(in crate::store) use self::partition_layout::{Layout, Partition, PartitionedTable};
use crate::domain::{MessageId, Time};
use crate::store::db::postgres::servers::Servers;
use crate::store::db::store_error::is_no_partition;
use crate::store::{Backend, Store, StoreError, Tx};

/// Partitions per retention period. Messages stay at most 1/20 of the period too long, and a list that reads all
/// partitions opens little more than 20.
const PARTS: u32 = 20;
/// The narrowest partition. Creating or dropping one makes PostgreSQL re-plan every statement on the table.
const LEAST_WIDTH: Duration = Duration::from_secs(60);
/// The width until the retention period is known.
const USUAL_WIDTH: Duration = Duration::from_secs(86_400);

/// The time span of a partition: a twentieth of the retention period, rounded up to whole minutes.
///
/// Each table has about 25 partitions: 20 for the retention period, one partly expired, two ahead, the first, and up to
/// [`detach::KEPT`] kept for scheduled messages.
pub fn width(retention: Duration) -> Duration {
    let minutes = (retention / PARTS).as_secs().div_ceil(60);
    Duration::from_secs(minutes * 60).max(LEAST_WIDTH)
}

/// A process's cached layout, and the creation of missing partitions.
#[derive(Debug)]
pub(in crate::store) struct Partitions {
    servers: Arc<Servers>,
    /// The cached layout. Other processes create and drop partitions; an insert without a partition [drops the
    /// cache](Self::observe_insert).
    known: RwLock<Layout>,
    /// Serializes the creation of partitions in this process.
    making: Mutex<()>,
    /// The width of new partitions, in seconds.
    width: AtomicU64,
}

impl Partitions {
    pub(in crate::store) fn new(servers: Arc<Servers>) -> Partitions {
        Partitions {
            servers,
            known: RwLock::default(),
            making: Mutex::default(),
            width: AtomicU64::new(USUAL_WIDTH.as_secs()),
        }
    }

    fn width(&self) -> Duration {
        Duration::from_secs(self.width.load(Ordering::Relaxed))
    }

    /// Creates missing partitions for messages `ids`. Returns the ids that cannot be inserted because their partition
    /// is being dropped: they are older than the retention period.
    ///
    /// # Errors
    /// A partition is missing and cannot be created now.
    pub(in crate::store) async fn cover(
        &self,
        table: PartitionedTable,
        ids: &[Uuid],
    ) -> Result<HashSet<Uuid>, StoreError> {
        if self.with_layout(|known| known.covers_all(table, ids)) {
            return Ok(HashSet::new());
        }
        // Both tables get the same partitions.
        let wanted: Vec<(PartitionedTable, MessageId)> =
            ids.iter().flat_map(|id| PartitionedTable::ALL.map(|table| (table, MessageId(*id)))).collect();
        self.make(&wanted).await?;
        let leaving = |id: &&Uuid| self.with_layout(|known| known.is_detaching(table, MessageId(**id)));
        Ok(ids.iter().filter(leaving).copied().collect())
    }

    /// Passes on the result of an insert. If its partition was missing, drops the cached layout, so the next attempt
    /// reads it again.
    pub(in crate::store) fn check_insert<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        if done.as_ref().is_err_and(is_no_partition) {
            self.set_layout(Layout::default());
        }
        Ok(done?)
    }

    /// Whether the cached layout was dropped, in which case a failed transaction is worth a retry.
    pub(in crate::store) fn is_stale(&self) -> bool {
        self.with_layout(|known| PartitionedTable::ALL.iter().all(|table| known.count(*table) == 0))
    }

    fn with_layout<T>(&self, read: impl FnOnce(&Layout) -> T) -> T {
        read(&self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Reads the layout into the cache.
    pub(in crate::store) async fn refresh(&self, db: &PgPool) -> Result<(), StoreError> {
        self.set_layout(Layout::read(db).await?);
        Ok(())
    }

    fn set_layout(&self, layout: Layout) {
        *self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = layout;
    }
}

/// The time range of the message partitions, except the first, which has no lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionRange {
    pub oldest: Time,
    pub newest: Time,
    /// Number of partitions, including the first.
    pub count: usize,
}

impl Store {
    /// Sets the retention period that determines the width of new partitions in this process.
    pub fn set_retention(&self, retention: Duration) {
        if let Backend::Postgres(backend) = &self.inner.backend {
            backend.partitions.width.store(width(retention).as_secs(), Ordering::Relaxed);
        }
    }
}

/// The horizon, share-locked until the end of the transaction so it cannot be raised above rows that the transaction
/// queues. Nil on SQLite, where retention deletes a message and its pending deliveries in one transaction.
pub(in crate::store) async fn hold_horizon(tx: &mut Tx) -> Result<MessageId, StoreError> {
    match tx {
        Tx::Sqlite(_) => Ok(MessageId(Uuid::nil())),
        Tx::Postgres(tx) => {
            Ok(sqlx::query_scalar("SELECT message_id FROM horizon FOR SHARE").fetch_one(&mut **tx).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_a_twentieth_of_the_retention_in_whole_minutes() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let widths = [1, 20, 21, 60, 1_440, 90 * 1_440].map(|retention| width(minutes(retention)));
        assert_eq!(widths, [1, 1, 2, 3, 72, 6_480].map(minutes));
    }
}
