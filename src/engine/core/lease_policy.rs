//! What the heartbeats decide, without any I/O: when the next one goes out and how much it may take, which slots **leave**, and what is
//! handed back. [`lease_keeper`](crate::engine::runtime::lease_keeper) sends them, and so does the simulation.
//!
//! Slots that are leaving are still ours in the store, and renewed like the others, while what they have in flight ends and is
//! recorded; each is handed back as soon as nothing of it is on its way. So an endpoint that hangs holds up its own slot and no other.
//! A process that shuts down is one whose share is nothing: all of its slots leave.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::store::queue::slots::{LEASE, Leases};

/// How often a heartbeat goes out; three may be lost before a lease runs out.
const BEAT: Duration = Duration::from_secs(3);
/// While it fails, and when slots are free, one goes out so soon after the last: back within a second of the store.
pub const BEAT_SOON: Duration = Duration::from_millis(250);
/// How long before its end a lease is no longer relied on: the store's clock and ours may run apart.
const MARGIN: Duration = Duration::from_secs(2);
/// Whoever has not reached the store for so long has been stopped, or the store was away: for others as well, perhaps.
const AWAY: Duration = Duration::from_secs(6);

/// How a heartbeat is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Take what is missing of our share, also what others let run out.
    Taking,
    /// Take only what nobody holds.
    Sparing,
    /// Take nothing.
    Leaving,
}

/// What a heartbeat that reached the store has led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// What is ours and stays so, and until when that may be relied on.
    pub leases: Leases,
    pub until: Duration,
    /// What has to leave from now on.
    pub surplus: Vec<u8>,
}

/// The heartbeats' state. All times are the process's own, on a clock that nobody sets.
#[derive(Debug, Default)]
pub struct Beats {
    leaving: BTreeSet<u8>,
    /// Those of them that the store did not take back.
    unreturned: Vec<u8>,
    /// When the last heartbeat that reached the store went out.
    last: Option<Duration>,
    /// Until then others are given the time to come back to what is theirs.
    sparing_until: Option<Duration>,
    failing: bool,
    /// The process shuts down.
    departing: bool,
}

impl Beats {
    /// From now on everything leaves.
    pub fn depart(&mut self) {
        self.departing = true;
    }

    /// A heartbeat goes out now: which?
    pub fn beat(&mut self, now: Duration) -> Beat {
        if self.last.is_some_and(|last| now - last > AWAY) {
            self.sparing_until = Some(now + LEASE);
        }
        match self.sparing_until.is_some_and(|until| now < until) {
            _ if self.departing => Beat::Leaving,
            true => Beat::Sparing,
            false => Beat::Taking,
        }
    }

    /// The one that went out at `began` has come back: these slots are ours, and `share` of all would be fair (`None`: there are no others).
    pub fn beaten(&mut self, began: Duration, mut leases: Leases, share: Option<usize>) -> Beaten {
        self.failing = false;
        self.last = Some(began);
        self.leaving.retain(|slot| leases.contains_key(slot));
        let share = if self.departing { 0 } else { share.unwrap_or(usize::MAX) };
        let mut surplus: Vec<u8> =
            leases.keys().skip(share).filter(|slot| !self.leaving.contains(slot)).copied().collect();
        // Those that leave already may lie below the share: no more leave than have to.
        surplus.truncate(leases.len().saturating_sub(share.saturating_add(self.leaving.len())));
        self.leaving.extend(&surplus);
        leases.retain(|slot, _| !self.leaving.contains(slot));
        Beaten { leases, until: began + LEASE - MARGIN, surplus }
    }

    /// The one that went out at `began` did not reach the store. `true`: it is the first.
    pub fn failed(&mut self, began: Duration) -> bool {
        self.sparing_until = Some(began + LEASE);
        !std::mem::replace(&mut self.failing, true)
    }

    /// How long until the next one, when the last one `took` so long: leases count from when it went out.
    pub fn pause(&self, took: Duration) -> Duration {
        if self.failing { BEAT_SOON } else { BEAT.saturating_sub(took).max(BEAT_SOON) }
    }

    /// Nothing of these is on its way any more: which are to be handed back?
    pub fn quiet(&self, slots: Vec<u8>) -> Vec<u8> {
        slots.into_iter().filter(|slot| self.leaving.contains(slot)).collect()
    }

    /// These were handed back, or (`false`) the store did not take them.
    pub fn handed_back(&mut self, slots: Vec<u8>, done: bool) {
        if done {
            self.leaving.retain(|slot| !slots.contains(slot));
        } else {
            self.unreturned.extend(slots);
        }
    }

    /// How long to wait before those that the store did not take are handed back again; `None`: there are none.
    pub fn hand_back_again(&self) -> Option<Duration> {
        (!self.unreturned.is_empty()).then_some(BEAT_SOON)
    }

    /// Those that the store did not take.
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
    fn no_more_leave_than_have_to() {
        let mut beats = Beats::default();
        let first = beats.beaten(Duration::ZERO, leases(0..8), Some(4));
        assert_eq!((first.leases.len(), first.surplus.len()), (4, 4));
        let again = beats.beaten(BEAT, leases(0..8), Some(4));
        assert_eq!((again.leases.len(), again.surplus), (4, vec![]), "they leave already");
        beats.handed_back(vec![4, 5], true);
        assert_eq!(beats.quiet(vec![4, 6]), [6], "only what leaves is handed back");
    }

    #[test]
    fn one_that_took_long_is_followed_soon() {
        let mut beats = Beats::default();
        beats.beaten(Duration::ZERO, leases([]), None);
        let pause = |millis| beats.pause(Duration::from_millis(millis)).as_millis();
        assert_eq!([pause(0), pause(1_000), pause(9_000)], [3_000, 2_000, 250]);
    }

    #[test]
    fn who_departs_keeps_nothing_and_takes_nothing() {
        let mut beats = Beats::default();
        beats.beaten(Duration::ZERO, leases(0..4), None);
        beats.depart();
        assert_eq!(beats.beat(BEAT), Beat::Leaving);
        let last = beats.beaten(BEAT, leases(0..4), None);
        assert_eq!((last.leases, last.surplus), (leases([]), vec![0, 1, 2, 3]));
    }

    #[test]
    fn who_was_away_spares_others_for_the_time_of_a_lease() {
        let mut beats = Beats::default();
        assert_eq!(beats.beat(Duration::ZERO), Beat::Taking);
        beats.beaten(Duration::ZERO, leases([]), None);
        let back = AWAY + Duration::from_millis(1);
        assert_eq!(beats.beat(back), Beat::Sparing, "stopped, perhaps");
        beats.beaten(back, leases([]), None);
        assert_eq!((beats.beat(back + BEAT), beats.beat(back + BEAT * 2)), (Beat::Sparing, Beat::Sparing));
        assert!(beats.failed(back + BEAT) && !beats.failed(back + BEAT) && beats.pause(Duration::ZERO) == BEAT_SOON);
    }
}
