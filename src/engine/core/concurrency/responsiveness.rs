//! Responsiveness: whether an endpoint answers, or keeps us waiting.

use std::time::Duration;

/// An endpoint that has not answered for so long, while something is in flight, is silent.
const PATIENCE: Duration = Duration::from_millis(500);
/// An endpoint that has answered within this time is expected to do so again.
const TRUST: Duration = Duration::from_secs(60);
/// The finest step of time: trust lasts up to its end, and no longer.
const GRAIN: Duration = Duration::from_nanos(1);

/// How an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responsiveness {
    /// It has answered lately, whatever it said.
    Responsive,
    Unknown,
    /// It keeps us waiting.
    Silent,
}

/// The answers that an endpoint gave lately.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// The last one; `None`: none yet.
    last: Option<Duration>,
    /// Since when something is in flight.
    busy_since: Duration,
}

impl Answers {
    /// Something is in flight from `now` on.
    pub fn expected(&mut self, now: Duration) {
        self.busy_since = now;
    }

    /// It has answered `now`.
    pub fn came(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// Since when it keeps us waiting, if something is in flight.
    fn since(&self) -> Duration {
        self.last.map_or(self.busy_since, |last| last.max(self.busy_since))
    }

    /// How it answers at `now`. It is silent when the last attempt did not reach it, or nothing that is in flight was answered for a while.
    pub fn responsiveness(&self, in_flight: bool, unreachable: bool, now: Duration) -> Responsiveness {
        match self.last {
            _ if unreachable => Responsiveness::Silent,
            _ if in_flight && now.saturating_sub(self.since()) >= PATIENCE => Responsiveness::Silent,
            Some(last) if now.saturating_sub(last) <= TRUST => Responsiveness::Responsive,
            _ => Responsiveness::Unknown,
        }
    }

    /// When that changes next by the mere passing of time, from what was `noted`; `None`: not before an event. It may have passed already.
    pub fn next_change(&self, in_flight: bool, noted: Responsiveness) -> Option<Duration> {
        // A silent endpoint stays so until an attempt ends.
        let patience = (in_flight && noted != Responsiveness::Silent).then(|| self.since() + PATIENCE);
        let trust = self.last.filter(|_| noted == Responsiveness::Responsive).map(|last| last + TRUST + GRAIN);
        patience.into_iter().chain(trust).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_announced_to_the_nanosecond() {
        let mut answers = Answers::default();
        let at = Duration::from_millis;
        assert_eq!(answers.next_change(false, Responsiveness::Unknown), None);
        answers.expected(at(1_000));
        let (before, silent) = (at(1_500) - GRAIN, at(1_500));
        assert_eq!(answers.next_change(true, Responsiveness::Unknown), Some(silent));
        assert_eq!(answers.responsiveness(true, false, before), Responsiveness::Unknown);
        assert_eq!(answers.responsiveness(true, false, silent), Responsiveness::Silent);
        answers.came(at(2_000));
        let forgotten = at(62_000) + GRAIN;
        assert_eq!(answers.next_change(false, Responsiveness::Responsive), Some(forgotten));
        assert_eq!(answers.responsiveness(false, false, at(62_000)), Responsiveness::Responsive);
        assert_eq!(answers.responsiveness(false, false, forgotten), Responsiveness::Unknown);
        assert_eq!(answers.responsiveness(false, true, at(2_000)), Responsiveness::Silent);
        assert_eq!(answers.next_change(true, Responsiveness::Silent), None, "not before an attempt ends");
    }
}
