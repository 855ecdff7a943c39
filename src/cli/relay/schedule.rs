//! Decides which rows of the outbox may be sent, without I/O or a clock.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::source::{RowHead, SourceRow};
use crate::domain::retry_backoff::RetryBackoff;

/// Rejected rows whose backoff is remembered. Beyond this number, rejected rows are retried in every pass.
const MAX_REJECTED: usize = 10_000;
/// The waits of a rejected row.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_secs(5), Duration::from_secs(600));

/// The next retry of a rejected row.
struct RowBackoff {
    until: Instant,
    backoff: RetryBackoff,
}

/// The backoff of rejected rows, and the ordering keys that wait for one.
#[derive(Default)]
pub(super) struct Schedule {
    rejected: HashMap<i64, RowBackoff>,
    /// Keys with a rejected row earlier in this pass.
    blocked_keys: HashSet<String>,
}

impl Schedule {
    /// Starts a pass over the table in the order of ids.
    pub(super) fn begin_pass(&mut self) {
        self.blocked_keys.clear();
    }

    /// Whether a row may be sent. Must be asked in the order of ids.
    pub(super) fn admits(&mut self, head: &RowHead, now: Instant) -> bool {
        let key = head.ordering_key.as_ref();
        if key.is_some_and(|key| self.blocked_keys.contains(key)) {
            return false;
        }
        let waits = self.rejected.get(&head.id).is_some_and(|rejection| rejection.until > now);
        if waits {
            self.blocked_keys.extend(key.cloned());
        }
        !waits
    }

    /// Delays a row that was rejected, and blocks its ordering key for the rest of the pass. Returns the delay.
    pub(super) fn reject(&mut self, head: &RowHead, now: Instant) -> Duration {
        self.blocked_keys.extend(head.ordering_key.clone());
        let mut backoff = self.rejected.get(&head.id).map_or(BACKOFF, |before| before.backoff);
        let wait = backoff.failed();
        if self.rejected.len() < MAX_REJECTED || self.rejected.contains_key(&head.id) {
            self.rejected.insert(head.id, RowBackoff { until: now + wait, backoff });
        }
        wait
    }

    /// Forgets a row that was sent.
    pub(super) fn forget(&mut self, id: i64) {
        self.rejected.remove(&id);
    }

    /// Whether no further backoff can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.rejected.len() == MAX_REJECTED
    }

    /// The number of rejected rows, at most [`MAX_REJECTED`].
    pub(super) fn rejected(&self) -> usize {
        self.rejected.len()
    }
}

/// Groups rows into sequences that may be sent concurrently: one per ordering key, and one per row without a key.
pub(super) fn in_order(mut rows: Vec<SourceRow>) -> Vec<Vec<SourceRow>> {
    rows.sort_by_key(|row| row.id);
    let mut sequences: Vec<Vec<SourceRow>> = Vec::new();
    let mut of_key: HashMap<String, usize> = HashMap::new();
    for row in rows {
        match row.ordering_key.clone() {
            None => sequences.push(vec![row]),
            Some(key) => {
                let at = *of_key.entry(key).or_insert_with(|| {
                    sequences.push(Vec::new());
                    sequences.len() - 1
                });
                sequences[at].push(row);
            }
        }
    }
    sequences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: i64, key: Option<&str>) -> RowHead {
        RowHead { id, ordering_key: key.map(str::to_owned), bytes: 10 }
    }

    #[test]
    fn a_rejected_row_holds_back_its_key_and_nothing_else() {
        let (mut schedule, now, first) = (Schedule::default(), Instant::now(), Duration::from_secs(5));
        let rows = [head(1, Some("a")), head(2, Some("a")), head(3, Some("b")), head(4, None)];
        let admitted = |schedule: &mut Schedule, now| -> Vec<i64> {
            schedule.begin_pass();
            rows.iter().filter(|row| schedule.admits(row, now)).map(|row| row.id).collect()
        };
        assert_eq!(admitted(&mut schedule, now), [1, 2, 3, 4]);
        assert_eq!(schedule.reject(&rows[0], now), first);
        assert!(!schedule.admits(&rows[1], now), "the rest of its key waits in the same pass too");
        assert_eq!(admitted(&mut schedule, now), [3, 4]);
        assert_eq!(admitted(&mut schedule, now + first), [1, 2, 3, 4]);
        assert_eq!(schedule.reject(&rows[0], now), first * 2);
        for _ in 0..10 {
            schedule.reject(&rows[0], now);
        }
        assert_eq!(schedule.reject(&rows[0], now), Duration::from_secs(600));
        schedule.forget(1);
        assert_eq!((admitted(&mut schedule, now), schedule.rejected()), (vec![1, 2, 3, 4], 0));
    }

    #[test]
    fn the_memory_of_rejected_rows_is_bounded() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for id in 0..MAX_REJECTED as i64 + 10 {
            schedule.reject(&head(id, None), now);
        }
        assert_eq!((schedule.rejected(), schedule.is_full()), (MAX_REJECTED, true));
        assert!(!schedule.admits(&head(0, None), now) && schedule.admits(&head(MAX_REJECTED as i64 + 5, None), now));
    }

    #[test]
    fn rows_of_a_key_are_one_sequence_in_the_order_of_ids() {
        let row =
            |id, key: Option<&str>| SourceRow { id, ordering_key: key.map(str::to_owned), ..SourceRow::default() };
        let sequences = in_order(vec![row(4, Some("a")), row(2, None), row(1, Some("a")), row(3, Some("b"))]);
        let ids: Vec<Vec<i64>> = sequences.iter().map(|one| one.iter().map(|row| row.id).collect()).collect();
        assert_eq!(ids, [vec![1, 4], vec![2], vec![3]]);
    }
}
