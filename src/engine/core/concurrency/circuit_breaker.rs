//! The circuit breaker: the concurrency limit of one endpoint, and its pauses.
//!
//! A [`CircuitBreaker`] starts at the configured limit. An overloaded receiver (429, 502, 503, 504) halves it, down
//! to one. An unreachable one (timeout, connection refused, …) lowers it to a few; after a row of such failures the
//! endpoint gets **probes** only: one request, then a pause that doubles. Each success raises the limit by one, so a
//! receiver that recovers is not flooded.

use std::time::Duration;

use crate::domain::deliveries::attempt::{Failure, Outcome};

/// The least limit of an unreachable endpoint before it gets probes only: one lost connection is no outage.
const UNREACHABLE_FLOOR: usize = 4;
/// The number of unreachable attempts in a row after which it gets probes only.
const PROBE_AFTER: u32 = 16;
/// The first and the longest pause between probes.
const REST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// The longest `Retry-After` of a 429 or 503 that pauses the lane.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The current limit and pause of an endpoint.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    most: usize,
    cap: usize,
    unreachable: u32,
    /// The number of pauses since the last response.
    rests: u32,
    rest_until: Duration,
}

impl CircuitBreaker {
    /// A breaker with the limit `most`.
    pub fn new(most: usize) -> CircuitBreaker {
        CircuitBreaker { most: most.max(1), cap: most.max(1), unreachable: 0, rests: 0, rest_until: Duration::ZERO }
    }

    /// The current limit on requests in flight.
    ///
    /// # Errors
    /// The end of the pause, during one.
    pub fn cap(&self, now: Duration) -> Result<usize, Duration> {
        match now < self.rest_until {
            true => Err(self.rest_until),
            false if self.unreachable >= PROBE_AFTER => Ok(1),
            false => Ok(self.cap),
        }
    }

    /// Whether the endpoint gets probes only.
    pub fn probing(&self) -> bool {
        self.unreachable >= PROBE_AFTER
    }

    /// Whether the last attempt got no response.
    pub fn unreachable(&self) -> bool {
        self.unreachable > 0
    }

    /// Adjusts the limit and the pause after an attempt that ended at `now`.
    pub fn learn(&mut self, outcome: &Outcome, now: Duration) {
        match outcome.failure {
            None => {
                self.cap = if self.probing() { 1 } else { (self.cap + 1).min(self.most) };
                self.unreachable = 0;
                self.rests = 0;
                self.rest_until = Duration::ZERO;
            }
            Some(Failure::Status) => {
                // Any response proves that the receiver is reachable.
                self.unreachable = 0;
                self.rests = 0;
                if matches!(outcome.status, Some(429 | 502 | 503 | 504)) {
                    self.cap = (self.cap / 2).max(1);
                    let pause = outcome.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                    self.rest_until = self.rest_until.max(now + pause);
                }
            }
            // A local failure or a forbidden address. A lower limit would not help.
            Some(Failure::Request | Failure::Blocked) => {}
            Some(_) => {
                self.cap = (self.cap / 2).max(UNREACHABLE_FLOOR.min(self.most));
                self.unreachable = self.unreachable.saturating_add(1);
                // Attempts in flight together fail together: one outage, one pause.
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
    fn overload_halves_the_limit_and_each_success_adds_one() {
        let mut pace = after([answered(503), answered(429)]);
        assert_eq!(pace.cap(Duration::ZERO), Ok(16));
        (0..9).for_each(|_| pace.learn(&answered(504), Duration::ZERO));
        assert_eq!(pace.cap(Duration::ZERO), Ok(1));
        (0..5).for_each(|_| pace.learn(&answered(200), Duration::ZERO));
        assert_eq!(pace.cap(Duration::ZERO), Ok(6));
    }

    #[test]
    fn other_error_responses_do_not_lower_the_limit() {
        assert_eq!(after([answered(500), answered(404), failed(Failure::Blocked)]).cap(Duration::ZERO), Ok(64));
    }

    #[test]
    fn retry_after_pauses_the_lane_up_to_a_limit() {
        let asked = |seconds| Outcome { retry_after: Some(Duration::from_secs(seconds)), ..answered(429) };
        assert_eq!(after([asked(5)]).cap(Duration::from_secs(4)), Err(Duration::from_secs(5)));
        assert!(after([asked(5)]).cap(Duration::from_secs(5)).is_ok());
        assert_eq!(after([asked(10_000)]).cap(Duration::ZERO), Err(LONGEST_PAUSE));
    }

    #[test]
    fn an_unreachable_endpoint_gets_probes_with_growing_pauses_and_recovers_slowly() {
        let refused = || failed(Failure::Refused);
        let mut pace = after(std::iter::repeat_with(refused).take(15));
        assert_eq!((pace.cap(Duration::ZERO), pace.probing()), (Ok(UNREACHABLE_FLOOR), false));
        pace.learn(&refused(), Duration::ZERO);
        assert_eq!((pace.cap(Duration::ZERO), pace.cap(REST.0)), (Err(REST.0), Ok(1)));
        (0..40).for_each(|_| pace.learn(&refused(), Duration::ZERO));
        assert_eq!(
            pace.cap(Duration::ZERO),
            Err(REST.0),
            "attempts in flight at the same time do not lengthen the pause"
        );
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
