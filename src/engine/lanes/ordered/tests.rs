//! An ordered endpoint's lane against a small model of its store: whatever the order of events, what is sent is **the first that is
//! pending by its number**, nothing else is in flight or unrecorded then, and everything ends. A failing seed prints itself; put it into
//! `seed` to see it again.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::attempt::{Failure, Outcome};
use crate::domain::delivery::State;
use crate::engine::lanes::Start;
use crate::engine::lanes::tests::{START, all_slots, live, scheduled};
use crate::store::directory::LiveEndpoint;
use crate::store::slots::Leases;
use crate::store::waiting::{LaneWants, PendingLane, Waiting};

/// A pending delivery: its number, when it is due, how far it is.
#[derive(Clone, Copy, Debug)]
struct Row {
    seq: i64,
    due: Time,
    progress: Progress,
}

/// The store, the receiver and the clock, as far as one lane can tell.
struct World {
    lanes: Lanes,
    live: Arc<LiveEndpoint>,
    messages: HashMap<MessageId, Arc<Message>>,
    pending: BTreeMap<MessageId, Row>,
    /// Delivered, dead or canceled, and how far it had come.
    ended: Vec<(MessageId, Progress)>,
    next_seq: i64,
    in_flight: Vec<(Start, bool)>,
    /// Whether it was delivered, and whether it was sent under a lease that is over.
    unrecorded: Vec<(MessageId, Progress, bool, bool)>,
    reading: Option<(Vec<LaneWants>, Vec<InOrder>)>,
    numbering: bool,
    late: Vec<Admission>,
    now: Moment,
    epoch: i64,
    sent: Vec<MessageId>,
    accepted: u128,
}

