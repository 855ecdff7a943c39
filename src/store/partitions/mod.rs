//! Partitions (PostgreSQL): `message` and `attempt` are cut by the time in the message's id, so that [retention](crate::store::maintenance::retention) can drop a
//! whole partition instead of deleting its rows.
//!
//! * [`catalog`] – which partitions there are, as PostgreSQL's catalogs say.
//! * [`make`] – makes them ahead of time, and on demand: an insert that finds none makes it.
//! * [`retain`] – retention: raises the horizon, and deletes what is not dropped with a partition.
//! * [`leave`] – detaches, drops and merges what lies below the horizon.
//! * [`statistics`] – keeps up what the planner knows of the tables as a whole.
//!
//! Invariants:
//! * The first partition of each table begins at MINVALUE and is never dropped: retention empties it row by row.
//! * Nobody waits for partitions: every statement here has a short lock timeout, and a connection outside of the pools.
//! * Below the horizon nothing enters `due` again, except deliveries that are still packed in `fan_out`. A partition below it with no row in
//!   either can be dropped.

mod catalog;
mod leave;
mod make;
mod retain;
mod statistics;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

pub(in crate::store) use self::catalog::{Layout, Partition, Table};
use crate::domain::{MessageId, Time};
use crate::store::db::error::is_no_partition;
use crate::store::db::postgres::servers::Servers;
use crate::store::{Engine, Store, StoreError, Tx};

/// How many partitions the retention is cut into: what is past it stays for 1/20 of it longer at most, and a list that looks into all
/// partitions opens 20 and a few.
const PARTS: u32 = 20;
/// No partition is narrower: making and dropping one makes PostgreSQL plan every statement on the table anew.
const LEAST_WIDTH: Duration = Duration::from_secs(60);
/// The width before anybody has said what the retention is.
const USUAL_WIDTH: Duration = Duration::from_secs(86_400);

/// How much time a partition spans for a retention: a twentieth, rounded up to whole minutes, and at least one.
///
/// Whatever the retention is, there are about 25 partitions of each table: 20 for the retention, one that is partly past, two ahead, the
/// first, and up to [`leave::KEPT`] in which something scheduled waits.
pub fn width(retention: Duration) -> Duration {
    let minutes = (retention / PARTS).as_secs().div_ceil(60);
    Duration::from_secs(minutes * 60).max(LEAST_WIDTH)
}

/// What a process knows of the partitions, and how it changes them.
#[derive(Debug)]
pub(in crate::store) struct Partitions {
    servers: Arc<Servers>,
    /// As they were when they were last looked at. Others make and drop partitions: what an insert finds out makes it [forgotten](Self::told).
    known: RwLock<Layout>,
    /// Held while partitions are made: one at a time in a process.
    making: Mutex<()>,
    /// Of new partitions, in seconds.
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

    /// Sees to it that there are partitions for rows of messages `ids`. Gives back those of them that cannot be inserted, because their
    /// partition is being dropped: they are past the retention.
    ///
    /// # Errors
    /// A partition is missing and cannot be made now.
    pub(in crate::store) async fn cover(&self, table: Table, ids: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        if self.look(|known| known.covers_all(table, ids)) {
            return Ok(HashSet::new());
        }
        // For both tables, so that they have the same.
        let wanted: Vec<(Table, MessageId)> =
            ids.iter().flat_map(|id| Table::ALL.map(|table| (table, MessageId(*id)))).collect();
        self.make(&wanted).await?;
        let leaving = |id: &&Uuid| self.look(|known| known.leaves(table, MessageId(**id)));
        Ok(ids.iter().filter(leaving).copied().collect())
    }

    /// Passes on what an insert came to. If it found no partition, the known ones are forgotten, so that the next try looks.
    pub(in crate::store) fn told<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        if done.as_ref().is_err_and(is_no_partition) {
            self.learn(Layout::default());
        }
        Ok(done?)
    }

    /// Whether nothing is known of them: then a transaction that failed is worth a second try.
    pub(in crate::store) fn forgotten(&self) -> bool {
        self.look(|known| Table::ALL.iter().all(|table| known.count(*table) == 0))
    }

    fn look<T>(&self, look: impl FnOnce(&Layout) -> T) -> T {
        look(&self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Looks which there are.
    pub(in crate::store) async fn look_up(&self, db: &PgPool) -> Result<(), StoreError> {
        self.learn(Layout::read(db).await?);
        Ok(())
    }

    fn learn(&self, layout: Layout) {
        *self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = layout;
    }
}

/// From when to when the partitions of messages reach; without the first, which has no beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    pub oldest: Time,
    pub newest: Time,
    /// How many there are, the first among them.
    pub count: usize,
}

impl Store {
    /// New partitions are cut for this retention, in this process.
    pub fn keep_for(&self, retention: Duration) {
        if let Engine::Postgres(engine) = &self.inner.engine {
            engine.partitions.width.store(width(retention).as_secs(), Ordering::Relaxed);
        }
    }
}

/// The horizon, held until the transaction ends: it is not raised meanwhile, so that what is put into the queue above it stays above it. With
/// SQLite, nil: retention deletes a message and what is pending of it in one transaction.
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
