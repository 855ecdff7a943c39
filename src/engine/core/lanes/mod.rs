//! All lanes and what they share: which delivery goes next. Events go in, each as a method (admitted,
//! read, sent, recorded, leases, …), and what is to be done comes out: [`Lanes::start`] the next deliveries to send ([`starting`]),
//! [`Lanes::begin_reading`] the lanes to read for ([`reading`]). What endpoints are like is told in [`endpoint_cache`], which lanes are ours to send for in [`leases`]; how much may be in flight to each in
//! [`concurrency`]; what is different where the order counts in [`ordered`].
//!
//! No event and no step walks over all lanes, however many there are: the [`table`] cannot be iterated, and what concerns many lanes goes
//! through the indexes of [`upkeep`], in portions of [`PER_STEP`].
//!
//! Time is an argument everywhere ([`ClockReading`]): Sendoff's time says what is due, the engine's own clock paces.

mod concurrency;
mod endpoint_cache;
mod leases;
mod not_made;
mod ordered;
pub mod reading;
mod starting;
mod table;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::attempt::Outcome;
use crate::domain::delivery::{Progress, State};
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::backlog_throttle::BacklogThrottle;
use crate::engine::core::concurrency::fair_queue::FairQueue;
use crate::engine::core::concurrency::shares::Shares;
use crate::engine::core::headroom::Headroom;
use crate::engine::core::lane::{Lane, Work};
use crate::engine::core::rate_limit::AppLimits;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::signals::Admission;
use crate::store::queue::slots::SLOTS;
use crate::store::queue::waiting::PendingLane;
use leases::Slot;
use table::LaneTable;

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

/// How many lanes one step looks at, at most, for each kind of work: those that may send, that wake, that are checked, that are due to be
/// read, and whose lease has changed. One takes about a microsecond.
const PER_STEP: usize = 1_024;
/// How many endpoints of others' slots are remembered at most (some 20 bytes each). Without it they are only loaded again.
const FOREIGN: usize = 262_144;

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
    lanes: LaneTable,
    /// The endpoints of each application that have a lane.
    by_app: HashMap<AppId, BTreeSet<EndpointId>>,
    /// All slots, by number.
    slots: Vec<Slot>,
    /// Slots whose lease has changed, and behind which endpoint their lanes have still to be brought up to date (`None`: all).
    renewing: BTreeMap<u8, Option<EndpointId>>,
    /// The limits of applications that have one.
    apps: AppLimits,
    /// The lanes that may have something to send: those that keep up, and those that are behind.
    lines: [FairQueue; 2],
    /// Whose turn it is when both kinds may send.
    behind_next: bool,
    /// Whether the last turn left some of those that keep up in their line: there was no room for them, or no time.
    others_left: bool,
    /// Whether the last reading left some of those that keep up unread: what waits for them is in the store alone.
    others_unread: bool,
    /// How many lanes of the lines were looked at in this step.
    visits: usize,
    throttle: BacklogThrottle,
    /// When held lanes may go on, and whose turn it is then.
    wakes: BTreeSet<(Duration, u64, EndpointId)>,
    turns: u64,
    /// When lanes want to be read.
    looks: BTreeSet<(Time, EndpointId)>,
    /// The lanes whose time to be read has come: those that keep up, and those that are behind; and whose turn was last.
    to_read: [FairQueue; 2],
    behind_read_next: bool,
    /// When lanes are checked for what changes by the mere passing of time. Each lane stands here.
    checks: BTreeSet<(Duration, EndpointId)>,
    /// Endpoints of slots that were not ours, so that they are not loaded again and again.
    foreign: HashMap<EndpointId, u8>,
    /// Fresh deliveries that a reading brought lately. Their signal may still come: a commit is seen before it is told. By then
    /// they may be sent and recorded, and nothing else would tell that they must not go out again.
    recently_read: HashSet<(EndpointId, MessageId)>,
    recently_read_order: VecDeque<(Duration, (EndpointId, MessageId))>,
    /// What is in flight, and which lanes wait for the share of their kind.
    shares: Shares,
    lane_cap: usize,
    unrecorded: usize,
    queued_bytes: usize,
    headroom: Headroom,
    /// The payload sizes of what is in flight, and their sum.
    in_flight_sizes: HashMap<(EndpointId, MessageId), usize>,
    in_flight_bytes: usize,
}

impl Lanes {
    /// At most `max_in_flight` requests at once, `lane_cap` of them for one endpoint.
    pub fn new(max_in_flight: usize, lane_cap: usize) -> Lanes {
        Lanes {
            lanes: LaneTable::default(),
            by_app: HashMap::new(),
            slots: std::iter::repeat_with(Slot::default).take(SLOTS).collect(),
            renewing: BTreeMap::new(),
            apps: AppLimits::default(),
            lines: Default::default(),
            behind_next: false,
            others_left: false,
            others_unread: false,
            visits: 0,
            throttle: BacklogThrottle::new(),
            wakes: BTreeSet::new(),
            turns: 0,
            looks: BTreeSet::new(),
            to_read: Default::default(),
            behind_read_next: false,
            checks: BTreeSet::new(),
            foreign: HashMap::new(),
            recently_read: HashSet::new(),
            recently_read_order: VecDeque::new(),
            shares: Shares::new(max_in_flight),
            lane_cap,
            unrecorded: 0,
            queued_bytes: 0,
            headroom: Headroom::default(),
            in_flight_sizes: HashMap::new(),
            in_flight_bytes: 0,
        }
    }