impl World {
    fn new() -> World {
        let now = Moment { time: START, mono: Duration::from_secs(100) };
        let mut lanes = Lanes::new(64, 16);
        lanes.lease(&all_slots(), now);
        World {
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

    fn id(&self) -> EndpointId {
        self.live.endpoint.id
    }

    fn draw(&mut self) -> i64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// A message is committed; its signal comes at once, late or never. One that is scheduled is numbered when its time has come.
    fn accept(&mut self, pick: usize, deliver_at: Option<Time>) {
        // Their ids are in another order than their numbers.
        self.accepted += 1;
        let message = scheduled(1_000 + (self.accepted * 7_919) % 10_007, deliver_at);
        let seq = if deliver_at.is_some() { 0 } else { self.draw() };
        let due = deliver_at.unwrap_or(self.now.time);
        self.pending.insert(message.id, Row { seq, due, progress: Progress::default() });
        self.messages.insert(message.id, message.clone());
        let mut admission = Admission::new(message, vec![self.live.clone()]);
        admission.seqs.insert(self.id(), seq);
        match pick % 4 {
            0 | 1 => drop(self.lanes.admit(&admission, self.now)),
            2 => self.late.push(admission),
            _ => {}
        }
    }

    fn hear_late(&mut self, pick: usize) {
        if !self.late.is_empty() {
            let admission = self.late.swap_remove(pick % self.late.len());
            self.lanes.admit(&admission, self.now);
        }
    }

    fn advance(&mut self, millis: u64) {
        self.now.time = self.now.time.plus(Duration::from_millis(millis));
        self.now.mono += Duration::from_millis(millis);
    }

    /// The first that is pending by its number.
    fn head(&self) -> Option<(MessageId, Row)> {
        let numbered = self.pending.iter().filter(|(_, row)| row.seq > 0);
        numbered.min_by_key(|(_, row)| row.seq).map(|(id, row)| (*id, *row))
    }

    fn start(&mut self) {
        while let Some(start) = self.lanes.start(self.now) {
            let message = start.work.message.id;
            let (first, row) = self.head().expect("only what is pending is sent");
            assert_eq!(message, first, "the first is sent and no other");
            assert!(row.due <= self.now.time, "never before it is due");
            // Somebody may have resent it while it was queued: it is still the first, and goes out once more.
            let resent = row.progress.generation > start.work.progress.generation;
            assert!(resent || row.progress == start.work.progress, "never from a place that it has left");
            assert!(self.in_flight.is_empty() && self.unrecorded.is_empty(), "one at a time, until it is recorded");
            self.sent.push(message);
            self.in_flight.push((start, false));
        }
    }

    fn finish(&mut self, delivered: bool) {
        if let Some((start, fenced)) = self.in_flight.pop() {
            let mut outcome = Outcome::failed(Failure::Status, "", Duration::ZERO);
            outcome.failure = (!delivered).then_some(Failure::Status);
            self.lanes.sent(self.id(), &outcome, self.now);
            self.unrecorded.push((start.work.message.id, start.work.progress, delivered, fenced));
        }
    }

    fn end(&mut self, message: MessageId) {
        if let Some(row) = self.pending.remove(&message) {
            self.ended.push((message, row.progress));
        }
    }

    /// As the store records: by epoch, generation and the number of attempts.
    fn record(&mut self) {
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

    fn begin_reading(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (wants, held) = self.lanes.begin_reading(self.now);
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
        let waiting = |(message_id, row): &(MessageId, Row)| Waiting {
            message_id: *message_id,
            endpoint_id: self.id(),
            state: State::Fresh,
            due_at: row.due,
            progress: row.progress,
        };
        let order = InOrder {
            endpoint: self.id(),
            waiting: rows.iter().map(waiting).collect(),
            up_to: if more { last } else { self.next_seq - 1 },
            more,
            unnumbered: scheduled.is_some_and(|at| at <= self.now.time),
            scheduled,
        };
        self.reading = Some((wants, vec![order]));
    }

    fn end_reading(&mut self) {
        if let Some((wants, orders)) = self.reading.take() {
            self.lanes.read(&wants, &[], &HashMap::new(), self.now);
            self.numbering |= !self.lanes.read_in_order(&orders, &self.messages, self.now).is_empty();
        }
    }

    fn number(&mut self, done: bool) {
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

    /// What waits keeps its number and is due at once; what had ended gets a new one.
    fn resend(&mut self, pick: usize) {
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
        self.lanes.nudge(self.id(), Time::ZERO);
    }

    fn cancel(&mut self, pick: usize) {
        let message = self.pending.keys().nth(pick % self.pending.len().max(1)).copied();
        if let Some(message) = message {
            self.end(message);
            self.lanes.withdraw(&[(self.id(), message)]);
        }
    }

    /// The lease is over; another owner sends some of what is pending, and then it is ours again.
    fn change_owners(&mut self, pick: usize) {
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

    fn scan(&mut self) {
        let first_due = self.pending.values().map(|row| row.due).min();
        let pending: Vec<PendingLane> = first_due
            .into_iter()
            .map(|first_due| PendingLane { endpoint: self.id(), fresh_due: Some(first_due), retry_due: None })
            .collect();
        if !self.lanes.pending(&pending, self.now).is_empty() {
            self.lanes.know(std::slice::from_ref(&self.live), self.now);
        }
    }

    fn step(&mut self, choice: u32) {
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
            9 | 10 => self.begin_reading(),
            11 | 12 => self.end_reading(),
            13 | 14 => self.record(),
            15 => self.number(!pick.is_multiple_of(4)),
            16 => self.resend(pick),
            17 => self.cancel(pick),
            18 if pick.is_multiple_of(4) => self.change_owners(pick / 4),
            18 => self.lanes.tidy(self.now),
            19 => self.lanes.know(std::slice::from_ref(&self.live), self.now),
            _ => self.finish(!pick.is_multiple_of(3)),
        }
        self.start();
        assert!(self.lanes.in_flight() <= 1, "one at a time");
    }

    /// Lets everything come to rest; nobody tells any more, but for the scan.
    fn settle(&mut self) {
        for round in 0..20_000 {
            if self.pending.is_empty() && self.lanes.settled() {
                return;
            }
            if round % 20 == 0 {
                self.scan();
            }
            self.advance(10);
            self.begin_reading();
            self.end_reading();
            self.number(true);
            self.start();
            self.finish(true);
            self.record();
            self.start();
        }
        panic!("{} deliveries never ended", self.pending.len());
    }

    fn read(&mut self) {
        self.begin_reading();
        self.end_reading();
        self.start();
    }

    fn deliver(&mut self) {
        self.finish(true);
        self.record();
        self.start();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_events_the_first_is_sent_and_no_other(
        seed in proptest::collection::vec(any::<u32>(), 1..400)
    ) {
        let mut world = World::new();
        seed.iter().for_each(|choice| world.step(*choice));
        world.settle();
    }
}

#[test]
fn what_follows_without_a_gap_is_not_read() {
    let mut world = World::new();
    world.accept(0, None);
    world.read();
    for _ in 0..1_000 {
        world.accept(0, None);
        assert_eq!(world.lanes.begin_reading(world.now).0, [], "it is in memory");
        world.deliver();
    }
    assert_eq!(world.sent.len(), 1_001);
}

#[test]
fn the_next_one_waits_for_the_record_of_the_one_before() {
    let mut world = World::new();
    (0..2).for_each(|_| world.accept(0, None));
    world.read();
    world.finish(true);
    world.start();
    assert_eq!(world.sent.len(), 1, "it was sent and is not recorded");
    world.record();
    world.start();
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn one_that_failed_holds_up_all_others_until_it_is_due_and_nobody_reads_meanwhile() {
    let mut world = World::new();
    (0..3).for_each(|_| world.accept(0, None));
    world.read();
    world.finish(false);
    world.record();
    for _ in 0..10 {
        world.accept(0, None);
        world.read();
        assert_eq!(world.sent.len(), 1);
    }
    assert_eq!(world.lanes.begin_reading(world.now).0, []);
    assert_eq!(world.lanes.queued_bytes, 0, "they wait in the store");
    world.advance(50);
    world.read();
    assert_eq!((world.sent.len(), world.sent[0]), (2, world.sent[1]));
    world.settle();
}

#[test]
fn one_that_is_canceled_while_it_waits_lets_the_others_go_at_once() {
    let mut world = World::new();
    (0..2).for_each(|_| world.accept(0, None));
    world.read();
    world.finish(false);
    world.record();
    let (head, _) = world.head().unwrap();
    world.end(head);
    world.lanes.withdraw(&[(world.id(), head)]);
    world.read();
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn however_much_comes_one_that_was_scheduled_gets_its_turn() {
    let mut world = World::new();
    world.accept(0, None);
    let deliver_at = world.now.time.plus(Duration::from_millis(100));
    world.accept(0, Some(deliver_at));
    let scheduled = *world.pending.iter().find(|(_, row)| row.seq == 0).unwrap().0;
    for _ in 0..200 {
        world.advance(1);
        world.accept(0, None);
        world.read();
        world.number(true);
        world.deliver();
        world.accept(0, None);
        world.deliver();
    }
    assert!(world.sent.contains(&scheduled));
}

#[test]
fn one_whose_content_is_gone_is_not_passed_by_before_the_store_has_ended_it() {
    let mut world = World::new();
    (0..2).for_each(|_| world.accept(3, None));
    let (first, _) = world.head().unwrap();
    let content = world.messages.remove(&first);
    world.scan();
    world.read();
    assert!(world.sent.is_empty());
    world.end(first);
    world.advance(500);
    world.read();
    assert_eq!(world.sent.len(), 1);
    drop(content);
}

#[test]
fn becoming_ordered_waits_for_what_is_in_flight_and_forgets_what_is_queued() {
    let mut world = World::new();
    let free = live(1, |_| {});
    for number in 1..=20 {
        world.lanes.admit(&Admission::new(scheduled(number, None), vec![free.clone()]), world.now);
    }
    let mut flying = Vec::new();
    while let Some(start) = world.lanes.start(world.now) {
        flying.push(start);
    }
    assert!(flying.len() > 1);
    world.lanes.know(&[world.live.clone()], world.now);
    assert_eq!(world.lanes.queued_bytes, 0);
    world.accept(0, None);
    let outcome = Outcome { failure: None, ..Outcome::failed(Failure::Status, "", Duration::ZERO) };
    for start in flying {
        assert_eq!(world.lanes.begin_reading(world.now).0, [], "not before they are recorded");
        world.lanes.sent(world.id(), &outcome, world.now);
        world.lanes.recorded(world.id(), start.work.message.id, None);
    }
    world.read();
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_reading_for_what_was_not_ordered_yet_brings_nothing() {
    let mut world = World::new();
    let id = world.id();
    world.lanes.know(&[live(1, |_| {})], world.now);
    let (wants, _) = world.lanes.begin_reading(world.now);
    assert!(!wants[0].ordered);
    world.lanes.know(&[world.live.clone()], world.now);
    let message = scheduled(7, None);
    let waiting = Waiting {
        message_id: message.id,
        endpoint_id: id,
        state: State::Fresh,
        due_at: START,
        progress: Progress::default(),
    };
    world.lanes.read(&wants, &[waiting], &HashMap::from([(message.id, message)]), world.now);
    assert!(world.lanes.start(world.now).is_none());
    let (wants, _) = world.lanes.begin_reading(world.now);
    assert!(wants[0].ordered, "it is read anew");
}
