//! The circuit breaker: an endpoint's cap on requests in flight, and rests.
//!
//! A [`CircuitBreaker`] begins at the full cap. An overloaded receiver (429, 502, 503, 504) has it halved, down to one; an unreachable one
//! (timeout, refused, …) down to a few, and after a row of such failures it only **probes**: one request, then a rest that doubles.
//! Each delivery adds one to the cap again, so that a receiver that comes back is not trampled.

use std::time::Duration;

use crate::domain::attempt::{Failure, Outcome};

/// An unreachable endpoint still gets this many at once until it only gets probes: one lost connection is no outage.
const UNREACHABLE_FLOOR: usize = 4;
/// After so many unreachable attempts in a row it only gets probes.
const PROBE_AFTER: u32 = 16;
/// The first rest between probes, and the longest.
const REST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// How long a `Retry-After` on 429 or 503 may hold the whole lane.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An endpoint's present cap and rest.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    most: usize,
    cap: usize,
    unreachable: u32,
    /// How many rests there were since it last answered.
    rests: u32,
    rest_until: Duration,
}

impl CircuitBreaker {
    /// At most `most` in flight.
    pub fn new(most: usize) -> CircuitBreaker {
        CircuitBreaker { most: most.max(1), cap: most.max(1), unreachable: 0, rests: 0, rest_until: Duration::ZERO }
    }

    /// How many may be in flight now, or until when there is a rest.
    ///
    /// # Errors
    /// The end of the rest.
    pub fn cap(&self, now: Duration) -> Result<usize, Duration> {
        match now < self.rest_until {
            true => Err(self.rest_until),
            false if self.unreachable >= PROBE_AFTER => Ok(1),
            false => Ok(self.cap),
        }
    }

    /// Whether it only gets probes at the moment.
    pub fn probing(&self) -> bool {
        self.unreachable >= PROBE_AFTER
    }

    /// Whether the last attempt got no answer.
    pub fn unreachable(&self) -> bool {
        self.unreachable > 0
    }

    /// Learns from an attempt that ended at `now`.
    pub fn learn(&mut self, outcome: &Outcome, now: Duration) {
        match outcome.failure {
            None => {
                self.cap = if self.probing() { 1 } else { (self.cap + 1).min(self.most) };
                self.unreachable = 0;
                self.rests = 0;
                self.rest_until = Duration::ZERO;
            }
            Some(Failure::Status) => {
                // Whatever it answers, it is there.
                self.unreachable = 0;
                self.rests = 0;
                if matches!(outcome.status, Some(429 | 502 | 503 | 504)) {
                    self.cap = (self.cap / 2).max(1);
                    let pause = outcome.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                    self.rest_until = self.rest_until.max(now + pause);
                }
            }
            // Ours to mend or the address's to change: pressing less helps nobody.
            Some(Failure::Request | Failure::Blocked) => {}
            Some(_) => {
                self.cap = (self.cap / 2).max(UNREACHABLE_FLOOR.min(self.most));
                self.unreachable = self.unreachable.saturating_add(1);
                // What was in flight together fails together: that is one outage, and one rest.
                if self.probing() && now >= self.rest_until {
                    let (first, longest) = REST;
                    self.rest_until = now + first.saturating_mul(1 << self.rests.min(16)).min(longest);
                    self.rests += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failure: Failure) -> Outcome {
        Outcome::failed(failure, "", Duration::ZERO)
    }

    fn answered(status: u16) -> Outcome {
        let failure = (status >= 300).then_some(Failure::Status);
        Outcome { failure, status: Some(status), ..failed(Failure::Status) }
    }

    fn after(outcomes: impl IntoIterator<Item = Outcome>) -> CircuitBreaker {
        let mut pace = CircuitBreaker::new(64);
        outcomes.into_iter().for_each(|outcome| pace.learn(&outcome, Duration::ZERO));
        pace
    }

    #[test]
    fn overload_halves_to_one_and_deliveries_add_one_each() {
        let mut pace = after([answered(503), answered(429)]);
        assert_eq!(pace.cap(Duration::ZERO), Ok(16));
        (0..9).for_each(|_| pace.learn(&answered(504), Duration::ZERO));
        assert_eq!(pace.cap(Duration::ZERO), Ok(1));
        (0..5).for_each(|_| pace.learn(&answered(200), Duration::ZERO));
        assert_eq!(pace.cap(Duration::ZERO), Ok(6));
    }

    #[test]
    fn an_ordinary_refusal_does_not_slow_the_lane() {
        assert_eq!(after([answered(500), answered(404), failed(Failure::Blocked)]).cap(Duration::ZERO), Ok(64));
    }

    #[test]
    fn retry_after_rests_the_lane_but_not_for_ever() {
        let asked = |seconds| Outcome { retry_after: Some(Duration::from_secs(seconds)), ..answered(429) };
        assert_eq!(after([asked(5)]).cap(Duration::from_secs(4)), Err(Duration::from_secs(5)));
        assert!(after([asked(5)]).cap(Duration::from_secs(5)).is_ok());
        assert_eq!(after([asked(10_000)]).cap(Duration::ZERO), Err(LONGEST_PAUSE));
    }

    #[test]
    fn an_unreachable_endpoint_gets_probes_with_growing_rests_and_comes_back_slowly() {
        let refused = || failed(Failure::Refused);
        let mut pace = after(std::iter::repeat_with(refused).take(15));
        assert_eq!((pace.cap(Duration::ZERO), pace.probing()), (Ok(UNREACHABLE_FLOOR), false));
        pace.learn(&refused(), Duration::ZERO);
        assert_eq!((pace.cap(Duration::ZERO), pace.cap(REST.0)), (Err(REST.0), Ok(1)));
        (0..40).for_each(|_| pace.learn(&refused(), Duration::ZERO));
        assert_eq!(pace.cap(Duration::ZERO), Err(REST.0), "what was in flight as well makes no rest longer");
        let mut rests = Vec::new();
        let mut now = REST.0;
        for _ in 0..8 {
            pace.learn(&refused(), now);
            let until = pace.cap(now).expect_err("a rest");
            rests.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(rests, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        pace.learn(&answered(200), Duration::ZERO);
        assert_eq!((pace.cap(Duration::ZERO), pace.probing()), (Ok(1), false));
        pace.learn(&answered(200), Duration::ZERO);
        assert_eq!(pace.cap(Duration::ZERO), Ok(2));
    }
}
