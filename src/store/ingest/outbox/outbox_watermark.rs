//! The low watermark of the outbox on PostgreSQL: the id from which a poll starts. While a snapshot is open, vacuum
//! cannot remove relayed rows from the index. A poll from the start of the index would skip over all of them, 40 times
//! per second.
//!
//! Ids are assigned before the commit, and a writer may leave them NULL, so a row below the watermark can still appear.
//! Therefore a poll that finds no row below an id only makes that id a candidate. It becomes the watermark [`LAG`]
//! later, and periodic full scans find rows that appear below it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::Time;

/// The delay before a candidate becomes the watermark. Rows committed during it are found at once.
const LAG: Duration = Duration::from_secs(10);
/// Interval of full scans. A row waits at most this long if its transaction was open longer than [`LAG`], its writer
/// set its id, or another process requested its retry.
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(2);

/// The low watermark of rows that were never tried. Stuck rows are found by their retry time instead.
#[derive(Debug, Default)]
pub(in crate::store) struct OutboxWatermark(Mutex<WatermarkState>);

#[derive(Debug, Default)]
struct WatermarkState {
    watermark: Option<i64>,
    /// The candidate for the watermark, and the time of the poll that found no row below it.
    next: Option<(Time, i64)>,
    /// The greatest id that was relayed.
    greatest: Option<i64>,
    /// The time of the last full scan.
    full: Option<Time>,
}

impl OutboxWatermark {
    fn state(&self) -> MutexGuard<'_, WatermarkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watermark; `None`: scan everything.
    pub fn current(&self) -> Option<i64> {
        self.state().watermark
    }

    /// The start of a poll whose result is passed to [`OutboxWatermark::polled`]; `None` if a full scan is due.
    pub fn poll_start(&self, now: Time) -> Option<i64> {
        let state = self.state();
        // `full` may be in the future if the clock was set back.
        state.watermark.filter(|_| state.full.is_some_and(|full| full <= now && now.since(full) < FULL_SCAN_INTERVAL))
    }

    /// A poll that began at `from` found `first`, or nothing.
    pub fn polled(&self, from: Option<i64>, first: Option<i64>, now: Time) {
        let mut state = self.state();
        if from.is_none() {
            state.full = Some(now);
        }
        if first.zip(state.watermark).is_some_and(|(first, watermark)| first < watermark) {
            (state.watermark, state.next) = (None, None);
        }
        let Some(id) = first.or(state.greatest.map(|id| id.saturating_add(1))) else { return };
        match state.next {
            Some((at, next)) if now.since(at) >= LAG => {
                state.watermark = Some(next);
                state.next = Some((now, id));
            }
            Some((at, _)) if at <= now => {}
            _ => state.next = Some((now, id)),
        }
    }

    /// These rows were relayed.
    pub fn relayed(&self, ids: impl Iterator<Item = i64>) {
        let mut state = self.state();
        state.greatest = ids.chain(state.greatest).max();
    }

    /// Resets the watermark: rows of any id may wait.
    pub fn reset(&self) {
        let mut state = self.state();
        (state.watermark, state.next) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use crate::store::ingest::outbox::outbox_watermark::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    /// A poll that finds `first`. Returns its start.
    fn poll(watermark: &OutboxWatermark, first: Option<i64>, now: Time) -> Option<i64> {
        let from = watermark.poll_start(now);
        watermark.polled(from, first, now);
        from
    }

    #[test]
    fn the_watermark_follows_with_a_lag() {
        let watermark = OutboxWatermark::default();
        for second in 0..10 {
            assert_eq!(poll(&watermark, Some(100 + second as i64), at(second)), None);
        }
        assert_eq!((poll(&watermark, Some(200), at(10)), watermark.current()), (None, Some(100)));
        assert_eq!(poll(&watermark, Some(210), at(11)), Some(100));
        assert_eq!(poll(&watermark, Some(300), at(20)), None, "a full scan");
        assert_eq!(poll(&watermark, None, at(21)), Some(200));
    }

    #[test]
    fn with_an_empty_outbox_the_watermark_is_above_all_relayed_rows() {
        let watermark = OutboxWatermark::default();
        poll(&watermark, Some(1), at(0));
        watermark.relayed([1, 3, 2].into_iter());
        for second in [10, 20, 30] {
            poll(&watermark, None, at(second));
        }
        assert_eq!(watermark.current(), Some(4));
    }

    #[test]
    fn a_row_below_the_watermark_resets_it() {
        let watermark = OutboxWatermark::default();
        poll(&watermark, Some(100), at(0));
        poll(&watermark, Some(200), at(10));
        assert_eq!(watermark.current(), Some(100));
        assert_eq!(poll(&watermark, Some(50), at(12)), None);
        assert_eq!(watermark.current(), None);
        poll(&watermark, Some(300), at(22));
        assert_eq!(watermark.current(), Some(50));
        watermark.reset();
        assert_eq!((watermark.current(), poll(&watermark, Some(7), at(23))), (None, None));
        assert_eq!(poll(&watermark, None, at(1)), None, "a clock that was set back");
    }
}
