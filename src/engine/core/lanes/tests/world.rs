//! The model behind the tests of the lanes: store, receivers and clocks.

use std::collections::BTreeMap;

use super::super::*;
use crate::domain::OrgId;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::deliveries::attempt::{Failure, LocalFailure};
use crate::domain::deliveries::message::Message;
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::signing::signature::Signing;
use crate::engine::core::event::UnsentAttempt;
use crate::store::queue::pending_deliveries::{LaneRequest, PendingDelivery};
use crate::store::queue::slots::Leases;

pub const START: Time = Time::from_micros(1_763_800_000_000_000);

pub fn live(number: u128, change: impl FnOnce(&mut EndpointSpec)) -> Arc<LiveEndpoint> {
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
    let (org, slot) = (OrgId::default_org(), endpoint.id.0.as_bytes()[15]);
    Arc::new(LiveEndpoint { org, version: 1, endpoint, slot, app_rate: None, url: None, signing })
}

pub fn message(number: u128) -> Arc<Message> {
    scheduled(number, None)
}

pub fn scheduled(number: u128, deliver_at: Option<Time>) -> Arc<Message> {
    let (id, app) = (MessageId(uuid::Uuid::from_u128(number)), AppId(uuid::Uuid::from_u128(1)));
    Arc::new(accepted(id, app, START, deliver_at))
}

/// A message accepted at `at`.
pub fn accepted(id: MessageId, app_id: AppId, at: Time, deliver_at: Option<Time>) -> Message {
    Message {
        id,
        app_id,
        event_type: "a".into(),
        event_id: None,
        channels: vec![],
        tags: vec![],
        payload: Some("{}".into()),
        raw_type: None,
        occurred_at: at,
        accepted_at: at,
        deliver_at,
        content_until: None,
    }
}

/// A request for up to `rows` new deliveries and as many retries.
pub fn lane_request(endpoint: EndpointId, rows: i64, ordered: bool) -> LaneRequest {
    let (fresh_from, retries_from) = (Time::ZERO, Time::ZERO);
    LaneRequest { endpoint, slot: 0, fresh: rows, retries: rows, fresh_from, retries_from, ordered }
}

pub fn all_slots() -> Leases {
    (0..=255).map(|slot| (slot, 1)).collect()
}

/// The arrival of a commit's signal at the lanes.
#[derive(Clone, Copy)]
pub(super) enum SignalTiming {
    AtOnce,
    Late,
    Never,
}

/// The store, receivers and clocks.
pub(super) struct LanesWorld {
    pub(super) lanes: Lanes,
    pub(super) lives: Vec<Arc<LiveEndpoint>>,
    pub(super) messages: HashMap<MessageId, Arc<Message>>,
    /// Pending deliveries in the store: state, due time, progress.
    pub(super) pending: BTreeMap<(EndpointId, MessageId), (DeliveryState, Time, Progress)>,
    pub(super) in_flight: Vec<Dispatch>,
    pub(super) unrecorded: Vec<(EndpointId, MessageId, Progress, bool)>,
    pub(super) reading: Option<(Vec<LaneRequest>, Vec<PendingDelivery>)>,
    /// Signals that arrive after their commit is visible.
    pub(super) late: Vec<Admission>,
    pub(super) now: ClockReading,
    pub(super) next: u128,
    pub(super) delivered: usize,
}

impl Lanes {
    /// A message for all of its endpoints.
    pub(in crate::engine::core::lanes) fn admit_all(
        &mut self,
        admission: &Admission,
        now: ClockReading,
    ) -> Vec<EndpointId> {
        self.admit(admission, 0..admission.endpoints.len(), now)
    }
}

