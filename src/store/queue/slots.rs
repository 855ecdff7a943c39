//! Slots and their leases: who sends for which endpoints. There are 256 slots; an endpoint gets its own when it is created and keeps
//! it ([`slot_for`]).
//!
//! A process keeps its leases with one heartbeat. Each change of owner gives a slot a new **epoch**; a lease that merely ran out and
//! was taken by nobody keeps its owner and epoch, however long the store was away.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::crash::Place;
use crate::domain::{AppId, Time};
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::notify::freed;
use crate::store::{DATABASE_CLOCK, Engine, Store, StoreError, Tx, on, read};

/// How many slots there are.
pub const SLOTS: usize = 256;
/// How long a lease lasts without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(10);

/// A process that sends, as the lease table knows it.
#[derive(Clone, Debug)]
pub struct Process {
    pub id: Uuid,
    /// Host and pid, for people.
    pub name: String,
    pub started_at: Time,
}

/// What a heartbeat takes beside what the process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Take {
    Nothing,
    /// What nobody holds.
    Free,
    /// That, and what has run out.
    RunOut,
}

/// Where a process stands among those that are alive, by id: its share of the slots, and its turn at whatever the fleet does by turns, follow
/// from it, so that all processes agree without asking each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// How many living processes have a smaller id.
    pub index: usize,
    /// How many are alive; at least 1.
    pub of: usize,
}

impl Rank {
    /// The only process of a store.
    pub const ALONE: Rank = Rank { index: 0, of: 1 };

    /// How many slots the process should own: all 256 are shared out evenly, and the first ranks get one more where they do not divide
    /// evenly. Ids grow with the time of start, so a process that joins changes nobody's rank.
    pub fn share(self) -> usize {
        self.share_of(SLOTS)
    }

    /// The same of so many slots.
    pub fn share_of(self, slots: usize) -> usize {
        slots / self.of + usize::from(self.index < slots % self.of)
    }
}

/// What a heartbeat brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The slots that the process owns now.
    pub leases: Leases,
    pub rank: Rank,
}

/// A process, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ProcessView {
    /// Host and pid.
    pub name: String,
    pub started_at: Time,
    /// Its last heartbeat is recent enough for it to send.
    pub alive: bool,
    /// How many slots it holds.
    pub slots: i64,
}

/// The slots that a process owns: slot → epoch.
pub type Leases = BTreeMap<u8, i64>;

/// The owner of this slot does the maintenance of the whole store. It is the last that a process hands over, so that the work seldom
/// changes hands.
pub const MAINTENANCE: u8 = 0;
/// How many endpoints of an application share a slot before its next endpoints get the next one.
pub const ENDPOINTS_PER_SLOT: i64 = 64;

/// The slot of an endpoint.
pub fn slot_of(live: &LiveEndpoint) -> u8 {
    live.slot
}

/// The slot of an application's endpoint number `ordinal`, counted from 0 over all that were ever created there. An endpoint keeps its
/// slot for life: one that moved would have two owners for a while. Applications spread over the slots by the last byte of their
/// UUIDv7, which is random; the endpoints of one share few slots, so that one process sees most of its traffic.
pub(in crate::store) fn slot_for(app: AppId, ordinal: i64) -> u8 {
    let base = i64::from(app.0.as_bytes()[15]);
    ((base + ordinal.max(0) / ENDPOINTS_PER_SLOT) % SLOTS as i64) as u8
}

/// Over how many slots so many endpoints of an application are spread.
pub(in crate::store) fn slots_for(endpoints_made: i64) -> u16 {
    let slots = endpoints_made.max(1).unsigned_abs().div_ceil(ENDPOINTS_PER_SLOT.unsigned_abs());
    slots.min(SLOTS as u64) as u16
}

impl Store {
    /// One heartbeat: renews what is ours, takes what is free up to a fair share, and says what we own now.
    ///
    /// Leases go by the database's clock, the only thing that does.
    ///
    /// # Errors
    /// The store is away: then nothing is known, and the leases we had run on to their end.
    pub async fn heartbeat(&self, process: &Process, now: Time) -> Result<Heartbeat, StoreError> {
        self.beat(process, now, Take::RunOut).await
    }

    /// The same for a process that could not reach the store for a while. It takes nothing whose lease ran out: the store may have
    /// been away for all, and whoever comes back a moment later still has results of what it sent.
    ///
    /// # Errors
    /// The store is away.
    pub async fn sparing_heartbeat(&self, process: &Process, now: Time) -> Result<Heartbeat, StoreError> {
        self.beat(process, now, Take::Free).await
    }

    /// The same for a process that is leaving: it keeps what it has, takes nothing, and no share is left for it.
    ///
    /// # Errors
    /// The store is away.
    pub async fn last_heartbeat(&self, process: &Process, now: Time) -> Result<Heartbeat, StoreError> {
        self.beat(process, now, Take::Nothing).await
    }

