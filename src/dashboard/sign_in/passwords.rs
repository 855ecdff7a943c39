//! Verifies passwords: few at a time, since each verification takes 19 MiB and 30 ms, and with a limit on attempts.
//!
//! * [`Passwords`] – shared by all workers of the process.
//! * [`SignInAttempts`] – the attempts of the last 15 minutes. A name has a limit per address and a higher one in
//!   total; a device that signed in to the account before has its own. Counters are per process and reset on restart.
//!
//! **Guessing locks nobody out.** Attempts with unknown names do not count against accounts. Above a limit per address
//! and in total they are rejected without verification, but after the same time, so the response time does not reveal
//! which names exist and guessing costs no CPU time.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::domain::access::password::PasswordHash;
use crate::domain::{Invalid, Time};
use crate::traffic::proxies::network;

/// The time for which an attempt counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Attempts per name from one address. One-time links are not limited.
const PER_NAME_AND_ADDRESS: usize = 5;
/// Attempts per name from all addresses.
const PER_NAME: usize = 50;
/// Attempts per account from a device that signed in to it before.
const PER_DEVICE: usize = 5;
/// Verified attempts with unknown names from one address.
const UNKNOWN_PER_ADDRESS: usize = 20;
/// Verified attempts with unknown names from all addresses.
const UNKNOWN: usize = 100;
/// Maximum number of remembered attempts; the oldest are dropped.
const MOST: usize = 10_000;
/// Maximum number of concurrent verifications.
const CONCURRENT: usize = 2;
/// The assumed duration of a verification before one was measured.
const INITIAL_DURATION: Duration = Duration::from_millis(40);

/// A sign-in request.
#[derive(Clone, Copy, Debug)]
pub struct SignInRequest<'a> {
    pub name: &'a str,
    /// There is an account with this name.
    pub exists: bool,
    pub from: Option<IpAddr>,
    /// The device, if it signed in to this account before.
    pub device: Option<&'a str>,
}

/// The handling of an admitted attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptCheck {
    /// Verify the password.
    Verify,
    /// Reject without verifying, after the same time: see [`Passwords::simulate`].
    Simulate,
}

/// Verifies passwords. Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub struct Passwords {
    attempts: Arc<Mutex<SignInAttempts>>,
    permits: Arc<Semaphore>,
    /// The recent duration of a failed verification, in microseconds.
    failed_duration: Arc<AtomicU64>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        let failed_duration = Arc::new(AtomicU64::new(INITIAL_DURATION.as_micros() as u64));
        Passwords { attempts: Arc::default(), permits: Arc::new(Semaphore::new(CONCURRENT)), failed_duration }
    }
}

impl Passwords {
    /// Counts an attempt before its password is verified, so concurrent attempts cannot evade the limits.
    ///
    /// # Errors
    /// Rate limited: the time until the next attempt.
    pub fn admit(&self, attempt: SignInRequest<'_>, now: Time) -> Result<AttemptCheck, Duration> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).admit(attempt, now)
    }

    /// Forgets the attempts of this name, address and device after a successful one. Attempts from elsewhere still
    /// count.
    pub fn reset(&self, attempt: SignInRequest<'_>) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).reset(attempt);
    }

    /// Records the duration of a failed verification.
    pub fn record_duration(&self, time: Duration) {
        let (before, time) =
            (self.failed_duration.load(Ordering::Relaxed), time.min(Duration::from_secs(1)).as_micros() as u64);
        self.failed_duration.store((3 * before + time) / 4, Ordering::Relaxed);
    }

    /// Waits as long as a failed verification takes.
    pub async fn simulate(&self) {
        let micros = self.failed_duration.load(Ordering::Relaxed) as f64 * rand::random_range(0.8..1.2);
        tokio::time::sleep(Duration::from_micros(micros as u64)).await;
    }

