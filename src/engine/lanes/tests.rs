//! The lanes against a small model of the store and its receivers, driven by a seed: whatever the order of events, nothing is lost, nothing
//! is in flight twice, and caps and limits hold. A failing seed prints itself; put it into `seed` to see it again.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::OrgId;
use crate::domain::attempt::Failure;
use crate::domain::endpoint::{Endpoint, EndpointSpec};
use crate::domain::message::Message;
use crate::domain::secret::{Secret, SignatureType};
use crate::domain::signature::Signing;
use crate::engine::lane::Manner;
use crate::store::slots::Leases;
use crate::store::waiting::{LaneWants, Waiting};

pub(super) const START: Time = Time::from_micros(1_763_800_000_000_000);

pub(super) fn live(number: u128, change: impl FnOnce(&mut EndpointSpec)) -> Arc<LiveEndpoint> {
    let mut spec = EndpointSpec { url: "http://127.0.0.1/".into(), ..EndpointSpec::default() };
    change(&mut spec);
    let endpoint = Endpoint {
        id: EndpointId(uuid::Uuid::from_u128(number)),
        app_id: AppId(uuid::Uuid::from_u128(1)),
        spec,
        disabled_reason: None,
        created_at: START,
        updated_at: START,
    };
    let signing = Ok(Signing::new(&Secret::generate(SignatureType::Hmac256), std::iter::empty(), &[]));
    Arc::new(LiveEndpoint { org: OrgId::default_org(), version: 1, endpoint, app_throttle: None, url: None, signing })
}

fn message(number: u128) -> Arc<Message> {
    scheduled(number, None)
}

pub(super) fn scheduled(number: u128, deliver_at: Option<Time>) -> Arc<Message> {
    Arc::new(Message {
        id: MessageId(uuid::Uuid::from_u128(number)),
        app_id: AppId(uuid::Uuid::from_u128(1)),
        event_type: "a".into(),
        event_id: None,
        channels: vec![],
        tags: vec![],
        payload: Some("{}".into()),
        raw_type: None,
        occurred_at: START,
        accepted_at: START,
        deliver_at,
        content_until: None,
    })
}

pub(super) fn all_slots() -> Leases {
    (0..=255).map(|slot| (slot, 1)).collect()
}

/// When the lanes hear of a commit.
#[derive(Clone, Copy)]
enum Heard {
    AtOnce,
    Late,
    Never,
}

/// The store, the receivers and the clock, as far as the lanes can tell.
struct World {
    lanes: Lanes,
    lives: Vec<Arc<LiveEndpoint>>,
    messages: HashMap<MessageId, Arc<Message>>,
    /// What the store shows as pending: state, due, progress.
    pending: BTreeMap<(EndpointId, MessageId), (State, Time, Progress)>,
    in_flight: Vec<Start>,
    unrecorded: Vec<(EndpointId, MessageId, Progress, bool)>,
    reading: Option<(Vec<LaneWants>, Vec<Waiting>)>,
    /// Signals that come later than the commit that they tell of.
    late: Vec<Admission>,
    now: Moment,
    next: u128,
    delivered: usize,
}

impl World {
    fn new(endpoints: u128, max_in_flight: usize, cap: usize) -> World {
        let now = Moment { time: START, mono: Duration::from_secs(100) };
        let mut lanes = Lanes::new(max_in_flight, cap);
        lanes.lease(&all_slots(), Moment { mono: Duration::ZERO, ..now });
        World {
            lanes,
            lives: (1..=endpoints).map(|number| live(number, |_| {})).collect(),
            messages: HashMap::new(),
            pending: BTreeMap::new(),
            in_flight: Vec::new(),
            unrecorded: Vec::new(),
            reading: None,
            late: Vec::new(),
            now,
            next: 1_000,
            delivered: 0,
        }
    }

    /// A message to all endpoints is committed; the signal of it may be late or lost.
    fn accept(&mut self, signal: Heard) {
        self.schedule(signal, None);
    }

