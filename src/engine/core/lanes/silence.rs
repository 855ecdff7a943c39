//! Silence: endpoints that keep us waiting. However many they are, and however much is for them, they get one half of what may be in flight;
//! those of whom nothing is known get one half too, and the last quarter is for those that have answered lately. So those that answer are
//! served as if the others were not there.

use std::time::Duration;

use super::Lanes;
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::{Lane, Manner};

/// How often the lanes are checked for endpoints that stopped answering.
const LISTEN: Duration = Duration::from_millis(250);

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
        if lane.crowded.take().is_some() {
            // It belongs to another kind now. The entry where it stood is skipped.
            lane.in_line = false;
            self.line_up(id);
        }
        self.list_look(id);
    }

    /// Lines up one lane of each kind that had too much in flight and has not any more.
    pub(super) fn line_up_crowded(&mut self) {
        for kind in [Manner::Unknown, Manner::Silent] {
            let waiting = &mut self.crowded[kind as usize];
            if waiting.len() > 2 * self.lanes.len() + 64 {
                // Most of it are lanes that went over to another kind.
                let lanes = &self.lanes;
                let mut seen = std::collections::HashSet::new();
                waiting.retain(|id| lanes.get(id).is_some_and(|lane| lane.crowded == Some(kind)) && seen.insert(*id));
            }
            while !self.full(kind) {
                let Some(id) = self.crowded[kind as usize].pop_front() else { break };
                let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.crowded == Some(kind)) else { continue };
                (lane.crowded, lane.in_line) = (None, false);
                self.line_up(id);
                break;
            }
        }
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
