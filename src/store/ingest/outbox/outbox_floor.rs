//! The low watermark of the outbox on PostgreSQL: the id from which a poll starts. While a snapshot is held open,
//! vacuum cannot remove the relayed rows from the index; a poll from its start would skip over all of them, 40 times
//! per second.
//!
//! Ids are assigned before the commit, and a writer may leave them NULL, so a row below the watermark can still
//! appear. Therefore an id becomes the watermark only some time after no row below it was seen, and full scans run in
//! between.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::Time;

/// How long after no row below it was seen an id becomes the watermark. Rows committed until then are found at once.
const LAG: Duration = Duration::from_secs(10);
/// Interval of full scans, and so the maximum delay of a row whose transaction was open longer than [`LAG`], whose id
/// was set by its writer, or whose retry was requested by another process.
const FULL: Duration = Duration::from_secs(2);

/// The low watermark of rows that were never tried. Stuck rows are found by their retry time instead.
#[derive(Debug, Default)]
pub(in crate::store) struct OutboxFloor(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    floor: Option<i64>,
    /// The next watermark, and when no row below it was seen.
    next: Option<(Time, i64)>,
    /// The greatest id that was relayed.
    greatest: Option<i64>,
    /// The time of the last full scan.
    full: Option<Time>,
}

impl OutboxFloor {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watermark; `None`: scan everything.
    pub fn get(&self) -> Option<i64> {
        self.known().floor
    }

    /// The start of a poll whose result is passed to [`OutboxFloor::looked`]; `None` if a full scan is due.
    pub fn begin(&self, now: Time) -> Option<i64> {
        let known = self.known();
        // `full` may be in the future if the clock was set back.
        known.floor.filter(|_| known.full.is_some_and(|full| full <= now && now.since(full) < FULL))
    }

    /// A poll that began at `from` found `first`, or nothing.
    pub fn looked(&self, from: Option<i64>, first: Option<i64>, now: Time) {
        let mut known = self.known();
        if from.is_none() {
            known.full = Some(now);
        }
        if first.zip(known.floor).is_some_and(|(first, floor)| first < floor) {
            (known.floor, known.next) = (None, None);
        }
        let Some(id) = first.or(known.greatest.map(|id| id.saturating_add(1))) else { return };
        match known.next {
            Some((at, next)) if now.since(at) >= LAG => {
                known.floor = Some(next);
                known.next = Some((now, id));
            }
            Some((at, _)) if at <= now => {}
            _ => known.next = Some((now, id)),
        }
    }

    /// These rows were relayed.
    pub fn took(&self, ids: impl Iterator<Item = i64>) {
        let mut known = self.known();
        known.greatest = ids.chain(known.greatest).max();
    }

    /// Resets the watermark: rows of any id may wait.
    pub fn forget(&self) {
        let mut known = self.known();
        (known.floor, known.next) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use crate::store::ingest::outbox::outbox_floor::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    /// A poll that finds `first`. Returns its start.
    fn look(floor: &OutboxFloor, first: Option<i64>, now: Time) -> Option<i64> {
        let from = floor.begin(now);
        floor.looked(from, first, now);
        from
    }

    #[test]
    fn the_watermark_follows_with_a_lag() {
        let floor = OutboxFloor::default();
        for second in 0..10 {
            assert_eq!(look(&floor, Some(100 + second as i64), at(second)), None);
        }
        assert_eq!((look(&floor, Some(200), at(10)), floor.get()), (None, Some(100)));
        assert_eq!(look(&floor, Some(210), at(11)), Some(100));
        assert_eq!(look(&floor, Some(300), at(20)), None, "a full scan");
        assert_eq!(look(&floor, None, at(21)), Some(200));
    }

    #[test]
    fn with_an_empty_outbox_the_watermark_is_above_all_relayed_rows() {
        let floor = OutboxFloor::default();
        look(&floor, Some(1), at(0));
        floor.took([1, 3, 2].into_iter());
        for second in [10, 20, 30] {
            look(&floor, None, at(second));
        }
        assert_eq!(floor.get(), Some(4));
    }

    #[test]
    fn a_row_below_the_watermark_resets_it() {
        let floor = OutboxFloor::default();
        look(&floor, Some(100), at(0));
        look(&floor, Some(200), at(10));
        assert_eq!(floor.get(), Some(100));
        assert_eq!(look(&floor, Some(50), at(12)), None);
        assert_eq!(floor.get(), None);
        look(&floor, Some(300), at(22));
        assert_eq!(floor.get(), Some(50));
        floor.forget();
        assert_eq!((floor.get(), look(&floor, Some(7), at(23))), (None, None));
        assert_eq!(look(&floor, None, at(1)), None, "a clock that was set back");
    }
}