    /// The same, of one that is not to be sent before.
    fn schedule(&mut self, signal: Heard, deliver_at: Option<Time>) {
        self.next += 1;
        let message = Arc::new(Message { accepted_at: self.now.time, ..(*scheduled(self.next, deliver_at)).clone() });
        for live in &self.lives {
            let row = (State::Fresh, deliver_at.unwrap_or(self.now.time), Progress::default());
            self.pending.insert((live.endpoint.id, message.id), row);
        }
        self.messages.insert(message.id, message.clone());
        let admission = Admission::new(message, self.lives.clone());
        match signal {
            Heard::AtOnce => drop(self.lanes.admit(&admission, self.now)),
            Heard::Late => self.late.push(admission),
            Heard::Never => {}
        }
    }

    fn hear_late(&mut self) {
        for admission in self.late.drain(..) {
            self.lanes.admit(&admission, self.now);
        }
    }

    /// The message's content goes, and with it what of it is pending.
    fn withdraw(&mut self, message: MessageId) {
        let ended: Vec<_> = self.pending.keys().filter(|(_, pending)| *pending == message).copied().collect();
        self.pending.retain(|(_, pending), _| *pending != message);
        self.lanes.withdraw(&ended);
    }

    fn advance(&mut self, millis: u64) {
        self.now.time = self.now.time.plus(Duration::from_millis(millis));
        self.now.mono += Duration::from_millis(millis);
    }

    fn start(&mut self) {
        while let Some(start) = self.lanes.start(self.now) {
            let key = (start.live.endpoint.id, start.work.message.id);
            let row = self.pending.get(&key).expect("only what is pending is sent, however late its signal");
            assert!(row.1 <= self.now.time, "never before it is due");
            assert_eq!(row.2, start.work.progress, "never from a place that it has left");
            let twin = |other: &Start| (other.live.endpoint.id, other.work.message.id) == key;
            assert!(!self.in_flight.iter().any(twin), "in flight twice");
            assert!(!self.unrecorded.iter().any(|one| (one.0, one.1) == key), "sent again before it was recorded");
            self.in_flight.push(start);
        }
    }

    fn finish(&mut self, pick: usize, delivered: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let start = self.in_flight.swap_remove(pick % self.in_flight.len());
        let mut outcome = Outcome::failed(Failure::Status, "", Duration::ZERO);
        outcome.failure = (!delivered).then_some(Failure::Status);
        let id = start.live.endpoint.id;
        self.lanes.sent(id, &outcome, self.now);
        self.unrecorded.push((id, start.work.message.id, start.work.progress, delivered));
    }

    /// The recorder commits some; the lanes hear of it.
    fn record(&mut self, count: usize) {
        for (endpoint, message, before, delivered) in self.unrecorded.drain(..count.min(self.unrecorded.len())) {
            let mut due = None;
            if delivered {
                self.pending.remove(&(endpoint, message));
                self.delivered += 1;
            } else {
                let at = self.now.time.plus(Duration::from_millis(50));
                let progress = Progress { attempts: before.attempts + 1, step: before.step + 1, ..before };
                self.pending.insert((endpoint, message), (State::Retry, at, progress));
                due = Some(at);
            }
            self.lanes.recorded(endpoint, message, due);
        }
    }

    /// A reading begins: what it will bring is what the store shows now.
    fn begin_reading(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (wants, _) = self.lanes.begin_reading(self.now);
        let mut waiting = Vec::new();
        for want in &wants {
            for (state, most) in [(State::Fresh, want.fresh), (State::Retry, want.retries)] {
                let mut rows: Vec<Waiting> = self
                    .pending
                    .iter()
                    .filter(|((endpoint, _), row)| *endpoint == want.endpoint && row.0 == state)
                    .map(|((endpoint_id, message_id), (state, due_at, progress))| Waiting {
                        message_id: *message_id,
                        endpoint_id: *endpoint_id,
                        state: *state,
                        due_at: *due_at,
                        progress: *progress,
                    })
                    .collect();
                rows.sort_by_key(|row| (row.due_at, row.message_id));
                rows.truncate(most as usize);
                waiting.extend(rows);
            }
        }
        if !wants.is_empty() {
            self.reading = Some((wants, waiting));
        }
    }

