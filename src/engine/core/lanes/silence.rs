//! Silence: endpoints that keep us waiting. However many they are, and however much is for them, they get one half of what may be in flight;
//! those of whom nothing is known get one half too, and the last quarter is for those that have answered lately. So those that answer are
//! served as if the others were not there.

use std::time::Duration;

use super::Lanes;
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::{Lane, Manner};

/// How often it is looked at who has fallen silent; so long a lane waits that finds the share of its kind taken.
pub(super) const LISTEN: Duration = Duration::from_millis(250);

impl Lanes {
    /// Notes who has fallen silent, now and then.
    pub(super) fn listen(&mut self, now: ClockReading) {
        if now.mono.saturating_sub(self.listened_at) < LISTEN {
            return;
        }
        self.listened_at = now.mono;
        self.note_who_keeps_up(now);
        let changed = |lane: &Lane| lane.manner(now.mono) != lane.manner;
        let changed: Vec<EndpointId> = self.lanes.iter().filter(|(_, lane)| changed(lane)).map(|(id, _)| *id).collect();
        changed.into_iter().for_each(|id| self.note_manner(id, now));
    }

    /// Notes how an endpoint behaves by now. Of what is queued for one that has fallen silent most goes back to the store.
    pub(super) fn note_manner(&mut self, id: EndpointId, now: ClockReading) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (before, present) = (lane.manner, lane.manner(now.mono));
        if before == present {
            return;
        }
        lane.manner = present;
        self.in_flight_by[before as usize] -= lane.in_flight;
        self.in_flight_by[present as usize] += lane.in_flight;
        if present == Manner::Silent {
            self.queued_bytes = self.queued_bytes.saturating_sub(lane.trim());
        }
        self.list_look(id);
    }

    /// Whether a lane has to wait because of what is in flight to others of its kind.
    pub(super) fn crowded(&mut self, id: EndpointId, now: ClockReading) -> bool {
        self.note_manner(id, now);
        let Some(lane) = self.lanes.get(&id) else { return false };
        let (half, reserved) = ((self.max_in_flight / 2).max(1), (self.max_in_flight * 3 / 4).max(1));
        lane.manner != Manner::Answers
            && (self.in_flight_by[lane.manner as usize] >= half || self.in_flight >= reserved)
    }
}
