//! Creating partitions: ahead of time by maintenance, and on demand for an insert.
//!
//! A partition is created as a separate table and then attached. `CREATE TABLE … PARTITION OF` would wait for every
//! transaction that has read the table. The lock of ATTACH does not conflict with readers and writers. The new table is
//! empty, so there are no rows to check.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use super::{Layout, Partition, PartitionRange, PartitionedTable, Partitions};
use crate::domain::{MessageId, Time};
use crate::store::db::postgres;
use crate::store::db::store_error::{is_deadlock, is_lock_timeout};
use crate::store::{Backend, Store, StoreError};

/// The lock timeout of one attempt and the number of attempts: in total less than the 5 s that a waiting transaction
/// allows.
const LOCK_TIMEOUT: &str = "500ms";
const TRIES: u32 = 6;
/// The number of widths that partitions are created ahead of the clock.
const AHEAD: u32 = 2;
/// With at least this many partitions, a new one fills its whole gap, so clock jumps cannot create an unlimited number.
const CROWDED: usize = 32;

impl Store {
    /// Creates partitions for messages accepted from `now` on, two widths ahead. Returns the range of all partitions;
    /// `None` on SQLite.
    ///
    /// # Errors
    /// The store is unavailable, a lock was not granted, or the role does not own the tables.
    pub async fn create_partitions(&self, now: Time) -> Result<Option<PartitionRange>, StoreError> {
        let Backend::Postgres(backend) = &self.inner.backend else { return Ok(None) };
        let partitions = &backend.partitions;
        partitions.refresh(&backend.engine).await?;
        let ahead = now.plus(partitions.width() * AHEAD);
        let mut at = MessageId::floor(now);
        // Each step creates or skips one partition.
        for _ in 0..CROWDED {
            partitions.make(&PartitionedTable::ALL.map(|table| (table, at))).await?;
            at = match partitions.with_layout(|known| known.holder(PartitionedTable::Message, at).map(|one| one.to)) {
                Some(next) if next.time() <= ahead => next,
                _ => break,
            };
        }
        Ok(partitions.with_layout(|known| {
            let mut rest = known.of_table(PartitionedTable::Message).filter(|one| !one.is_first());
            let oldest = rest.next()?;
            let newest = rest.next_back().unwrap_or(oldest);
            let count = known.count(PartitionedTable::Message);
            Some(PartitionRange { oldest: oldest.from.time(), newest: newest.to.time(), count })
        }))
    }
}

impl Partitions {
    /// Creates missing partitions for these messages, except where one is being detached.
    pub(super) async fn make(&self, wanted: &[(PartitionedTable, MessageId)]) -> Result<(), StoreError> {
        let _alone = self.making.lock().await;
        let there = |known: &Layout| wanted.iter().all(|(table, id)| known.covers_all(*table, &[id.0]));
        if self.with_layout(there) {
            return Ok(());
        }
        let mut connection = connect(&self.servers.current(), LOCK_TIMEOUT).await?;
        // Usually another process has created it already; reading the layout needs no lock.
        let layout = Layout::read(&mut connection).await?;
        if there(&layout) {
            let _ = connection.close().await;
            self.set_layout(layout);
            return Ok(());
        }
        let mut tries = 1;
        let made = loop {
            match make(&mut connection, wanted, self.width()).await {
                Err(error) if (is_lock_timeout(&error) || is_deadlock(&error)) && tries < TRIES => tries += 1,
                made => break made,
            }
        };
        let _ = connection.close().await;
        self.set_layout(made?);
        Ok(())
    }
}

async fn make(
    connection: &mut PgConnection,
    wanted: &[(PartitionedTable, MessageId)],
    width: Duration,
) -> Result<Layout, sqlx::Error> {
    let mut tx = connection.begin().await?;
    // Serializes the creation of partitions across processes without blocking readers or writers.
    tx.execute("LOCK TABLE ONLY message, ONLY attempt IN SHARE UPDATE EXCLUSIVE MODE").await?;
    let mut layout = Layout::read(&mut *tx).await.map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    for (table, id) in wanted {
        if layout.holder(*table, *id).is_none() {
            let mut one = missing(&layout, *table, *id, width);
            one.name = free_name(&mut tx, &one.name).await?;
            tx.execute(AssertSqlSafe(create(&one))).await?;
            tracing::debug!(partition = one.name, "created a partition");
            layout.add(one);
        }
    }
    tx.commit().await?;
    Ok(layout)
}

