//! All lanes and what they share: which delivery goes next. Events go in, each as a method (admitted,
//! read, sent, recorded, leases, …), and what is to be done comes out: [`Lanes::start`] the next deliveries to send, [`Lanes::begin_reading`]
//! the lanes to read for ([`reading`]). What endpoints are like is told in [`endpoint_cache`], which lanes are ours to send for in [`leases`]; what becomes of those whose endpoints do not
//! answer in [`silence`]; what is different where the order counts in [`ordered`].
//!
//! Time is an argument everywhere ([`ClockReading`]): Sendoff's time says what is due, the engine's own clock paces.

mod backlog_throttle;
mod endpoint_cache;
mod leases;
mod not_made;
mod ordered;
mod reading;
mod silence;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::attempt::Outcome;
use crate::domain::delivery::{Progress, State};
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::headroom::Headroom;
use crate::engine::core::lane::{Hold, Lane, Work};
use crate::engine::core::rate_limit::AppLimits;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::signals::Admission;
use crate::store::queue::waiting::PendingLane;
use backlog_throttle::BacklogThrottle;

/// How many payload bytes may be queued and in flight; beyond that deliveries wait in the store. A lane that has nothing queued may queue
/// one nevertheless, so that others cannot stop it.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// How many payload bytes one reading loads at most, but for the first message.
const READ_BYTES: usize = 16 * 1024 * 1024;
/// How many results may wait to be recorded before nothing more is sent: what a store that is away costs in memory, and the most
/// that a crash then would send again.
const UNRECORDED: usize = 4_096;
/// A lane in which nothing happened for so long is forgotten; its bucket has filled up by then.
const IDLE: Duration = Duration::from_secs(60);

/// The next delivery to send.
#[derive(Clone, Debug)]
pub struct Start {
    pub live: Arc<LiveEndpoint>,
    pub work: Work,
    pub slot: u8,
    pub epoch: i64,
}

/// Who sends to an endpoint, as far as we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    Ours,
    Others,
    No,
}

/// The lanes of all endpoints with something to do, and what they share.
pub struct Lanes {
    lanes: HashMap<EndpointId, Lane>,
    /// The endpoints of each application that have a lane.
    by_app: HashMap<AppId, HashSet<EndpointId>>,
    /// The limits of applications that have one.
    apps: AppLimits,
    /// The lanes that may have something to send, in turn: those that keep up, and those that are behind.
    lines: [VecDeque<EndpointId>; 2],
    /// Whose turn it is when both kinds may send.
    behind_next: bool,
    throttle: BacklogThrottle,
    /// When held lanes may go on, and whose turn it is then.
    wakes: BinaryHeap<Reverse<(Duration, u64, EndpointId)>>,
    turns: u64,
    /// When lanes want to be read.
    looks: BinaryHeap<Reverse<(Time, EndpointId)>>,
    /// Slots we own: epoch, and since when.
    leases: BTreeMap<u8, (i64, Duration)>,
    /// Endpoints of slots that are not ours, so that they are not loaded again and again.
    foreign: HashMap<EndpointId, u8>,
    /// Fresh deliveries that a reading brought lately. Their signal may still come: a commit is seen before it is told. By then
    /// they may be sent and recorded, and nothing else would tell that they must not go out again.
    recently_read: HashSet<(EndpointId, MessageId)>,
    recently_read_order: VecDeque<(Duration, (EndpointId, MessageId))>,
    max_in_flight: usize,
    lane_cap: usize,
    in_flight: usize,
    /// The same by the endpoint's [`Manner`](super::lane::Manner), and when that was last looked at.
    in_flight_by: [usize; 3],
    listened_at: Duration,
    unrecorded: usize,
    queued_bytes: usize,
    headroom: Headroom,
    /// The payload sizes of what is in flight, and their sum.
    in_flight_sizes: HashMap<(EndpointId, MessageId), usize>,
    in_flight_bytes: usize,
    /// Lanes that wait because too much is in flight to their kind ([`Manner`]): only once that changes is one of them looked at again.
    crowded: [VecDeque<EndpointId>; 3],
    /// How many lanes were looked at to find what to send.
    #[cfg(test)]
    visited: u64,
}

impl Lanes {
    /// At most `max_in_flight` requests at once, `lane_cap` of them for one endpoint.
    pub fn new(max_in_flight: usize, lane_cap: usize) -> Lanes {
        Lanes {
            lanes: HashMap::new(),
            by_app: HashMap::new(),
            apps: AppLimits::new(),
            lines: Default::default(),
            behind_next: false,
            throttle: BacklogThrottle::new(),
            wakes: BinaryHeap::new(),
            turns: 0,
            looks: BinaryHeap::new(),
            leases: BTreeMap::new(),
            foreign: HashMap::new(),
            recently_read: HashSet::new(),
            recently_read_order: VecDeque::new(),
            max_in_flight: max_in_flight.max(1),
            lane_cap,
            in_flight: 0,
            in_flight_by: [0; 3],
            listened_at: Duration::ZERO,
            unrecorded: 0,
            queued_bytes: 0,
            headroom: Headroom::default(),
            in_flight_sizes: HashMap::new(),
            in_flight_bytes: 0,
            crowded: Default::default(),
            #[cfg(test)]
            visited: 0,
        }
    }

