//! Attempts that could not be made for a local reason. Nothing is recorded: the delivery returns to the store and is
//! read again after a wait. Its endpoint pauses meanwhile; if the reason affects every endpoint, so does the whole
//! process ([`Headroom`](super::super::headroom::Headroom)).

use super::Lanes;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::event::UnsentAttempt;
use crate::engine::core::headroom::backoff;

impl Lanes {
    /// An attempt was not made. In the store, its delivery is still pending.
    pub fn failed_locally(&mut self, one: UnsentAttempt, now: ClockReading) {
        self.shares.end(self.lanes.get(&one.endpoint).map(|lane| lane.kind));
        self.give_room_back((one.endpoint, one.message));
        if one.why.affects_all() {
            self.headroom.failed(self.in_flight(), now.mono, one.jitter);
        }
        self.renew(one.endpoint);
        let Some(lane) = self.lanes.get_mut(&one.endpoint) else { return };
        let wait = lane.failed_locally(now.mono, |row| backoff(row, one.jitter));
        if lane.ordered() {
            self.queued_bytes = self.queued_bytes.saturating_sub(lane.hold_back());
        }
        lane.give_back(one.message, now.time.plus(wait));
        self.note_responsiveness(one.endpoint, now);
        self.index(one.endpoint);
        self.enqueue(one.endpoint);
    }
}
