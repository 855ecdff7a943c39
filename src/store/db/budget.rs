//! What one transaction may hold: rows and bytes, both counted before anything is written. Costs are in deliveries, not in messages: one
//! message may go to any number of endpoints.
//!
//! The first item always fits, so that there is none that could never be stored.

use std::time::Duration;

/// The most rows a transaction writes, but for its first item.
pub const MOST_ROWS: usize = 20_000;
/// However slow the store is, a transaction may hold so many.
const LEAST_ROWS: usize = 500;
/// How long a transaction should take at most: others wait for it.
const AIM: Duration = Duration::from_millis(300);

/// What is left of a transaction's rows.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Budget {
    rows: usize,
    spent: usize,
}

impl Budget {
    pub(in crate::store) fn of_rows(rows: usize) -> Budget {
        Budget { rows, spent: 0 }
    }

    /// Takes `rows` more, if they fit or nothing was taken yet.
    pub(in crate::store) fn take(&mut self, rows: usize) -> bool {
        let fits = self.spent == 0 || self.spent.saturating_add(rows) <= self.rows;
        if fits {
            self.spent = self.spent.saturating_add(rows.max(1));
        }
        fits
    }

    /// How many rows were taken.
    pub(in crate::store) fn spent(self) -> usize {
        self.spent
    }
}

/// How many rows the next transaction may hold: halved after one that took too long, and grown again by an eighth.
#[derive(Debug)]
pub(in crate::store) struct Pace {
    rows: usize,
}

impl Pace {
    pub(in crate::store) fn new() -> Pace {
        Pace { rows: MOST_ROWS }
    }

    /// For the next transaction.
    pub(in crate::store) fn budget(&self) -> Budget {
        Budget::of_rows(self.rows)
    }

    /// The last transaction held `rows` and took so long.
    pub(in crate::store) fn learn(&mut self, rows: usize, took: Duration) {
        if took > AIM && rows > LEAST_ROWS {
            self.rows = (rows.min(self.rows) / 2).max(LEAST_ROWS);
        } else if took <= AIM {
            self.rows = (self.rows + self.rows / 8).min(MOST_ROWS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_always_fits_and_the_others_as_far_as_there_is_room() {
        let mut budget = Budget::of_rows(10);
        assert!(budget.take(25), "the first, however large");
        assert!(!budget.take(1), "and nothing beside it");
        let mut budget = Budget::of_rows(10);
        assert!([4, 6].map(|rows| budget.take(rows)) == [true, true] && !budget.take(1));
        assert_eq!(budget.spent(), 10);
        let mut nothing = Budget::of_rows(3);
        assert_eq!((0..5).filter(|_| nothing.take(0)).count(), 4, "what writes no row of its own is counted as one");
    }

    #[test]
    fn a_slow_store_gets_smaller_transactions_and_a_quick_one_larger_ones_again() {
        let mut pace = Pace::new();
        let (slow, quick) = (Duration::from_secs(2), Duration::from_millis(5));
        pace.learn(20_000, slow);
        assert_eq!(pace.budget().rows, 10_000);
        pace.learn(600, slow);
        assert_eq!(pace.budget().rows, LEAST_ROWS, "half of what was held, but not fewer than that");
        pace.learn(100, slow);
        assert_eq!(pace.budget().rows, LEAST_ROWS, "it was not the rows");
        (0..40).for_each(|_| pace.learn(100, quick));
        assert_eq!(pace.budget().rows, MOST_ROWS);
    }
}
