//! Where a look at the outbox begins, on PostgreSQL. While somebody holds a snapshot open, the rows that were relayed meanwhile stay in the
//! index; a look from its beginning would pass over all of them, 40 times a second.
//!
//! A row has its id before it is committed, and may have none: what is below the floor may still come. So an id becomes the floor only a while
//! after nothing below it was seen, and every now and then a look takes in everything.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::Time;

/// An id is the floor at the earliest this long after nothing below it was seen: what writers commit until then is found at once.
const LAG: Duration = Duration::from_secs(10);
/// How often a look takes in everything. So late is a row found whose transaction was open for longer than [`LAG`], whose id its writer has made,
/// or which another process has set free.
const FULL: Duration = Duration::from_secs(2);

/// What a process knows of the ids of rows that wait, but for stuck ones, which have a time of their own.
#[derive(Debug, Default)]
pub(in crate::store) struct OutboxFloor(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    floor: Option<i64>,
    /// Becomes the floor: when nothing was seen below which id.
    next: Option<(Time, i64)>,
    /// The greatest id that was taken.
    greatest: Option<i64>,
    /// When the last look at everything was.
    full: Option<Time>,
}

impl OutboxFloor {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id below which rows need not be looked at now; `None`: at everything.
    pub fn get(&self) -> Option<i64> {
        self.known().floor
    }

    /// The same for a look whose result is [noted](OutboxFloor::looked): now and then it takes in everything.
    pub fn begin(&self, now: Time) -> Option<i64> {
        let known = self.known();
        // The clock may have been set back.
        known.floor.filter(|_| known.full.is_some_and(|full| full <= now && now.since(full) < FULL))
    }

    /// A look that began at `from` has found `first`, or nothing.
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

    /// These rows were taken.
    pub fn took(&self, ids: impl Iterator<Item = i64>) {
        let mut known = self.known();
        known.greatest = ids.chain(known.greatest).max();
    }

    /// Rows of any id may wait now.
    pub fn forget(&self) {
        let mut known = self.known();
        (known.floor, known.next) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    /// Looks, finds `first`, and gives back where the look began.
    fn look(floor: &OutboxFloor, first: Option<i64>, now: Time) -> Option<i64> {
        let from = floor.begin(now);
        floor.looked(from, first, now);
        from
    }

    #[test]
    fn the_floor_follows_what_was_seen_at_a_distance() {
        let floor = OutboxFloor::default();
        for second in 0..10 {
            assert_eq!(look(&floor, Some(100 + second as i64), at(second)), None);
        }
        assert_eq!((look(&floor, Some(200), at(10)), floor.get()), (None, Some(100)));
        assert_eq!(look(&floor, Some(210), at(11)), Some(100));
        assert_eq!(look(&floor, Some(300), at(20)), None, "everything, now and then");
        assert_eq!(look(&floor, None, at(21)), Some(200));
    }

    #[test]
    fn when_nothing_waits_the_floor_is_above_all_that_was_taken() {
        let floor = OutboxFloor::default();
        look(&floor, Some(1), at(0));
        floor.took([1, 3, 2].into_iter());
        for second in [10, 20, 30] {
            look(&floor, None, at(second));
        }
        assert_eq!(floor.get(), Some(4));
    }

    #[test]
    fn what_comes_below_the_floor_lowers_it() {
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
