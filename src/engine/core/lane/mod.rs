//! A **lane** is the in-memory queue of one endpoint: its order, rate limit, concurrency and health. A hanging, dead,
//! slow or very busy endpoint uses up its own lane only.
//!
//! # Invariants
//!
//! * A lane never holds more than its bounds of rows and bytes; the rest stays in the store.
//! * A lane does nothing by itself: [`lanes`](super::lanes) asks it for its next delivery.
//! * Every change of a lane keeps its entries in the indexes up to date.

mod index_positions;
mod read_watermarks;
mod responsiveness;
mod sending;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::deliveries::message::Message;
use crate::domain::{MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::concurrency::circuit_breaker::CircuitBreaker;
use crate::engine::core::concurrency::responsiveness::ResponseHistory;
use crate::engine::core::rate_limit::RateLimit;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::pending_deliveries::LaneRequest;
use crate::store::queue::slots::slot_of;
pub use index_positions::IndexPositions;
use read_watermarks::ReadWatermarks;

/// Maximum first attempts queued in memory. The same limit applies to retries. Others wait in the store.
pub const QUEUE: usize = 128;

/// A delivery that is queued to be sent.
#[derive(Clone, Debug)]
pub struct QueuedDelivery {
    pub message: Arc<Message>,
    pub progress: Progress,
    /// As in the row of the queue.
    pub due_at: Time,
}

/// The part of an ordered endpoint's pending deliveries that the lane holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCoverage {
    /// Unknown until the next read.
    Unknown,
    /// All up to this sequence number. The next number may follow in memory.
    UpTo(i64),
    /// All up to one that may not be sent yet. Until that is read again, everything else stays in the store.
    Blocked,
}

/// One endpoint's lane.
pub struct Lane {
    pub live: Arc<LiveEndpoint>,
    pub slot: u8,
    /// Whether this process leases the slot, as of the last lease change that the lane has applied.
    pub owned: bool,
    /// The number of changes of that lease that it has applied.
    pub lease_seen: u64,
    fresh: VecDeque<QueuedDelivery>,
    retries: VecDeque<QueuedDelivery>,
    /// Deliveries queued, in flight, or sent and not yet recorded, each with its state and due time in the store.
    held: HashMap<MessageId, (DeliveryState, Time)>,
    watermarks: ReadWatermarks,
    pub in_flight: usize,
    responses: ResponseHistory,
    /// The kind noted last. Requests in flight are counted under it.
    pub kind: Responsiveness,
    /// The time until which the lane counts as backlogged. `None`: it does not.
    pub backlogged_until: Option<Duration>,
    limit: Option<RateLimit>,
    breaker: CircuitBreaker,
    /// Whether a retry goes next when both kinds are queued.
    retry_next: bool,
    /// The time at which the store may have something due. `None`: nothing known is pending there.
    read_due: Option<Time>,
    /// The endpoint was deleted: nothing more is sent.
    pub deleted: bool,
    /// A read is under way. Deliveries that ended meanwhile are listed, as its rows may still show them as pending.
    reading: bool,
    /// The lease under which the read began has ended: other processes may have sent its rows.
    outdated: bool,
    settled_meanwhile: Vec<MessageId>,
    /// The pending deliveries in memory, for an ordered endpoint.
    pub coverage: SequenceCoverage,
    /// Sequence numbers are being assigned. The lane is read only afterwards.
    pub numbering: bool,
    /// The last activity.
    pub last_active: Duration,
    /// The number of attempts in a row that failed locally, and the time until which no attempt is made.
    local_failures: u32,
    paused_until: Duration,
    pub positions: IndexPositions,
    /// The sequence number of its last start among all starts. Among lanes that wake at the same time, the lowest goes
    /// first.
    pub turn: u64,
}

impl Lane {
    /// A lane whose slot has been leased since `owned_since`.
    pub fn new(live: Arc<LiveEndpoint>, owned: bool, owned_since: Duration, cap: usize) -> Lane {
        Lane {
            slot: slot_of(&live),
            owned,
            lease_seen: 0,
            fresh: VecDeque::new(),
            retries: VecDeque::new(),
            held: HashMap::new(),
            watermarks: ReadWatermarks::default(),
            in_flight: 0,
            responses: ResponseHistory::default(),
            kind: Responsiveness::Unknown,
            backlogged_until: None,
            limit: live.endpoint.spec.throttle_rate.map(|rate| RateLimit::new(rate, owned_since)),
            breaker: CircuitBreaker::new(cap),
            retry_next: false,
            read_due: None,
            deleted: false,
            reading: false,
            outdated: false,
            settled_meanwhile: Vec::new(),
            coverage: SequenceCoverage::Unknown,
            numbering: false,
            last_active: Duration::ZERO,
            local_failures: 0,
            paused_until: Duration::ZERO,
            positions: IndexPositions::default(),
            turn: 0,
            live,
        }
    }

