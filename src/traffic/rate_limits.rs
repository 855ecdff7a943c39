//! Token buckets per caller: governor, with the time as an argument.
//!
//! * [`CallerId`] identifies a caller; its [`CallerClass`] selects the rate.
//! * [`TokenBucket`] holds two seconds' worth of requests and starts full. Authentication caches a caller's bucket with
//!   the caller.
//! * [`RateLimits`] holds all buckets of the process, at most [`MAX_BUCKETS`]. A bucket that was not used for two
//!   seconds is full, so it can be dropped.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::proxies::network;
use crate::domain::{AppId, KeyId, OrgId};

/// Maximum buckets. Callers beyond that share one per class.
const MAX_BUCKETS: usize = 10_000;
/// The capacity of a bucket, in seconds of its rate. An unused bucket is full after this time.
const CAPACITY_SECONDS: u32 = 2;
/// Minimum time between sweeps of unused buckets.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The number of buckets from which sweeps run.
const SWEEP_FROM: usize = 256;

/// Identifies a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerId {
    /// An API key.
    Key(KeyId),
    /// All tokens of an organization.
    Organization(OrgId),
    /// All tokens of an application.
    Application(AppId),
    /// A session of the dashboard or the portal, by the hash of its token.
    Session([u8; 32]),
    /// A caller without a valid token or session: an address, or a /64 IPv6 network.
    Address(IpAddr),
}

/// A class of callers: selects the rate and labels the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerClass {
    Key,
    Application,
    Session,
    Address,
}

/// The rates of the classes, in requests per second. `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub key: Option<NonZeroU32>,
    pub application: Option<NonZeroU32>,
    pub session: Option<NonZeroU32>,
    pub address: Option<NonZeroU32>,
}

impl Default for Rates {
    /// The defaults of the settings.
    fn default() -> Rates {
        Rates {
            key: NonZeroU32::new(50_000),
            application: NonZeroU32::new(1_000),
            session: NonZeroU32::new(200),
            address: NonZeroU32::new(1_000),
        }
    }
}

impl CallerId {
    /// The class of the caller.
    pub fn class(&self) -> CallerClass {
        match self {
            CallerId::Key(_) | CallerId::Organization(_) => CallerClass::Key,
            CallerId::Application(_) => CallerClass::Application,
            CallerId::Session(_) => CallerClass::Session,
            CallerId::Address(_) => CallerClass::Address,
        }
    }
}

impl CallerClass {
    /// All classes.
    pub const ALL: [CallerClass; 4] =
        [CallerClass::Key, CallerClass::Application, CallerClass::Session, CallerClass::Address];

    /// The label in metrics and the name of the policy.
    pub fn word(self) -> &'static str {
        match self {
            CallerClass::Key => "key",
            CallerClass::Application => "application",
            CallerClass::Session => "session",
            CallerClass::Address => "address",
        }
    }
}

/// The value of `Retry-After` for a wait: whole seconds, rounded up, at least one.
pub fn retry_after(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The error for a request over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: at most {rate} a second, try again in a moment")]
pub struct RateLimitExceeded {
    pub class: CallerClass,
    /// Requests per second.
    pub rate: u32,
    /// Until the next request is accepted; never zero.
    pub wait: Duration,
}

impl RateLimitExceeded {
    /// The headers of the 429 response: `Retry-After`, and those of draft-ietf-httpapi-ratelimit-headers-10.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let (class, quota) = (self.class.word(), u64::from(self.rate) * u64::from(CAPACITY_SECONDS));
        let wait = retry_after(self.wait);
        [
            ("retry-after", wait.to_string()),
            ("ratelimit-policy", format!("\"{class}\";q={quota};w={CAPACITY_SECONDS}")),
            ("ratelimit", format!("\"{class}\";r=0;t={wait}")),
        ]
    }
}

thread_local! {
    /// The time for governor's next check on this thread, in nanoseconds since the limits were created.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// The clock that governor reads.
#[derive(Clone, Copy, Debug)]
struct ThreadClock;

impl Clock for ThreadClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(NOW.get())
    }
}

