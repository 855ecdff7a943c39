//! Slots and their leases decide which process sends for which endpoints. There are 256 slots. An endpoint gets a
//! permanent slot when it is created ([`slot_for`]).
//!
//! A heartbeat renews all leases of a process. Each change of owner increments the slot's **epoch**. A lease that
//! expired but was not taken keeps its owner and epoch, no matter how long the store was unavailable.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::crash::CrashPoint;
use crate::domain::{AppId, Time};
use crate::store::db::codec::from_row;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::notify::notify_slots_released;
use crate::store::{Backend, DATABASE_CLOCK, Store, StoreError, Tx, on, read, write_one};

/// The number of slots.
pub const SLOTS: usize = 256;
/// The duration of a lease without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(10);

/// A sending process in the lease table.
#[derive(Clone, Debug)]
pub struct EngineProcess {
    pub id: Uuid,
    /// Host and pid, for display.
    pub name: String,
    pub started_at: Time,
}

/// The slots that a heartbeat may acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acquire {
    Nothing,
    /// Slots without an owner.
    Free,
    /// Slots without an owner or with an expired lease.
    FreeOrExpired,
}

/// The rank of a process among the living ones, by id. Its share of the slots and its turn in periodic work follow from
/// it, so processes agree without exchanging messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// The number of living processes with a smaller id.
    pub index: usize,
    /// The number of living processes; at least 1.
    pub of: usize,
}

impl Rank {
    /// The only process of a store.
    pub const ALONE: Rank = Rank { index: 0, of: 1 };

    /// The number of slots that the process should own: an even share of all 256, with the remainder going to the
    /// first ranks. Ids grow with the start time, so a process that joins changes no other rank.
    pub fn share(self) -> usize {
        self.share_of(SLOTS)
    }

    /// The process's share of `slots` slots.
    pub fn share_of(self, slots: usize) -> usize {
        slots / self.of + usize::from(self.index < slots % self.of)
    }
}

/// The result of a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The slots that the process owns now.
    pub leases: Leases,
    pub rank: Rank,
}

from_row! {
    /// A process as displayed to operators.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProcessView {
        /// Host and pid.
        pub name: String,
        pub started_at: Time,
        /// The process's leases have not expired.
        pub alive: bool,
        /// The number of slots it owns.
        pub slots: i64,
    }
}

/// The slots that a process owns: slot → epoch.
pub type Leases = BTreeMap<u8, i64>;

/// The owner of this slot does the maintenance of the whole store. A process releases it last, so maintenance rarely
/// moves.
pub const MAINTENANCE: u8 = 0;
/// Consecutive endpoints of an application that share a slot.
pub const ENDPOINTS_PER_SLOT: i64 = 64;

/// The slot of an endpoint.
pub fn slot_of(live: &LiveEndpoint) -> u8 {
    live.slot
}

/// The slot of an application's endpoint number `ordinal`, counted from 0 over all endpoints ever created there. An
/// endpoint never changes its slot: while it moved, it would have two owners. The last byte of an application's UUIDv7
/// is random and spreads applications over the slots; the endpoints of an application share few slots, so one process
/// handles most of its traffic.
pub(in crate::store) fn slot_for(app: AppId, ordinal: i64) -> u8 {
    let base = i64::from(app.0.as_bytes()[15]);
    ((base + ordinal.max(0) / ENDPOINTS_PER_SLOT) % SLOTS as i64) as u8
}

/// The number of slots over which an application's endpoints are spread.
pub(in crate::store) fn slots_for(endpoints_made: i64) -> u16 {
    let slots = endpoints_made.max(1).unsigned_abs().div_ceil(ENDPOINTS_PER_SLOT.unsigned_abs());
    slots.min(SLOTS as u64) as u16
}

impl Store {
    /// A heartbeat: renews the leases of the process and acquires free or expired slots up to its share.
    ///
    /// Leases use the database's clock; nothing else does.
    ///
    /// # Errors
    /// The store is unavailable: existing leases hold until they expire.
    pub async fn heartbeat(&self, process: &EngineProcess, now: Time) -> Result<Heartbeat, StoreError> {
        self.heartbeat_with(process, now, Acquire::FreeOrExpired).await
    }