/// The partition to create for `id`: its span of `width`, cut to the gap between its neighbours.
fn missing(layout: &Layout, table: PartitionedTable, id: MessageId, width: Duration) -> Partition {
    let (before, after) = layout.gap(table, id);
    let from = MessageId::floor(id.time().floor(width));
    let to = MessageId::floor(id.time().floor(width).plus(width));
    // The last possible partition ends at the largest id.
    let to = if to <= id { MessageId(uuid::Uuid::max()) } else { to };
    let from = match before {
        Some(before) if layout.count(table) >= CROWDED => before,
        Some(before) => from.max(before),
        None => MessageId(uuid::Uuid::nil()),
    };
    let to = match after {
        Some(after) if layout.count(table) >= CROWDED => after,
        Some(after) => to.min(after),
        None => to,
    };
    let name = format!("{}_{}", table.name(), stamp(from.time()));
    Partition { table, from, to, name, detaching: false }
}

/// A time for a table name: `202611290830`.
fn stamp(time: Time) -> String {
    time.min(Time::MAX).to_string().chars().filter(char::is_ascii_digit).take(12).collect()
}

/// `name`, with a number appended if a detached partition that is not dropped yet has the name.
async fn free_name(connection: &mut PgConnection, name: &str) -> Result<String, sqlx::Error> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2)";
    let mut free = name.to_owned();
    for n in 2.. {
        let taken: bool =
            sqlx::query_scalar(SQL).bind(postgres::SCHEMA).bind(&free).fetch_one(&mut *connection).await?;
        if !taken {
            break;
        }
        free = format!("{name}_{n}");
    }
    Ok(free)
}

fn create(one: &Partition) -> String {
    let (name, table) = (&one.name, one.table.name());
    let from = if one.is_first() { "MINVALUE".to_owned() } else { format!("'{}'", one.from.0) };
    format!(
        "CREATE TABLE {name} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES);
         ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ('{}')",
        one.to.0
    )
}

/// A connection outside the pools, with its own `lock_timeout`.
pub(super) async fn connect(options: &PgConnectOptions, lock_timeout: &str) -> Result<PgConnection, StoreError> {
    let mut connection = options.clone().disable_statement_logging().connect().await?;
    let setup = format!(
        "SET search_path = {}; SET statement_timeout = '5min'; SET lock_timeout = '{lock_timeout}'",
        postgres::SCHEMA
    );
    connection.execute(AssertSqlSafe(setup)).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: i64) -> MessageId {
        MessageId::floor(Time::from_micros(minutes * 60_000_000))
    }

    fn layout(bounds: &[(i64, i64)]) -> Layout {
        let one = |(from, to): &(i64, i64)| Partition {
            table: PartitionedTable::Message,
            from: if *from == 0 { MessageId(uuid::Uuid::nil()) } else { at(*from) },
            to: at(*to),
            name: String::new(),
            detaching: false,
        };
        Layout::of(bounds.iter().map(one).collect())
    }

    fn made(layout: &Layout, minutes: i64, width: u32) -> (MessageId, MessageId) {
        let one = missing(layout, PartitionedTable::Message, at(minutes), MINUTE * width);
        assert!(one.holds(at(minutes)));
        (one.from, one.to)
    }

    #[test]
    fn a_missing_partition_is_cut_by_the_clock_and_by_its_neighbours() {
        let free = layout(&[(0, 10)]);
        assert_eq!(made(&free, 103, 10), (at(100), at(110)));
        assert_eq!(made(&free, 12, 60), (at(10), at(60)), "not over the one before");
        let between = layout(&[(0, 10), (105, 110)]);
        assert_eq!(made(&between, 103, 10), (at(100), at(105)), "nor over the one after");
        let none = layout(&[(50, 60)]);
        assert_eq!(made(&none, 12, 10), (MessageId(uuid::Uuid::nil()), at(20)), "the first begins at MINVALUE");
        let end = missing(&free, PartitionedTable::Message, MessageId(uuid::Uuid::from_u128(u128::MAX - 1)), MINUTE);
        assert!(end.holds(MessageId(uuid::Uuid::from_u128(u128::MAX - 1))));
    }

    #[test]
    fn many_partitions_do_not_become_any_number() {
        let crowded: Vec<(i64, i64)> = (0..CROWDED as i64).map(|n| (n * 100, n * 100 + 10)).collect();
        let crowded = layout(&crowded);
        assert_eq!(made(&crowded, 250, 10), (at(210), at(300)), "all of the gap");
    }

    #[test]
    fn a_name_says_when_its_partition_begins() {
        assert_eq!(stamp(Time::from_micros(1_795_338_000_000_000)), "202611220900");
        assert_eq!(stamp(Time::from_micros(i64::MAX)).len(), 12);
    }
}