    /// Replaces the endpoint's data.
    pub fn refresh(&mut self, live: Arc<LiveEndpoint>, now: ClockReading) {
        let rate = live.endpoint.spec.throttle_rate;
        if rate != self.limit.as_ref().map(RateLimit::rate) {
            self.limit = rate.map(|rate| RateLimit::new(rate, now.mono));
        }
        let enabled = self.live.endpoint.spec.disabled && !live.endpoint.spec.disabled;
        let reordered = self.ordered() != live.endpoint.spec.ordered;
        self.slot = slot_of(&live);
        self.live = live;
        self.deleted = false;
        if reordered {
            // The next read decides. An ordered lane never counts as backlogged.
            self.backlogged_until = None;
        }
        if enabled || reordered || self.paused() {
            self.schedule_read(Time::ZERO);
        }
    }

    /// Whether its deliveries go one at a time.
    pub fn ordered(&self) -> bool {
        self.live.endpoint.spec.ordered
    }

    /// Whether nothing is queued, in flight or unrecorded.
    pub fn quiet(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether nothing may be sent: the endpoint is disabled or deleted. Pending deliveries stay in the store.
    pub fn paused(&self) -> bool {
        self.deleted || self.live.endpoint.spec.disabled
    }

    /// Drops queued deliveries, but not those in flight. Returns the payload bytes freed.
    pub fn clear(&mut self) -> usize {
        let mut bytes = 0;
        for delivery in self.fresh.drain(..).chain(self.retries.drain(..)) {
            bytes += delivery.message.size();
            self.held.remove(&delivery.message.id);
        }
        self.coverage = SequenceCoverage::Unknown;
        self.watermarks.forget();
        bytes
    }

    /// For an ordered endpoint: its last delivery has not ended, so nothing may pass it. Returns the payload bytes
    /// freed.
    pub fn hold_back(&mut self) -> usize {
        let bytes = self.clear();
        self.coverage = SequenceCoverage::Blocked;
        bytes
    }

    /// The lease ended: the next owner may send everything queued here. Returns the payload bytes freed.
    pub fn end_lease(&mut self) -> usize {
        self.outdated = self.reading;
        self.clear()
    }

    /// A new lease began at `since`. Deliveries of the previous owner are unknown, so the bucket starts empty.
    pub fn begin_lease(&mut self, since: Duration) {
        self.limit = self.live.endpoint.spec.throttle_rate.map(|rate| RateLimit::new(rate, since));
        self.watermarks.forget();
        self.schedule_read(Time::ZERO);
    }

    /// Drops a delivery that ended, if it is queued. A read under way may still show it. Returns the payload bytes
    /// freed.
    pub fn withdraw(&mut self, message: MessageId) -> usize {
        if self.reading {
            self.settled_meanwhile.push(message);
        }
        if !self.held.contains_key(&message) {
            return 0;
        }
        for queue in [&mut self.fresh, &mut self.retries] {
            if let Some(delivery) =
                queue.iter().position(|delivery| delivery.message.id == message).and_then(|at| queue.remove(at))
            {
                self.held.remove(&message);
                return delivery.message.size();
            }
        }
        0
    }

    /// Queues a delivery unless it is held already. Returns `false` if the queue is full; it then waits in the store.
    pub fn push(&mut self, delivery: QueuedDelivery, kind: DeliveryState) -> bool {
        let most = self.queue_limit();
        let queue = if kind == DeliveryState::Retry { &mut self.retries } else { &mut self.fresh };
        if queue.len() >= most {
            return false;
        }
        if let Entry::Vacant(free) = self.held.entry(delivery.message.id) {
            free.insert((kind, delivery.due_at));
            queue.push_back(delivery);
        }
        true
    }

    pub fn holds(&self, message: MessageId) -> bool {
        self.held.contains_key(&message)
    }

    pub fn held(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.held.keys().copied()
    }

    pub fn queued(&self) -> usize {
        self.fresh.len() + self.retries.len()
    }

    /// The numbers of queued first attempts and retries.
    #[cfg(test)]
    pub fn queues(&self) -> (usize, usize) {
        (self.fresh.len(), self.retries.len())
    }

    /// Whether the queue has enough room for a read to be worthwhile. An ordered lane is read only when it holds
    /// nothing. A silent lane is read only when nothing is queued; otherwise hundreds of hanging endpoints would be
    /// read again after every scan.
    pub fn roomy(&self) -> bool {
        if self.ordered() {
            return self.quiet();
        }
        let queued = if self.kind == Responsiveness::Silent { 0 } else { QUEUE / 2 };
        self.fresh.len() <= queued && self.retries.len() <= queued
    }

    /// The store may have something due at `at`.
    pub fn schedule_read(&mut self, at: Time) {
        self.read_due = Some(self.read_due.map_or(at, |known| known.min(at)));
    }

    /// The time of the next read. `None`: one is under way, or nothing may be read.
    pub fn read_due(&self) -> Option<Time> {
        if self.reading || self.numbering || self.paused() || !self.owned { None } else { self.read_due }
    }

    /// Whether a read is due or under way.
    pub fn awaits_read(&self, now: Time) -> bool {
        self.reading || self.numbering || self.read_due.is_some_and(|at| at <= now)
    }

    /// Starts a read. The limit per kind is the room in the queue (at most `most_new`), plus the held rows, because the
    /// store returns them again.
    pub fn begin_read(&mut self, now: ClockReading, most_new: usize) -> LaneRequest {
        self.reading = true;
        self.read_due = None;
        self.settled_meanwhile.clear();
        self.watermarks.begin(now.mono);
        let (endpoint, slot, ordered) = (self.live.endpoint.id, self.slot, self.ordered());
        if ordered {
            let (from, fresh) = (Time::ZERO, QUEUE as i64);
            return LaneRequest { endpoint, slot, fresh, fresh_from: from, retries: 0, retries_from: from, ordered };
        }
        let most = self.queue_limit();
        let wants = |kind, queue: &VecDeque<QueuedDelivery>| {
            let from = self.watermarks.of(kind, now.time);
            let shown = self.held.values().filter(|(held, due_at)| *held == kind && *due_at >= from).count();
            ((most.saturating_sub(queue.len()).min(most_new) + shown) as i64, from)
        };
        let (fresh, fresh_from) = wants(DeliveryState::Fresh, &self.fresh);
        let (retries, retries_from) = wants(DeliveryState::Retry, &self.retries);
        LaneRequest { endpoint, slot, fresh, fresh_from, retries, retries_from, ordered }
    }

    /// Every delivery of this kind due before `known` is held or has ended, and need not be read again.
    pub fn raise_watermark(&mut self, kind: DeliveryState, known: Time) {
        self.watermarks.raise(kind, known);
    }

    /// Ends the read. Returns the deliveries to skip in its rows. `None`: skip all of them.
    pub fn end_read(&mut self, now: Duration) -> Option<Vec<MessageId>> {
        self.reading = false;
        self.watermarks.end(now);
        let settled = std::mem::take(&mut self.settled_meanwhile);
        (!std::mem::take(&mut self.outdated)).then_some(settled)
    }

    /// The delivery was not sent and its row is unchanged: no longer held, read again at `at`.
    pub fn give_back(&mut self, message: MessageId, at: Time) {
        self.watermarks.forget();
        self.recorded(message, Some(at));
    }

    /// The result is in the store: no longer held. `due`: when the delivery is due again.
    pub fn recorded(&mut self, message: MessageId, due: Option<Time>) {
        self.held.remove(&message);
        if self.reading {
            self.settled_meanwhile.push(message);
        }
        if let Some(due) = due {
            self.schedule_read(due);
        }
    }

    /// Whether the lane can be dropped without losing information.
    pub fn droppable(&self, now: ClockReading, idle: Duration) -> bool {
        self.held.is_empty()
            && !self.reading
            && !self.numbering
            && (self.read_due.is_none() || !self.owned || self.deleted)
            && !self.breaker.probing()
            && now.mono.saturating_sub(self.last_active) >= idle
    }

    /// Whether anything is queued, in flight or unrecorded.
    pub fn busy(&self) -> bool {
        !self.held.is_empty()
    }
}
