//! The [concurrency policy](crate::engine::core::concurrency), applied to the lanes: which kind each lane is of, which ones wait for
//! their kind's share, and which ones are behind and yield.

use std::time::Duration;

use super::{Lanes, PER_STEP};
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
            self.shares.leave(lane.live.endpoint.app_id, id, place);
            lane.listed.in_line = false;
            self.line_up(id);
        }
        self.index(id);
    }

    /// The next lane that waited for its kind's share and need not any more. It goes before those in line: there another lane of its kind
    /// could take the share, time and again. Lanes that have to give way to others as well go back to their line.
    pub(super) fn next_crowded(&mut self, now: ClockReading) -> Option<EndpointId> {
        let throttled = self.throttle.wait(now.mono).is_some();
        for kind in [Responsiveness::Unknown, Responsiveness::Silent] {
            while self.visits < PER_STEP {
                let Some(id) = self.shares.next(kind) else { break };
                let Some(lane) = self.lanes.get_mut(&id) else { continue };
                lane.listed.crowded = None;
                if lane.behind_until.is_none() || !throttled {
                    return Some(id);
                }
                self.visits += 1;
                lane.listed.in_line = false;
                self.line_up(id);
            }
        }
        None
    }

    /// Whether a lane has to wait because of what is in flight to others of its kind. Then it does so, until [`Lanes::next_crowded`] finds it.
    pub(super) fn crowded(&mut self, id: EndpointId, now: ClockReading) -> bool {
        self.note_responsiveness(id, now);
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let full = self.shares.full(lane.kind);
        if full {
            let ticket = self.shares.wait(lane.live.endpoint.app_id, id, lane.kind);
            lane.listed.crowded = Some((lane.kind, ticket));
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
