//! How passwords are looked at: few at once, because each takes 19 MiB and 30 ms, and not often, because somebody may be guessing.
//!
//! * [`Passwords`] – shared by all workers of the process.
//! * [`Tries`] – the tries of the last 15 minutes. A name has a few from each address and more from all of them together, and a device that has
//!   signed in to an account before has a few of its own for that account. Kept in memory: a restart resets them, and each process counts
//!   for itself.
//!
//! **Guessing locks nobody out.** Tries under invented names take nothing from those of accounts: once an address (or everybody) has made too
//! many of them, they are no longer looked at, and are answered as if they had been, as late. So nobody learns which names exist, and
//! guesses cost no processor time.

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

/// How long a try counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How many tries a name has in that time from one address, and from all. One-time links are not counted and always work.
const OF_NAME: usize = 5;
const OF_NAME_IN_ALL: usize = 50;
/// How many an account has from one device that has signed in to it before.
const OF_DEVICE: usize = 5;
/// How many passwords under invented names are looked at in that time, of one address and of all.
const INVENTED_OF_ADDRESS: usize = 20;
const INVENTED: usize = 100;
/// How many tries are remembered; beyond them the oldest are forgotten.
const MOST: usize = 10_000;
/// How many passwords are looked at at a time.
const AT_ONCE: usize = 2;
/// How long a look takes before one has been made.
const FIRST_LOOK: Duration = Duration::from_millis(40);

/// Somebody who tries to sign in.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    pub name: &'a str,
    /// There is an account of this name.
    pub exists: bool,
    pub from: Option<IpAddr>,
    /// The device, if it has signed in to this very account before.
    pub device: Option<&'a str>,
}

/// The outcome of a try that is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Its password is looked at.
    Look,
    /// It is refused as if it had been: see [`Passwords::pretend`].
    Pretend,
}

/// Looks at passwords. Cheap to clone; clones share what they remember.
#[derive(Clone, Debug)]
pub struct Passwords {
    tries: Arc<Mutex<Tries>>,
    room: Arc<Semaphore>,
    /// How long a look that failed took lately, in microseconds.
    took: Arc<AtomicU64>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        let took = Arc::new(AtomicU64::new(FIRST_LOOK.as_micros() as u64));
        Passwords { tries: Arc::default(), room: Arc::new(Semaphore::new(AT_ONCE)), took }
    }
}

impl Passwords {
    /// Enters a try before its password is looked at, so that many at once are no way around the limits.
    ///
    /// # Errors
    /// There were too many: how long until the next may be made.
    pub fn enter(&self, visitor: Visitor<'_>, now: Time) -> Result<Entered, Duration> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).enter(visitor, now)
    }

    /// Forgets the tries that this visitor made: the right password was among them. What others tried meanwhile still counts.
    pub fn forgive(&self, visitor: Visitor<'_>) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).forgive(visitor);
    }

    /// A look that failed took so long, with all that belongs to it.
    pub fn took(&self, time: Duration) {
        let (before, time) = (self.took.load(Ordering::Relaxed), time.min(Duration::from_secs(1)).as_micros() as u64);
        self.took.store((3 * before + time) / 4, Ordering::Relaxed);
    }

    /// Takes as long as a look that fails.
    pub async fn pretend(&self) {
        let micros = self.took.load(Ordering::Relaxed) as f64 * rand::random_range(0.8..1.2);
        tokio::time::sleep(Duration::from_micros(micros as u64)).await;
    }

    /// Whether a password fits what was kept of one.
    pub async fn fit(&self, password: &str, kept: PasswordHash) -> bool {
        let password = Zeroizing::new(password.to_owned());
        let _room = self.room.acquire().await;
        spawn_blocking(move || kept.is_of(&password)).await.unwrap_or(false)
    }

    /// What to keep of a new password, given as `field`.
    ///
    /// # Errors
    /// It breaks a rule.
    pub async fn make(&self, field: &'static str, password: &str) -> Result<PasswordHash, Invalid> {
        let password = Zeroizing::new(password.to_owned());
        let _room = self.room.acquire().await;
        let made = spawn_blocking(move || PasswordHash::make(field, &password)).await;
        made.unwrap_or_else(|_| Err(Invalid::new(field, "could not be kept; try again")))
    }
}

/// A try. Names and devices as hashes that only this process can make: what was typed may be a password.
#[derive(Clone, Copy, Debug)]
struct Try {
    name: u64,
    from: Option<IpAddr>,
    device: Option<u64>,
    /// Under an invented name, and looked at.
    invented: bool,
    at: Time,
}

/// The tries of the last 15 minutes, the oldest first.
#[derive(Debug, Default)]
struct Tries {
    tries: VecDeque<Try>,
    hashes: RandomState,
}

