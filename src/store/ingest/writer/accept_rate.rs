//! The rate at which callers send messages. On SQLite it limits how long background writes (records of attempts, steps
//! of the fan-out) hold the only write lock: a POST waits for at most one of them.
//!
//! With no callers, nobody waits, and large transactions cost the least. With thousands of messages a second, accepts
//! fill large transactions themselves, and records must keep up. In between, background writes are short.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The rate is counted in windows of this length.
const WINDOW: Duration = Duration::from_secs(1);
/// The size of a batch of records while nobody sends messages: a larger one saves almost nothing.
const LONG: usize = 512;
/// Its size at the lowest rate: about 3 ms with its commit.
const SHORT: usize = 64;
/// Each message per second allows a batch to have this many more records.
const RECORDS_PER_RATE: f64 = 0.25;
/// Below this rate, in messages per second, background writes are short: there a batch of records reaches [`LONG`].
const BUSY: f64 = (LONG - SHORT) as f64 / RECORDS_PER_RATE;

/// The rate of accepted messages, for all tasks of a process.
#[derive(Debug, Default)]
pub(in crate::store) struct AcceptRate {
    windows: Mutex<Windows>,
}

#[derive(Debug, Default)]
struct Windows {
    /// The start of the present window.
    began: Option<Instant>,
    present: u32,
    before: u32,
}

impl AcceptRate {
    pub(in crate::store) fn count(&self, messages: usize, now: Instant) {
        let mut windows = self.at(now);
        windows.present = windows.present.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    /// Messages per second: of the last whole window or of the present one, whichever has more.
    fn per_second(&self, now: Instant) -> f64 {
        let windows = self.at(now);
        f64::from(windows.present.max(windows.before)) / WINDOW.as_secs_f64()
    }

    /// Whether background writes should be short: callers wait for them.
    pub(in crate::store) fn wants_short_writes(&self, now: Instant) -> bool {
        let rate = self.per_second(now);
        rate > 0.0 && rate < BUSY
    }

    /// Maximum records of one transaction.
    pub(in crate::store) fn record_batch(&self, now: Instant) -> usize {
        match self.per_second(now) {
            rate if rate > 0.0 => (SHORT + (rate * RECORDS_PER_RATE) as usize).min(LONG),
            _ => LONG,
        }
    }

    /// The windows at `now`.
    fn at(&self, now: Instant) -> std::sync::MutexGuard<'_, Windows> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let age = windows.began.map_or(WINDOW * 2, |began| now.saturating_duration_since(began));
        if age >= WINDOW {
            windows.before = if age < WINDOW * 2 { windows.present } else { 0 };
            windows.present = 0;
            windows.began = Some(now);
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_few_at_low_rates_and_many_without_callers_or_with_very_many() {
        let rate = AcceptRate::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((rate.record_batch(at(0)), rate.wants_short_writes(at(0))), (LONG, false), "nobody sends");
        rate.count(100, at(10));
        assert_eq!((rate.record_batch(at(500)), rate.wants_short_writes(at(500))), (SHORT + 25, true));
        assert!(rate.wants_short_writes(at(1_500)), "the window before counts");
        rate.count(1_000, at(1_600));
        assert_eq!(rate.record_batch(at(1_700)), SHORT + 250);
        rate.count(5_000, at(1_800));
        assert_eq!((rate.record_batch(at(1_900)), rate.wants_short_writes(at(1_900))), (LONG, false), "full load");
        assert_eq!((rate.record_batch(at(5_000)), rate.wants_short_writes(at(5_000))), (LONG, false), "nobody sends");
    }
}
