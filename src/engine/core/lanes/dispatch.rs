//! The next deliveries to send. Lanes that may have something to send are queued: applications take turns, and so do
//! the lanes of each. A lane that may send only later is woken then. A lane that waits for a share is retried when
//! one of its kind ends.

use super::{Dispatch, Lanes, PER_STEP, UNRECORDED};
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lane::Hold;

impl Lanes {
    /// The next delivery to send, if any may be sent. Also returns `None` after [`PER_STEP`] lanes since
    /// [`Lanes::begin_turn`]; the next step continues.
    pub fn start(&mut self, now: ClockReading) -> Option<Dispatch> {
        self.throttle.look(now.mono, self.others_left || self.others_unread);
        let start = self.start_first(now);
        if start.is_none() {
            self.others_left = !self.lines[0].is_empty();
        }
        start
    }

    fn start_first(&mut self, now: ClockReading) -> Option<Dispatch> {
        let most = self.shares.most().min(self.headroom.most(now.mono));
        while self.in_flight() < most && self.in_flight() + self.unrecorded < UNRECORDED && self.visits < PER_STEP {
            self.visits += 1;
            let id = match self.next_crowded(now) {
                Some(id) => id,
                None => self.next_in_line(now)?,
            };
            self.renew(id);
            if self.crowded(id, now) {
                continue;
            }
            let behind = self.lanes.get(&id).is_some_and(|lane| lane.behind_until.is_some());
            if let Some(start) = self.start_next_of(id, now) {
                self.behind_next = !behind;
                return Some(start);
            }
        }
        None
    }

    /// The next queued lane, alternating between lanes without backlog and, as far as the throttle allows, backlogged
    /// ones.
    fn next_in_line(&mut self, now: ClockReading) -> Option<EndpointId> {
        let may = !self.lines[1].is_empty() && self.throttle.wait(now.mono).is_none();
        let behind = may && (self.behind_next || self.lines[0].is_empty());
        self.lines[usize::from(behind)].pop()
    }

    /// The next delivery of a lane taken from its queue, if the lane may send.
    fn start_next_of(&mut self, id: EndpointId, now: ClockReading) -> Option<Dispatch> {
        let lane = self.lanes.get_mut(&id)?;
        lane.listed.in_line = false;
        let work = match lane.next(now, self.shares.most() - self.shares.in_flight(), &self.apps) {
            Ok(work) => work,
            Err(Hold::Until(at)) => {
                self.wake_at(id, at);
                return None;
            }
            Err(Hold::Idle) => return None,
        };
        let epoch = self.slots[usize::from(lane.slot)].lease.map_or(0, |(epoch, _)| epoch);
        let start = Dispatch { live: lane.live.clone(), slot: lane.slot, epoch, work };
        self.turns += 1;
        lane.turn = self.turns;
        self.shares.began(lane.kind);
        self.throttle.leaves(lane.behind_until.is_some(), now.mono);
        let bytes = start.work.message.size();
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.in_flight_bytes += bytes;
        self.in_flight_sizes.insert((id, start.work.message.id), bytes);
        // Back to the end of the queue, so the lanes of an application take turns.
        self.line_up(id);
        self.index(id);
        Some(start)
    }
}
