//! Headroom: the number of concurrent requests that this process can make, learned from failures to make one (out of
//! file descriptors or memory, no name server).
//!
//! When an attempt is not made, the number in flight at that moment becomes the bound. The bound doubles with each
//! second without such a failure, until it is lifted. If not even one request can be made, all sending pauses:
//! 1 s, 2 s, … 30 s.

use std::time::Duration;

use crate::domain::retry_backoff::wait_after;

/// The first and the longest wait before a retry.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The interval at which the bound doubles.
const GROWS: Duration = Duration::from_secs(1);
/// The bound that counts as lifted: no process has this many requests in flight.
const UNBOUNDED: usize = 1 << 20;

/// The wait after the `failures`th failure in a row, counted from 1. `jitter` (0 to 1) shortens it by up to a quarter.
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    wait_after(failures, BACKOFF.0, BACKOFF.1).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0)
}

/// The bound. All times are monotonic.
#[derive(Debug)]
pub struct Headroom {
    most: usize,
    grows_at: Duration,
    /// Nothing starts before this time.
    paused_until: Duration,
    /// The number of times in a row that no request could be made.
    failures: u32,
}

impl Default for Headroom {
    fn default() -> Headroom {
        Headroom { most: UNBOUNDED, grows_at: Duration::ZERO, paused_until: Duration::ZERO, failures: 0 }
    }
}

impl Headroom {
    /// Maximum requests in flight at `now`.
    pub fn most(&mut self, now: Duration) -> usize {
        if now < self.paused_until {
            return 0;
        }
        while self.most < UNBOUNDED && self.grows_at <= now {
            self.most *= 2;
            self.grows_at += GROWS;
        }
        self.most
    }

    /// An attempt was made, with any outcome.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// An attempt was not made while `in_flight` others were under way.
    pub fn failed(&mut self, in_flight: usize, now: Duration, jitter: f64) {
        self.most = self.most.min(in_flight.max(1));
        self.grows_at = now + GROWS;
        if in_flight == 0 && now >= self.paused_until {
            self.failures = self.failures.saturating_add(1);
            self.paused_until = now + backoff(self.failures, jitter);
            self.grows_at = self.paused_until + GROWS;
        }
    }

    /// The time until the bound grows. `None`: there is no bound.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let until = if now < self.paused_until { self.paused_until } else { self.grows_at };
        (self.most < UNBOUNDED).then(|| until.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn backoff_doubles_up_to_a_bound_with_jitter() {
        let waits: Vec<u64> = (1..8).map(|failures| backoff(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((backoff(1, 1.0), backoff(u32::MAX, 1.0)), (at(750), at(22_500)));
    }

    #[test]
    fn the_requests_in_flight_become_the_bound_which_then_grows_away() {
        let mut headroom = Headroom::default();
        assert_eq!((headroom.most(at(0)), headroom.wait(at(0))), (UNBOUNDED, None));
        headroom.failed(101, at(10), 0.0);
        headroom.failed(100, at(10), 0.0);
        assert_eq!((headroom.most(at(10)), headroom.wait(at(10))), (100, Some(at(1_000))));
        assert_eq!((headroom.most(at(1_010)), headroom.most(at(2_010))), (200, 400));
        headroom.failed(150, at(2_020), 0.0);
        assert_eq!(headroom.most(at(2_020)), 150, "the bound is learned again");
        assert_eq!(headroom.most(at(60_000)), 150 << 13, "and is lifted after some seconds");
        assert_eq!(headroom.wait(at(60_000)), None);
    }

    #[test]
    fn without_any_request_the_pause_doubles() {
        let mut headroom = Headroom::default();
        let (mut now, mut rests) = (at(0), Vec::new());
        for _ in 0..4 {
            // Attempts that start together fail together: one round, one pause.
            for left in (0..5).rev() {
                headroom.failed(left, now, 0.0);
            }
            assert_eq!(headroom.most(now), 0);
            let rest = headroom.wait(now).unwrap();
            rests.push(rest.as_secs());
            now += rest;
            assert_eq!(headroom.most(now), 1, "one probe");
        }
        assert_eq!(rests, [1, 2, 4, 8]);
        headroom.succeeded();
        headroom.failed(0, now, 0.0);
        assert_eq!(headroom.wait(now), Some(at(1_000)), "an attempt that was made ends the row");
    }
}
