//! What is known of endpoints: as they were loaded last, and their applications' limits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Lanes;
use crate::domain::{AppId, EndpointId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::Lane;
use crate::engine::core::rate_limit::Limit;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::slots::slot_of;

impl Lanes {
    /// The lane of an endpoint, made if need be; `None` if its slot is not ours.
    pub(super) fn lane(&mut self, live: &Arc<LiveEndpoint>, now: ClockReading) -> Option<EndpointId> {
        let id = live.endpoint.id;
        if let Some(lane) = self.lanes.get(&id) {
            if lane.live.version < live.version {
                self.know(std::slice::from_ref(live), now);
            }
            return self.lanes.get(&id).filter(|lane| lane.owned).map(|_| id);
        }
        let slot = slot_of(live);
        let Some((_, since)) = self.leases.get(&slot) else {
            self.foreign.insert(id, slot);
            return None;
        };
        let since = *since;
        self.know_app(live, since);
        let mut lane = Lane::new(live.clone(), true, since, self.lane_cap);
        lane.touched = now.mono;
        self.lanes.insert(id, lane);
        self.by_app.entry(live.endpoint.app_id).or_default().insert(id);
        Some(id)
    }

    fn know_app(&mut self, live: &LiveEndpoint, since: Duration) {
        let (key, parts) = ((live.endpoint.app_id, live.slot), live.app_slots);
        match live.app_throttle {
            Some(rate) if !self.apps.get(&key).is_some_and(|limit| limit.is_part(rate, parts)) => {
                self.apps.insert(key, Limit::part(rate, parts, since));
            }
            Some(_) => {}
            None => drop(self.apps.remove(&key)),
        }
    }

    /// Endpoints as they are now: lanes go on with that.
    pub fn know(&mut self, lives: &[Arc<LiveEndpoint>], now: ClockReading) {
        for live in lives {
            let id = live.endpoint.id;
            // Two loads may overtake each other.
            if self.lanes.get(&id).is_some_and(|lane| live.version < lane.live.version) {
                continue;
            }
            if self.lanes.contains_key(&id) {
                // Of a slot that is not ours nothing is known: its bucket begins when it becomes ours.
                self.know_app(live, now.mono);
            }
            if let Some(lane) = self.lanes.get_mut(&id) {
                if live.endpoint.spec.disabled || live.endpoint.spec.ordered != lane.ordered() {
                    self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                }
                let before = lane.slot;
                lane.refresh(live.clone(), now);
                lane.owned = self.leases.contains_key(&lane.slot);
                if lane.slot != before {
                    // Its application has got (or lost) a rate: another process may be sending already.
                    self.queued_bytes = self.queued_bytes.saturating_sub(lane.lapse());
                    lane.look(Time::ZERO);
                }
                self.list_look(id);
                self.line_up(id);
            } else if let Some(id) = self.lane(live, now) {
                self.look(id, Time::ZERO);
            }
        }
    }

    /// Every endpoint that has a lane.
    pub fn endpoints(&self) -> Vec<EndpointId> {
        self.lanes.keys().copied().collect()
    }

    /// The endpoints of one part of all applications, of `parts`.
    pub fn part(&self, part: u128, parts: u128) -> Vec<EndpointId> {
        let endpoints = self.lanes.values().map(|lane| &lane.live.endpoint);
        endpoints.filter(|endpoint| endpoint.app_id.0.as_u128() % parts == part).map(|endpoint| endpoint.id).collect()
    }

    /// The endpoints of an application whose lanes we have: what is remembered of them is stale.
    pub fn of_app(&self, app: AppId) -> Vec<EndpointId> {
        self.by_app.get(&app).into_iter().flatten().copied().collect()
    }

    /// These endpoints are no more: their queues are forgotten, the store ends what is pending.
    pub fn forget(&mut self, gone: &HashSet<EndpointId>) {
        for id in gone {
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.clear());
                lane.gone = true;
            }
        }
    }
}
