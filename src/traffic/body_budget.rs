//! The memory for request bodies: those being read and those queued in the store.
//!
//! Each caller has a share, so none can use up the memory of the others: a key or an organization's tokens one half,
//! any other caller a quarter, and all of these others together one half. A quarter is enough for the largest body that
//! any setting allows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate_limits::{CallerClass, CallerId};

/// Bytes of the largest body: a payload of 16 MiB as a JSON string, and 64 KiB for the other fields.
const LARGEST_BODY: usize = 2 * 16 * 1024 * 1024 + 64 * 1024;
/// Bytes that all request bodies of a process may use together.
const BODY_BYTES: usize = 4 * LARGEST_BODY;

/// A budget in bytes, shared by all requests of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    used: Mutex<UsedBytes>,
}

#[derive(Debug, Default)]
struct UsedBytes {
    all: usize,
    /// Bytes of all callers except keys and organizations.
    restricted: usize,
    by_caller: HashMap<CallerId, usize>,
}

/// A body's share of the budget, returned on drop.
#[derive(Debug)]
pub struct BodyReservation {
    budget: BodyBudget,
    caller: CallerId,
    bytes: usize,
}

/// The error for a body that exceeds the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyBudgetExceeded {
    #[error("too many of your request bodies are being read: try again in a moment")]
    Caller,
    #[error("too many request bodies are being read: try again in a moment")]
    Process,
}

impl Default for BodyBudget {
    /// [`BODY_BYTES`] for the whole process.
    fn default() -> BodyBudget {
        BodyBudget::of(BODY_BYTES)
    }
}

impl BodyBudget {
    /// A budget of `bytes`.
    pub fn of(bytes: usize) -> BodyBudget {
        BodyBudget(Arc::new(Inner { max: bytes, used: Mutex::default() }))
    }

    /// An empty reservation for a body of `caller`.
    pub fn reservation(&self, caller: CallerId) -> BodyReservation {
        BodyReservation { budget: self.clone(), caller, bytes: 0 }
    }

    fn used(&self) -> MutexGuard<'_, UsedBytes> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BodyReservation {
    /// Adds `bytes`.
    ///
    /// # Errors
    /// The caller's share or the budget is exhausted. Nothing was added.
    pub fn add(&mut self, bytes: usize) -> Result<(), BodyBudgetExceeded> {
        let (max, free) = (self.budget.0.max, !is_restricted(&self.caller));
        let mut used = self.budget.used();
        let theirs = used.by_caller.get(&self.caller).copied().unwrap_or(0);
        match () {
            () if theirs + bytes > if free { max / 2 } else { max / 4 } => return Err(BodyBudgetExceeded::Caller),
            () if used.all + bytes > max => return Err(BodyBudgetExceeded::Process),
            () if !free && used.restricted + bytes > max / 2 => return Err(BodyBudgetExceeded::Process),
            () => {}
        }
        used.all += bytes;
        used.restricted += if free { 0 } else { bytes };
        match used.by_caller.get_mut(&self.caller) {
            Some(theirs) => *theirs += bytes,
            None => drop(used.by_caller.insert(self.caller.clone(), bytes)),
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut used = self.budget.used();
        used.all = used.all.saturating_sub(self.bytes);
        if is_restricted(&self.caller) {
            used.restricted = used.restricted.saturating_sub(self.bytes);
        }
        if let Some(theirs) = used.by_caller.get_mut(&self.caller) {
            *theirs = theirs.saturating_sub(self.bytes);
            if *theirs == 0 {
                used.by_caller.remove(&self.caller);
            }
        }
    }
}

fn is_restricted(caller: &CallerId) -> bool {
    caller.class() != CallerClass::Key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AppId, OrgId, Time};

    fn reserve(budget: &BodyBudget, caller: &CallerId, bytes: usize) -> Result<BodyReservation, BodyBudgetExceeded> {
        let mut reservation = budget.reservation(caller.clone());
        reservation.add(bytes).map(|()| reservation)
    }

    #[test]
    fn no_caller_uses_up_the_memory_of_request_bodies() {
        let budget = BodyBudget::of(100);
        let org = CallerId::Organization(OrgId::default_org());
        let apps: Vec<CallerId> = (0..3).map(|_| CallerId::Application(AppId::new(Time::ZERO))).collect();
        let mut held = vec![reserve(&budget, &apps[0], 25).unwrap()];
        assert_eq!(reserve(&budget, &apps[0], 1).err(), Some(BodyBudgetExceeded::Caller));
        held.push(reserve(&budget, &apps[1], 25).unwrap());
        assert_eq!(reserve(&budget, &apps[2], 1).err(), Some(BodyBudgetExceeded::Process), "half is for keys");
        held.push(reserve(&budget, &org, 50).unwrap());
        assert_eq!(reserve(&budget, &org, 1).err(), Some(BodyBudgetExceeded::Caller));
        drop(held.remove(0));
        let mut growing = budget.reservation(apps[2].clone());
        growing.add(10).unwrap();
        growing.add(15).unwrap();
        assert_eq!(growing.add(1), Err(BodyBudgetExceeded::Caller));
        drop((growing, held));
        let used = budget.used();
        assert!(used.all == 0 && used.restricted == 0 && used.by_caller.is_empty());
    }

    #[test]
    fn the_largest_body_fits_every_share() {
        let address = CallerId::Address(std::net::Ipv4Addr::LOCALHOST.into());
        assert!(reserve(&BodyBudget::default(), &address, LARGEST_BODY).is_ok());
    }
}