    /// Verifies a password.
    pub async fn verify(&self, password: &str, stored: PasswordHash) -> bool {
        let password = Zeroizing::new(password.to_owned());
        let _permit = self.permits.acquire().await;
        spawn_blocking(move || stored.verify(&password)).await.unwrap_or(false)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// It breaks a rule.
    pub async fn hash(&self, field: &'static str, password: &str) -> Result<PasswordHash, Invalid> {
        let password = Zeroizing::new(password.to_owned());
        let _permit = self.permits.acquire().await;
        let made = spawn_blocking(move || PasswordHash::make(field, &password)).await;
        made.unwrap_or_else(|_| Err(Invalid::new(field, "could not be saved; try again")))
    }
}

/// An attempt. Names and devices are hashed with a key of this process: a typed name may be a password.
#[derive(Clone, Copy, Debug)]
struct SignInAttempt {
    name: u64,
    from: Option<IpAddr>,
    device: Option<u64>,
    /// The name was unknown, and the attempt was verified.
    unknown: bool,
    at: Time,
}

/// The attempts of the last 15 minutes, oldest first.
#[derive(Debug, Default)]
struct SignInAttempts {
    attempts: VecDeque<SignInAttempt>,
    hashes: RandomState,
}

impl SignInAttempts {
    fn admit(&mut self, attempt: SignInRequest<'_>, now: Time) -> Result<AttemptCheck, Duration> {
        while self.attempts.front().is_some_and(|oldest| now.since(oldest.at) >= WINDOW) {
            self.attempts.pop_front();
        }
        let mut one = self.of(attempt, now);
        let by_name = |other: &SignInAttempt| other.name == one.name && other.device.is_none();
        let waits = match one.device {
            Some(device) => [self.wait(PER_DEVICE, now, |other| other.device == Some(device)), None],
            None => [
                self.wait(PER_NAME_AND_ADDRESS, now, |other| by_name(other) && other.from == one.from),
                self.wait(PER_NAME, now, by_name),
            ],
        };
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        let spent = |most, counts: &dyn Fn(&SignInAttempt) -> bool| {
            self.wait(most, now, |other| other.unknown && counts(other)).is_some()
        };
        let far = one.from.is_some_and(|from| !is_near(from));
        let simulate = !attempt.exists
            && (spent(UNKNOWN, &|_| true) || far && spent(UNKNOWN_PER_ADDRESS, &|other| other.from == one.from));
        one.unknown = !attempt.exists && !simulate;
        if self.attempts.len() >= MOST {
            self.attempts.pop_front();
        }
        self.attempts.push_back(one);
        Ok(if simulate { AttemptCheck::Simulate } else { AttemptCheck::Verify })
    }

    fn of(&self, attempt: SignInRequest<'_>, now: Time) -> SignInAttempt {
        SignInAttempt {
            name: self.hashes.hash_one(attempt.name),
            from: attempt.from.map(network),
            device: attempt.device.map(|device| self.hashes.hash_one(device)),
            unknown: false,
            at: now,
        }
    }

    /// The time until fewer than `most` matching attempts count; `None`: already fewer.
    fn wait(&self, most: usize, now: Time, counts: impl Fn(&SignInAttempt) -> bool) -> Option<Duration> {
        let last = self.attempts.iter().rev().filter(|one| counts(one)).nth(most - 1)?;
        Some(WINDOW.saturating_sub(now.since(last.at)))
    }

    fn reset(&mut self, attempt: SignInRequest<'_>) {
        let one = self.of(attempt, Time::ZERO);
        let same = |other: &SignInAttempt| (other.name, other.from, other.device) == (one.name, one.from, one.device);
        self.attempts.retain(|other| !same(other));
    }
}

/// Loopback or private network. Behind an untrusted [proxy](crate::traffic::proxies), all clients share such an
/// address.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::sign_in::passwords::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);
    const FAR: &str = "203.0.113.9";
    const NEAR: &str = "10.0.0.7";

