//! How passwords are looked at: few at once, because each takes 19 MiB and 30 ms, and not often, because somebody may be guessing.
//!
//! * [`Passwords`] – shared by all workers of the process.
//! * [`Tries`] – what went wrong lately: by the name that was typed, by the address that it came from, and in all. Its own bound is
//!   what keeps it small. Kept in memory: a restart forgives, and each process counts for itself.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::domain::password::PasswordHash;
use crate::domain::{Invalid, Time};

/// How long a try counts.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How many tries a name has in that time, an address, and everybody together. One-time links are not counted and always work.
const OF_NAME: usize = 5;
const OF_ADDRESS: usize = 20;
const OF_ALL: usize = 100;
/// How many passwords are looked at at a time.
const AT_ONCE: usize = 2;

/// Looks at passwords. Cheap to clone; clones share what they remember.
#[derive(Clone, Debug)]
pub struct Passwords {
    tries: Arc<Mutex<Tries>>,
    room: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords { tries: Arc::default(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// Enters a try before its password is looked at, so that many at once are no way around the limit.
    ///
    /// # Errors
    /// There were too many: how long until the next may be made.
    pub fn enter(&self, name: &str, from: Option<IpAddr>, now: Time) -> Result<(), Duration> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).enter(name, from, now)
    }

    /// Forgets the tries of a name: the right password was among them.
    pub fn forgive(&self, name: &str) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).forgive(name);
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

#[derive(Debug)]
struct Try {
    name: String,
    from: Option<IpAddr>,
    at: Time,
}

/// The tries of the last 15 minutes, the oldest first.
#[derive(Debug, Default)]
struct Tries(VecDeque<Try>);

impl Tries {
    fn enter(&mut self, name: &str, from: Option<IpAddr>, now: Time) -> Result<(), Duration> {
        // Behind a proxy everybody comes from one address, which is most likely one of these.
        let from = from.filter(|address| !is_near(*address));
        while self.0.front().is_some_and(|oldest| now.since(oldest.at) >= WINDOW) {
            self.0.pop_front();
        }
        let waits = [
            self.wait(OF_NAME, now, |one| one.name == name),
            self.wait(OF_ADDRESS, now, |one| from.is_some() && one.from == from),
            self.wait(OF_ALL, now, |_| true),
        ];
        match waits.into_iter().flatten().max() {
            Some(wait) => Err(wait),
            None => {
                self.0.push_back(Try { name: name.to_owned(), from, at: now });
                Ok(())
            }
        }
    }

    /// How long until one fewer than `most` of those tries count; `None`: so few are there.
    fn wait(&self, most: usize, now: Time, counts: impl Fn(&Try) -> bool) -> Option<Duration> {
        let last = self.0.iter().rev().filter(|one| counts(one)).nth(most - 1)?;
        Some(WINDOW.saturating_sub(now.since(last.at)))
    }

    fn forgive(&mut self, name: &str) {
        self.0.retain(|one| one.name != name);
    }
}

/// Of this machine or a private network.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);

    fn later(seconds: u64) -> Time {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_name_has_five_tries_in_a_quarter_of_an_hour() {
        let mut tries = Tries::default();
        for second in 0..5 {
            assert_eq!(tries.enter("anna", None, later(second * 10)), Ok(()));
        }
        assert_eq!(
            tries.enter("anna", None, later(60)),
            Err(Duration::from_secs(840)),
            "until the first counts no more"
        );
        assert_eq!(tries.enter("bert", None, later(60)), Ok(()), "another name has its own");
        assert_eq!(tries.enter("anna", None, later(899)), Err(Duration::from_secs(1)));
        assert_eq!(tries.enter("anna", None, later(900)), Ok(()), "what was refused was not counted");
        assert_eq!(tries.enter("anna", None, later(901)), Err(Duration::from_secs(9)));
        tries.forgive("anna");
        assert_eq!(tries.enter("anna", None, later(901)), Ok(()));
    }

    #[test]
    fn an_address_has_twenty_whatever_names_it_tries() {
        let mut tries = Tries::default();
        let (far, near) = ("203.0.113.9".parse().ok(), "10.0.0.7".parse().ok());
        for n in 0..20 {
            assert_eq!(tries.enter(&n.to_string(), far, NOW), Ok(()));
            assert_eq!(tries.enter(&format!("near{n}"), near, NOW), Ok(()));
        }
        assert_eq!(tries.enter("x", far, NOW), Err(WINDOW));
        assert_eq!(tries.enter("x", near, NOW), Ok(()), "a proxy's stands for everybody");
        assert_eq!(tries.enter("y", None, NOW), Ok(()));
    }

    #[test]
    fn everybody_together_has_a_hundred_and_that_many_are_remembered() {
        let mut tries = Tries::default();
        for n in 0..1_000 {
            let entered = tries.enter(&n.to_string(), None, later(n));
            assert_eq!(entered.is_ok(), !(100..900).contains(&n), "{n}");
            assert!(tries.0.len() <= OF_ALL);
        }
    }
}
