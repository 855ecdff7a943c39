//! Leases: which slots this process owns. Everything queued or read under a lease that ended is dropped, because
//! another process may have sent it.
//!
//! Each slot counts its lease changes, and each lane knows how many it has applied. Every access to a lane applies
//! the changes first ([`Lanes::renew`]), so nothing is sent, queued or read under an ended lease. The remaining lanes
//! of the slot follow in portions, one per step.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use super::{Lanes, PER_STEP};
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::endpoint_loads::EndpointGroup;
use crate::store::queue::slots::Leases;

/// The lanes' state of one slot.
#[derive(Debug, Default)]
pub(super) struct SlotLanes {
    /// Our lease: its epoch and its start. `None`: not ours.
    pub(super) lease: Option<(i64, Duration)>,
    /// The number of lease changes.
    pub(super) changes: u64,
    /// The endpoints of the slot with a lane.
    pub(super) lanes: BTreeSet<EndpointId>,
    /// The number of these lanes that hold deliveries.
    pub(super) busy: usize,
}

impl Lanes {
    /// The slots that this process leases.
    pub fn slots(&self) -> Vec<u8> {
        self.numbered_slots().filter(|(_, slot)| slot.lease.is_some()).map(|(number, _)| number).collect()
    }

    /// The number of slots that this process leases.
    pub fn owned_slots(&self) -> usize {
        self.slots.iter().filter(|slot| slot.lease.is_some()).count()
    }

    fn numbered_slots(&self) -> impl Iterator<Item = (u8, &SlotLanes)> {
        (0..=u8::MAX).zip(&self.slots)
    }

    /// Replaces the leases.
    pub fn lease(&mut self, leases: &Leases, now: ClockReading) {
        for (number, slot) in (0..=u8::MAX).zip(&mut self.slots) {
            let epoch = leases.get(&number).copied();
            // Most heartbeats change nothing.
            if epoch != slot.lease.map(|(known, _)| known) {
                slot.lease = epoch.map(|epoch| (epoch, now.mono));
                slot.changes += 1;
                // Lanes created later start with this lease.
                if !slot.lanes.is_empty() {
                    self.renewing.insert(number, None);
                }
            }
        }
    }

    /// Stops sending for these slots.
    pub fn release(&mut self, slots: &[u8], now: ClockReading) {
        let lease = |(number, slot): (u8, &SlotLanes)| slot.lease.map(|(epoch, _)| (number, epoch));
        let kept: Leases = self.numbered_slots().filter_map(lease).filter(|(slot, _)| !slots.contains(slot)).collect();
        self.lease(&kept, now);
    }

    /// The slots with deliveries queued, in flight or unrecorded.
    pub fn busy_slots(&self) -> HashSet<u8> {
        self.numbered_slots().filter(|(_, slot)| slot.busy > 0).map(|(number, _)| number).collect()
    }

    /// The slot of an endpoint with a lane.
    fn slot(&self, id: EndpointId) -> Option<&SlotLanes> {
        self.lanes.get(&id).map(|lane| &self.slots[usize::from(lane.slot)])
    }

    /// The start of the lease of an endpoint's slot. `None`: it is not leased, or the endpoint has no lane.
    pub(super) fn owned_since(&self, id: EndpointId) -> Option<Duration> {
        self.slot(id)?.lease.map(|(_, since)| since)
    }

    /// Applies the lease changes of its slot to a lane. Every operation on a lane starts with this.
    pub(super) fn renew(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let slot = &self.slots[usize::from(lane.slot)];
        if lane.lease_seen == slot.changes {
            return;
        }
        lane.lease_seen = slot.changes;
        lane.owned = slot.lease.is_some();
        self.queued_bytes = self.queued_bytes.saturating_sub(lane.end_lease());
        if let Some((_, since)) = slot.lease {
            lane.begin_lease(since);
            if let Some(rate) = lane.live.app_rate {
                let part = (lane.live.endpoint.app_id, lane.slot);
                self.apps.renew(part, slot.changes, rate, since);
            }
        }
        self.index(id);
    }

    /// Applies lease changes to some of the lanes that need it.
    pub(super) fn renew_some(&mut self) {
        let mut left = PER_STEP;
        while let Some((slot, after)) = self.renewing.first_key_value().map(|(slot, after)| (*slot, *after)) {
            let some = self.endpoints_in(EndpointGroup::Slot(slot), after, left);
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

    /// The first `most` endpoints of a group that have a lane, by id, after `after`.
    pub fn endpoints_in(&self, part: EndpointGroup, after: Option<EndpointId>, most: usize) -> Vec<EndpointId> {
        let lanes = match part {
            EndpointGroup::App(app) => self.by_app.get(&app),
            EndpointGroup::Slot(slot) => Some(&self.slots[usize::from(slot)].lanes),
        };
        let from = (after.map_or(Unbounded, Excluded), Unbounded);
        let some: Vec<EndpointId> = lanes.into_iter().flat_map(|lanes| lanes.range(from)).take(most).copied().collect();
        self.lanes.count_lookups(some.len());
        some
    }
}