/// A caller's bucket.
#[derive(Debug)]
pub struct TokenBucket {
    class: CallerClass,
    rate: u32,
    /// `None`: unlimited.
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, ThreadClock, NoOpMiddleware<Nanos>>>,
    epoch: Instant,
    /// The time of the last use, in nanoseconds since `epoch`.
    used: AtomicU64,
}

impl TokenBucket {
    fn new(class: CallerClass, rate: Option<NonZeroU32>, epoch: Instant, now: u64) -> TokenBucket {
        NOW.set(now);
        let limiter = rate.map(|rate| {
            let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(CAPACITY_SECONDS - 1));
            RateLimiter::direct_with_clock(Quota::per_second(rate).allow_burst(burst), ThreadClock)
        });
        TokenBucket { class, rate: rate.map_or(0, NonZeroU32::get), limiter, epoch, used: AtomicU64::new(now) }
    }

    /// Takes a token for one request at `now`.
    ///
    /// # Errors
    /// The bucket is empty.
    pub fn take(&self, now: Instant) -> Result<(), RateLimitExceeded> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let now = since(self.epoch, now);
        NOW.set(now);
        self.used.store(now, Ordering::Relaxed);
        limiter.check().map_err(|refused| {
            metrics::counter!("sendoff_http_rate_limited_total", "limit" => self.class.word()).increment(1);
            let wait = Duration::from(refused.earliest_possible().duration_since(Nanos::from(now)));
            RateLimitExceeded { class: self.class, rate: self.rate, wait: wait.max(Duration::from_millis(1)) }
        })
    }

    fn is_full(&self, now: u64) -> bool {
        now.saturating_sub(self.used.load(Ordering::Relaxed)) > u64::from(CAPACITY_SECONDS) * 1_000_000_000
    }
}

/// The buckets of this process. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct RateLimits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rates: Rates,
    epoch: Instant,
    buckets: Mutex<Buckets>,
    /// For callers beyond [`MAX_BUCKETS`].
    shared: [Arc<TokenBucket>; 4],
}

#[derive(Debug, Default)]
struct Buckets {
    by_caller: HashMap<CallerId, Arc<TokenBucket>>,
    swept: u64,
}

impl Default for RateLimits {
    fn default() -> RateLimits {
        RateLimits::new(Rates::default())
    }
}

impl RateLimits {
    /// Creates buckets with these rates.
    pub fn new(rates: Rates) -> RateLimits {
        let epoch = Instant::now();
        let shared = CallerClass::ALL.map(|class| Arc::new(TokenBucket::new(class, rates.of(class), epoch, 0)));
        RateLimits(Arc::new(Inner { rates, epoch, buckets: Mutex::default(), shared }))
    }

    /// The bucket of a caller; a new one is full.
    pub fn bucket(&self, caller: CallerId, now: Instant) -> Arc<TokenBucket> {
        let class = caller.class();
        let now = since(self.0.epoch, now);
        let mut buckets = self.0.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.by_caller.get(&caller) {
            return bucket.clone();
        }
        if buckets.by_caller.len() >= SWEEP_FROM
            && now.saturating_sub(buckets.swept) >= SWEEP_INTERVAL.as_nanos() as u64
        {
            buckets.swept = now;
            buckets.by_caller.retain(|_, bucket| !bucket.is_full(now));
        }
        if buckets.by_caller.len() >= MAX_BUCKETS {
            return self.0.shared[class as usize].clone();
        }
        let bucket = Arc::new(TokenBucket::new(class, self.0.rates.of(class), self.0.epoch, now));
        buckets.by_caller.insert(caller, bucket.clone());
        bucket
    }

    /// Takes a token for one request of `caller` at `now`.
    ///
    /// # Errors
    /// The bucket is empty.
    pub fn take(&self, caller: CallerId, now: Instant) -> Result<(), RateLimitExceeded> {
        if self.0.rates.of(caller.class()).is_none() {
            return Ok(());
        }
        self.bucket(caller, now).take(now)
    }

