//! Applies the [concurrency policy](crate::engine::core::concurrency) to the lanes: the kind of each, which ones wait
//! for a share, and which ones are backlogged and yield.

use std::time::Duration;

use super::{Lanes, PER_STEP};
use crate::domain::EndpointId;
use crate::domain::deliveries::message::Message;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::hold::Hold;

/// A lane counts as backlogged for this long after it caught up: more is likely to follow.
const LINGER: Duration = Duration::from_secs(5);

impl Lanes {
    /// Updates the kind of a lane. A lane that became silent returns most of its queue to the store.
    pub(super) fn note_responsiveness(&mut self, id: EndpointId, now: ClockReading) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (before, present) = (lane.kind, lane.responsiveness(now.mono));
        if before == present {
            return;
        }
        lane.kind = present;
        self.shares.reclassify(before, present, lane.in_flight);
        if present == Responsiveness::Silent {
            self.queued_bytes = self.queued_bytes.saturating_sub(lane.trim());
        }
        if let Some(place) = lane.positions.awaiting_share.take() {
            // The lane waits for a share of its new kind instead.
            self.shares.leave(lane.live.endpoint.app_id, id, place);
            lane.positions.enqueued = false;
            self.enqueue(id);
        }
        self.index(id);
    }

    /// The next lane that waited for a share and can get one. These lanes go before the queue; otherwise other lanes of
    /// their kind could take the share again and again. Backlogged lanes that are throttled return to their queue.
    pub(super) fn next_with_share(&mut self, now: ClockReading) -> Option<EndpointId> {
        let throttled = self.throttle_hold(now).is_some();
        for kind in [Responsiveness::Unknown, Responsiveness::Silent] {
            while self.visits < PER_STEP {
                let room = &self.record_room;
                let Some(id) = self.shares.next(kind, |app| room.admits(app)) else { break };
                let Some(lane) = self.lanes.get_mut(&id) else { continue };
                lane.positions.awaiting_share = None;
                if lane.backlogged_until.is_none() || !throttled {
                    return Some(id);
                }
                self.visits += 1;
                lane.positions.enqueued = false;
                self.enqueue(id);
            }
        }
        None
    }

    /// The reason that backlogged lanes may not send, if there is one.
    pub(super) fn throttle_hold(&self, now: ClockReading) -> Option<Hold> {
        self.throttle.wait(now.mono).map(Hold::Throttled)
    }

    /// The reason that the lane must wait for a share of its kind, if there is one. It then waits until
    /// [`Lanes::next_with_share`] takes it.
    pub(super) fn share_hold(&mut self, id: EndpointId, now: ClockReading) -> Option<Hold> {
        self.note_responsiveness(id, now);
        let lane = self.lanes.get_mut(&id)?;
        if !self.shares.full(lane.kind) {
            return None;
        }
        let ticket = self.shares.wait(lane.live.endpoint.app_id, id, lane.kind);
        lane.positions.awaiting_share = Some((lane.kind, ticket));
        Some(Hold::Share)
    }

    /// The store holds more deliveries for this endpoint than its lane can.
    pub(super) fn mark_backlogged(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.paused()) {
            lane.backlogged_until = Some(Duration::MAX);
        }
    }

    /// All pending deliveries of this endpoint are in its lane.
    pub(super) fn catch_up(&mut self, id: EndpointId, now: ClockReading) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.backlogged_until = lane.backlogged_until.map(|until| until.min(now.mono + LINGER));
            self.index(id);
        }
    }

    /// A first attempt was queued.
    pub(super) fn sample_latency(&mut self, id: EndpointId, message: &Message, now: ClockReading) {
        let took = now.time.since(message.first_due());
        let since = self.owned_since(id).unwrap_or(now.mono);
        // A wait that began before we leased the slot says nothing about this machine.
        let ours = took <= now.mono.saturating_sub(since);
        if ours && self.lanes.get(&id).is_some_and(|lane| lane.backlogged_until.is_none()) {
            self.throttle.sample(took);
        }
    }
}
