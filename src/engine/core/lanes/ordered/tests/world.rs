//! The model behind the tests of ordered endpoints: store, receiver and clocks, for one lane.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::*;
use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::domain::deliveries::delivery::DeliveryState;
use crate::engine::core::lanes::Dispatch;
use crate::engine::core::lanes::tests::world::{START, all_slots, live, scheduled};
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery, PendingLane};
use crate::store::queue::slots::Leases;

/// A pending delivery: sequence number, due time, progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) seq: i64,
    pub(super) due: Time,
    pub(super) progress: Progress,
}

/// The store, receiver and clocks, for one lane.
pub(super) struct OrderedWorld {
    pub(super) lanes: Lanes,
    pub(super) live: Arc<LiveEndpoint>,
    pub(super) messages: HashMap<MessageId, Arc<Message>>,
    pub(super) pending: BTreeMap<MessageId, Row>,
    /// Ended deliveries, with their progress.
    pub(super) ended: Vec<(MessageId, Progress)>,
    pub(super) next_seq: i64,
    pub(super) in_flight: Vec<(Dispatch, bool)>,
    /// Whether the attempt succeeded, and whether it was sent under an ended lease.
    pub(super) unrecorded: Vec<(MessageId, Progress, bool, bool)>,
    pub(super) reading: Option<(Vec<LaneRequest>, Vec<OrderedHead>)>,
    pub(super) numbering: bool,
    pub(super) late: Vec<Admission>,
    pub(super) now: ClockReading,
    pub(super) epoch: i64,
    pub(super) sent: Vec<MessageId>,
    pub(super) accepted: u128,
}

impl OrderedWorld {
    pub(super) fn new() -> OrderedWorld {
        let now = ClockReading { time: START, mono: Duration::from_secs(100) };
        let mut lanes = Lanes::new(64, 16);
        lanes.lease(&all_slots(), now);
        OrderedWorld {
            lanes,
            live: live(1, |spec| spec.ordered = true),
            messages: HashMap::new(),
            pending: BTreeMap::new(),
            ended: Vec::new(),
            next_seq: 1,
            in_flight: Vec::new(),
            unrecorded: Vec::new(),
            reading: None,
            numbering: false,
            late: Vec::new(),
            now,
            epoch: 1,
            sent: Vec::new(),
            accepted: 0,
        }
    }

    /// A world that accepted this many messages and read them: the first one is in flight.
    pub(super) fn with_read(messages: usize) -> OrderedWorld {
        let mut world = OrderedWorld::new();
        (0..messages).for_each(|_| world.accept(0, None));
        world.read();
        world
    }

    pub(super) fn id(&self) -> EndpointId {
        self.live.endpoint.id
    }

    pub(super) fn draw(&mut self) -> i64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// Commits a message. Its signal is immediate, late or lost. A scheduled one gets its number when it is due.
    pub(super) fn accept(&mut self, pick: usize, deliver_at: Option<Time>) {
        // The order of ids differs from that of the numbers.
        self.accepted += 1;
        let message = scheduled(1_000 + (self.accepted * 7_919) % 10_007, deliver_at);
        let seq = if deliver_at.is_some() { 0 } else { self.draw() };
        let due = deliver_at.unwrap_or(self.now.time);
        self.pending.insert(message.id, Row { seq, due, progress: Progress::default() });
        self.messages.insert(message.id, message.clone());
        let mut admission = Admission::new(message, vec![self.live.clone()]);
        admission.seqs.insert(self.id(), seq);
        match pick % 4 {
            0 | 1 => drop(self.lanes.admit_all(&admission, self.now)),
            2 => self.late.push(admission),
            _ => {}
        }
    }

    pub(super) fn hear_late(&mut self, pick: usize) {
        if !self.late.is_empty() {
            let admission = self.late.swap_remove(pick % self.late.len());
            self.lanes.admit_all(&admission, self.now);
        }
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now.time = self.now.time.plus(Duration::from_millis(millis));
        self.now.mono += Duration::from_millis(millis);
    }

    /// The first pending delivery by sequence number.
    pub(super) fn head(&self) -> Option<(MessageId, Row)> {
        let numbered = self.pending.iter().filter(|(_, row)| row.seq > 0);
        numbered.min_by_key(|(_, row)| row.seq).map(|(id, row)| (*id, *row))
    }