impl Tries {
    fn enter(&mut self, visitor: Visitor<'_>, now: Time) -> Result<Entered, Duration> {
        while self.tries.front().is_some_and(|oldest| now.since(oldest.at) >= WINDOW) {
            self.tries.pop_front();
        }
        let mut one = self.of(visitor, now);
        let by_name = |other: &Try| other.name == one.name && other.device.is_none();
        let waits = match one.device {
            Some(device) => [self.wait(OF_DEVICE, now, |other| other.device == Some(device)), None],
            None => [
                self.wait(OF_NAME, now, |other| by_name(other) && other.from == one.from),
                self.wait(OF_NAME_IN_ALL, now, by_name),
            ],
        };
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        let spent = |most, counts: &dyn Fn(&Try) -> bool| {
            self.wait(most, now, |other| other.invented && counts(other)).is_some()
        };
        let far = one.from.is_some_and(|from| !is_near(from));
        let pretend = !visitor.exists
            && (spent(INVENTED, &|_| true) || far && spent(INVENTED_OF_ADDRESS, &|other| other.from == one.from));
        one.invented = !visitor.exists && !pretend;
        if self.tries.len() >= MOST {
            self.tries.pop_front();
        }
        self.tries.push_back(one);
        Ok(if pretend { Entered::Pretend } else { Entered::Look })
    }

    fn of(&self, visitor: Visitor<'_>, now: Time) -> Try {
        Try {
            name: self.hashes.hash_one(visitor.name),
            from: visitor.from.map(network),
            device: visitor.device.map(|device| self.hashes.hash_one(device)),
            invented: false,
            at: now,
        }
    }

    /// How long until one fewer than `most` of those tries count; `None`: so few are there.
    fn wait(&self, most: usize, now: Time, counts: impl Fn(&Try) -> bool) -> Option<Duration> {
        let last = self.tries.iter().rev().filter(|one| counts(one)).nth(most - 1)?;
        Some(WINDOW.saturating_sub(now.since(last.at)))
    }

    fn forgive(&mut self, visitor: Visitor<'_>) {
        let one = self.of(visitor, Time::ZERO);
        let same = |other: &Try| (other.name, other.from, other.device) == (one.name, one.from, one.device);
        self.tries.retain(|other| !same(other));
    }
}

/// Of this machine or a private network. Behind a proxy that is not [trusted](crate::traffic::proxies) everybody comes from one such address.
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

    fn at<'a>(name: &'a str, from: &str) -> Visitor<'a> {
        Visitor { name, exists: true, from: from.parse().ok(), device: None }
    }

    fn invented<'a>(name: &'a str, from: &str) -> Visitor<'a> {
        Visitor { exists: false, ..at(name, from) }
    }

    #[test]
    fn a_name_has_five_tries_from_an_address_in_a_quarter_of_an_hour() {
        let mut tries = Tries::default();
        for visitor in [at("anna", NEAR), invented("none", NEAR)] {
            let mut enter = |visitor, seconds| tries.enter(visitor, later(seconds)).map(drop);
            for second in 0..5 {
                assert_eq!(enter(visitor, second * 10), Ok(()));
            }
            assert_eq!(enter(visitor, 60), Err(Duration::from_secs(840)), "until the first counts no more");
            let other = if visitor.exists { at("bert", NEAR) } else { invented("bart", NEAR) };
            assert_eq!(enter(other, 60), Ok(()), "another name has its own");
            assert_eq!(enter(Visitor { from: FAR.parse().ok(), ..visitor }, 60), Ok(()), "and another address");
            assert_eq!(enter(visitor, 899), Err(Duration::from_secs(1)));
            assert_eq!(enter(visitor, 900), Ok(()), "what was refused was not counted");
            assert_eq!(enter(visitor, 901), Err(Duration::from_secs(9)));
            tries.forgive(visitor);
            assert_eq!(tries.enter(visitor, later(901)).map(drop), Ok(()));
            tries = Tries::default();
        }
    }

    #[test]
    fn a_name_has_fifty_from_all_addresses_and_a_known_device_has_its_own() {
        let mut tries = Tries::default();
        for n in 0..50 {
            assert_eq!(tries.enter(at("anna", &format!("203.0.113.{n}")), NOW), Ok(Entered::Look));
        }
        assert_eq!(tries.enter(at("anna", "198.51.100.1"), NOW), Err(WINDOW));
        let known = Visitor { device: Some("phone"), ..at("anna", "198.51.100.1") };
        for _ in 0..5 {
            assert_eq!(tries.enter(known, NOW), Ok(Entered::Look));
        }
        assert_eq!(tries.enter(known, NOW), Err(WINDOW), "not for ever either");
        tries.forgive(known);
        assert_eq!(tries.enter(known, NOW), Ok(Entered::Look));
        assert_eq!(tries.enter(at("anna", "198.51.100.1"), NOW), Err(WINDOW), "others are not forgiven with it");
    }

    #[test]
    fn invented_names_take_nothing_from_accounts_and_are_soon_not_looked_at() {
        for (from, looked_at) in [(FAR, 20), (NEAR, 100)] {
            let mut tries = Tries::default();
            for n in 0..200 {
                let entered = tries.enter(invented(&n.to_string(), from), later(n as u64)).unwrap();
                assert_eq!(entered == Entered::Look, n < looked_at, "{from} {n}");
            }
            assert_eq!(tries.enter(at("anna", from), later(200)), Ok(Entered::Look));
            let elsewhere = tries.enter(invented("x", "198.51.100.1"), later(200));
            assert_eq!(elsewhere == Ok(Entered::Look), from == FAR, "all of them together have 100");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut tries = Tries::default();
        for n in 0..MOST + 100 {
            let _ = tries.enter(invented(&n.to_string(), FAR), NOW);
            assert!(tries.tries.len() <= MOST);
        }
        assert_eq!(tries.enter(at("anna", FAR), NOW), Ok(Entered::Look));
    }
}
