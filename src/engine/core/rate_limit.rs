//! The rate limit of an endpoint or application: a governor token bucket that takes the time as an argument.
//!
//! The bucket holds the tokens of a twentieth of a second, at least one, so at most rate + burst requests start in any
//! second. Network latency can push more of them into one second at the receiver; the small burst keeps the excess
//! within a tenth. The bucket starts empty when this process may begin to send, so a change of owner adds no burst.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::domain::AppId;
use crate::store::ingest::message_routing::AppRate;

/// The clock that governor reads, set before each use.
#[derive(Clone, Debug, Default)]
struct ManualClock(Arc<AtomicU64>);

impl Clock for ManualClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

/// The level of the bucket. It can be tested without taking a token, because a delivery under two limits takes from
/// both or neither.
#[derive(Debug, Default)]
struct BucketLevel {
    at: Cell<Option<Nanos>>,
    looking: Arc<AtomicBool>,
}

impl StateStore for BucketLevel {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (result, next) = measure(self.at.get())?;
        if !self.looking.load(Ordering::Relaxed) {
            self.at.set(Some(next));
        }
        Ok(result)
    }
}

/// The endpoints of an application in one slot.
pub type AppSlot = (AppId, u8);

/// The rate limits of applications. Each slot of an application gets an equal part of the rate, because slots may
/// have different owners. A limit belongs to one lease of its slot, identified by the caller; under the next lease it
/// starts empty.
#[derive(Default)]
pub struct AppRateLimits {
    by_part: BTreeMap<AppSlot, (u64, RateLimit)>,
}

impl AppRateLimits {
    /// The limit, if the application has one.
    pub fn get(&self, part: AppSlot) -> Option<&RateLimit> {
        self.by_part.get(&part).map(|(_, limit)| limit)
    }

    /// Sets the rate of an application, divided among its slots. A limit with the same rate and `lease` keeps its
    /// level; otherwise a new one starts empty at `since`.
    pub fn set(&mut self, part: AppSlot, lease: u64, rate: AppRate, since: Duration) {
        let AppRate { per_second: rate, slots: parts } = rate;
        let same = |(of, limit): &(u64, RateLimit)| *of == lease && limit.is_part(rate, parts);
        if !self.by_part.get(&part).is_some_and(same) {
            self.by_part.insert(part, (lease, RateLimit::part(rate, parts, since)));
        }
    }

    /// The slot has a new lease since `since`: replaces the limit of an older lease. A limit of this lease stays, at
    /// any rate.
    pub fn renew(&mut self, part: AppSlot, lease: u64, rate: AppRate, since: Duration) {
        if self.by_part.get(&part).is_none_or(|(of, _)| *of != lease) {
            self.set(part, lease, rate, since);
        }
    }

    /// Removes the limit of an application that no longer has one.
    pub fn remove(&mut self, part: AppSlot) {
        self.by_part.remove(&part);
    }

    /// Forgets the limits of an application without lanes.
    pub fn forget(&mut self, app: AppId) {
        self.by_part.extract_if((app, 0)..=(app, u8::MAX), |_, _| true).for_each(drop);
    }
}

/// A limit in deliveries per second.
pub struct RateLimit {
    rate: u16,
    parts: u16,
    hand: ManualClock,
    looking: Arc<AtomicBool>,
    bucket: RateLimiter<NotKeyed, BucketLevel, ManualClock, NoOpMiddleware<Nanos>>,
}

impl RateLimit {
    /// A limit of `rate` per second (0 counts as 1) whose bucket was empty at `since` (monotonic time).
    pub fn new(rate: u16, since: Duration) -> RateLimit {
        RateLimit::part(rate, 1, since)
    }

    /// One of `parts` equal parts of a limit. The sum of the parts is within the limit.
    pub fn part(rate: u16, parts: u16, since: Duration) -> RateLimit {
        let (per_second, parts) = (u32::from(rate.max(1)), parts.max(1));
        let burst = NonZeroU32::new(per_second / u32::from(parts) / 20).unwrap_or(NonZeroU32::MIN);
        let hand = ManualClock::default();
        let between = Duration::from_secs(u64::from(parts)) / per_second;
        let quota = Quota::with_period(between).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(burst);
        let level = BucketLevel::default();
        let looking = Arc::clone(&level.looking);
        let bucket = RateLimiter::new(quota, level, hand.clone());
        let limit = RateLimit { rate, parts, hand, looking, bucket };
        limit.set(since);
        // A new bucket is full: empty it.
        let _ = limit.bucket.check_n(burst);
        limit
    }