    fn later(seconds: u64) -> Time {
        NOW.plus(Duration::from_secs(seconds))
    }

    fn at<'a>(name: &'a str, from: &str) -> SignInRequest<'a> {
        SignInRequest { name, exists: true, from: from.parse().ok(), device: None }
    }

    fn unknown<'a>(name: &'a str, from: &str) -> SignInRequest<'a> {
        SignInRequest { exists: false, ..at(name, from) }
    }

    #[test]
    fn five_attempts_per_name_and_address() {
        let mut attempts = SignInAttempts::default();
        for attempt in [at("anna", NEAR), unknown("none", NEAR)] {
            let mut enter = |attempt, seconds| attempts.admit(attempt, later(seconds)).map(drop);
            for second in 0..5 {
                assert_eq!(enter(attempt, second * 10), Ok(()));
            }
            assert_eq!(enter(attempt, 60), Err(Duration::from_secs(840)), "until the first counts no more");
            let other = if attempt.exists { at("bert", NEAR) } else { unknown("bart", NEAR) };
            assert_eq!(enter(other, 60), Ok(()), "another name has its own");
            assert_eq!(enter(SignInRequest { from: FAR.parse().ok(), ..attempt }, 60), Ok(()), "and another address");
            assert_eq!(enter(attempt, 899), Err(Duration::from_secs(1)));
            assert_eq!(enter(attempt, 900), Ok(()), "what was refused was not counted");
            assert_eq!(enter(attempt, 901), Err(Duration::from_secs(9)));
            attempts.reset(attempt);
            assert_eq!(attempts.admit(attempt, later(901)).map(drop), Ok(()));
            attempts = SignInAttempts::default();
        }
    }

    #[test]
    fn fifty_attempts_per_name_and_a_limit_per_known_device() {
        let mut attempts = SignInAttempts::default();
        for n in 0..50 {
            assert_eq!(attempts.admit(at("anna", &format!("203.0.113.{n}")), NOW), Ok(AttemptCheck::Verify));
        }
        assert_eq!(attempts.admit(at("anna", "198.51.100.1"), NOW), Err(WINDOW));
        let known = SignInRequest { device: Some("phone"), ..at("anna", "198.51.100.1") };
        for _ in 0..5 {
            assert_eq!(attempts.admit(known, NOW), Ok(AttemptCheck::Verify));
        }
        assert_eq!(attempts.admit(known, NOW), Err(WINDOW), "not for ever either");
        attempts.reset(known);
        assert_eq!(attempts.admit(known, NOW), Ok(AttemptCheck::Verify));
        assert_eq!(attempts.admit(at("anna", "198.51.100.1"), NOW), Err(WINDOW), "others are not forgiven with it");
    }

    #[test]
    fn unknown_names_do_not_count_against_accounts() {
        for (from, looked_at) in [(FAR, 20), (NEAR, 100)] {
            let mut attempts = SignInAttempts::default();
            for n in 0..200 {
                let entered = attempts.admit(unknown(&n.to_string(), from), later(n as u64)).unwrap();
                assert_eq!(entered == AttemptCheck::Verify, n < looked_at, "{from} {n}");
            }
            assert_eq!(attempts.admit(at("anna", from), later(200)), Ok(AttemptCheck::Verify));
            let elsewhere = attempts.admit(unknown("x", "198.51.100.1"), later(200));
            assert_eq!(elsewhere == Ok(AttemptCheck::Verify), from == FAR, "all of them together have 100");
        }
    }

    #[test]
    fn remembered_attempts_are_bounded() {
        let mut attempts = SignInAttempts::default();
        for n in 0..MOST + 100 {
            let _ = attempts.admit(unknown(&n.to_string(), FAR), NOW);
            assert!(attempts.attempts.len() <= MOST);
        }
        assert_eq!(attempts.admit(at("anna", FAR), NOW), Ok(AttemptCheck::Verify));
    }
}
