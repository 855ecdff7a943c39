//! The decisions behind the heartbeats, without I/O: the time of the next one, the slots it may take, the slots that
//! **leave**, and the slots to return. Used by [`lease_keeper`](crate::engine::runtime::lease_keeper) and by the
//! simulation.
//!
//! A leaving slot stays leased while its attempts in flight finish and are recorded, and is returned when it is quiet.
//! A hanging endpoint therefore delays its own slot only. In a process that shuts down, every slot leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::store::queue::slots::{LEASE, Leases};

/// The heartbeat interval. Three heartbeats may be lost before a lease expires.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The interval while heartbeats fail or slots are free: recovery takes less than a second.
pub const HEARTBEAT_SOON: Duration = Duration::from_millis(250);
/// The time before its expiry at which a lease is no longer relied on, because the store's clock and ours drift apart.
const MARGIN: Duration = Duration::from_secs(2);
/// A gap this long between heartbeats means that this process was paused or the store was down, perhaps for others too.
const AWAY: Duration = Duration::from_secs(6);

/// The slots that a heartbeat may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatMode {
    /// Slots up to the fair share, including expired ones of others.
    Taking,
    /// Only slots without an owner.
    Sparing,
    /// No slots: the process is shutting down.
    Leaving,
}

/// The outcome of a heartbeat that reached the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatOutcome {
    /// The slots to keep, and the time until which their leases may be relied on.
    pub leases: Leases,
    pub until: Duration,
    /// The slots that leave from now on.
    pub surplus: Vec<u8>,
}

/// The state behind the heartbeats. All times are monotonic.
#[derive(Debug, Default)]
pub struct LeasePolicy {
    leaving: BTreeSet<u8>,
    /// Leaving slots that the store failed to take back.
    unreturned: Vec<u8>,
    /// The send time of the last heartbeat that reached the store.
    last: Option<Duration>,
    /// The time until which expired slots are left to their owners.
    sparing_until: Option<Duration>,
    failing: bool,
    /// The process is shutting down.
    departing: bool,
}

impl LeasePolicy {
    /// From now on every slot leaves.
    pub fn depart(&mut self) {
        self.departing = true;
    }

    /// The mode of the heartbeat that is sent now.
    pub fn mode(&mut self, now: Duration) -> HeartbeatMode {
        if self.last.is_some_and(|last| now - last > AWAY) {
            self.sparing_until = Some(now + LEASE);
        }
        match self.sparing_until.is_some_and(|until| now < until) {
            _ if self.departing => HeartbeatMode::Leaving,
            true => HeartbeatMode::Sparing,
            false => HeartbeatMode::Taking,
        }
    }

    /// Applies the result of the heartbeat sent at `began`: the slots we lease, and our fair `share` (`None`: no
    /// other process).
    pub fn succeeded(&mut self, began: Duration, mut leases: Leases, share: Option<usize>) -> HeartbeatOutcome {
        self.failing = false;
        self.last = Some(began);
        self.leaving.retain(|slot| leases.contains_key(slot));
        let share = if self.departing { 0 } else { share.unwrap_or(usize::MAX) };
        let mut surplus: Vec<u8> =
            leases.keys().skip(share).filter(|slot| !self.leaving.contains(slot)).copied().collect();
        // Slots that leave already may be among the first `share`. Do not give up more than necessary.
        surplus.truncate(leases.len().saturating_sub(share.saturating_add(self.leaving.len())));
        self.leaving.extend(&surplus);
        leases.retain(|slot, _| !self.leaving.contains(slot));
        HeartbeatOutcome { leases, until: began + LEASE - MARGIN, surplus }
    }

    /// The heartbeat sent at `began` did not reach the store. Returns `true` for the first in a row.
    pub fn failed(&mut self, began: Duration) -> bool {
        self.sparing_until = Some(began + LEASE);
        !std::mem::replace(&mut self.failing, true)
    }

    /// The time until the next heartbeat, if the last one `took` this long. Leases count from the time it was sent.
    pub fn pause(&self, took: Duration) -> Duration {
        if self.failing { HEARTBEAT_SOON } else { HEARTBEAT.saturating_sub(took).max(HEARTBEAT_SOON) }
    }

    /// Those of `slots` to return. Nothing in them is queued, in flight or unrecorded.
    pub fn returnable(&self, slots: Vec<u8>) -> Vec<u8> {
        slots.into_iter().filter(|slot| self.leaving.contains(slot)).collect()
    }

    /// These slots were returned, or (`false`) the store failed to take them.
    pub fn returned(&mut self, slots: Vec<u8>, done: bool) {
        if done {
            self.leaving.retain(|slot| !slots.contains(slot));
        } else {
            self.unreturned.extend(slots);
        }
    }

    /// The wait before the next attempt to return slots. `None`: there are none.
    pub fn return_retry(&self) -> Option<Duration> {
        (!self.unreturned.is_empty()).then_some(HEARTBEAT_SOON)
    }

    /// Takes the slots that the store failed to take back.
    pub fn take_unreturned(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unreturned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases(slots: impl IntoIterator<Item = u8>) -> Leases {
        slots.into_iter().map(|slot| (slot, 1)).collect()
    }

    #[test]
    fn no_more_slots_leave_than_necessary() {
        let mut policy = LeasePolicy::default();
        let first = policy.succeeded(Duration::ZERO, leases(0..8), Some(4));
        assert_eq!((first.leases.len(), first.surplus.len()), (4, 4));
        let again = policy.succeeded(HEARTBEAT, leases(0..8), Some(4));
        assert_eq!((again.leases.len(), again.surplus), (4, vec![]), "they are leaving already");
        policy.returned(vec![4, 5], true);
        assert_eq!(policy.returnable(vec![4, 6]), [6], "only leaving slots are returned");
    }

    #[test]
    fn a_slow_heartbeat_shortens_the_pause() {
        let mut policy = LeasePolicy::default();
        policy.succeeded(Duration::ZERO, leases([]), None);
        let pause = |millis| policy.pause(Duration::from_millis(millis)).as_millis();
        assert_eq!([pause(0), pause(1_000), pause(9_000)], [3_000, 2_000, 250]);
    }

    #[test]
    fn a_departing_process_keeps_and_takes_nothing() {
        let mut policy = LeasePolicy::default();
        policy.succeeded(Duration::ZERO, leases(0..4), None);
        policy.depart();
        assert_eq!(policy.mode(HEARTBEAT), HeartbeatMode::Leaving);
        let last = policy.succeeded(HEARTBEAT, leases(0..4), None);
        assert_eq!((last.leases, last.surplus), (leases([]), vec![0, 1, 2, 3]));
    }

    #[test]
    fn after_an_absence_expired_slots_are_left_alone_for_one_lease() {
        let mut policy = LeasePolicy::default();
        assert_eq!(policy.mode(Duration::ZERO), HeartbeatMode::Taking);
        policy.succeeded(Duration::ZERO, leases([]), None);
        let back = AWAY + Duration::from_millis(1);
        assert_eq!(policy.mode(back), HeartbeatMode::Sparing, "it may have been paused");
        policy.succeeded(back, leases([]), None);
        assert_eq!(
            (policy.mode(back + HEARTBEAT), policy.mode(back + HEARTBEAT * 2)),
            (HeartbeatMode::Sparing, HeartbeatMode::Sparing)
        );
        assert!(
            policy.failed(back + HEARTBEAT)
                && !policy.failed(back + HEARTBEAT)
                && policy.pause(Duration::ZERO) == HEARTBEAT_SOON
        );
    }
}
