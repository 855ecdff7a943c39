//! Leases: which slots are ours. What was queued or is being read under a lease that is over is forgotten: others may have sent it.
//!
//! A change of a lease counts up in its slot, and every lane knows how many of these changes it has seen. A lane that is looked up is
//! brought up to date first ([`Lanes::renew`]), so that nothing is sent, queued or read under a lease that is over. All other lanes of
//! the slot follow in portions, one in each step.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::{Lanes, PER_STEP};
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::endpoint_loads::Part;
use crate::store::queue::slots::Leases;

/// A slot, as far as the lanes have to do with it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Our lease of it: its epoch, and since when it is ours. `None`: it is not ours.
    pub(super) lease: Option<(i64, Duration)>,
    /// How often that changed.
    pub(super) changes: u64,
    /// Its endpoints that have a lane.
    pub(super) lanes: BTreeSet<EndpointId>,
    /// How many of these lanes hold something.
    pub(super) busy: usize,
}

impl Lanes {
    /// The slots that are ours.
    pub fn slots(&self) -> Vec<u8> {
        self.numbered_slots().filter(|(_, slot)| slot.lease.is_some()).map(|(number, _)| number).collect()
    }

    /// How many slots are ours.
    pub fn owned_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.lease.is_some()).count()
    }

    fn numbered_slots(&self) -> impl Iterator<Item = (u8, &Slot)> {
        (0..=u8::MAX).zip(&self.slots)
    }

    /// The slots that are ours now.
    pub fn lease(&mut self, leases: &Leases, now: ClockReading) {
        for (number, slot) in (0..=u8::MAX).zip(&mut self.slots) {
            let epoch = leases.get(&number).copied();
            // Nearly every heartbeat changes nothing.
            if epoch != slot.lease.map(|(known, _)| known) {
                slot.lease = epoch.map(|epoch| (epoch, now.mono));
                slot.changes += 1;
                // Lanes that are made later begin with this lease.
                if !slot.lanes.is_empty() {
                    self.renewing.insert(number, None);
                }
            }
        }
    }

    /// Lets go of slots: nothing more is sent for them.
    pub fn release(&mut self, slots: &[u8], now: ClockReading) {
        let lease = |(number, slot): (u8, &Slot)| slot.lease.map(|(epoch, _)| (number, epoch));
        let kept: Leases = self.numbered_slots().filter_map(lease).filter(|(slot, _)| !slots.contains(slot)).collect();
        self.lease(&kept, now);
    }

    /// The slots of which something is on its way.
    pub fn busy_slots(&self) -> HashSet<u8> {
        self.numbered_slots().filter(|(_, slot)| slot.busy > 0).map(|(number, _)| number).collect()
    }

    /// The slot of an endpoint that has a lane.
    fn slot(&self, id: EndpointId) -> Option<&Slot> {
        self.lanes.get(&id).map(|lane| &self.slots[usize::from(lane.slot)])
    }

    /// Since when the slot of an endpoint is ours; `None`: it is not, or there is no lane.
    pub(super) fn owned_since(&self, id: EndpointId) -> Option<Duration> {
        self.slot(id)?.lease.map(|(_, since)| since)
    }

    /// Brings a lane up to its slot's present lease. Everything that has to do with a lane begins with this.
    pub(super) fn renew(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let slot = &self.slots[usize::from(lane.slot)];
        if lane.lease_seen == slot.changes {
            return;
        }
        lane.lease_seen = slot.changes;
        lane.owned = slot.lease.is_some();
        self.queued_bytes = self.queued_bytes.saturating_sub(lane.lapse());
        if let Some((_, since)) = slot.lease {
            lane.begin_lease(since);
            if let Some(rate) = lane.live.app_throttle {
                let part = (lane.live.endpoint.app_id, lane.slot);
                self.apps.renew(part, slot.changes, (rate, lane.live.app_slots), since);
            }
        }
        self.index(id);
    }

    /// Brings some of the lanes up to date whose slots' leases have changed.
    pub(super) fn renew_some(&mut self) {
        let mut left = PER_STEP;
        while let Some((slot, after)) = self.renewing.first_key_value().map(|(slot, after)| (*slot, *after)) {
            let some = self.listed(Part::Slot(slot), after, left);
            some.iter().for_each(|id| self.renew(*id));
            match some.last() {
                Some(last) if some.len() == left => {
                    self.renewing.insert(slot, Some(*last));
                    return;
                }
                _ => drop(self.renewing.remove(&slot)),
            }
            left -= some.len();
        }
    }

    /// The first `most` endpoints of a part that have a lane, by id, of those behind `after`.
    pub fn listed(&self, part: Part, after: Option<EndpointId>, most: usize) -> Vec<EndpointId> {
        let lanes = match part {
            Part::App(app) => self.by_app.get(&app),
            Part::Slot(slot) => Some(&self.slots[usize::from(slot)].lanes),
        };
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        let some: Vec<EndpointId> = lanes.into_iter().flat_map(|lanes| lanes.range(from)).take(most).copied().collect();
        self.lanes.saw(some.len());
        some
    }
}