    async fn beat(&self, process: &Process, now: Time, what: Take) -> Result<Heartbeat, StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            let clock = Store::lease_clock(&mut tx, now).await?;
            let until = clock.plus(LEASE);
            // Who leaves needs no share: what it hands back is for others at once.
            let alive_until = if what == Take::Nothing { clock } else { until };
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
            if missing > 0 && what != Take::Nothing {
                // Before the beginning of time, no lease has run out.
                let run_out = if what == Take::RunOut { clock } else { Time::ZERO };
                mine.extend(take(&mut tx, process.id, run_out, until, missing as i64).await?);
            }
            tx.commit_of(&[Place::Lease]).await?;
            Ok(Heartbeat { leases: mine, rank })
        })
        .await
    }

    /// Hands slots back, so that another process takes them at once and not after [`LEASE`].
    ///
    /// # Errors
    /// The store is away.
    pub async fn hand_back(&self, process: Uuid, slots: &[u8]) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            // Numbers of ours, at most 256: they may be part of the text, which then is the same for both.
            let list: Vec<String> = slots.iter().map(u8::to_string).collect();
            let sql =
                format!("UPDATE slot SET owner = NULL, expires_at = 0 WHERE owner = $1 AND slot IN ({})", list.join(", "));
            if !slots.is_empty() {
                on!(tx, db => sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).bind(process).execute(db).await.map(drop))?;
                freed(&mut tx, process).await?;
            }
            tx.commit().await
        })
        .await
    }

    /// Says good-bye: hands every slot back and leaves the list of processes.
    ///
    /// # Errors
    /// The store is away.
    pub async fn depart(&self, process: Uuid) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            const SLOTS: &str = "UPDATE slot SET owner = NULL, expires_at = 0 WHERE owner = $1";
            on!(tx, db => sqlx::query(SLOTS).bind(process).execute(db).await.map(drop))?;
            const PROCESS: &str = "DELETE FROM process WHERE id = $1";
            on!(tx, db => sqlx::query(PROCESS).bind(process).execute(db).await.map(drop))?;
            freed(&mut tx, process).await?;
            tx.commit().await
        })
        .await
    }

    /// Forgets processes that died long ago.
    ///
    /// # Errors
    /// The store is away.
    pub async fn forget_processes(&self, before: Time) -> Result<(), StoreError> {
        self.repeated(|| async {
            let mut tx = self.begin().await?;
            const SQL: &str = "DELETE FROM process WHERE expires_at < $1";
            on!(tx, db => sqlx::query(SQL).bind(before).execute(db).await.map(drop))?;
            tx.commit().await
        })
        .await
    }

    /// The processes that are alive or died lately, for people; the ones that have been there longest first.
    ///
    /// # Errors
    /// The store is away.
    pub async fn processes(&self, now: Time) -> Result<Vec<ProcessView>, StoreError> {
        const SQL: &str = "SELECT name, started_at, expires_at > $1 AS alive,
                 (SELECT count(*) FROM slot WHERE owner = process.id AND slot.expires_at > $1) AS slots
             FROM process ORDER BY started_at, id";
        // The clock that leases go by.
        let clock = match &self.inner.engine {
            Engine::Sqlite(_) => now,
            Engine::Postgres(engine) => sqlx::query_scalar(DATABASE_CLOCK).fetch_one(&engine.front).await?,
        };
        Ok(read!(self, db => sqlx::query_as(SQL).bind(clock).fetch_all(db).await)?)
    }
}

/// Where a process stands among those that are alive. On SQLite there is one, whatever a crashed one has left behind.
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

/// Takes up to `most` slots that nobody holds, or whose lease ended before `run_out`. With SQLite there is one process, which the file's lock has let in: whoever held
/// a slot before is gone.
async fn take(tx: &mut Tx, owner: Uuid, run_out: Time, until: Time, most: i64) -> Result<Leases, StoreError> {
    let taken = match tx {
        Tx::Sqlite(tx) => {
            const SQL: &str = "UPDATE slot SET owner = $1, epoch = epoch + 1, expires_at = $2 WHERE owner IS NOT $1
                 RETURNING slot, epoch";
            sqlx::query_as(SQL).bind(owner).bind(until).fetch_all(&mut **tx).await?
        }
        Tx::Postgres(tx) => {
            // Processes that come at the same moment take different slots instead of waiting for each other.
            sqlx::query_as(
                "UPDATE slot SET owner = $1, epoch = epoch + 1, expires_at = $2 WHERE slot = ANY(ARRAY(
                     SELECT slot FROM slot WHERE owner IS NULL OR expires_at < $3
                     ORDER BY slot LIMIT $4 FOR UPDATE SKIP LOCKED)) RETURNING slot, epoch",
            )
            .bind(owner)
            .bind(until)
            .bind(run_out)
            .bind(most)
            .fetch_all(&mut **tx)
            .await?
        }
    };
    Ok(leases(taken))
}

impl Store {
    /// Whether several processes can share this store.
    pub fn shared(&self) -> bool {
        matches!(self.inner.engine, Engine::Postgres(_))
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