    /// How many endpoints have a lane.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many a second may leave for those that are behind, together; `None`: as many as can.
    pub fn pace_of_those_behind(&self) -> Option<f64> {
        self.throttle.pace()
    }

    /// Whether everything that was sent is recorded.
    pub fn settled(&self) -> bool {
        self.in_flight == 0 && self.unrecorded == 0
    }

    /// Messages that were committed just now. What finds no room waits in the store and is read later, and so does what is scheduled.
    /// Gives back the endpoints that are for others to send to.
    pub fn admit(&mut self, admission: &Admission, now: ClockReading) -> Vec<EndpointId> {
        let mut others = Vec::new();
        for live in &admission.endpoints {
            let Some(lane) = self.lane(live, now) else {
                others.push(live.endpoint.id);
                continue;
            };
            if live.endpoint.spec.ordered || self.lanes.get(&lane).is_some_and(Lane::ordered) {
                self.admit_in_order(lane, admission, now);
                continue;
            }
            if self.recently_read.contains(&(lane, admission.message.id)) {
                continue;
            }
            if self.late(lane, &admission.message, now) {
                self.look(lane, Time::ZERO);
                continue;
            }
            let due = admission.message.first_due();
            if due > now.time {
                self.look(lane, due);
                continue;
            }
            let work = Work { message: admission.message.clone(), progress: Progress::default() };
            if self.queue(lane, work, State::Fresh, now) {
                self.came(lane, &admission.message, now);
            }
        }
        others
    }

