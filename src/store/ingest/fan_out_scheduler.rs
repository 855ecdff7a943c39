//! Scheduling of fan-out steps: applications take turns, and one whose step failed backs off so it does not delay the
//! others.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fan_out::{PACK, STEP};
use crate::domain::retry_backoff::RetryBackoff;
use crate::domain::{AppId, Time};

/// The waits of an application whose steps fail.
const BACKOFF: RetryBackoff = RetryBackoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// Maximum applications that back off at once. Beyond that, the one whose backoff ends first is retried early.
const MAX_FAILING: usize = 1_024;

/// The target duration of a step. A longer one halves the next step; one that took less than a third doubles it. On
/// SQLite all other writers wait for the step.
const STEP_TARGET: Duration = Duration::from_millis(20);
/// Maximum packs of a step while callers wait for SQLite's only writer: about 4 ms.
pub(super) const SHORT_STEP: usize = 1;
/// Maximum packs of one step.
pub(super) const PACKS: usize = STEP / PACK;

/// State between two steps of [`Store::fan_out`](crate::store::Store::fan_out); it may be lost at any time.
#[derive(Debug)]
pub struct FanOutScheduler {
    /// The application tried last.
    pub(super) last: Option<AppId>,
    failing: BTreeMap<AppId, FailingApp>,
    step_target: Duration,
    /// Maximum packs of the next step, so that it takes about `step_target`.
    packs: usize,
}

impl Default for FanOutScheduler {
    fn default() -> FanOutScheduler {
        FanOutScheduler::new(STEP_TARGET)
    }
}

/// An application whose last step failed.
#[derive(Clone, Copy, Debug)]
struct FailingApp {
    until: Time,
    backoff: RetryBackoff,
    /// Maximum packs of its next step.
    packs: usize,
}

impl FanOutScheduler {
    /// The first step has the maximum size; the following ones are to take about `step_target`.
    pub fn new(step_target: Duration) -> FanOutScheduler {
        FanOutScheduler { last: None, failing: BTreeMap::new(), step_target, packs: PACKS }
    }

    /// The application tried last.
    pub fn last(&self) -> Option<AppId> {
        self.last
    }

    pub(super) fn is_backing_off(&self, app: AppId, now: Time) -> bool {
        self.failing.get(&app).is_some_and(|failing| now < failing.until)
    }

    /// Maximum packs of the application's next step, at most [`PACKS`]: fewer after a slow step, or after a failure of
    /// this application, because its step may have been too large.
    pub(super) fn packs(&self, app: AppId) -> usize {
        self.failing.get(&app).map_or(self.packs, |failing| failing.packs.min(self.packs))
    }

    /// A step of up to `packs` packs failed.
    pub(super) fn failed(&mut self, app: AppId, packs: usize, now: Time) {
        let before = self.failing.get(&app).map(|failing| failing.backoff);
        let mut backoff = before.unwrap_or(BACKOFF);
        let wait = backoff.failed();
        if before.is_none() && self.failing.len() >= MAX_FAILING {
            let first = self.failing.iter().min_by_key(|(_, failing)| failing.until).map(|(app, _)| *app);
            first.and_then(|app| self.failing.remove(&app));
        }
        self.failing.insert(app, FailingApp { until: now.plus(wait), backoff, packs: (packs / 2).max(1) });
    }

    /// A step of up to `packs` packs succeeded and took `took`. After a failure the application's next step may be
    /// twice as large.
    pub(super) fn succeeded(&mut self, app: AppId, packs: usize, took: Duration, now: Time) {
        if took > self.step_target {
            self.packs = (packs / 2).max(1);
        } else if took < self.step_target / 3 {
            self.packs = (self.packs * 2).min(PACKS);
        }
        if packs >= self.packs {
            self.failing.remove(&app);
        } else if let Some(failing) = self.failing.get_mut(&app) {
            *failing = FailingApp { until: now, backoff: BACKOFF, packs: packs * 2 };
        }
    }

    /// No application has packed deliveries.
    pub(super) fn nothing_left(&mut self) {
        self.failing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(number: u128) -> AppId {
        AppId(uuid::Uuid::from_u128(number))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn failures_double_the_backoff_and_halve_the_step() {
        let mut scheduler = FanOutScheduler::default();
        let (mut now, mut seen) = (0, Vec::new());
        for _ in 0..12 {
            let packs = scheduler.packs(app(1));
            scheduler.failed(app(1), packs, at(now));
            let backoff = (1..).find(|wait| !scheduler.is_backing_off(app(1), at(now + wait))).unwrap();
            now += backoff;
            seen.push((packs, backoff));
        }
        assert_eq!(seen[..5], [(8, 1), (4, 2), (2, 4), (1, 8), (1, 16)]);
        assert_eq!(seen[11], (1, 300));
        assert!(!scheduler.is_backing_off(app(2), at(0)));
    }

    #[test]
    fn successes_after_a_failure_double_the_step() {
        let mut scheduler = FanOutScheduler::default();
        for _ in 0..3 {
            let packs = scheduler.packs(app(1));
            scheduler.failed(app(1), packs, at(0));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            let packs = scheduler.packs(app(1));
            scheduler.succeeded(app(1), packs, STEP_TARGET / 2, at(9));
            assert!(!scheduler.is_backing_off(app(1), at(9)));
            seen.push(packs);
        }
        assert_eq!((seen, scheduler.failing.len()), (vec![1, 2, 4, 8], 0));
    }

    #[test]
    fn slow_steps_become_smaller_and_quick_ones_larger() {
        let mut scheduler = FanOutScheduler::default();
        let mut step = |took: Duration| {
            let packs = scheduler.packs(app(1));
            scheduler.succeeded(app(1), packs, took, at(9));
            scheduler.packs(app(2))
        };
        assert_eq!([0; 4].map(|_| step(STEP_TARGET * 2)), [4, 2, 1, 1]);
        assert_eq!(step(STEP_TARGET), 1, "on target");
        assert_eq!([0; 4].map(|_| step(STEP_TARGET / 4)), [2, 4, 8, 8]);
    }

    #[test]
    fn the_number_of_failing_applications_is_bounded() {
        let mut scheduler = FanOutScheduler::default();
        (0..2 * MAX_FAILING as u128).for_each(|number| scheduler.failed(app(number), 8, at(number as u64)));
        assert_eq!(scheduler.failing.len(), MAX_FAILING);
        assert!(!scheduler.failing.contains_key(&app(0)), "its backoff ends first");
    }
}