impl LanesWorld {
    pub(super) fn new(endpoints: u128, max_in_flight: usize, cap: usize) -> LanesWorld {
        let now = ClockReading { time: START, mono: Duration::from_secs(100) };
        let mut lanes = Lanes::new(max_in_flight, cap);
        lanes.lease(&all_slots(), ClockReading { mono: Duration::ZERO, ..now });
        LanesWorld {
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

    /// A world that accepted `messages` for all endpoints, and sends as many as it may.
    pub(super) fn started(endpoints: u128, max_in_flight: usize, cap: usize, messages: usize) -> LanesWorld {
        let mut world = LanesWorld::new(endpoints, max_in_flight, cap);
        (0..messages).for_each(|_| world.accept(SignalTiming::AtOnce));
        world.start();
        world
    }

    /// A world that accepted `messages` without a signal, found them by a scan, and is reading them.
    pub(super) fn reading(endpoints: u128, max_in_flight: usize, cap: usize, messages: usize) -> LanesWorld {
        let mut world = LanesWorld::new(endpoints, max_in_flight, cap);
        (0..messages).for_each(|_| world.accept(SignalTiming::Never));
        world.scan();
        world.begin_read();
        world
    }

    /// Commits a message to all endpoints. Its signal may be late or lost.
    pub(super) fn accept(&mut self, signal: SignalTiming) {
        self.schedule(signal, None);
    }

    /// The same, for a scheduled message.
    pub(super) fn schedule(&mut self, signal: SignalTiming, deliver_at: Option<Time>) {
        self.next += 1;
        let message = Arc::new(Message { accepted_at: self.now.time, ..(*scheduled(self.next, deliver_at)).clone() });
        for live in &self.lives {
            let row = (DeliveryState::Fresh, deliver_at.unwrap_or(self.now.time), Progress::default());
            self.pending.insert((live.endpoint.id, message.id), row);
        }
        self.messages.insert(message.id, message.clone());
        let admission = Admission::new(message, self.lives.clone());
        match signal {
            SignalTiming::AtOnce => drop(self.lanes.admit_all(&admission, self.now)),
            SignalTiming::Late => self.late.push(admission),
            SignalTiming::Never => {}
        }
    }

    /// The same, by another process whose clock is behind or whose commit is late.
    pub(super) fn accept_behind(&mut self, millis: u64) {
        let now = self.now;
        self.now.time = now.time.minus(Duration::from_millis(millis));
        self.accept(SignalTiming::Never);
        self.now = now;
    }

    pub(super) fn hear_late(&mut self) {
        for admission in self.late.drain(..) {
            self.lanes.admit_all(&admission, self.now);
        }
    }

    /// Deletes the payload of a message, and with it its pending deliveries.
    pub(super) fn withdraw(&mut self, message: MessageId) {
        let ended: Vec<_> = self.pending.keys().filter(|(_, pending)| *pending == message).copied().collect();
        self.pending.retain(|(_, pending), _| *pending != message);
        self.lanes.withdraw(&ended);
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now.time = self.now.time.plus(Duration::from_millis(millis));
        self.now.mono += Duration::from_millis(millis);
    }

    /// Steps until no due work is left.
    pub(super) fn start(&mut self) {
        self.start_some();
        while self.lanes.overdue(self.now) {
            self.start_some();
        }
    }

    fn start_some(&mut self) {
        self.lanes.begin_turn(self.now);
        while let Some(dispatch) = self.lanes.next_dispatch(self.now) {
            let key = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
            let row = self.pending.get(&key).expect("only pending deliveries are sent, however late the signal");
            assert!(row.1 <= self.now.time, "never before it is due");
            assert_eq!(row.2, dispatch.delivery.progress, "never with an outdated progress");
            let twin = |other: &Dispatch| (other.live.endpoint.id, other.delivery.message.id) == key;
            assert!(!self.in_flight.iter().any(twin), "in flight twice");
            assert!(!self.unrecorded.iter().any(|one| (one.0, one.1) == key), "sent again before the record");
            self.in_flight.push(dispatch);
        }
    }

    pub(super) fn finish(&mut self, pick: usize, delivered: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let dispatch = self.in_flight.swap_remove(pick % self.in_flight.len());
        let mut outcome = Outcome::failed(Failure::Status, "", Duration::ZERO);
        outcome.failure = (!delivered).then_some(Failure::Status);
        let id = dispatch.live.endpoint.id;
        self.lanes.sent((id, dispatch.delivery.message.id), &outcome, self.now);
        self.unrecorded.push((id, dispatch.delivery.message.id, dispatch.delivery.progress, delivered));
    }

    /// An attempt fails locally. Its delivery stays pending as it was.
    pub(super) fn cannot_make(&mut self, pick: usize) {
        if self.in_flight.is_empty() {
            return;
        }
        self.cannot_make_for(pick % self.in_flight.len(), LocalFailure::ALL[pick % LocalFailure::ALL.len()]);
    }

    pub(super) fn cannot_make_for(&mut self, at: usize, why: LocalFailure) {
        let dispatch = self.in_flight.swap_remove(at);
        let (endpoint, message) = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        self.lanes.failed_locally(UnsentAttempt { endpoint, message, why, jitter: 0.5 }, self.now);
    }

    /// Records some results and reports them to the lanes.
    pub(super) fn record(&mut self, count: usize) {
        for (endpoint, message, before, delivered) in self.unrecorded.drain(..count.min(self.unrecorded.len())) {
            let mut due = None;
            if delivered {
                self.pending.remove(&(endpoint, message));
                self.delivered += 1;
            } else {
                let at = self.now.time.plus(Duration::from_millis(50));
                let progress = Progress { attempts: before.attempts + 1, step: before.step + 1, ..before };
                self.pending.insert((endpoint, message), (DeliveryState::Retry, at, progress));
                due = Some(at);
            }
            self.lanes.recorded(endpoint, message, due);
        }
    }

    /// Starts a read. Its rows are those in the store now.
    pub(super) fn begin_read(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (wants, _) = self.lanes.begin_read(self.now);
        let mut waiting = Vec::new();
        for want in &wants {
            let kinds = [
                (DeliveryState::Fresh, want.fresh, want.fresh_from),
                (DeliveryState::Retry, want.retries, want.retries_from),
            ];
            for (state, most, from) in kinds {
                let mut rows: Vec<PendingDelivery> = self
                    .pending
                    .iter()
                    .filter(|((endpoint, _), row)| *endpoint == want.endpoint && row.0 == state && row.1 >= from)
                    .map(|((endpoint_id, message_id), (state, due_at, progress))| PendingDelivery {
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

    pub(super) fn end_read(&mut self) {
        if let Some((wants, waiting)) = self.reading.take() {
            self.lanes.read(&wants, &waiting, &self.messages, self.now);
        }
    }

    pub(super) fn scan(&mut self) {
        let mut first: BTreeMap<EndpointId, Time> = BTreeMap::new();
        for ((endpoint, _), (_, due, _)) in &self.pending {
            first.entry(*endpoint).and_modify(|known| *known = (*known).min(*due)).or_insert(*due);
        }
        let pending: Vec<PendingLane> = first
            .into_iter()
            .map(|(endpoint, due)| PendingLane {
                endpoint,
                slot: endpoint.0.as_bytes()[15],
                fresh_due: Some(due),
                retry_due: None,
            })
            .collect();
        let load = self.lanes.pending(&pending, self.now);
        let lives: Vec<_> = self.lives.iter().filter(|live| load.contains(&live.endpoint.id)).cloned().collect();
        self.lanes.update_endpoints(&lives, self.now);
    }

    pub(super) fn step(&mut self, choice: u32) {
        let pick = (choice >> 8) as usize;
        match choice % 16 {
            0 if pick.is_multiple_of(5) => self.accept_behind(pick as u64 % 40_000),
            0 => self.accept([SignalTiming::AtOnce, SignalTiming::Late, SignalTiming::Never][pick % 3]),
            1 => {
                let deliver_at = self.now.time.plus(Duration::from_millis(pick as u64 % 200));
                self.schedule(
                    [SignalTiming::AtOnce, SignalTiming::Late, SignalTiming::Never][pick % 3],
                    Some(deliver_at),
                );
            }
            2 if self.late.is_empty() => self.advance(1 + pick as u64 % 80),
            2 => self.hear_late(),
            3 => self.scan(),
            4 | 5 => self.begin_read(),
            6 | 7 => self.end_read(),
            8 | 9 => self.record(1 + pick % 5),
            // Idle lanes are dropped.
            10 => self.advance(61_000),
            12 => self.cannot_make(pick),
            11 => self.lanes.update_endpoints(&self.lives.clone(), self.now),
            _ => self.finish(pick, !pick.is_multiple_of(4)),
        }
        self.start();
        self.lanes.check_indexes();
    }

    /// Runs until idle.
    pub(super) fn settle(&mut self) {
        self.hear_late();
        for round in 0..10_000 {
            if self.pending.is_empty() && self.lanes.settled() && self.reading.is_none() {
                return;
            }
            if round % 20 == 0 {
                self.scan();
            }
            self.advance(10);
            self.begin_read();
            self.end_read();
            self.start();
            while !self.in_flight.is_empty() {
                self.finish(0, true);
            }
            self.record(usize::MAX);
        }
        panic!("{} deliveries never ended", self.pending.len());
    }
}