    pub(super) fn start(&mut self) {
        self.lanes.begin_turn(self.now);
        while let Some(dispatch) = self.lanes.next_dispatch(self.now) {
            let message = dispatch.delivery.message.id;
            let (first, row) = self.head().expect("only pending deliveries are sent");
            assert_eq!(message, first, "only the first one is sent");
            assert!(row.due <= self.now.time, "never before it is due");
            // If it was resent while queued, it is still the first, and is sent once more.
            let resent = row.progress.generation > dispatch.delivery.progress.generation;
            assert!(resent || row.progress == dispatch.delivery.progress, "never with an outdated progress");
            assert!(self.in_flight.is_empty() && self.unrecorded.is_empty(), "one at a time, until it is recorded");
            self.sent.push(message);
            self.in_flight.push((dispatch, false));
        }
    }

    pub(super) fn finish(&mut self, delivered: bool) {
        if let Some((dispatch, fenced)) = self.in_flight.pop() {
            let mut outcome = Outcome::failed(Failure::Status, "", Duration::ZERO);
            outcome.failure = (!delivered).then_some(Failure::Status);
            self.lanes.sent((self.id(), dispatch.delivery.message.id), &outcome, self.now);
            self.unrecorded.push((dispatch.delivery.message.id, dispatch.delivery.progress, delivered, fenced));
        }
    }

    pub(super) fn end(&mut self, message: MessageId) {
        if let Some(row) = self.pending.remove(&message) {
            self.ended.push((message, row.progress));
        }
    }

    /// Records as the store does: by epoch, generation and number of attempts.
    pub(super) fn record(&mut self) {
        for (message, before, delivered, fenced) in std::mem::take(&mut self.unrecorded) {
            let row = self.pending.get_mut(&message);
            let due = match row.filter(|row| !fenced && row.progress == before) {
                None => Some(Time::ZERO),
                Some(_) if delivered || before.attempts >= 3 => {
                    self.end(message);
                    None
                }
                Some(row) => {
                    row.due = self.now.time.plus(Duration::from_millis(50));
                    row.progress = Progress { attempts: before.attempts + 1, step: before.step + 1, ..before };
                    Some(row.due)
                }
            };
            self.lanes.recorded(self.id(), message, due);
        }
    }

