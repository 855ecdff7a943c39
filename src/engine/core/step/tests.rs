//! The cost of a step with many lanes: lane lookups for each kind of event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::*;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::deliveries::attempt::{Attempt, Failure, LocalFailure, Outcome};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::deliveries::delivery::{DeliveryState, Progress};
use crate::domain::{AppId, MessageId, OrgId};
use crate::engine::core::event::{ReadResult, UnsentAttempt};
use crate::engine::core::lanes::Dispatch;
use crate::engine::core::lanes::tests::world::{START, accepted, all_slots, lane_request};
use crate::engine::core::scanning::{PAGE, SCAN_SHARED};
use crate::engine::runtime::attempt_sender::finished;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::pending_deliveries::{PendingDelivery, PendingLane};
use crate::store::queue::signals::{Admission, Signal};
use crate::store::queue::slots::Leases;
use crate::store::recording::record::FinishedAttempt;

/// The number of lanes, and the most lookups in one step: a few per lane in each portion, far from one per lane.
const LANES: u128 = 50_000;
const MOST: u64 = 20_000;

/// A core with many lanes, and its pending requests.
struct Crowd {
    core: Core,
    now: ClockReading,
    lives: Vec<Arc<LiveEndpoint>>,
    messages: u128,
    in_flight: Vec<Dispatch>,
    unrecorded: Vec<FinishedAttempt>,
    asked: Vec<CoreAction>,
    /// Maximum lookups in one step, and the name of that step.
    worst: (u64, &'static str),
}

/// Half of all endpoints belong to one application, each of the others to its own.
fn live(number: u128) -> Arc<LiveEndpoint> {
    let app = if number.is_multiple_of(2) { 0 } else { number };
    let endpoint = Endpoint {
        id: EndpointId(uuid::Uuid::from_u128((1 << 64) | number)),
        app_id: AppId(uuid::Uuid::from_u128(app)),
        spec: EndpointSpec { url: "http://127.0.0.1/".into(), ..EndpointSpec::default() },
        disabled_reason: None,
        created_at: START,
        updated_at: START,
    };
    let (org, slot) = (OrgId::default_org(), endpoint.id.0.as_bytes()[15]);
    let signing = Err("nothing is signed here");
    Arc::new(LiveEndpoint { org, version: 1, endpoint, slot, app_rate: None, url: None, signing })
}

impl Crowd {
    fn new() -> Crowd {
        Crowd::of(LANES)
    }

    fn of(lanes: u128) -> Crowd {
        let mono = Duration::from_secs(100);
        let mut crowd = Crowd {
            core: Core::new(true, SCAN_SHARED, (1_024, 64), mono),
            now: ClockReading { time: START, mono },
            lives: (1..=lanes).map(live).collect(),
            messages: 0,
            in_flight: Vec::new(),
            unrecorded: Vec::new(),
            asked: Vec::new(),
            worst: (0, ""),
        };
        crowd.step("leases", [CoreEvent::Leases(all_slots(), Duration::MAX)]);
        crowd
    }

    /// Steps until no work is left. No step may look up too many lanes.
    fn step(&mut self, name: &'static str, events: impl IntoIterator<Item = CoreEvent>) {
        let mut events: Vec<CoreEvent> = events.into_iter().collect();
        for steps in 0.. {
            let before = self.core.lookups();
            for action in self.core.step(std::mem::take(&mut events), self.now) {
                match action {
                    CoreAction::Send(dispatch) => self.in_flight.push(dispatch),
                    CoreAction::Record(finished) => self.unrecorded.push(*finished),
                    other => self.asked.push(other),
                }
            }
            let visited = self.core.lookups() - before;
            self.worst = self.worst.max((visited, name));
            assert!(visited <= MOST, "{name}: {visited} look-ups in one step");
            assert!(steps < 1_000, "{name}: it never ends");
            if !self.core.has_signals() && self.core.unapplied.is_none() && !self.core.lanes.overdue(self.now) {
                break;
            }
        }
    }

