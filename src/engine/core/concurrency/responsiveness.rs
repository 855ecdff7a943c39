//! Responsiveness: whether an endpoint responds or hangs.

use std::time::Duration;

/// An endpoint is silent if it has not responded for this long with a request in flight.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// An endpoint that responded within this time counts as responsive.
const RESPONSIVE_FOR: Duration = Duration::from_secs(60);
/// The clock's resolution: `RESPONSIVE_FOR` is inclusive.
const CLOCK_RESOLUTION: Duration = Duration::from_nanos(1);

/// The responsiveness of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responsiveness {
    /// The endpoint responded recently, with any status.
    Responsive,
    Unknown,
    /// The endpoint hangs or cannot be reached.
    Silent,
}

/// The recent responses of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseHistory {
    /// The time of the last response.
    last: Option<Duration>,
    /// The start of the period with a request in flight.
    busy_since: Duration,
}

impl ResponseHistory {
    /// A request is in flight from `now` on, after none was.
    pub fn request_started(&mut self, now: Duration) {
        self.busy_since = now;
    }

    /// A response arrived.
    pub fn responded(&mut self, now: Duration) {
        self.last = Some(now);
    }

    /// The time from which the wait for a response counts, with a request in flight.
    fn since(&self) -> Duration {
        self.last.map_or(self.busy_since, |last| last.max(self.busy_since))
    }

    /// The kind at `now`. An endpoint is silent if the last attempt did not reach it, or if its requests in flight
    /// get no response for a while.
    pub fn responsiveness(&self, in_flight: bool, unreachable: bool, now: Duration) -> Responsiveness {
        match self.last {
            _ if unreachable => Responsiveness::Silent,
            _ if in_flight && now.saturating_sub(self.since()) >= SILENT_AFTER => Responsiveness::Silent,
            Some(last) if now.saturating_sub(last) <= RESPONSIVE_FOR => Responsiveness::Responsive,
            _ => Responsiveness::Unknown,
        }
    }

    /// The time at which the kind that was `noted` changes without an event. `None`: only an event changes it. May lie
    /// in the past.
    pub fn next_change(&self, in_flight: bool, noted: Responsiveness) -> Option<Duration> {
        // A silent endpoint stays silent until an attempt ends.
        let silent_at = (in_flight && noted != Responsiveness::Silent).then(|| self.since() + SILENT_AFTER);
        let expires = self
            .last
            .filter(|_| noted == Responsiveness::Responsive)
            .map(|last| last + RESPONSIVE_FOR + CLOCK_RESOLUTION);
        silent_at.into_iter().chain(expires).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_change_is_exact() {
        let mut answers = ResponseHistory::default();
        let at = Duration::from_millis;
        assert_eq!(answers.next_change(false, Responsiveness::Unknown), None);
        answers.request_started(at(1_000));
        let (before, silent) = (at(1_500) - CLOCK_RESOLUTION, at(1_500));
        assert_eq!(answers.next_change(true, Responsiveness::Unknown), Some(silent));
        assert_eq!(answers.responsiveness(true, false, before), Responsiveness::Unknown);
        assert_eq!(answers.responsiveness(true, false, silent), Responsiveness::Silent);
        answers.responded(at(2_000));
        let forgotten = at(62_000) + CLOCK_RESOLUTION;
        assert_eq!(answers.next_change(false, Responsiveness::Responsive), Some(forgotten));
        assert_eq!(answers.responsiveness(false, false, at(62_000)), Responsiveness::Responsive);
        assert_eq!(answers.responsiveness(false, false, forgotten), Responsiveness::Unknown);
        assert_eq!(answers.responsiveness(false, true, at(2_000)), Responsiveness::Silent);
        assert_eq!(answers.next_change(true, Responsiveness::Silent), None, "only when an attempt ends");
    }
}