    /// How many endpoints have a lane.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.shares.in_flight()
    }

    /// How many a second may leave for those that are behind, together; `None`: as many as can.
    pub fn pace_of_those_behind(&self) -> Option<f64> {
        self.throttle.pace()
    }

    /// Whether everything that was sent is recorded.
    pub fn settled(&self) -> bool {
        self.in_flight() == 0 && self.unrecorded == 0
    }

    /// A message that was committed just now, for some of its endpoints. What finds no room waits in the store and is read later, and so
    /// does what is scheduled. Gives back the endpoints that are for others to send to.
    pub fn admit(&mut self, admission: &Admission, endpoints: Range<usize>, now: ClockReading) -> Vec<EndpointId> {
        let mut others = Vec::new();
        for live in &admission.endpoints[endpoints] {
            match self.lane(live, now) {
                Some(lane) => self.admit_to(lane, live, admission, now),
                None => others.push(live.endpoint.id),
            }
        }
        others
    }

    fn admit_to(&mut self, id: EndpointId, live: &LiveEndpoint, admission: &Admission, now: ClockReading) {
        let (message, due) = (&admission.message, admission.message.first_due());
        if live.endpoint.spec.ordered || self.lanes.get(&id).is_some_and(Lane::ordered) {
            self.admit_in_order(id, admission, now);
        } else if self.recently_read.contains(&(id, message.id)) {
            // It is or was here already.
        } else if self.late(id, message, now) {
            self.look(id, Time::ZERO);
        } else if due > now.time {
            self.look(id, due);
        } else {
            let work = Work { message: message.clone(), progress: Progress::default(), due_at: due };
            if self.queue(id, work, State::Fresh, now) {
                self.came(id, message, now);
            }
        }
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
        let queued = !lane.paused() && room && lane.push(work, state);
        if queued {
            self.queued_bytes += bytes;
            self.line_up(id);
            self.index(id);
        } else {
            self.fall_behind(id);
            self.look(id, now.time);
        }
        queued
    }

    fn line_up(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.listed.in_line) {
            lane.listed.in_line = true;
            self.lines[usize::from(lane.behind_until.is_some())].push(lane.live.endpoint.app_id, id);
        }
    }

    fn look(&mut self, id: EndpointId, at: Time) {
        self.renew(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.look(at);
            self.index(id);
        }
    }

    /// These deliveries were ended while they waited: what is queued of them is not sent.
    pub fn withdraw(&mut self, ended: &[(EndpointId, MessageId)]) {
        for (id, message) in ended {
            self.renew(*id);
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.withdraw(*message));
                if lane.ordered() {
                    // It may have been the one that the others wait for.
                    lane.look(Time::ZERO);
                }
                self.index(*id);
            }
        }
    }

    /// Something of this endpoint becomes due at `at`.
    pub fn nudge(&mut self, id: EndpointId, at: Time) -> Ownership {
        self.look(id, at);
        match self.lanes.get(&id) {
            Some(lane) if lane.owned => Ownership::Ours,
            None if !self.is_foreign(id) => Ownership::No,
            _ => Ownership::Others,
        }
    }

    /// Whether it is known of an endpoint that its slot is not ours.
    fn is_foreign(&self, id: EndpointId) -> bool {
        self.foreign.get(&id).is_some_and(|slot| self.slots[usize::from(*slot)].lease.is_none())
    }

    /// What the store says is pending, one page of it; gives back the endpoints that have to be loaded first.
    pub fn pending(&mut self, page: &[PendingLane], now: ClockReading) -> Vec<EndpointId> {
        let mut unknown = Vec::new();
        for one in page {
            if self.lanes.contains_key(&one.endpoint) {
                // Never earlier than it is due: a lane whose first rows are all held would be read over and over.
                self.look(one.endpoint, one.look_at(now.time));
            } else if !self.is_foreign(one.endpoint) {
                unknown.push(one.endpoint);
            }
        }
        unknown
    }

    /// An attempt has ended; its result waits to be recorded. Gives back for how long the endpoint's circuit breaker holds back what waits, if
    /// it does.
    pub fn sent(&mut self, key: (EndpointId, MessageId), outcome: &Outcome, now: ClockReading) -> Option<Duration> {
        let id = key.0;
        self.in_flight_bytes -= self.in_flight_sizes.remove(&key).unwrap_or(0);
        self.shares.ended(self.lanes.get(&id).map(|lane| lane.kind));
        self.unrecorded += 1;
        self.headroom.made();
        self.renew(id);
        let lane = self.lanes.get_mut(&id)?;
        lane.sent(outcome, now);
        let rest = lane.rest(now);
        self.note_responsiveness(id, now);
        self.line_up(id);
        self.index(id);
        rest
    }

    /// A result is in the store. `due`: when the delivery wants to be sent again.
    pub fn recorded(&mut self, id: EndpointId, message: MessageId, due: Option<Time>) {
        self.unrecorded = self.unrecorded.saturating_sub(1);
        self.renew(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            let ordered = lane.ordered();
            if ordered && due.is_some() {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.hold_back());
            }
            lane.recorded(message, due);
            self.index(id);
            if ordered {
                self.line_up(id);
            }
        }
    }

    /// Of a lane: how many wait that are fresh, and how many retries.
    #[cfg(test)]
    pub fn queued(&self, id: EndpointId) -> (usize, usize) {
        self.lanes.get(&id).map_or((0, 0), Lane::queues)
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests;