    /// Queues what may be sent now, if there is room; else it waits in the store.
    fn queue(&mut self, id: EndpointId, work: Work, state: State, now: ClockReading) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        // However much others have queued, each may have one: they must not stop it.
        let room = self.queued_bytes + self.in_flight_bytes < QUEUED_BYTES || lane.queued() == 0;
        if lane.holds(work.message.id) {
            return false;
        }
        let bytes = work.message.size();
        let queued = !lane.paused() && room && lane.push(work, state == State::Retry);
        if queued {
            self.queued_bytes += bytes;
            self.line_up(id);
        } else {
            self.fall_behind(id);
            self.look(id, now.time);
        }
        queued
    }

    fn line_up(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.in_line) {
            lane.in_line = true;
            self.lines[usize::from(lane.behind_until.is_some())].push_back(id);
        }
    }

    fn look(&mut self, id: EndpointId, at: Time) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.look(at);
            self.list_look(id);
        }
    }

    /// Puts a lane's look into the list, unless one as early stands there.
    fn list_look(&mut self, id: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some(at) = lane.look_at().filter(|at| lane.look_listed.is_none_or(|listed| *at < listed)) {
            lane.look_listed = Some(at);
            self.looks.push(Reverse((at, id)));
        }
    }

    /// These deliveries were ended while they waited: what is queued of them is not sent.
    pub fn withdraw(&mut self, ended: &[(EndpointId, MessageId)]) {
        for (id, message) in ended {
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.withdraw(*message));
                if lane.ordered() {
                    // It may have been the one that the others wait for.
                    self.look(*id, Time::ZERO);
                }
            }
        }
    }

    /// Something of this endpoint becomes due at `at`.
    pub fn nudge(&mut self, id: EndpointId, at: Time) -> Ownership {
        self.look(id, at);
        match self.lanes.get(&id) {
            Some(lane) if lane.owned => Ownership::Ours,
            None if !self.foreign.contains_key(&id) => Ownership::No,
            _ => Ownership::Others,
        }
    }

    /// What the store says is pending; gives back the endpoints that have to be loaded first.
    pub fn pending(&mut self, pending: &[PendingLane], now: ClockReading) -> Vec<EndpointId> {
        let unknown =
            |one: &&PendingLane| !self.lanes.contains_key(&one.endpoint) && !self.foreign.contains_key(&one.endpoint);
        let load = pending.iter().filter(unknown).map(|one| one.endpoint).collect();
        for one in pending {
            // Never earlier than it is due: a lane whose first rows are all held would be read over and over.
            self.look(one.endpoint, one.look_at(now.time));
        }
        load
    }

    /// The next delivery to send, if anything may be sent.
    pub fn start(&mut self, now: ClockReading) -> Option<Start> {
        while let Some(Reverse((_, _, id))) = self.wakes.peek().copied().filter(|Reverse((at, ..))| *at <= now.mono) {
            self.wakes.pop();
            self.line_up(id);
        }
        self.listen(now);
        self.throttle.look(now.mono, !self.lines[0].is_empty());
        let most = self.max_in_flight.min(self.headroom.most(now.mono));
        while self.in_flight < most && self.in_flight + self.unrecorded < UNRECORDED {
            self.line_up_crowded();
            let may = !self.lines[1].is_empty() && self.throttle.wait(now.mono).is_none();
            let behind = may && (self.behind_next || self.lines[0].is_empty());
            let id = self.lines[usize::from(behind)].pop_front()?;
            #[cfg(test)]
            (self.visited += 1);
            let crowded = self.crowded(id, now);
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if crowded {
                lane.crowded = Some(lane.manner);
                self.crowded[lane.manner as usize].push_back(id);
                continue;
            }
            lane.in_line = false;
            let free = self.max_in_flight - self.in_flight;
            match lane.next(now, free, &self.apps) {
                Ok(work) => {
                    let start = Start {
                        live: lane.live.clone(),
                        slot: lane.slot,
                        epoch: self.leases.get(&lane.slot).map_or(0, |(epoch, _)| *epoch),
                        work,
                    };
                    self.turns += 1;
                    lane.turn = self.turns;
                    self.in_flight += 1;
                    self.in_flight_by[lane.manner as usize] += 1;
                    self.behind_next = !behind;
                    self.throttle.leaves(lane.behind_until.is_some(), now.mono);
                    let bytes = start.work.message.size();
                    self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
                    self.in_flight_bytes += bytes;
                    self.in_flight_sizes.insert((id, start.work.message.id), bytes);
                    // To the back of the line: the lanes take turns.
                    self.line_up(id);
                    self.look_if_roomy(id);
                    return Some(start);
                }
                Err(Hold::Until(at)) => self.wakes.push(Reverse((at, lane.turn, id))),
                Err(Hold::Idle) => {}
            }
        }
        None
    }

    fn look_if_roomy(&mut self, id: EndpointId) {
        if self.lanes.get(&id).is_some_and(Lane::roomy) {
            self.list_look(id);
        }
    }

    /// An attempt has ended; its result waits to be recorded.
    pub fn sent(&mut self, key: (EndpointId, MessageId), outcome: &Outcome, now: ClockReading) {
        let id = key.0;
        self.in_flight_bytes -= self.in_flight_sizes.remove(&key).unwrap_or(0);
        self.in_flight = self.in_flight.saturating_sub(1);
        self.unrecorded += 1;
        self.headroom.made();
        if let Some(lane) = self.lanes.get_mut(&id) {
            self.in_flight_by[lane.manner as usize] -= 1;
            lane.sent(outcome, now);
            self.note_manner(id, now);
            self.line_up(id);
            self.look_if_roomy(id);
        }
    }

    /// A result is in the store. `due`: when the delivery wants to be sent again.
    pub fn recorded(&mut self, id: EndpointId, message: MessageId, due: Option<Time>) {
        self.unrecorded = self.unrecorded.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(&id) {
            let ordered = lane.ordered();
            if ordered && due.is_some() {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.hold_back());
            }
            lane.recorded(message, due);
            self.list_look(id);
            if ordered {
                self.line_up(id);
            }
        }
    }

    /// Forgets lanes in which nothing has happened for a while.
    pub fn tidy(&mut self, now: ClockReading) {
        self.forget_recently_read(now);
        for (id, lane) in self.lanes.extract_if(|_, lane| !lane.in_line && lane.forgettable(now, IDLE)) {
            let app = lane.live.endpoint.app_id;
            if let Some(others) = self.by_app.get_mut(&app) {
                others.remove(&id);
                if others.is_empty() {
                    self.by_app.remove(&app);
                    self.apps.extract_if((app, 0)..=(app, u8::MAX), |_, _| true).for_each(drop);
                }
            }
        }
        // What is foreign may have moved to another slot since.
        self.foreign.clear();
    }

    /// Of a lane: how many wait that are fresh, and how many retries.
    #[cfg(test)]
    pub fn queued(&self, id: EndpointId) -> (usize, usize) {
        self.lanes.get(&id).map_or((0, 0), Lane::queues)
    }

    /// How long until something wants to be done by itself.
    pub fn idle_for(&self, now: ClockReading) -> Option<Duration> {
        let wake = self.wakes.peek().map(|Reverse((at, ..))| at.saturating_sub(now.mono));
        let look = self.looks.peek().map(|Reverse((at, _))| at.since(now.time));
        let way =
            self.throttle.wait(now.mono).filter(|_| !self.lines[1].is_empty()).map(|at| at.saturating_sub(now.mono));
        let rest = self.headroom.wait(now.mono);
        [wake, look, way, rest].into_iter().flatten().min()
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests;
