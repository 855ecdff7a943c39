//! Gaps between SQLite transactions while more writes are queued, so other programs can take the write lock. They poll
//! for it up to 100 ms apart, so their chance is the share of time that the lock is free. The gaps make this a half
//! while other programs write, and a tenth otherwise.

use std::time::{Duration, Instant};

use crate::store::db::sqlite::Sqlite;

const MIN_GAP: Duration = Duration::from_millis(1);
const MAX_GAP: Duration = Duration::from_millis(20);
/// A gap is this fraction of the time that the lock was held, unless others write.
const FRACTION: u32 = 10;
/// After a commit by another program, others are assumed to write for this long.
const EXTERNAL_WRITERS_TTL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct LockGaps {
    /// The time that the lock was held since the last gap.
    held: Duration,
    /// The rest of a gap that was cut short.
    owed: Duration,
    external: ExternalWriters,
}

impl LockGaps {
    /// The gap after a batch that held the lock for `took`, if one is due. `idle`: no write is queued.
    pub(super) async fn after_batch(&mut self, sqlite: &Sqlite, took: Duration, idle: bool) -> Option<Duration> {
        self.held += took;
        if idle {
            (self.held, self.owed) = Default::default();
            return None;
        }
        // Timers have a resolution of 1 ms: shorter gaps are accumulated. While others write, gaps are as short and as
        // frequent as the batches: callers wait for them too.
        let expected = if self.external.were_active() { 1 } else { FRACTION };
        if self.held / expected < MIN_GAP {
            return None;
        }
        let fraction = if self.external.are_active(sqlite).await { 1 } else { FRACTION };
        let gap = (self.held / fraction + self.owed).min(MAX_GAP);
        (self.held, self.owed) = Default::default();
        Some(gap)
    }

    /// The gap was cut short by `rest`, which the next one makes up for.
    pub(super) fn cut_short(&mut self, rest: Duration) {
        self.owed = rest;
    }
}

/// Detects commits of other programs, by SQLite's `data_version`.
#[derive(Default)]
struct ExternalWriters {
    version: Option<i64>,
    last_commit: Option<Instant>,
}

impl ExternalWriters {
    /// As of the last look.
    fn were_active(&self) -> bool {
        self.last_commit.is_some_and(|at| at.elapsed() < EXTERNAL_WRITERS_TTL)
    }

    async fn are_active(&mut self, sqlite: &Sqlite) -> bool {
        let version = sqlite.data_version().await.ok();
        let before = std::mem::replace(&mut self.version, version);
        if before.is_some() && before != version {
            self.last_commit = Some(Instant::now());
        }
        self.were_active()
    }
}