    /// Like [`take`](RateLimits::take), for a caller without a valid token or session.
    ///
    /// # Errors
    /// The bucket is empty.
    pub fn take_of_address(&self, address: IpAddr, now: Instant) -> Result<(), RateLimitExceeded> {
        self.take(CallerId::Address(network(address)), now)
    }

    /// Whether the caller has a bucket, that is, called recently.
    pub fn knows(&self, caller: &CallerId) -> bool {
        self.0.buckets.lock().unwrap_or_else(PoisonError::into_inner).by_caller.contains_key(caller)
    }
}

impl Rates {
    fn of(&self, class: CallerClass) -> Option<NonZeroU32> {
        match class {
            CallerClass::Key => self.key,
            CallerClass::Application => self.application,
            CallerClass::Session => self.session,
            CallerClass::Address => self.address,
        }
    }
}

fn since(epoch: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: u32) -> (RateLimits, Instant) {
        let rate = NonZeroU32::new(rate);
        (RateLimits::new(Rates { key: None, application: rate, session: rate, address: rate }), Instant::now())
    }

    fn address(n: u32) -> CallerId {
        CallerId::Address(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_bucket_holds_two_seconds_and_fills_at_its_rate() {
        let (limits, start) = limits(10);
        let after = |millis| start + Duration::from_millis(millis);
        let taken = |caller: CallerId, at| (0..100).take_while(|_| limits.take(caller.clone(), at).is_ok()).count();
        assert_eq!(taken(address(1), after(0)), 20);
        assert_eq!(taken(address(2), after(0)), 20, "another caller has its own bucket");
        assert_eq!(taken(address(1), after(500)), 5);
        let limited = limits.take(address(1), after(500)).unwrap_err();
        assert_eq!((limited.class, limited.rate, limited.wait), (CallerClass::Address, 10, Duration::from_millis(100)));
        assert_eq!(taken(address(1), after(60_000)), 20, "and no more than that");
        let key = CallerId::Key(KeyId::new(crate::domain::Time::ZERO));
        assert_eq!(taken(key, after(0)), 100, "no limit was set");
    }

    #[test]
    fn the_headers_say_how_long_to_wait() {
        let limited = RateLimitExceeded { class: CallerClass::Address, rate: 10, wait: Duration::from_millis(1_100) };
        let [retry, policy, state] = limited.headers();
        assert_eq!(retry, ("retry-after", "2".to_owned()));
        assert_eq!(policy, ("ratelimit-policy", "\"address\";q=20;w=2".to_owned()));
        assert_eq!(state, ("ratelimit", "\"address\";r=0;t=2".to_owned()));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller() {
        let (limits, now) = limits(1);
        let take = |ip: &str| limits.take_of_address(ip.parse().unwrap(), now).is_ok();
        assert!(take("2001:db8::1") && take("2001:db8::2:1") && !take("2001:db8::3"));
        assert!(take("2001:db8:0:1::1"));
    }

    #[test]
    fn buckets_are_bounded_and_full_ones_forgotten() {
        let (limits, start) = limits(1);
        let count = || limits.0.buckets.lock().unwrap().by_caller.len();
        for n in 0..3 * MAX_BUCKETS as u32 {
            let _ = limits.take(address(n), start);
        }
        assert_eq!(count(), MAX_BUCKETS);
        assert!(
            limits.take(address(u32::MAX), start).is_err(),
            "callers beyond the bound share one bucket, which is empty"
        );
        // An active caller's bucket keeps its level; the others are full again.
        let later = start + Duration::from_secs(3);
        assert!(limits.take(address(7), later).is_ok() && limits.take(address(7), later).is_ok());
        assert!(limits.take(address(u32::MAX), later).is_ok());
        assert!(count() <= 2, "{}", count());
        assert!(limits.take(address(7), later).is_err(), "its bucket was kept");
    }
}