    /// A heartbeat after an outage: acquires no expired slots. The store may have been unavailable for all processes,
    /// and the owners of these slots still have attempts to record.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn heartbeat_after_outage(&self, process: &EngineProcess, now: Time) -> Result<Heartbeat, StoreError> {
        self.heartbeat_with(process, now, Acquire::Free).await
    }

    /// A heartbeat of a process that is shutting down: renews its leases, acquires nothing, and gives up its share.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn final_heartbeat(&self, process: &EngineProcess, now: Time) -> Result<Heartbeat, StoreError> {
        self.heartbeat_with(process, now, Acquire::Nothing).await
    }

    async fn heartbeat_with(&self, process: &EngineProcess, now: Time, what: Acquire) -> Result<Heartbeat, StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let until = clock.plus(LEASE);
            // A process that shuts down counts as dead for the shares: others acquire the slots it releases at once.
            let alive_until = if what == Acquire::Nothing { clock } else { until };
            const ALIVE: &str = "INSERT INTO process (id, name, started_at, expires_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";
            on!(tx, db => {
                sqlx::query(ALIVE)
                    .bind(process.id).bind(&process.name).bind(process.started_at).bind(alive_until)
                    .execute(db).await.map(drop)
            })?;
            const RENEW: &str = "UPDATE slot SET expires_at = $2 WHERE owner = $1 RETURNING slot, epoch";
            let mine: Vec<(i16, i64)> =
                on!(tx, db => sqlx::query_as(RENEW).bind(process.id).bind(until).fetch_all(db).await)?;
            let mut mine = leases(mine);
            let rank = rank(&mut tx, process.id, clock).await?;
            let missing = rank.share().saturating_sub(mine.len());
            if missing > 0 && what != Acquire::Nothing {
                // Time zero: no lease has expired.
                let expired_before = if what == Acquire::FreeOrExpired { clock } else { Time::ZERO };
                mine.extend(acquire(&mut tx, process.id, expired_before, until, missing as i64).await?);
            }
            tx.commit_of(&[CrashPoint::Lease]).await?;
            Ok(Heartbeat { leases: mine, rank })
        })
        .await
    }

    /// Releases slots, so another process can acquire them before [`LEASE`] is over.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn release_slots(&self, process: Uuid, slots: &[u8]) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            // Formatted into the text, because SQLite has no arrays: at most 256 numbers.
            let list = slots.iter().map(u8::to_string).collect::<Vec<String>>().join(", ");
            let sql = format!("UPDATE slot SET owner = NULL, expires_at = 0 WHERE owner = $1 AND slot IN ({list})");
            let sql = sqlx::AssertSqlSafe(sql);
            if !slots.is_empty() {
                on!(tx, db => sqlx::query(sql).persistent(false).bind(process).execute(db).await.map(drop))?;
                notify_slots_released(&mut tx, process).await?;
            }
            tx.commit().await
        })
        .await
    }

    /// Releases all slots and removes the process from the list.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn deregister(&self, process: Uuid) -> Result<(), StoreError> {
        self.retry_conflicts(|| async {
            let mut tx = self.begin().await?;
            const SLOTS: &str = "UPDATE slot SET owner = NULL, expires_at = 0 WHERE owner = $1";
            on!(tx, db => sqlx::query(SLOTS).bind(process).execute(db).await.map(drop))?;
            const PROCESS: &str = "DELETE FROM process WHERE id = $1";
            on!(tx, db => sqlx::query(PROCESS).bind(process).execute(db).await.map(drop))?;
            notify_slots_released(&mut tx, process).await?;
            tx.commit().await
        })
        .await
    }

    /// Deletes processes that died before `before`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_dead_processes(&self, before: Time) -> Result<(), StoreError> {
        write_one!(self, sqlx::query("DELETE FROM process WHERE expires_at < $1").bind(before)).map(drop)
    }

    /// The processes that are alive or died recently, oldest first.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn processes(&self, now: Time) -> Result<Vec<ProcessView>, StoreError> {
        const SQL: &str = "SELECT name, started_at, expires_at > $1 AS alive,
                 (SELECT count(*) FROM slot WHERE owner = process.id AND slot.expires_at > $1) AS slots
             FROM process ORDER BY started_at, id";
        // The clock of the leases, see [`Store::lease_clock`].
        let clock = match &self.inner.backend {
            Backend::Sqlite(_) => now,
            Backend::Postgres(backend) => sqlx::query_scalar(DATABASE_CLOCK).fetch_one(&backend.front).await?,
        };
        Ok(read!(self, db => sqlx::query_as(SQL).bind(clock).fetch_all(db).await)?)
    }
}

