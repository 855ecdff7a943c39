//! All lanes and their shared state: which delivery goes next.
//!
//! Each event is a method (admit, read, sent, recorded, lease, …). The results are the next deliveries to send
//! ([`Lanes::next_dispatch`] in [`dispatch`]) and the next lanes to read for ([`Lanes::begin_read`] in [`reading`]).
//!
//! * [`endpoint_cache`]: the endpoints' data. [`slot_leases`]: which lanes this process may send for.
//! * [`concurrency`]: requests in flight. [`ordered`]: endpoints with ordered delivery.
//!
//! Invariants: no event and no step iterates over all lanes. The [`table`] has no iterator; changes to many lanes go
//! through the indexes of [`indexes`], at most [`PER_STEP`] lanes at a time. Time is always an argument
//! ([`ClockReading`]).

mod concurrency;
mod dispatch;
mod endpoint_cache;
mod indexes;
mod local_failures;
mod ordered;
pub mod reading;
mod slot_leases;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::deliveries::attempt::Outcome;
use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::{AppId, EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::backlog_throttle::BacklogThrottle;
use crate::engine::core::concurrency::fair_queue::FairQueue;
use crate::engine::core::concurrency::record_room::RecordRoom;
use crate::engine::core::concurrency::shares::Shares;
use crate::engine::core::headroom::Headroom;
use crate::engine::core::lane::{Lane, QueuedDelivery};
use crate::engine::core::rate_limit::AppRateLimits;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::pending_deliveries::PendingLane;
use crate::store::queue::signals::Admission;
use crate::store::queue::slots::SLOTS;
use slot_leases::SlotLanes;
use table::LaneTable;

/// Maximum payload bytes queued and in flight. Other deliveries wait in the store. A lane with an empty queue may
/// always queue one, so other lanes cannot block it.
const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Maximum payload bytes that one read loads; the first message may exceed it.
const READ_BYTES: usize = 16 * 1024 * 1024;
/// A lane is dropped after this long without activity; its bucket is full by then.
const IDLE: Duration = Duration::from_secs(60);

/// Maximum lanes per step for each kind of work: send, wake, check, read, apply a lease. One takes about a
/// microsecond.
const PER_STEP: usize = 1_024;
/// Maximum endpoints of other processes' slots in the cache (about 20 bytes each). Others are loaded again when
/// needed.
const FOREIGN: usize = 262_144;

/// The next delivery to send.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub live: Arc<LiveEndpoint>,
    pub delivery: QueuedDelivery,
    pub slot: u8,
    pub epoch: i64,
}

/// The known owner of an endpoint's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    Ours,
    Others,
    Unknown,
}

/// An attempt from its start to its record.
struct UnrecordedAttempt {
    app: AppId,
    /// The size of its payload while it is in flight, then 0.
    in_flight_bytes: usize,
}

/// All lanes with something to do, and their shared state.
pub struct Lanes {
    lanes: LaneTable,
    /// The endpoints with a lane, by application.
    by_app: HashMap<AppId, BTreeSet<EndpointId>>,
    /// All slots, by number.
    slots: Vec<SlotLanes>,
    /// Slots with a lease change that not all lanes have applied yet, each with the last lane done.
    renewing: BTreeMap<u8, Option<EndpointId>>,
    /// The rate limits of applications.
    apps: AppRateLimits,
    /// The lanes that may have something to send: without backlog, and backlogged.
    lines: [FairQueue; 2],
    /// Whether a backlogged lane goes next when both may send.
    backlogged_next: bool,
    /// Whether the last turn left lanes without backlog in their queue, for lack of capacity or time.
    others_left: bool,
    /// Whether the last read left lanes without backlog unread. Their deliveries are in the store only.
    others_unread: bool,
    /// The number of queued lanes visited in this step.
    visits: usize,
    throttle: BacklogThrottle,
    /// The times at which held lanes may send again, with their turn numbers.
    wakes: BTreeSet<(Duration, u64, EndpointId)>,
    turns: u64,
    /// The times at which lanes are due to be read.
    reads_due: BTreeSet<(Time, EndpointId)>,
    /// The lanes due to be read (without backlog, and backlogged), and which of the two goes next.
    to_read: [FairQueue; 2],
    backlogged_read_next: bool,
    /// The times at which lanes are checked for time-based changes. Contains every lane.
    checks: BTreeSet<(Duration, EndpointId)>,
    /// Endpoints in slots of other processes, so they are not loaded again and again.
    foreign: HashMap<EndpointId, u8>,
    /// First attempts that a read returned recently. Their signal may still arrive, because a commit is visible before
    /// it is signalled. By then they may be sent and recorded, and only this entry prevents a second send.
    recently_read: HashSet<(EndpointId, MessageId)>,
    recently_read_order: VecDeque<(Duration, (EndpointId, MessageId))>,
    /// Requests in flight, and the lanes that wait for a share.
    shares: Shares,
    lane_cap: usize,
    record_room: RecordRoom,
    /// The attempts that `record_room` counts.
    unrecorded: HashMap<(EndpointId, MessageId), UnrecordedAttempt>,
    queued_bytes: usize,
    headroom: Headroom,
    /// The payload bytes of requests in flight.
    in_flight_bytes: usize,
}

