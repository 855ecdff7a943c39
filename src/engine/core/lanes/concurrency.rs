//! The [concurrency policy](crate::engine::core::concurrency), applied to the lanes: which kind each lane is of, which ones wait for
//! their kind's share, and which ones are behind and yield.

use std::time::Duration;

use super::Lanes;
use crate::domain::EndpointId;
use crate::domain::message::Message;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::Responsiveness;

/// An endpoint that has caught up counts as behind for so long: more of it is likely.
const LINGER: Duration = Duration::from_secs(5);

impl Lanes {
    /// Notes how an endpoint answers by now. Of what is queued for one that has fallen silent most goes back to the store.
    pub(super) fn note_responsiveness(&mut self, id: EndpointId, now: ClockReading) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (before, present) = (lane.kind, lane.responsiveness(now.mono));
        if before == present {
            return;
        }
        lane.kind = present;
        self.shares.moved(before, present, lane.in_flight);
        if present == Responsiveness::Silent {
            self.queued_bytes = self.queued_bytes.saturating_sub(lane.trim());
        }
        if let Some(place) = lane.listed.crowded.take() {
            // It belongs to another kind now.
            self.shares.leave(id, place);
            lane.listed.in_line = false;
            self.line_up(id);
        }
        self.index(id);
    }

    /// Lines up one lane of each kind that had too much in flight and has not any more.
    pub(super) fn line_up_crowded(&mut self) {
        for kind in [Responsiveness::Unknown, Responsiveness::Silent] {
            let Some(id) = self.shares.next(kind) else { continue };
            if let Some(lane) = self.lanes.get_mut(&id) {
                (lane.listed.crowded, lane.listed.in_line) = (None, false);
                self.line_up(id);
            }
        }
    }

    /// Whether a lane has to wait because of what is in flight to others of its kind. Then it does so, and keeps its place in line.
    pub(super) fn crowded(&mut self, id: EndpointId, now: ClockReading) -> bool {
        self.note_responsiveness(id, now);
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let full = self.shares.full(lane.kind);
        if full {
            lane.listed.crowded = Some((lane.kind, self.shares.wait(id, lane.kind)));
        }
        full
    }

    /// More waits for this endpoint than its lane may hold.
    pub(super) fn fall_behind(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.paused()) {
            lane.behind_until = Some(Duration::MAX);
        }
    }

    /// All that waits for this endpoint is in its lane.
    pub(super) fn catch_up(&mut self, id: EndpointId, now: ClockReading) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.behind_until = lane.behind_until.map(|until| until.min(now.mono + LINGER));
            self.index(id);
        }
    }

    /// A delivery that was never sent is in its lane now.
    pub(super) fn came(&mut self, id: EndpointId, message: &Message, now: ClockReading) {
        let took = now.time.since(message.first_due());
        let since = self.owned_since(id).unwrap_or(now.mono);
        // What waited from before its slot was ours says nothing about this machine.
        let ours = took <= now.mono.saturating_sub(since);
        if ours && self.lanes.get(&id).is_some_and(|lane| lane.behind_until.is_none()) {
            self.throttle.came(took);
        }
    }
}
