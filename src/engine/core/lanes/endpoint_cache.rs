//! The engine's cache of endpoints as last loaded, with the rate limits of their applications.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{FOREIGN, Lanes};
use crate::domain::{EndpointId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::Lane;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::slots::slot_of;

impl Lanes {
    /// The lane of an endpoint, created if necessary. `None`: this process does not lease its slot.
    pub(super) fn lane(&mut self, live: &Arc<LiveEndpoint>, now: ClockReading) -> Option<EndpointId> {
        let id = live.endpoint.id;
        if let Some(lane) = self.lanes.get(&id) {
            if lane.live.version < live.version {
                self.update_endpoints(std::slice::from_ref(live), now);
            }
            self.renew(id);
            return self.lanes.get(&id).filter(|lane| lane.owned).map(|_| id);
        }
        let number = slot_of(live);
        let slot = &self.slots[usize::from(number)];
        let Some((_, since)) = slot.lease else {
            if self.foreign.len() >= FOREIGN {
                self.foreign = HashMap::new();
            }
            self.foreign.insert(id, number);
            return None;
        };
        let mut lane = Lane::new(live.clone(), true, since, self.lane_cap);
        lane.lease_seen = slot.changes;
        lane.last_active = now.mono;
        self.update_app_limit(live, since);
        self.lanes.insert(id, lane);
        self.list(id);
        Some(id)
    }

    fn update_app_limit(&mut self, live: &LiveEndpoint, since: Duration) {
        let part = (live.endpoint.app_id, live.slot);
        match live.app_rate {
            Some(rate) => {
                let lease = self.slots[usize::from(live.slot)].changes;
                self.apps.set(part, lease, rate, since);
            }
            None => self.apps.remove(part),
        }
    }

    /// Updates lanes with the current data of endpoints.
    pub fn update_endpoints(&mut self, lives: &[Arc<LiveEndpoint>], now: ClockReading) {
        for live in lives {
            let id = live.endpoint.id;
            self.renew(id);
            // Loads may overtake each other.
            if self.lanes.get(&id).is_some_and(|lane| live.version < lane.live.version) {
                continue;
            }
            if self.lanes.contains_key(&id) {
                // If we do not lease the slot, its bucket starts when we do.
                self.update_app_limit(live, now.mono);
            }
            if let Some(lane) = self.lanes.get_mut(&id) {
                if live.endpoint.spec.disabled || live.endpoint.spec.ordered != lane.ordered() {
                    self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                }
                let before = lane.slot;
                lane.refresh(live.clone(), now);
                if lane.slot != before {
                    self.change_slot(id, before);
                }
                self.index(id);
                self.enqueue(id);
            } else if let Some(id) = self.lane(live, now) {
                self.schedule_read(id, Time::ZERO);
            }
        }
    }

    /// The endpoint moved from slot `before`. Another process may be sending already.
    fn change_slot(&mut self, id: EndpointId, before: u8) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let [old, new] = [before, lane.slot].map(usize::from);
        self.slots[old].lanes.remove(&id);
        self.slots[old].busy -= usize::from(std::mem::take(&mut lane.positions.busy));
        self.slots[new].lanes.insert(id);
        lane.lease_seen = self.slots[new].changes;
        lane.owned = self.slots[new].lease.is_some();
        self.queued_bytes = self.queued_bytes.saturating_sub(lane.end_lease());
        lane.schedule_read(Time::ZERO);
    }

    /// These endpoints were deleted. The store ends their pending deliveries.
    pub fn mark_deleted(&mut self, gone: &HashSet<EndpointId>) {
        for id in gone {
            self.renew(*id);
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                lane.deleted = true;
                self.index(*id);
            }
        }
    }
}
