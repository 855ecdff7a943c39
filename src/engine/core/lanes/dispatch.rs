//! The next deliveries to send. Lanes that may have something to send are queued: applications take turns, and so do
//! the lanes of each. A lane that has to wait for a time is woken then. A lane that waits for a share is retried when a
//! request to its kind of endpoint ends.

use super::{Dispatch, Lanes, PER_STEP, UnrecordedAttempt};
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::hold::Hold;

impl Lanes {
    /// The next delivery to send, if any may be sent. Also returns `None` after [`PER_STEP`] lanes since
    /// [`Lanes::begin_turn`]; the next step continues.
    pub fn next_dispatch(&mut self, now: ClockReading) -> Option<Dispatch> {
        self.throttle.update(now.mono, self.others_left || self.others_unread);
        let dispatch = self.dispatch_first(now);
        if dispatch.is_none() {
            self.others_left = !self.lines[0].is_empty();
        }
        dispatch
    }

    fn dispatch_first(&mut self, now: ClockReading) -> Option<Dispatch> {
        while self.capacity_hold(now).is_none() {
            self.visits += 1;
            let id = match self.next_with_share(now) {
                Some(id) => id,
                None => self.next_queued(now)?,
            };
            self.renew(id);
            if self.share_hold(id, now).is_some() {
                continue;
            }
            let behind = self.lanes.get(&id).is_some_and(|lane| lane.backlogged_until.is_some());
            if let Some(dispatch) = self.dispatch_from(id, now) {
                self.backlogged_next = !behind;
                return Some(dispatch);
            }
        }
        None
    }

    /// The reason that this process may not start another request, if there is one.
    fn capacity_hold(&mut self, now: ClockReading) -> Option<Hold> {
        // Called in any case: the bound of the headroom only grows in this call.
        let (in_flight, headroom) = (self.in_flight(), self.headroom.most(now.mono));
        if in_flight >= self.shares.most() {
            Some(Hold::ProcessLimit)
        } else if in_flight >= headroom {
            Some(Hold::Headroom)
        } else if self.record_room.is_full() {
            Some(Hold::Unrecorded)
        } else if self.visits >= PER_STEP {
            Some(Hold::StepBudget)
        } else {
            None
        }
    }

    /// The next queued lane, alternating between lanes without backlog and, as far as the throttle allows, backlogged
    /// ones. Near the limit of unrecorded results, lanes of applications with many of them stay queued.
    pub(super) fn next_queued(&mut self, now: ClockReading) -> Option<EndpointId> {
        let may = !self.lines[1].is_empty() && self.throttle_hold(now).is_none();
        let behind = may && (self.backlogged_next || self.lines[0].is_empty());
        if !self.record_room.is_scarce() {
            return self.lines[usize::from(behind)].pop();
        }
        let room = &self.record_room;
        let mut pop = |line: usize| self.lines[line].pop_of(|app| room.admits(app));
        let other_line = if behind { Some(0) } else { may.then_some(1) };
        pop(usize::from(behind)).or_else(|| other_line.and_then(pop))
    }

    /// The next delivery of a lane taken from its queue, if the lane may send.
    fn dispatch_from(&mut self, id: EndpointId, now: ClockReading) -> Option<Dispatch> {
        let lane = self.lanes.get_mut(&id)?;
        lane.positions.enqueued = false;
        let delivery = match lane.next(now, self.shares.most() - self.shares.in_flight(), &self.apps) {
            Ok(delivery) => delivery,
            Err(hold) => {
                if let Some(until) = hold.until() {
                    self.wake_at(id, until);
                }
                return None;
            }
        };
        let epoch = self.slots[usize::from(lane.slot)].lease.map_or(0, |(epoch, _)| epoch);
        let dispatch = Dispatch { live: lane.live.clone(), slot: lane.slot, epoch, delivery };
        self.turns += 1;
        lane.turn = self.turns;
        self.shares.start(lane.kind);
        self.throttle.count_send(lane.backlogged_until.is_some(), now.mono);
        let (bytes, app) = (dispatch.delivery.message.size(), lane.live.endpoint.app_id);
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.in_flight_bytes += bytes;
        self.record_room.take(app);
        let attempt = UnrecordedAttempt { app, in_flight_bytes: bytes };
        self.unrecorded.insert((id, dispatch.delivery.message.id), attempt);
        // Back to the end of the queue, so the lanes of an application take turns.
        self.enqueue(id);
        self.index(id);
        Some(dispatch)
    }
}
