//! Whose turn it is to be fanned out: one application after another, and one whose step fails rests, so that it holds up no other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::{AppId, Time};

/// How long an application rests after its step failed for the first time; twice as long after each further time,
const SHORTEST_REST: Duration = Duration::from_secs(1);
/// but no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// How many applications may rest at once. Beyond that, the one whose rest ends first is tried again.
const RESTING: usize = 1_024;

/// What a process remembers between two steps of [`Store::fan_out`](crate::store::Store::fan_out). Nothing is lost with it.
#[derive(Debug, Default)]
pub struct FanOutTurns {
    /// Whose turn was last.
    pub(super) last: Option<AppId>,
    failing: BTreeMap<AppId, Failing>,
}

/// An application whose last step failed.
#[derive(Clone, Copy, Debug)]
struct Failing {
    until: Time,
    rest: Duration,
    /// How many packs its next step takes at most.
    packs: usize,
}

impl FanOutTurns {
    /// Whose turn was last.
    pub fn last(&self) -> Option<AppId> {
        self.last
    }

    /// Whether the application is left alone at `now`.
    pub(super) fn rests(&self, app: AppId, now: Time) -> bool {
        self.failing.get(&app).is_some_and(|failing| now < failing.until)
    }

    /// How many packs a step of the application takes: up to `most`, fewer after a failure, because the step may have been too large.
    pub(super) fn packs(&self, app: AppId, most: usize) -> usize {
        self.failing.get(&app).map_or(most, |failing| failing.packs.min(most))
    }

    /// A step of the application has failed, with up to `packs`.
    pub(super) fn failed(&mut self, app: AppId, packs: usize, now: Time) {
        let before = self.failing.get(&app).map(|failing| failing.rest);
        let rest = before.map_or(SHORTEST_REST, |rest| (rest * 2).clamp(SHORTEST_REST, LONGEST_REST));
        if before.is_none() && self.failing.len() >= RESTING {
            let first = self.failing.iter().min_by_key(|(_, failing)| failing.until).map(|(app, _)| *app);
            first.and_then(|app| self.failing.remove(&app));
        }
        self.failing.insert(app, Failing { until: now.plus(rest), rest, packs: (packs / 2).max(1) });
    }

    /// A step of the application has succeeded, with up to `packs` of at most `most`: its next one may be twice as large.
    pub(super) fn succeeded(&mut self, app: AppId, packs: usize, most: usize, now: Time) {
        if packs >= most {
            self.failing.remove(&app);
        } else if let Some(failing) = self.failing.get_mut(&app) {
            *failing = Failing { until: now, rest: Duration::ZERO, packs: packs * 2 };
        }
    }

    /// Nothing is packed any more.
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
    fn one_that_fails_rests_ever_longer_and_takes_ever_less() {
        let mut turns = FanOutTurns::default();
        let (mut now, mut seen) = (0, Vec::new());
        for _ in 0..12 {
            let packs = turns.packs(app(1), 8);
            turns.failed(app(1), packs, at(now));
            let rest = (1..).find(|rest| !turns.rests(app(1), at(now + rest))).unwrap();
            now += rest;
            seen.push((packs, rest));
        }
        assert_eq!(seen[..5], [(8, 1), (4, 2), (2, 4), (1, 8), (1, 16)]);
        assert_eq!(seen[11], (1, 300));
        assert!(!turns.rests(app(2), at(0)));
    }

    #[test]
    fn one_that_goes_again_takes_more_with_each_step() {
        let mut turns = FanOutTurns::default();
        for _ in 0..3 {
            let packs = turns.packs(app(1), 8);
            turns.failed(app(1), packs, at(0));
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            let packs = turns.packs(app(1), 8);
            turns.succeeded(app(1), packs, 8, at(9));
            assert!(!turns.rests(app(1), at(9)));
            seen.push(packs);
        }
        assert_eq!((seen, turns.failing.len()), (vec![1, 2, 4, 8], 0));
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut turns = FanOutTurns::default();
        (0..2 * RESTING as u128).for_each(|number| turns.failed(app(number), 8, at(number as u64)));
        assert_eq!(turns.failing.len(), RESTING);
        assert!(!turns.failing.contains_key(&app(0)), "the one whose rest ends first");
    }
}