impl Lanes {
    /// At most `max_in_flight` requests at once, and `lane_cap` per endpoint.
    pub fn new(max_in_flight: usize, lane_cap: usize) -> Lanes {
        Lanes {
            lanes: LaneTable::default(),
            by_app: HashMap::new(),
            slots: std::iter::repeat_with(SlotLanes::default).take(SLOTS).collect(),
            renewing: BTreeMap::new(),
            apps: AppRateLimits::default(),
            lines: Default::default(),
            backlogged_next: false,
            others_left: false,
            others_unread: false,
            visits: 0,
            throttle: BacklogThrottle::new(),
            wakes: BTreeSet::new(),
            turns: 0,
            reads_due: BTreeSet::new(),
            to_read: Default::default(),
            backlogged_read_next: false,
            checks: BTreeSet::new(),
            foreign: HashMap::new(),
            recently_read: HashSet::new(),
            recently_read_order: VecDeque::new(),
            shares: Shares::new(max_in_flight),
            lane_cap,
            record_room: RecordRoom::default(),
            unrecorded: HashMap::new(),
            queued_bytes: 0,
            headroom: Headroom::default(),
            in_flight_bytes: 0,
        }
    }

    /// The number of endpoints with a lane.
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.shares.in_flight()
    }

    /// The rate limit of backlogged lanes, together, in deliveries per second. `None`: unlimited.
    pub fn backlog_rate(&self) -> Option<f64> {
        self.throttle.rate()
    }

    /// Whether every result is recorded.
    pub fn settled(&self) -> bool {
        self.record_room.is_empty()
    }

    /// Queues a message that was just committed, for some of its endpoints. Deliveries that do not fit or are
    /// scheduled for later stay in the store and are read when due. Returns the endpoints that other processes send
    /// to.
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
            // The delivery is held or was sent.
        } else if self.late(id, message, now) {
            self.schedule_read(id, Time::ZERO);
        } else if due > now.time {
            self.schedule_read(id, due);
        } else {
            let delivery = QueuedDelivery { message: message.clone(), progress: Progress::default(), due_at: due };
            if self.queue(id, delivery, DeliveryState::Fresh, now) {
                self.sample_latency(id, message, now);
            }
        }
    }

    /// Queues a due delivery if there is room. Otherwise it waits in the store.
    fn queue(&mut self, id: EndpointId, delivery: QueuedDelivery, state: DeliveryState, now: ClockReading) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        // An empty lane may always queue one, so other lanes cannot block it.
        let room = self.queued_bytes + self.in_flight_bytes < QUEUED_BYTES || lane.queued() == 0;
        if lane.holds(delivery.message.id) {
            return false;
        }
        let bytes = delivery.message.size();
        let queued = !lane.paused() && room && lane.push(delivery, state);
        if queued {
            self.queued_bytes += bytes;
            self.enqueue(id);
            self.index(id);
        } else {
            self.mark_backlogged(id);
            self.schedule_read(id, now.time);
        }
        queued
    }

    fn enqueue(&mut self, id: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.positions.enqueued) {
            lane.positions.enqueued = true;
            self.lines[usize::from(lane.backlogged_until.is_some())].push(lane.live.endpoint.app_id, id);
        }
    }

    fn schedule_read(&mut self, id: EndpointId, at: Time) {
        self.renew(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.schedule_read(at);
            self.index(id);
        }
    }

    /// Drops these deliveries, which ended while they were queued.
    pub fn withdraw(&mut self, ended: &[(EndpointId, MessageId)]) {
        for (id, message) in ended {
            self.renew(*id);
            if let Some(lane) = self.lanes.get_mut(id) {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.withdraw(*message));
                if lane.ordered() {
                    // The next deliveries may have waited for it.
                    lane.schedule_read(Time::ZERO);
                }
                self.index(*id);
            }
        }
    }

    /// A delivery to this endpoint is due at `at`.
    pub fn note_due(&mut self, id: EndpointId, at: Time) -> Ownership {
        self.schedule_read(id, at);
        match self.lanes.get(&id) {
            Some(lane) if lane.owned => Ownership::Ours,
            None if !self.is_foreign(id) => Ownership::Unknown,
            _ => Ownership::Others,
        }
    }

    /// Whether the endpoint is known to be in another process's slot.
    fn is_foreign(&self, id: EndpointId) -> bool {
        self.foreign.get(&id).is_some_and(|slot| self.slots[usize::from(*slot)].lease.is_none())
    }

    /// Applies a page of a scan. Returns the endpoints to load first.
    pub fn pending(&mut self, page: &[PendingLane], now: ClockReading) -> Vec<EndpointId> {
        let mut unknown = Vec::new();
        for one in page {
            if self.lanes.contains_key(&one.endpoint) {
                // Not read before the due time: a lane whose first rows are all held would be read again and again.
                self.schedule_read(one.endpoint, one.look_at(now.time));
            } else if !self.is_foreign(one.endpoint) {
                unknown.push(one.endpoint);
            }
        }
        unknown
    }

    /// An attempt ended; its result waits to be recorded. Returns the circuit breaker's pause of the endpoint, if there
    /// is one.
    pub fn sent(&mut self, key: (EndpointId, MessageId), outcome: &Outcome, now: ClockReading) -> Option<Duration> {
        let id = key.0;
        if let Some(attempt) = self.unrecorded.get_mut(&key) {
            self.in_flight_bytes -= std::mem::take(&mut attempt.in_flight_bytes);
        }
        self.shares.end(self.lanes.get(&id).map(|lane| lane.kind));
        self.headroom.succeeded();
        self.renew(id);
        let lane = self.lanes.get_mut(&id)?;
        lane.sent(outcome, now);
        let rest = lane.breaker_pause(now);
        self.note_responsiveness(id, now);
        self.enqueue(id);
        self.index(id);
        rest
    }

    /// An attempt is recorded, or was not made.
    fn give_room_back(&mut self, key: (EndpointId, MessageId)) {
        if let Some(attempt) = self.unrecorded.remove(&key) {
            self.in_flight_bytes -= attempt.in_flight_bytes;
            self.record_room.give_back(attempt.app);
        }
    }

    /// A result was recorded. `due`: when the delivery is due again.
    pub fn recorded(&mut self, id: EndpointId, message: MessageId, due: Option<Time>) {
        self.give_room_back((id, message));
        self.renew(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            let ordered = lane.ordered();
            if ordered && due.is_some() {
                self.queued_bytes = self.queued_bytes.saturating_sub(lane.hold_back());
            }
            lane.recorded(message, due);
            self.index(id);
            if ordered {
                self.enqueue(id);
            }
        }
    }

    /// The numbers of queued first attempts and retries of a lane.
    #[cfg(test)]
    pub fn queued(&self, id: EndpointId) -> (usize, usize) {
        self.lanes.get(&id).map_or((0, 0), Lane::queues)
    }
}

#[cfg(test)]
pub(in crate::engine) mod tests;
