//! Silence: endpoints that keep us waiting. However many they are, and however much is for them, they get one half of what may be in flight;
//! those of whom nothing is known get one half too, and the last quarter is for those that have answered lately. So those that answer are
//! served as if the others were not there.

use super::Lanes;
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::Manner;

impl Lanes {
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
        if let Some((kind, ticket)) = lane.listed.crowded.take() {
            // It belongs to another kind now.
            self.crowded[kind as usize].remove(&(ticket, id));
            lane.listed.in_line = false;
            self.line_up(id);
        }
        self.index(id);
    }

    /// Lines up one lane of each kind that had too much in flight and has not any more.
    pub(super) fn line_up_crowded(&mut self) {
        for kind in [Manner::Unknown, Manner::Silent] {
            if self.full(kind) {
                continue;
            }
            let Some((_, id)) = self.crowded[kind as usize].pop_first() else { continue };
            if let Some(lane) = self.lanes.get_mut(&id) {
                (lane.listed.crowded, lane.listed.in_line) = (None, false);
                self.line_up(id);
            }
        }
    }

    /// A lane has to wait until less is in flight to its kind. It keeps its place in line meanwhile.
    pub(super) fn wait_crowded(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        self.tickets += 1;
        lane.listed.crowded = Some((lane.manner, self.tickets));
        self.crowded[lane.manner as usize].insert((self.tickets, id));
    }

    /// Whether nothing more may be in flight to endpoints of this kind.
    fn full(&self, kind: Manner) -> bool {
        let (half, reserved) = ((self.max_in_flight / 2).max(1), (self.max_in_flight * 3 / 4).max(1));
        kind != Manner::Answers && (self.in_flight_by[kind as usize] >= half || self.in_flight >= reserved)
    }

    /// Whether a lane has to wait because of what is in flight to others of its kind.
    pub(super) fn crowded(&mut self, id: EndpointId, now: ClockReading) -> bool {
        self.note_manner(id, now);
        self.lanes.get(&id).is_some_and(|lane| self.full(lane.manner))
    }
}