    /// Advances the time.
    fn pass(&mut self, name: &'static str, time: Duration) {
        self.now.time = self.now.time.plus(time);
        self.now.mono += time;
        self.step(name, []);
    }

    fn message(&mut self) -> Arc<crate::domain::deliveries::message::Message> {
        self.messages += 1;
        let id = MessageId(uuid::Uuid::from_u128(MessageId::floor(self.now.time).0.as_u128() | self.messages));
        Arc::new(accepted(id, AppId(uuid::Uuid::from_u128(0)), self.now.time, None))
    }

    /// Commits a message to all endpoints.
    fn accept(&mut self) -> MessageId {
        let message = self.message();
        let id = message.id;
        self.step(
            "accepted",
            [CoreEvent::Signal(Signal::Accepted(vec![Admission::new(message, self.lives.clone())]).into())],
        );
        id
    }

    fn finish(&mut self, dispatch: Dispatch) -> CoreEvent {
        let schedule = RetrySchedule::new("", vec![Duration::from_secs(1)]).unwrap_or_default();
        let outcome =
            Outcome { failure: None, status: Some(200), ..Outcome::failed(Failure::Status, "", Duration::ZERO) };
        let times = (self.now.time, self.now.time);
        CoreEvent::Sent(Box::new(finished(dispatch, Vec::new(), outcome, times, &schedule, 0.0)))
    }

    /// Answers and records requests until none is in flight.
    fn deliver_all(&mut self) {
        while !self.in_flight.is_empty() {
            let sent: Vec<CoreEvent> =
                std::mem::take(&mut self.in_flight).into_iter().map(|dispatch| self.finish(dispatch)).collect();
            for some in chunks(sent, 256) {
                self.step("sent", some);
            }
            let settled = std::mem::take(&mut self.unrecorded);
            let settled = settled.iter().map(|one| settled_of(&one.attempt)).collect();
            self.step("recorded", [CoreEvent::Recorded(settled)]);
        }
    }

    /// Answers pending requests: nothing is pending, endpoints are unchanged.
    fn answer(&mut self) {
        for _ in 0..LANES {
            let Some(asked) = self.asked.pop() else { return };
            match asked {
                CoreAction::Read(wants, ..) => {
                    let (in_order, messages) = (Vec::new(), HashMap::new());
                    let reading = ReadResult { wants, waiting: Vec::new(), in_order, messages };
                    self.step("read", [CoreEvent::Read(Ok(reading))]);
                    self.pass("the pause behind it", READ_SPACING.0);
                }
                CoreAction::Scan(scan) => self.step("scanned", [CoreEvent::Scanned(Some(scan.page(Vec::new(), PAGE)))]),
                CoreAction::Load(load) => {
                    let known: BTreeMap<EndpointId, &Arc<LiveEndpoint>> =
                        self.lives.iter().map(|live| (live.endpoint.id, live)).collect();
                    let lives = load.endpoints.iter().filter_map(|id| known.get(id).copied().cloned()).collect();
                    self.step("loaded", [CoreEvent::Loaded(LoadResult { load, lives: Some(lives) })]);
                }
                _ => {}
            }
        }
        panic!("the requests never end");
    }

