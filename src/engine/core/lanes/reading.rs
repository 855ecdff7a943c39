//! Reads: which lanes need rows from the store, and how these are applied.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Lanes, PER_STEP, QUEUED_BYTES, READ_BYTES};
use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::deliveries::message::Message;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::concurrency::fair_queue::FairQueue;
use crate::engine::core::event::ReadResult;
use crate::engine::core::lane::QueuedDelivery;
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery};

const LANES_PER_READ: usize = 512;
/// Maximum rows per read; the last lane may exceed it. The fewer lanes, the more rows for each.
const ROWS_PER_READ: usize = 16_384;
/// Maximum rows that one step applies; one takes about a microsecond. 64 backlogged lanes return about 16,000.
pub const ROWS_PER_STEP: usize = 2_048;
/// The longest delay between a commit becoming visible and its signal.
const LATE: Duration = Duration::from_secs(5);
/// The wait before a lane is read again if its messages exceeded the byte budget.
const BUDGET_RETRY: Duration = Duration::from_millis(50);
/// Maximum entries of `recently_read` dropped per call. Above the average that a read adds, so the list does not grow.
const FORGOTTEN: usize = 2_048;
/// The wait before the lanes of a failed read are read again.
pub(super) const READ_RETRY: Duration = Duration::from_millis(500);

/// The rows of a read that no step has applied yet. Their lanes still count as being read: changes to their
/// deliveries are noted and win over the rows.
#[derive(Debug)]
pub struct ReadRows {
    lanes: VecDeque<(LaneRequest, Vec<PendingDelivery>)>,
    in_order: VecDeque<OrderedHead>,
    messages: HashMap<MessageId, Arc<Message>>,
}

/// The lanes of a read that one step applies.
#[derive(Debug, Default)]
pub struct ReadPortion {
    pub wants: Vec<LaneRequest>,
    pub waiting: Vec<PendingDelivery>,
    pub in_order: Vec<OrderedHead>,
}

/// The rows of one kind that a read returned for one lane.
#[derive(Default)]
struct RowCoverage {
    /// The number of due rows.
    due: i64,
    /// The due time of the last row before the first `gap`.
    known_to: Option<Time>,
    /// A row is neither held nor ended: it has to be read again.
    gap: bool,
}

impl RowCoverage {
    /// The next row is held or has ended.
    fn known(&mut self, due_at: Time) {
        if !self.gap {
            self.known_to = Some(due_at);
        }
    }
}

impl ReadRows {
    pub fn new(reading: ReadResult) -> ReadRows {
        let mut by_lane: HashMap<EndpointId, Vec<PendingDelivery>> = HashMap::with_capacity(reading.wants.len());
        for one in reading.waiting {
            by_lane.entry(one.endpoint_id).or_default().push(one);
        }
        // Ordered lanes have rows of their own, in `in_order`.
        let wants = reading.wants.into_iter().filter(|want| !want.ordered);
        let lanes = wants.map(|want| (want, by_lane.remove(&want.endpoint).unwrap_or_default())).collect();
        ReadRows { lanes, in_order: reading.in_order.into(), messages: reading.messages }
    }

    /// The messages of the rows.
    pub fn messages(&self) -> &HashMap<MessageId, Arc<Message>> {
        &self.messages
    }

    /// Whether all rows are applied.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.in_order.is_empty()
    }

    /// Takes whole lanes with up to [`ROWS_PER_STEP`] rows in total, at least one lane. A lane without rows counts as
    /// one row.
    pub fn next_portion(&mut self) -> ReadPortion {
        let (mut part, mut rows) = (ReadPortion::default(), 0);
        let mut fits = |more: usize| {
            let more = more.max(1);
            let fits = rows == 0 || rows + more <= ROWS_PER_STEP;
            rows += if fits { more } else { 0 };
            fits
        };
        while let Some((want, waiting)) = self.lanes.pop_front_if(|(_, waiting)| fits(waiting.len())) {
            part.wants.push(want);
            part.waiting.extend(waiting);
        }
        if self.lanes.is_empty() {
            while let Some(order) = self.in_order.pop_front_if(|order| fits(order.waiting.len())) {
                part.in_order.push(order);
            }
        }
        part
    }
}

