//! The size limit of a transaction, in rows counted before anything is written. The unit is deliveries rather than
//! messages, because one message may go to any number of endpoints.
//!
//! The first item always fits; otherwise a very large item could never be stored.

use std::time::Duration;

/// Maximum rows of a transaction, unless its first item is larger.
pub const MOST_ROWS: usize = 20_000;
/// The lowest limit on a slow store.
const LEAST_ROWS: usize = 500;
/// The limit while callers wait for SQLite's only writer: some 15 ms.
const SHORT_ROWS: usize = 1_024;
/// The target duration of a transaction; other callers wait for it.
const AIM: Duration = Duration::from_millis(100);

/// The row budget of one transaction.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Budget {
    rows: usize,
    spent: usize,
}

impl Budget {
    pub(in crate::store) fn of_rows(rows: usize) -> Budget {
        Budget { rows, spent: 0 }
    }

    /// Takes `rows` if they fit or nothing was taken yet.
    pub(in crate::store) fn take(&mut self, rows: usize) -> bool {
        let fits = self.spent == 0 || self.spent.saturating_add(rows) <= self.rows;
        if fits {
            self.spent = self.spent.saturating_add(rows.max(1));
        }
        fits
    }

    /// The rows taken.
    pub(in crate::store) fn spent(self) -> usize {
        self.spent
    }
}

/// The row limit of the next transaction: halved after a slow transaction, increased by an eighth after a fast one.
#[derive(Debug)]
pub(in crate::store) struct AdaptiveBudget {
    rows: usize,
    /// Transactions are to be short.
    short: bool,
}

impl AdaptiveBudget {
    pub(in crate::store) fn new() -> AdaptiveBudget {
        AdaptiveBudget { rows: MOST_ROWS, short: false }
    }

    /// Whether the next transactions are to be short, because callers wait for them: two messages to very many
    /// endpoints then have a transaction each.
    pub(in crate::store) fn set_short(&mut self, short: bool) {
        self.short = short;
    }

    /// The budget of the next transaction.
    pub(in crate::store) fn budget(&self) -> Budget {
        Budget::of_rows(if self.short { self.rows.min(SHORT_ROWS) } else { self.rows })
    }

    /// Adjusts the limit after a transaction of `rows` that took `took`.
    pub(in crate::store) fn adjust(&mut self, rows: usize, took: Duration) {
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
    fn the_first_item_always_fits() {
        let mut budget = Budget::of_rows(10);
        assert!(budget.take(25), "the first, however large");
        assert!(!budget.take(1), "and nothing besides it");
        let mut budget = Budget::of_rows(10);
        assert!([4, 6].map(|rows| budget.take(rows)) == [true, true] && !budget.take(1));
        assert_eq!(budget.spent(), 10);
        let mut nothing = Budget::of_rows(3);
        assert_eq!((0..5).filter(|_| nothing.take(0)).count(), 4, "an item without rows counts as one row");
    }

    #[test]
    fn slow_transactions_lower_the_limit_and_fast_ones_raise_it() {
        let mut limit = AdaptiveBudget::new();
        let (slow, quick) = (Duration::from_secs(2), Duration::from_millis(5));
        limit.adjust(20_000, slow);
        assert_eq!(limit.budget().rows, 10_000);
        limit.adjust(600, slow);
        assert_eq!(limit.budget().rows, LEAST_ROWS, "half of the rows, but not below the minimum");
        limit.adjust(100, slow);
        assert_eq!(limit.budget().rows, LEAST_ROWS, "a slow transaction with few rows does not count");
        (0..40).for_each(|_| limit.adjust(100, quick));
        assert_eq!(limit.budget().rows, MOST_ROWS);
    }

    #[test]
    fn short_transactions_have_a_lower_limit() {
        let mut limit = AdaptiveBudget::new();
        limit.set_short(true);
        let mut budget = limit.budget();
        assert_eq!([6_250, 6_250].map(|rows| budget.take(rows)), [true, false], "one wide message each");
        limit.adjust(600, Duration::from_secs(2));
        assert_eq!(limit.budget().rows, LEAST_ROWS, "a slow store lowers it further");
        limit.set_short(false);
        (0..40).for_each(|_| limit.adjust(100, Duration::ZERO));
        assert_eq!(limit.budget().rows, MOST_ROWS);
    }
}
