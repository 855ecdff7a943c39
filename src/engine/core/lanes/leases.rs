//! Leases: which slots are ours. What was queued or is being read under a lease that is over is forgotten: others may have sent it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::Lanes;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::rate_limit::Limit;
use crate::store::queue::slots::Leases;

impl Lanes {
    /// The slots that are ours.
    pub fn slots(&self) -> Vec<u8> {
        self.leases.keys().copied().collect()
    }

    /// How many slots are ours.
    pub fn owned_slots(&self) -> usize {
        self.leases.len()
    }

    /// The slots that are ours now.
    pub fn lease(&mut self, leases: &Leases, now: ClockReading) {
        // Nearly every heartbeat changes nothing.
        if leases.len() == self.leases.len()
            && leases.iter().all(|(slot, epoch)| self.leases.get(slot).is_some_and(|(known, _)| known == epoch))
        {
            return;
        }
        let before = std::mem::take(&mut self.leases);
        for (slot, epoch) in leases {
            let since = match before.get(slot) {
                Some((known, since)) if known == epoch => *since,
                _ => now.mono,
            };
            self.leases.insert(*slot, (*epoch, since));
        }
        self.foreign.retain(|_, slot| !leases.contains_key(slot));
        let mut new = Vec::new();
        for (id, lane) in &mut self.lanes {
            let epoch = |leases: &BTreeMap<u8, (i64, Duration)>| leases.get(&lane.slot).map(|(epoch, _)| *epoch);
            let (before, present) = (epoch(&before), epoch(&self.leases));
            lane.owned = present.is_some();
            if before == present {
                continue;
            }
            self.queued_bytes = self.queued_bytes.saturating_sub(lane.lapse());
            if present.is_some() {
                lane.begin_lease(now.mono);
                new.push((*id, lane.live.clone()));
            }
        }
        for (id, live) in new {
            if let Some(rate) = live.app_throttle {
                let part = Limit::part(rate, live.app_slots, now.mono);
                self.apps.insert((live.endpoint.app_id, live.slot), part);
            }
            self.list_look(id);
        }
    }

    /// Lets go of slots: nothing more is sent for them.
    pub fn release(&mut self, slots: &[u8], now: ClockReading) {
        let kept: Leases = self
            .leases
            .iter()
            .filter(|(slot, _)| !slots.contains(slot))
            .map(|(slot, (epoch, _))| (*slot, *epoch))
            .collect();
        self.lease(&kept, now);
    }

    /// The slots of which something is on its way.
    pub fn busy_slots(&self) -> HashSet<u8> {
        self.lanes.values().filter(|lane| lane.busy()).map(|lane| lane.slot).collect()
    }
}