impl Lanes {
    /// Whether there is room for more payloads.
    pub(super) fn roomy(&self) -> bool {
        self.queued_bytes + self.in_flight_bytes < QUEUED_BYTES
    }

    /// The payload bytes that the next read may load.
    pub fn read_budget(&self) -> usize {
        QUEUED_BYTES.saturating_sub(self.queued_bytes + self.in_flight_bytes).min(READ_BYTES)
    }

    /// The lanes to read for, and their held deliveries, which need not be loaded. The lanes count as being read until
    /// [`Lanes::read`] or [`Lanes::read_failed`].
    pub fn begin_read(&mut self, now: ClockReading) -> (Vec<LaneRequest>, HashSet<(EndpointId, MessageId)>) {
        let (mut wants, mut held) = (Vec::new(), HashSet::new());
        self.enqueue_due_reads(now);
        let lanes = self.to_read.iter().map(FairQueue::len).sum::<usize>().clamp(1, LANES_PER_READ);
        let (most_new, mut rows) = (ROWS_PER_READ / (2 * lanes), 0);
        for _ in 0..PER_STEP {
            if wants.len() >= LANES_PER_READ || rows >= ROWS_PER_READ {
                break;
            }
            let Some(id) = self.next_to_read() else { break };
            self.renew(id);
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            // No room: the lane stays due, and is indexed again when a send makes room.
            let room = self.queued_bytes + self.in_flight_bytes < QUEUED_BYTES || lane.queued() == 0;
            if lane.read_due().is_some_and(|due| due <= now.time) && room {
                let want = lane.begin_read(now, most_new);
                rows += usize::try_from(want.fresh + want.retries).unwrap_or(usize::MAX);
                held.extend(lane.held().map(|message| (id, message)));
                wants.push(want);
            }
        }
        self.others_unread = !wants.is_empty() && !self.to_read[0].is_empty();
        (wants, held)
    }

    /// Queues the lanes due to be read. Applications take turns, and a backlog does not keep other lanes from being
    /// read.
    fn enqueue_due_reads(&mut self, now: ClockReading) {
        for _ in 0..PER_STEP {
            let Some((at, id)) = self.reads_due.first().copied().filter(|(at, _)| *at <= now.time) else { break };
            self.reads_due.remove(&(at, id));
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.positions.read_due = None;
            let line = usize::from(lane.backlogged_until.is_some());
            let app = lane.live.endpoint.app_id;
            lane.positions.to_read = Some((line, self.to_read[line].push(app, id)));
        }
    }