    /// The rate in deliveries per second.
    pub fn rate(&self) -> u16 {
        self.rate
    }

    /// Whether this is one of `parts` parts of `rate`.
    pub fn is_part(&self, rate: u16, parts: u16) -> bool {
        (self.rate, self.parts) == (rate, parts.max(1))
    }

    /// Takes a token.
    ///
    /// # Errors
    /// The time until a token is available, never zero.
    pub fn take(&self, now: Duration) -> Result<(), Duration> {
        self.set(now);
        self.bucket.check().map_err(|refused| {
            let wait = refused.earliest_possible().duration_since(self.hand.now());
            Duration::from(wait).max(Duration::from_micros(100))
        })
    }

    /// Like [`take`](RateLimit::take), without taking the token.
    ///
    /// # Errors
    /// The time until a token is available, never zero.
    pub fn ready(&self, now: Duration) -> Result<(), Duration> {
        // No concurrent use: the event loop owns all lanes.
        self.looking.store(true, Ordering::Relaxed);
        let ready = self.take(now);
        self.looking.store(false, Ordering::Relaxed);
        ready
    }

    fn set(&self, now: Duration) {
        self.hand.0.store(now.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `count` tokens, each as early as possible, from `start` on. Returns the times.
    fn departures(limit: &RateLimit, start: Duration, count: usize) -> Vec<Duration> {
        let mut now = start;
        let mut times = Vec::new();
        while times.len() < count {
            match limit.take(now) {
                Ok(()) => times.push(now),
                Err(wait) => now += wait,
            }
        }
        times
    }

    fn most_in_a_second(times: &[Duration]) -> usize {
        let within =
            |start: &Duration| times.iter().filter(|t| (*start..*start + Duration::from_secs(1)).contains(*t)).count();
        times.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn never_more_than_rate_and_burst_in_any_second() {
        for (rate, most) in [(50, 52), (1, 2), (9, 10), (1_000, 1_050)] {
            let rested = RateLimit::new(rate, Duration::ZERO);
            let times = departures(&rested, Duration::from_secs(3_600), usize::from(rate) * 4);
            assert!(most_in_a_second(&times) <= most, "{rate}: {}", most_in_a_second(&times));
            let took = times[times.len() - 1] - times[0];
            assert!(took < Duration::from_secs(4), "{rate}: the limit is also reached: {took:?}");
        }
    }

    #[test]
    fn the_parts_of_a_limit_keep_to_it_together() {
        let start = Duration::from_secs(10);
        let parts: Vec<RateLimit> = (0..4).map(|_| RateLimit::part(10, 4, Duration::ZERO)).collect();
        let mut times: Vec<Duration> = parts.iter().flat_map(|part| departures(part, start, 25)).collect();
        times.sort_unstable();
        assert!(most_in_a_second(&times) <= 14, "10 and the burst of each part: {}", most_in_a_second(&times));
        let took = times[times.len() - 1] - start;
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(11), "100 at 10 a second: {took:?}");
        assert!(parts[0].is_part(10, 4) && !parts[0].is_part(10, 1));
    }

    #[test]
    fn ready_takes_no_token() {
        let limit = RateLimit::new(1, Duration::ZERO);
        let now = Duration::from_secs(10);
        assert!((0..5).all(|_| limit.ready(now).is_ok()));
        assert!(limit.take(now).is_ok());
        assert_eq!(limit.ready(now), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_new_limit_starts_empty() {
        let fresh = RateLimit::new(50, Duration::from_secs(10));
        assert_eq!(fresh.take(Duration::from_secs(10)), Err(Duration::from_millis(20)));
        let times = departures(&fresh, Duration::from_secs(10), 200);
        assert!(most_in_a_second(&times) <= 51, "{}", most_in_a_second(&times));
    }
}
