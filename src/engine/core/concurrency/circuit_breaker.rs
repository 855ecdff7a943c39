//! The circuit breaker: the concurrency limit of one endpoint, and its pauses.
//!
//! A [`CircuitBreaker`] starts at the configured limit. An overloaded receiver (429, 502, 503, 504) halves it, down to
//! one. An unreachable one (timeout, connection refused, …) lowers it to a few. After several such failures in a row
//! the endpoint gets **probes** only: one request, then a pause that doubles. Each success raises the limit by one, so
//! a receiver that recovers is not flooded.

use std::time::Duration;

use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::domain::retry_backoff::wait_after;

/// The lowest limit of an unreachable endpoint before it gets probes only: a single lost connection is not an outage.
const UNREACHABLE_LIMIT: usize = 4;
/// The number of unreachable attempts in a row after which it gets probes only.
const PROBE_AFTER: u32 = 16;
/// The first and the longest pause between probes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// The longest pause for a `Retry-After` of a 429, 502, 503 or 504.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The current limit and pause of an endpoint.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    most: usize,
    cap: usize,
    unreachable: u32,
    /// The number of pauses since the last response.
    pauses: u32,
    pause_until: Duration,
}

impl CircuitBreaker {
    /// A breaker with the limit `most`.
    pub fn new(most: usize) -> CircuitBreaker {
        CircuitBreaker { most: most.max(1), cap: most.max(1), unreachable: 0, pauses: 0, pause_until: Duration::ZERO }
    }

    /// The current limit on requests in flight.
    ///
    /// # Errors
    /// The end of the pause, during one.
    pub fn cap(&self, now: Duration) -> Result<usize, Duration> {
        match now < self.pause_until {
            true => Err(self.pause_until),
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
                self.pauses = 0;
                self.pause_until = Duration::ZERO;
            }
            Some(Failure::Status) => {
                // Any response proves that the receiver is reachable.
                self.unreachable = 0;
                self.pauses = 0;
                if matches!(outcome.status, Some(429 | 502 | 503 | 504)) {
                    self.cap = (self.cap / 2).max(1);
                    let pause = outcome.retry_after.unwrap_or_default().min(LONGEST_PAUSE);
                    self.pause_until = self.pause_until.max(now + pause);
                }
            }
            // A local failure or a forbidden address. A lower limit would not help.
            Some(Failure::Request | Failure::Blocked) => {}
            Some(_) => {
                // Overload may have lowered it below the limit of an unreachable endpoint.
                self.cap = (self.cap / 2).max(UNREACHABLE_LIMIT.min(self.cap));
                self.unreachable = self.unreachable.saturating_add(1);
                // Attempts in flight together fail together: one outage, one pause.
                if self.probing() && now >= self.pause_until {
                    self.pauses = self.pauses.saturating_add(1);
                    self.pause_until = now + wait_after(self.pauses, PAUSE.0, PAUSE.1);
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
        let mut breaker = CircuitBreaker::new(64);
        outcomes.into_iter().for_each(|outcome| breaker.learn(&outcome, Duration::ZERO));
        breaker
    }

    #[test]
    fn overload_halves_the_limit_and_each_success_adds_one() {
        let mut breaker = after([answered(503), answered(429)]);
        assert_eq!(breaker.cap(Duration::ZERO), Ok(16));
        (0..9).for_each(|_| breaker.learn(&answered(504), Duration::ZERO));
        assert_eq!(breaker.cap(Duration::ZERO), Ok(1));
        (0..5).for_each(|_| breaker.learn(&answered(200), Duration::ZERO));
        assert_eq!(breaker.cap(Duration::ZERO), Ok(6));
    }

    #[test]
    fn a_failure_without_a_response_never_raises_the_limit() {
        let mut breaker = after(std::iter::repeat_with(|| answered(503)).take(9));
        assert_eq!(breaker.cap(Duration::ZERO), Ok(1));
        breaker.learn(&failed(Failure::Timeout), Duration::ZERO);
        assert_eq!(breaker.cap(Duration::ZERO), Ok(1));
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
        let mut breaker = after(std::iter::repeat_with(refused).take(15));
        assert_eq!((breaker.cap(Duration::ZERO), breaker.probing()), (Ok(UNREACHABLE_LIMIT), false));
        breaker.learn(&refused(), Duration::ZERO);
        assert_eq!((breaker.cap(Duration::ZERO), breaker.cap(PAUSE.0)), (Err(PAUSE.0), Ok(1)));
        (0..40).for_each(|_| breaker.learn(&refused(), Duration::ZERO));
        assert_eq!(
            breaker.cap(Duration::ZERO),
            Err(PAUSE.0),
            "attempts in flight at the same time do not lengthen the pause"
        );
        let mut pauses = Vec::new();
        let mut now = PAUSE.0;
        for _ in 0..8 {
            breaker.learn(&refused(), now);
            let until = breaker.cap(now).expect_err("a rest");
            pauses.push((until - now).as_millis());
            now = until;
        }
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        breaker.learn(&answered(200), Duration::ZERO);
        assert_eq!((breaker.cap(Duration::ZERO), breaker.probing()), (Ok(1), false));
        breaker.learn(&answered(200), Duration::ZERO);
        assert_eq!(breaker.cap(Duration::ZERO), Ok(2));
    }
}