    fn end_reading(&mut self) {
        if let Some((wants, waiting)) = self.reading.take() {
            self.lanes.read(&wants, &waiting, &self.messages, self.now);
        }
    }

    fn scan(&mut self) {
        let mut first: BTreeMap<EndpointId, Time> = BTreeMap::new();
        for ((endpoint, _), (_, due, _)) in &self.pending {
            first.entry(*endpoint).and_modify(|known| *known = (*known).min(*due)).or_insert(*due);
        }
        let pending: Vec<PendingLane> = first
            .into_iter()
            .map(|(endpoint, due)| PendingLane { endpoint, fresh_due: Some(due), retry_due: None })
            .collect();
        let load = self.lanes.pending(&pending, self.now);
        let lives: Vec<_> = self.lives.iter().filter(|live| load.contains(&live.endpoint.id)).cloned().collect();
        self.lanes.know(&lives, self.now);
    }

    fn step(&mut self, choice: u32) {
        let pick = (choice >> 8) as usize;
        match choice % 16 {
            0 => self.accept([Heard::AtOnce, Heard::Late, Heard::Never][pick % 3]),
            1 => {
                let deliver_at = self.now.time.plus(Duration::from_millis(pick as u64 % 200));
                self.schedule([Heard::AtOnce, Heard::Late, Heard::Never][pick % 3], Some(deliver_at));
            }
            2 if self.late.is_empty() => self.advance(1 + pick as u64 % 80),
            2 => self.hear_late(),
            3 => self.scan(),
            4 | 5 => self.begin_reading(),
            6 | 7 => self.end_reading(),
            8 | 9 => self.record(1 + pick % 5),
            10 => self.lanes.tidy(self.now),
            11 => self.lanes.know(&self.lives.clone(), self.now),
            _ => self.finish(pick, !pick.is_multiple_of(4)),
        }
        self.start();
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        self.hear_late();
        for round in 0..10_000 {
            if self.pending.is_empty() && self.lanes.settled() && self.reading.is_none() {
                return;
            }
            if round % 20 == 0 {
                self.scan();
            }
            self.advance(10);
            self.begin_reading();
            self.end_reading();
            self.start();
            while !self.in_flight.is_empty() {
                self.finish(0, true);
            }
            self.record(usize::MAX);
        }
        panic!("{} deliveries never ended", self.pending.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_nothing_is_lost_and_nothing_is_in_flight_twice(
        seed in proptest::collection::vec(any::<u32>(), 1..300)
    ) {
        let mut world = World::new(3, 8, 4);
        for choice in &seed {
            world.step(*choice);
            prop_assert!(world.lanes.in_flight() <= 8 && world.lanes.in_flight() == world.in_flight.len());
            for live in &world.lives {
                let mine = world.in_flight.iter().filter(|start| start.live.endpoint.id == live.endpoint.id).count();
                prop_assert!(mine <= 4, "{mine} in flight to one endpoint");
            }
        }
        let accepted = world.messages.len() * world.lives.len();
        world.settle();
        prop_assert_eq!(world.delivered, accepted);
    }
}

#[test]
fn what_finds_no_room_waits_in_the_store_and_comes_later() {
    let mut world = World::new(1, 4, 4);
    (0..1_000).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    assert_eq!(world.in_flight.len(), 1, "a quarter of what is free");
    assert!(world.lanes.lanes.values().all(|lane| lane.queued() <= super::super::lane::QUEUE));
    world.settle();
    assert_eq!(world.delivered, 1_000);
}

#[test]
fn what_is_scheduled_is_sent_at_its_time_and_holds_nothing_up() {
    let mut world = World::new(1, 8, 8);
    let at = START.plus(Duration::from_secs(60));
    (0..1_000).for_each(|_| world.schedule(Heard::AtOnce, Some(at)));
    world.lanes.nudge(world.lives[0].endpoint.id, START);
    world.begin_reading();
    assert!(world.reading.is_some());
    world.end_reading();
    world.start();
    assert!(world.in_flight.is_empty());
    assert_eq!(world.lanes.begin_reading(world.now).0, [], "however many there are, there is no reason to read on");
    assert_eq!(world.lanes.idle_for(world.now), Some(Duration::from_secs(60)));
    world.accept(Heard::Never);
    world.scan();
    world.begin_reading();
    world.end_reading();
    world.start();
    assert_eq!(world.in_flight.len(), 1, "what is due goes before what is not");
    world.finish(0, true);
    world.record(1);
    world.advance(60_000);
    world.begin_reading();
    world.end_reading();
    world.start();
    assert!(!world.in_flight.is_empty(), "nobody had to tell");
    world.settle();
    assert_eq!(world.delivered, 1_001);
}

#[test]
fn what_was_withdrawn_is_not_sent_from_the_queue_nor_from_a_reading() {
    let mut world = World::new(1, 4, 1);
    (0..3).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    let queued = world.next;
    world.withdraw(MessageId(uuid::Uuid::from_u128(queued)));
    world.accept(Heard::Never);
    world.scan();
    world.begin_reading();
    assert!(world.reading.is_some());
    world.withdraw(MessageId(uuid::Uuid::from_u128(queued + 1)));
    world.end_reading();
    assert_eq!(world.lanes.queued_bytes, 2, "of the one that is left");
    // `World::start` finds fault with what is sent and not pending.
    world.settle();
    assert_eq!(world.delivered, 2);
}

#[test]
fn a_lane_alone_takes_no_more_than_a_share_of_what_is_free() {
    let mut world = World::new(1, 100, 100);
    (0..100).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    // Each one that starts leaves less: a quarter of the rest is reached at 20 of 100.
    assert_eq!(world.in_flight.len(), 20);
}

#[test]
fn a_slot_that_is_not_ours_is_left_alone() {
    let mut world = World::new(2, 8, 8);
    world.lanes.lease(&Leases::from([(1, 7)]), world.now);
    world.accept(Heard::AtOnce);
    world.start();
    let sent: Vec<_> = world.in_flight.iter().map(|start| (start.slot, start.epoch)).collect();
    assert_eq!(sent, [(1, 7)]);
    world.lanes.release(&[1], world.now);
    assert!(world.lanes.busy_slots().contains(&1), "one is in flight");
    world.finish(0, true);
    world.record(1);
    assert!(world.lanes.busy_slots().is_empty());
    world.accept(Heard::AtOnce);
    world.start();
    assert!(world.in_flight.is_empty());
}

/// An application with a rate, whose first endpoints have one as well; each has as many waiting as `messages`.
fn throttled(app_rate: u16, rates: [Option<u16>; 3], messages: usize) -> World {
    let mut world = World::new(3, 64, 64);
    let lives = rates.iter().zip(1..).map(|(rate, number)| {
        let live = live(number, |spec| spec.throttle_rate = *rate);
        let (org, endpoint, signing) = (live.org.clone(), live.endpoint.clone(), Err("nothing is signed here"));
        Arc::new(LiveEndpoint { org, version: 1, endpoint, app_throttle: Some(app_rate), url: None, signing })
    });
    world.lives = lives.collect();
    let leases = world.lives.iter().map(|live| (slot_of(live), 1)).collect();
    world.lanes.lease(&leases, world.now);
    (0..messages).for_each(|_| world.accept(Heard::AtOnce));
    world
}

/// Who was sent to in the next `seconds`, and when.
fn departures(world: &mut World, seconds: u64) -> Vec<(Duration, EndpointId)> {
    let mut sent = Vec::new();
    for _ in 0..seconds * 100 {
        world.advance(10);
        world.start();
        while let Some(start) = world.in_flight.first() {
            sent.push((world.now.mono, start.live.endpoint.id));
            world.finish(0, true);
        }
        world.record(usize::MAX);
    }
    sent
}

#[test]
fn an_applications_rate_holds_to_the_last_one_whatever_its_endpoints_rates_are() {
    let mut world = throttled(5, [Some(1), Some(3), Some(10)], 60);
    let sent = departures(&mut world, 20);
    for (start, _) in &sent {
        let within = sent.iter().filter(|(at, _)| (*start..*start + Duration::from_secs(1)).contains(at)).count();
        assert!(within <= 6, "{within} in a second at a rate of 5 and a burst of 1");
    }
    assert!(sent.len() >= 95, "and it is used: {} in 20 s", sent.len());
}

#[test]
fn the_endpoints_of_a_throttled_application_take_turns() {
    let mut world = throttled(10, [None; 3], 100);
    let sent = departures(&mut world, 9);
    for live in &world.lives {
        let mine = sent.iter().filter(|(_, id)| *id == live.endpoint.id).count();
        assert!(mine >= sent.len() / 3 - 1, "{mine} of {}", sent.len());
    }
}

/// Those that hang get no answer; the good ones are answered at once.
fn serve_the_good(world: &mut World, good: usize) -> usize {
    let ids: Vec<EndpointId> = world.lives[..good].iter().map(|live| live.endpoint.id).collect();
    let mut served = 0;
    while let Some(at) = world.in_flight.iter().position(|start| ids.contains(&start.live.endpoint.id)) {
        world.finish(at, true);
        world.record(usize::MAX);
        world.start();
        served += 1;
    }
    served
}

#[test]
fn however_many_hang_those_that_answer_are_served_as_if_they_did_not() {
    let (good, all) = (10, 110);
    let mut world = World::new(all, 64, 16);
    world.accept(Heard::AtOnce);
    world.start();
    assert_eq!(serve_the_good(&mut world, good), good, "the first, while nobody is known to hang");
    let mut late = 0;
    for _ in 0..100 {
        world.accept(Heard::AtOnce);
        world.start();
        late += good - serve_the_good(&mut world, good);
        world.advance(100);
    }
    let mut by = [0; 3];
    world.lanes.lanes.values().for_each(|lane| by[lane.manner as usize] += lane.in_flight);
    assert_eq!(world.lanes.in_flight_by, by);
    assert_eq!(late, 0, "each is sent in the moment in which it was accepted");
    assert!(world.in_flight.len() >= 32, "those that hang have their half: {}", world.in_flight.len());
    let silent = world.lanes.lanes.values().filter(|lane| lane.manner == Manner::Silent);
    let queued: Vec<usize> = silent.map(Lane::queued).collect();
    assert!(queued.len() >= 20 && queued.iter().all(|queued| *queued <= 8), "the rest waits in the store: {queued:?}");
}

#[test]
fn what_is_queued_for_some_keeps_nothing_from_others() {
    let mut world = World::new(2, 8, 8);
    world.lanes.queued_bytes = QUEUED_BYTES;
    world.accept(Heard::AtOnce);
    world.accept(Heard::AtOnce);
    world.start();
    assert_eq!(world.in_flight.len(), 2, "each has one at least");
    world.settle();
    assert_eq!(world.delivered, 4);
}

/// Somebody else had the slot meanwhile, and sent everything that was pending.
fn change_owners(world: &mut World) {
    world.lanes.lease(&Leases::from([(1, 9)]), world.now);
    let in_flight: Vec<MessageId> = world.in_flight.iter().map(|start| start.work.message.id).collect();
    world.pending.retain(|(_, message), _| in_flight.contains(message));
}

#[test]
fn what_was_queued_under_a_lease_that_is_over_is_not_sent_under_the_next() {
    let mut world = World::new(1, 1, 1);
    (0..3).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    change_owners(&mut world);
    world.accept(Heard::AtOnce);
    // `World::start` finds fault with what is sent and not pending.
    world.settle();
    assert_eq!(world.delivered, 2);
    assert_eq!(world.lanes.queued_bytes, 0);
}

#[test]
fn what_was_read_under_a_lease_that_is_over_is_not_sent_under_the_next() {
    let mut world = World::new(1, 8, 8);
    (0..3).for_each(|_| world.accept(Heard::Never));
    world.scan();
    world.begin_reading();
    assert!(world.reading.is_some());
    change_owners(&mut world);
    world.end_reading();
    world.start();
    assert!(world.in_flight.is_empty());
    world.accept(Heard::Never);
    world.settle();
    assert_eq!(world.delivered, 1);
}

#[test]
fn who_gets_a_slot_begins_with_an_empty_bucket() {
    let mut world = World::new(1, 100, 100);
    world.lives = vec![live(1, |spec| spec.throttle_rate = Some(50))];
    (0..20).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    assert_eq!(world.in_flight.len(), 2, "a twentieth of a second's worth");
    world.lanes.lease(&Leases::from([(1, 9)]), world.now);
    world.scan();
    world.advance(19);
    world.begin_reading();
    world.end_reading();
    world.start();
    assert_eq!(world.in_flight.len(), 2, "others may have sent a burst just now");
}

#[test]
fn others_are_told_of_what_is_theirs() {
    let mut world = World::new(2, 8, 8);
    world.lanes.lease(&Leases::from([(1, 7)]), world.now);
    let admission = Admission::new(message(1), world.lives.clone());
    let second = world.lives[1].endpoint.id;
    assert_eq!(world.lanes.admit(&admission, world.now), [second]);
    assert_eq!(world.lanes.nudge(second, START), Known::Others);
    assert_eq!(world.lanes.nudge(world.lives[0].endpoint.id, START), Known::Ours);
    assert_eq!(world.lanes.nudge(EndpointId(uuid::Uuid::from_u128(3)), START), Known::No);
}

#[test]
fn a_paused_lane_sends_nothing_and_goes_on_when_it_is_enabled() {
    let mut world = World::new(1, 8, 8);
    (0..3).for_each(|_| world.accept(Heard::AtOnce));
    let off = live(1, |spec| spec.disabled = true);
    world.lanes.know(&[off], world.now);
    world.scan();
    world.begin_reading();
    world.end_reading();
    world.start();
    assert!(world.in_flight.is_empty());
    world.lanes.know(&world.lives.clone(), world.now);
    world.settle();
    assert_eq!(world.delivered, 3);
}

#[test]
fn fresh_deliveries_and_retries_take_turns() {
    let mut world = World::new(1, 100, 100);
    let id = world.lives[0].endpoint.id;
    for number in 0..40 {
        let message = message(number);
        let (state, attempts) = if number < 20 { (State::Retry, 1) } else { (State::Fresh, 0) };
        let progress = Progress { attempts, step: attempts, ..Progress::default() };
        world.pending.insert((id, message.id), (state, START, progress));
        world.messages.insert(message.id, message);
    }
    world.scan();
    world.begin_reading();
    world.end_reading();
    world.start();
    let kinds: Vec<bool> = world.in_flight.iter().map(|start| start.work.progress.attempts > 0).collect();
    assert_eq!(kinds.iter().filter(|retry| **retry).count() * 2, kinds.len(), "{kinds:?}");
}

#[test]
fn the_memory_of_looks_does_not_grow_with_traffic() {
    let mut world = World::new(1, 8, 8);
    let id = world.lives[0].endpoint.id;
    world.accept(Heard::AtOnce);
    world.start();
    world.lanes.nudge(id, START.plus(Duration::from_secs(3_600)));
    for _ in 0..1_000 {
        world.accept(Heard::AtOnce);
        world.start();
        world.finish(0, true);
        world.record(1);
    }
    assert!(world.lanes.looks.len() < 10, "{}", world.lanes.looks.len());
}