    /// The next lane to read for, alternating between lanes without backlog and backlogged ones.
    fn next_to_read(&mut self) -> Option<EndpointId> {
        self.backlogged_read_next = !self.backlogged_read_next;
        let line = usize::from(self.backlogged_read_next);
        let id = self.to_read[line].pop().or_else(|| self.to_read[1 - line].pop())?;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.positions.to_read = None;
        }
        Some(id)
    }

    /// Applies the rows of endpoints without ordered delivery: `waiting`, sorted by lane and due time, and their
    /// messages.
    pub fn read(
        &mut self,
        wants: &[LaneRequest],
        waiting: &[PendingDelivery],
        messages: &HashMap<MessageId, Arc<Message>>,
        now: ClockReading,
    ) {
        self.forget_recently_read(now);
        let mut settled: HashMap<EndpointId, HashSet<MessageId>> = HashMap::new();
        let mut unloaded: HashSet<EndpointId> = HashSet::new();
        let mut coverage: HashMap<(EndpointId, DeliveryState), RowCoverage> = HashMap::new();
        let wants = || wants.iter().filter(|want| !want.ordered);
        for want in wants() {
            self.renew(want.endpoint);
            if let Some(lane) = self.lanes.get_mut(&want.endpoint) {
                match lane.end_read(now.mono) {
                    Some(meanwhile) if !lane.ordered() => {
                        drop(settled.insert(want.endpoint, meanwhile.into_iter().collect()))
                    }
                    _ => lane.schedule_read(Time::ZERO),
                }
            }
        }
        for one in waiting {
            // Rows that are not due yet do not count as a full page: nothing behind them is due.
            let kind = coverage.entry((one.endpoint_id, one.state)).or_default();
            kind.due += i64::from(one.is_due(now.time));
            if settled.get(&one.endpoint_id).is_none_or(|settled| settled.contains(&one.message_id)) {
                kind.known(one.due_at);
                continue;
            }
            if !one.is_due(now.time) {
                self.schedule_read(one.endpoint_id, one.due_at);
            } else if let Some(message) = messages.get(&one.message_id) {
                let delivery = QueuedDelivery { message: message.clone(), progress: one.progress, due_at: one.due_at };
                let first = one.progress == Progress::default();
                if first {
                    self.recently_read.insert((one.endpoint_id, one.message_id));
                    self.recently_read_order.push_back((now.mono, (one.endpoint_id, one.message_id)));
                }
                if self.queue(one.endpoint_id, delivery, one.state, now) && first {
                    self.sample_latency(one.endpoint_id, message, now);
                }
            } else if self.lanes.get(&one.endpoint_id).is_some_and(|lane| !lane.holds(one.message_id)) {
                unloaded.insert(one.endpoint_id);
            }
            match self.lanes.get(&one.endpoint_id).is_some_and(|lane| lane.holds(one.message_id)) {
                true => kind.known(one.due_at),
                false => kind.gap = true,
            }
        }
        for want in wants().filter(|want| settled.contains_key(&want.endpoint)) {
            let Some(lane) = self.lanes.get_mut(&want.endpoint) else { continue };
            for state in [DeliveryState::Fresh, DeliveryState::Retry] {
                if let Some(known) = coverage.get(&(want.endpoint, state)).and_then(|kind| kind.known_to) {
                    lane.raise_watermark(state, known);
                }
            }
        }
        for want in wants() {
            if unloaded.contains(&want.endpoint) {
                // Over the byte budget, or its content was deleted.
                self.mark_backlogged(want.endpoint);
                self.schedule_read(want.endpoint, now.time.plus(BUDGET_RETRY));
                continue;
            }
            let full = |state, most| coverage.get(&(want.endpoint, state)).is_some_and(|kind| kind.due >= most);
            if full(DeliveryState::Fresh, want.fresh) || full(DeliveryState::Retry, want.retries) {
                self.mark_backlogged(want.endpoint);
                self.schedule_read(want.endpoint, now.time);
            } else {
                self.catch_up(want.endpoint, now);
                // Changes during the read may have made the lane due again.
                self.index(want.endpoint);
            }
        }
    }

    /// Whether the delivery may have been sent before the late signal of `message`: by a previous owner of the slot, or
    /// after a read that is no longer [remembered](Lanes::recently_read). Only the store can tell.
    pub(super) fn late(&self, id: EndpointId, message: &Message, now: ClockReading) -> bool {
        let since = self.owned_since(id).unwrap_or(now.mono);
        let ours = now.mono.saturating_sub(since);
        now.time.since(message.accepted_at) > ours.min(LATE)
    }

    /// Drops entries older than the latest possible signal. Keeping entries longer would be harmless.
    pub(super) fn forget_recently_read(&mut self, now: ClockReading) {
        for _ in 0..FORGOTTEN {
            let old = |(at, _): &mut (Duration, _)| now.mono.saturating_sub(*at) > LATE;
            let Some((_, key)) = self.recently_read_order.pop_front_if(old) else { return };
            self.recently_read.remove(&key);
        }
    }

    /// A read failed. Its lanes are read again after a wait.
    pub fn read_failed(&mut self, wants: &[LaneRequest], now: ClockReading) {
        for want in wants {
            self.renew(want.endpoint);
            if let Some(lane) = self.lanes.get_mut(&want.endpoint) {
                drop(lane.end_read(now.mono));
            }
            self.schedule_read(want.endpoint, now.time.plus(READ_RETRY));
        }
    }
}