    fn loads(&self) -> usize {
        self.asked.iter().filter(|asked| matches!(asked, CoreAction::Load(_))).count()
    }
}

fn chunks(mut events: Vec<CoreEvent>, most: usize) -> Vec<Vec<CoreEvent>> {
    let mut chunks = Vec::new();
    while !events.is_empty() {
        let rest = events.split_off(most.min(events.len()));
        chunks.push(std::mem::replace(&mut events, rest));
    }
    chunks
}

fn settled_of(attempt: &Attempt) -> RecordResult {
    RecordResult { endpoint: attempt.endpoint_id, message: attempt.message_id, due: None, disabled: None }
}

/// Events for single lanes next to all the others.
fn single_events(crowd: &mut Crowd) {
    let ids: Vec<EndpointId> = crowd.lives.iter().map(|live| live.endpoint.id).collect();
    let message = crowd.message();
    let one = Admission::new(message, crowd.lives[..1].to_vec());
    crowd.step("accepted for one", [CoreEvent::Signal(Signal::Accepted(vec![one]).into())]);
    crowd.step("look", [CoreEvent::Signal(Signal::Look(vec![ids[7]]).into())]);
    crowd.step("announced", [CoreEvent::Notified(Notification::Due(ids[..200].to_vec()))]);
    crowd.step("announced, of any", [CoreEvent::Notified(Notification::AnyEndpoint)]);
    let wants = |id: &EndpointId| lane_request(*id, 1, false);
    crowd.step("not read", [CoreEvent::Read(Err(ids[..64].iter().map(wants).collect()))]);
    crowd.step("numbered", [CoreEvent::Numbered(ids[3], false)]);
    crowd.step("changed", [CoreEvent::Signal(Signal::Changed(AppId(uuid::Uuid::from_u128(0))).into())]);
    crowd.step("signal lost", [CoreEvent::SignalLost]);
    crowd.step("not scanned", [CoreEvent::Scanned(None)]);
    crowd.step("not loaded", std::iter::empty());
    let pending = |id: &EndpointId| PendingLane {
        endpoint: *id,
        slot: id.0.as_bytes()[15],
        fresh_due: Some(START),
        retry_due: None,
    };
    let page = super::super::scanning::ScanPosition::of(vec![0]).page(ids[..PAGE].iter().map(pending).collect(), PAGE);
    crowd.step("scanned", [CoreEvent::Scanned(Some(page))]);
    if let Some(dispatch) = crowd.in_flight.pop() {
        let (endpoint, message) = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        let one = UnsentAttempt { endpoint, message, why: LocalFailure::Panic, jitter: 0.0 };
        crowd.step("not made", [CoreEvent::NotSent(one)]);
    }
    crowd.answer();
}

#[test]
fn no_event_looks_up_all_lanes_however_busy_they_are() {
    let mut crowd = Crowd::new();
    let first = crowd.accept();
    assert_eq!((crowd.core.lanes(), crowd.in_flight.len()), (LANES as usize, 512));
    crowd.core.check_indexes();
    single_events(&mut crowd);
    crowd.pass("no replies", Duration::from_secs(1));
    crowd.pass("still no replies", Duration::from_secs(61));
    crowd.step("heartbeat", [CoreEvent::Leases(all_slots(), Duration::MAX)]);
    let others: Leases = (0..=255).map(|slot| (slot, 2)).collect();
    crowd.step("all slots under another lease", [CoreEvent::Leases(others, Duration::MAX)]);
    crowd.core.check_indexes();
    crowd.accept();
    let ended: Vec<_> = crowd.lives.iter().map(|live| (live.endpoint.id, first)).collect();
    crowd.step("withdrawn", [CoreEvent::Signal(Signal::Withdrawn(ended).into())]);
    crowd.step("release", [CoreEvent::Release((0..=255).collect())]);
    crowd.step("drain", [CoreEvent::Drain]);
    crowd.core.check_indexes();
    println!("{} look-ups at most in one step: {}", crowd.worst.0, crowd.worst.1);
}

#[test]
fn no_event_looks_up_all_lanes_while_they_idle_and_are_dropped() {
    let mut crowd = Crowd::new();
    crowd.accept();
    crowd.deliver_all();
    assert_eq!((crowd.core.lanes(), crowd.core.in_flight()), (LANES as usize, 0));
    crowd.core.check_indexes();
    single_events(&mut crowd);
    crowd.deliver_all();
    crowd.step("signal lost", [CoreEvent::SignalLost]);
    assert_eq!(crowd.loads(), 2, "a chunk each, not everything");
    crowd.answer();
    crowd.step("no slot is ours", [CoreEvent::Leases(Leases::new(), Duration::MAX)]);
    crowd.step("all slots are", [CoreEvent::Leases(all_slots(), Duration::MAX)]);
    crowd.answer();
    crowd.pass("idle", Duration::from_secs(61));
    crowd.answer();
    crowd.pass("idle for longer", Duration::from_secs(61));
    assert_eq!(crowd.core.lanes(), 0);
    crowd.core.check_indexes();
    println!("{} look-ups at most in one step: {}", crowd.worst.0, crowd.worst.1);
}

#[test]
fn small_reads_are_spaced_and_large_ones_are_not() {
    let mut crowd = Crowd::of(2);
    let ids: Vec<EndpointId> = crowd.lives.iter().map(|live| live.endpoint.id).collect();
    let announce = |crowd: &mut Crowd, id| crowd.step("announced", [CoreEvent::Notified(Notification::Due(vec![id]))]);
    let answer = |crowd: &mut Crowd, rows: usize| {
        let reading = crowd.asked.drain(..).find(|asked| matches!(asked, CoreAction::Read(..)));
        let Some(CoreAction::Read(wants, ..)) = reading else { panic!("no read was requested") };
        let waiting = |number| PendingDelivery {
            message_id: MessageId(uuid::Uuid::from_u128(number as u128)),
            endpoint_id: wants[0].endpoint,
            state: DeliveryState::Fresh,
            due_at: START.plus(Duration::from_secs(3_600)),
            progress: Progress::default(),
        };
        let (in_order, messages) = (Vec::new(), HashMap::new());
        let waiting = (0..rows).map(waiting).collect();
        crowd.step("read", [CoreEvent::Read(Ok(ReadResult { wants, waiting, in_order, messages }))]);
    };
    for id in &ids {
        announce(&mut crowd, *id);
        crowd.answer();
    }
    crowd.pass("the pause", READ_SPACING.0);
    crowd.asked.clear();

    announce(&mut crowd, ids[0]);
    answer(&mut crowd, SMALL_READ - 2);
    announce(&mut crowd, ids[1]);
    crowd.pass("most of the pause", READ_SPACING.0 - Duration::from_micros(1));
    assert!(!crowd.asked.iter().any(|asked| matches!(asked, CoreAction::Read(..))), "{:?}", crowd.asked);
    assert!(crowd.core.sleep_time(crowd.now) <= Duration::from_millis(1), "it is still pending");
    crowd.pass("the rest of the pause", Duration::from_micros(1));
    answer(&mut crowd, SMALL_READ - 1);
    announce(&mut crowd, ids[0]);
    answer(&mut crowd, 0);
}

/// An unreachable endpoint pauses, and the record of each attempt has the end of the pause, for the dashboard.
#[test]
fn a_record_says_until_when_its_endpoint_pauses() {
    let mut crowd = Crowd::new();
    let one = crowd.lives[0].clone();
    let schedule = RetrySchedule::new("", vec![Duration::from_secs(1)]).unwrap_or_default();
    let mut rests = Vec::new();
    for _ in 0..16 {
        let admission = Admission::new(crowd.message(), vec![one.clone()]);
        crowd.step("accepted for one", [CoreEvent::Signal(Signal::Accepted(vec![admission]).into())]);
        let dispatch = crowd.in_flight.pop().expect("an attempt");
        let refused = Outcome::failed(Failure::Refused, "", Duration::ZERO);
        let sent = finished(dispatch, Vec::new(), refused, (crowd.now.time, crowd.now.time), &schedule, 0.0);
        crowd.step("sent", [CoreEvent::Sent(Box::new(sent))]);
        let record = crowd.unrecorded.pop().expect("a record");
        crowd.step("recorded", [CoreEvent::Recorded(vec![settled_of(&record.attempt)])]);
        rests.push(record.rests_until);
    }
    assert_eq!(rests[..15], [None; 15]);
    assert_eq!(rests[15], Some(crowd.now.time.plus(Duration::from_millis(250))), "it gets probes only from now on");
}

#[test]
fn small_reads_are_further_apart_where_they_take_longer() {
    let spacing = [1, 5, 1_000].map(|millis| read_spacing(Duration::from_millis(millis)).as_millis());
    assert_eq!(spacing, [5, 15, 20]);
}