    pub(super) fn begin_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (wants, held) = self.lanes.begin_read(self.now);
        if wants.is_empty() {
            return;
        }
        assert!(wants.iter().all(|want| want.ordered) && held.is_empty(), "{wants:?}");
        let mut rows: Vec<(MessageId, Row)> = self.pending.iter().map(|(id, row)| (*id, *row)).collect();
        rows.sort_by_key(|(_, row)| row.seq);
        let scheduled = rows.iter().filter(|(_, row)| row.seq == 0).map(|(_, row)| row.due).min();
        rows.retain(|(_, row)| row.seq > 0);
        rows.truncate(wants[0].fresh as usize);
        let more = rows.len() as i64 == wants[0].fresh;
        let last = rows.last().map_or(0, |(_, row)| row.seq);
        let waiting = |(message_id, row): &(MessageId, Row)| PendingDelivery {
            message_id: *message_id,
            endpoint_id: self.id(),
            state: DeliveryState::Fresh,
            due_at: row.due,
            progress: row.progress,
        };
        let order = OrderedHead {
            endpoint: self.id(),
            waiting: rows.iter().map(waiting).collect(),
            up_to: if more { last } else { self.next_seq - 1 },
            more,
            unnumbered: scheduled.is_some_and(|at| at <= self.now.time),
            scheduled,
        };
        self.reading = Some((wants, vec![order]));
    }

    pub(super) fn end_read(&mut self) {
        if let Some((wants, orders)) = self.reading.take() {
            self.lanes.read(&wants, &[], &HashMap::new(), self.now);
            self.numbering |= !self.lanes.read_in_order(&orders, &self.messages, self.now).is_empty();
        }
    }

    pub(super) fn number(&mut self, done: bool) {
        if !std::mem::take(&mut self.numbering) {
            return;
        }
        let due = |row: &Row| done && row.seq == 0 && row.due <= self.now.time;
        let mut found: Vec<(Time, MessageId)> =
            self.pending.iter().filter(|(_, row)| due(row)).map(|(id, row)| (row.due, *id)).collect();
        found.sort();
        for (_, id) in found {
            let seq = self.draw();
            self.pending.entry(id).and_modify(|row| row.seq = seq);
        }
        self.lanes.numbered(self.id(), done, self.now);
    }

    /// Resends a delivery: a pending one keeps its number and is due at once; an ended one gets a new number.
    pub(super) fn resend(&mut self, pick: usize) {
        let again = |progress: Progress| Progress { step: 0, generation: progress.generation + 1, ..progress };
        let (pending, now) = (self.pending.len(), self.now.time);
        if pick.is_multiple_of(2) && pending > 0 {
            if let Some(row) = self.pending.values_mut().nth(pick / 2 % pending) {
                (row.due, row.progress) = (now, again(row.progress));
            }
        } else if !self.ended.is_empty() {
            let (message, progress) = self.ended.swap_remove(pick % self.ended.len());
            let seq = self.draw();
            self.pending.insert(message, Row { seq, due: now, progress: again(progress) });
        }
        self.lanes.note_due(self.id(), Time::ZERO);
    }

    pub(super) fn cancel(&mut self, pick: usize) {
        let message = self.pending.keys().nth(pick % self.pending.len().max(1)).copied();
        if let Some(message) = message {
            self.end(message);
            self.lanes.withdraw(&[(self.id(), message)]);
        }
    }

    /// Another owner has the slot for a while and sends some pending deliveries.
    pub(super) fn change_owners(&mut self, pick: usize) {
        self.lanes.lease(&Leases::new(), self.now);
        self.in_flight.iter_mut().for_each(|(_, fenced)| *fenced = true);
        self.unrecorded.iter_mut().for_each(|one| one.3 = true);
        for _ in 0..pick % 3 {
            if let Some((message, _)) = self.head() {
                self.end(message);
            }
        }
        self.epoch += 1;
        let leases = (0..=255).map(|slot| (slot, self.epoch)).collect();
        self.lanes.lease(&leases, self.now);
    }

    pub(super) fn scan(&mut self) {
        let first_due = self.pending.values().map(|row| row.due).min();
        let pending: Vec<PendingLane> = first_due
            .into_iter()
            .map(|first_due| PendingLane {
                endpoint: self.id(),
                slot: self.live.slot,
                fresh_due: Some(first_due),
                retry_due: None,
            })
            .collect();
        if !self.lanes.pending(&pending, self.now).is_empty() {
            self.lanes.update_endpoints(std::slice::from_ref(&self.live), self.now);
        }
    }

    pub(super) fn step(&mut self, choice: u32) {
        let pick = (choice >> 8) as usize;
        match choice % 24 {
            0..=4 => self.accept(pick, None),
            5 => {
                let deliver_at = self.now.time.plus(Duration::from_millis(1 + pick as u64 % 200));
                self.accept(pick, Some(deliver_at));
            }
            6 => self.hear_late(pick),
            7 => self.advance(1 + pick as u64 % 80),
            8 => self.scan(),
            9 | 10 => self.begin_read(),
            11 | 12 => self.end_read(),
            13 | 14 => self.record(),
            15 => self.number(!pick.is_multiple_of(4)),
            16 => self.resend(pick),
            17 => self.cancel(pick),
            18 if pick.is_multiple_of(4) => self.change_owners(pick / 4),
            18 => self.advance(61_000),
            19 => self.lanes.update_endpoints(std::slice::from_ref(&self.live), self.now),
            _ => self.finish(!pick.is_multiple_of(3)),
        }
        self.start();
        assert!(self.lanes.in_flight() <= 1, "one at a time");
        self.lanes.check_indexes();
    }

    /// Runs until idle. Only scans report anything new.
    pub(super) fn settle(&mut self) {
        for round in 0..20_000 {
            if self.pending.is_empty() && self.lanes.settled() {
                return;
            }
            if round % 20 == 0 {
                self.scan();
            }
            self.advance(10);
            self.begin_read();
            self.end_read();
            self.number(true);
            self.start();
            self.finish(true);
            self.record();
            self.start();
        }
        panic!("{} deliveries never ended", self.pending.len());
    }

    pub(super) fn read(&mut self) {
        self.begin_read();
        self.end_read();
        self.start();
    }

    pub(super) fn deliver(&mut self) {
        self.finish(true);
        self.record();
        self.start();
    }
}