/// The rank of a process. SQLite has one process, regardless of rows that a crashed one has left.
async fn rank(tx: &mut Tx, process: Uuid, clock: Time) -> Result<Rank, StoreError> {
    let Tx::Postgres(tx) = tx else { return Ok(Rank::ALONE) };
    const SQL: &str = "SELECT count(*), count(*) FILTER (WHERE id < $2) FROM process WHERE expires_at > $1";
    let (of, index): (i64, i64) = sqlx::query_as(SQL).bind(clock).bind(process).fetch_one(&mut **tx).await?;
    let whole = |count: i64| usize::try_from(count).unwrap_or(0);
    Ok(Rank { index: whole(index), of: whole(of).max(1) })
}

fn leases(rows: Vec<(i16, i64)>) -> Leases {
    rows.into_iter().filter_map(|(slot, epoch)| Some((u8::try_from(slot).ok()?, epoch))).collect()
}

/// Acquires up to `most` slots without an owner or whose lease expired before `expired_before`. On SQLite all slots:
/// the file lock guarantees that their previous owner has ended.
async fn acquire(tx: &mut Tx, owner: Uuid, expired_before: Time, until: Time, most: i64) -> Result<Leases, StoreError> {
    let acquired = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "UPDATE slot SET owner = $1, epoch = epoch + 1, expires_at = $2 WHERE owner IS NOT $1
                 RETURNING slot, epoch";
            sqlx::query_as(SQL).bind(owner).bind(until).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            // SKIP LOCKED: concurrent heartbeats acquire different slots instead of waiting for each other.
            sqlx::query_as(
                "UPDATE slot SET owner = $1, epoch = epoch + 1, expires_at = $2 WHERE slot = ANY(ARRAY(
                     SELECT slot FROM slot WHERE owner IS NULL OR expires_at < $3
                     ORDER BY slot LIMIT $4 FOR UPDATE SKIP LOCKED)) RETURNING slot, epoch",
            )
            .bind(owner)
            .bind(until)
            .bind(expired_before)
            .bind(most)
            .fetch_all(&mut **tx)
            .await?
        }
    };
    Ok(leases(acquired))
}

impl Store {
    /// Whether several processes can share this store.
    pub fn shared(&self) -> bool {
        matches!(self.inner.backend, Backend::Postgres(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_any_number_of_processes_are_even_and_make_up_the_whole() {
        for of in 1..=2 * SLOTS {
            let shares: Vec<usize> = (0..of).map(|index| Rank { index, of }.share()).collect();
            assert_eq!(shares.iter().sum::<usize>(), SLOTS, "{of} processes");
            assert!(shares.iter().all(|share| [SLOTS / of, SLOTS.div_ceil(of)].contains(share)), "{of}: {shares:?}");
        }
    }

    #[test]
    fn applications_spread_over_all_slots() {
        let mut seen = [0usize; SLOTS];
        for _ in 0..SLOTS * 40 {
            seen[slot_for(AppId::new(Time::from_micros(1_763_800_000_000_000)), 0) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| (5..120).contains(&count)), "{seen:?}");
    }

    #[test]
    fn sixty_four_endpoints_share_a_slot_and_many_wrap_around() {
        let app = AppId(Uuid::from_u128(0xfe));
        assert_eq!([0, 63, 64, 127, 128].map(|ordinal| slot_for(app, ordinal)), [0xfe, 0xfe, 0xff, 0xff, 0]);
        assert_eq!([0, 1, 64, 65, 128, 129, 1_000_000].map(slots_for), [1, 1, 1, 2, 2, 3, 256]);
        let used: std::collections::BTreeSet<u8> = (0..100_000).map(|ordinal| slot_for(app, ordinal)).collect();
        assert_eq!(used.len(), SLOTS);
    }
}
