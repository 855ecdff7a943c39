//! The indexes over all lanes, and time-based changes.
//!
//! Each index answers one question without a search. Which lane is due to be read? Which may send again? Which is due
//! for a check? Which slots are busy? After any change to a lane, [`Lanes::index`] updates its positions: a lane is in
//! each index at most once, and no entry is stale.
//!
//! Every lane has a next **check**, which updates its kind, ends its backlogged state, or drops it after a while
//! without activity. Each check schedules the next one, so none is missed; events only make it earlier. A step does
//! each kind of work for at most [`PER_STEP`] lanes, and [`Lanes::overdue`] returns whether any is left.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{IDLE, Lanes, PER_STEP};
use crate::domain::EndpointId;
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::hold::Hold;

/// Moves a lane within an index that is ordered by time.
fn relist<T: Ord>(index: &mut BTreeSet<(T, EndpointId)>, id: EndpointId, before: Option<T>, now: Option<T>) {
    if before == now {
        return;
    }
    if let Some(before) = before {
        index.remove(&(before, id));
    }
    if let Some(now) = now {
        index.insert((now, id));
    }
}

impl Lanes {
    /// Begins a step's work on the lanes, after its events: does the work that has become due, for a bounded number of
    /// lanes.
    pub fn begin_turn(&mut self, now: ClockReading) {
        self.visits = 0;
        self.forget_recently_read(now);
        self.renew_some();
        for _ in 0..PER_STEP {
            let Some((_, _, id)) = self.wakes.first().copied().filter(|(at, ..)| *at <= now.mono) else { break };
            self.unlist_wake(id);
            self.enqueue(id);
        }
        for _ in 0..PER_STEP {
            let Some((_, id)) = self.checks.first().copied().filter(|(at, _)| *at <= now.mono) else { break };
            self.check(id, now);
        }
    }

    /// Whether the last step left due work undone.
    pub fn overdue(&self, now: ClockReading) -> bool {
        let check = self.checks.first().is_some_and(|(at, _)| *at <= now.mono);
        check || !self.renewing.is_empty() || self.visits >= PER_STEP
    }

    /// Updates the positions of a lane after any change to it.
    pub(super) fn index(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        // A lane without room is not read. Making room indexes it again.
        let look = lane.read_due().filter(|_| lane.roomy() && lane.positions.to_read.is_none());
        let before = std::mem::replace(&mut lane.positions.read_due, look);
        relist(&mut self.reads_due, id, before, look);
        if lane.busy() != lane.positions.busy {
            lane.positions.busy = lane.busy();
            let busy = &mut self.slots[usize::from(lane.slot)].busy;
            *busy = if lane.busy() { *busy + 1 } else { busy.saturating_sub(1) };
        }
        if let Some(at) = lane.next_change().filter(|at| lane.positions.check.is_none_or(|listed| *at < listed)) {
            self.check_at(id, at);
        }
    }

    /// Schedules the next check of a lane at `at`.
    fn check_at(&mut self, id: EndpointId, at: Duration) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let before = lane.positions.check.replace(at);
        relist(&mut self.checks, id, before, Some(at));
    }

    fn check(&mut self, id: EndpointId, now: ClockReading) {
        self.renew(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.backlogged_until = lane.backlogged_until.filter(|until| now.mono < *until);
        self.note_responsiveness(id, now);
        let Some(lane) = self.lanes.get(&id) else { return };
        if !lane.positions.enqueued && lane.droppable(now, IDLE) {
            return self.drop_lane(id);
        }
        // If another reason than recent activity keeps the lane, check again after another `IDLE`.
        let idle = lane.last_active + IDLE;
        let idle = if idle > now.mono { idle } else { now.mono + IDLE };
        let change = lane.next_change().filter(|at| *at > now.mono);
        self.check_at(id, change.map_or(idle, |at| at.min(idle)));
    }

    /// Adds a new lane of the table to the indexes.
    pub(super) fn list(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get(&id) else { return };
        let (app, slot, idle) = (lane.live.endpoint.app_id, lane.slot, lane.last_active + IDLE);
        self.by_app.entry(app).or_default().insert(id);
        self.slots[usize::from(slot)].lanes.insert(id);
        self.check_at(id, idle);
        self.index(id);
    }

    /// Drops a lane that holds nothing and is in no queue.
    fn drop_lane(&mut self, id: EndpointId) {
        self.unlist_wake(id);
        let Some(lane) = self.lanes.remove(&id) else { return };
        relist(&mut self.reads_due, id, lane.positions.read_due, None);
        if let Some((line, ticket)) = lane.positions.to_read {
            self.to_read[line].remove(lane.live.endpoint.app_id, id, ticket);
        }
        relist(&mut self.checks, id, lane.positions.check, None);
        self.slots[usize::from(lane.slot)].lanes.remove(&id);
        let app = lane.live.endpoint.app_id;
        if let Some(others) = self.by_app.get_mut(&app) {
            others.remove(&id);
            if others.is_empty() {
                self.by_app.remove(&app);
                self.apps.forget(app);
            }
        }
    }

    /// Queues the lane to send again at `at`.
    pub(super) fn wake_at(&mut self, id: EndpointId, at: Duration) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.positions.wake.is_none_or(|(listed, _)| at < listed) {
            let wake = (at, lane.turn);
            if let Some((at, turn)) = lane.positions.wake.replace(wake) {
                self.wakes.remove(&(at, turn, id));
            }
            self.wakes.insert((wake.0, wake.1, id));
        }
    }

    fn unlist_wake(&mut self, id: EndpointId) {
        if let Some((at, turn)) = self.lanes.get_mut(&id).and_then(|lane| lane.positions.wake.take()) {
            self.wakes.remove(&(at, turn, id));
        }
    }

    /// The time until work becomes due without an event.
    pub fn idle_for(&self, now: ClockReading) -> Option<Duration> {
        if self.overdue(now) {
            return Some(Duration::ZERO);
        }
        let wake = self.wakes.first().map(|(at, ..)| at.saturating_sub(now.mono));
        let due = self.to_read.iter().any(|line| !line.is_empty()).then_some(Duration::ZERO);
        let look = due.or_else(|| self.reads_due.first().map(|(at, _)| at.since(now.time)));
        let behind = self.throttle_hold(now).and_then(Hold::until).filter(|_| !self.lines[1].is_empty());
        let rest = self.headroom.wait(now.mono);
        [wake, look, behind.map(|at| at.saturating_sub(now.mono)), rest].into_iter().flatten().min()
    }
}
