//! A case: the size of the fleet, the receivers, and a scenario of scheduled events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::checks::{CheckResult, Checks};
use super::model_store::{ModelStore, SLOTS};
use super::process::{LeaseTask, START, SimProcess, WallClock};
use super::receivers::{Behavior, SimReceiver};
use super::rng::SeededRng;
use super::store_calls::StoreCall;
use super::world::{API_MACHINE, MAX_NAMED_ENDPOINTS, SimEvent, World, note, short, short_of};
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{AppId, EndpointId, MessageId, OrgId};
use crate::engine::core::event::CoreEvent;
use crate::engine::core::lanes::tests::world::accepted;
use crate::engine::core::scanning::{PAGE, SCAN_OWN, SCAN_SHARED};
use crate::engine::core::step::Core;
use crate::store::ingest::routing::LiveEndpoint;
use crate::store::queue::notify::Heard;
use crate::store::queue::signals::{Admission, Signal};

/// The parameters of a case.
#[derive(Clone, Debug)]
pub struct Case {
    pub shared: bool,
    pub scan_every: Duration,
    /// The most lanes in one page of a scan.
    pub page: usize,
    /// The concurrency limits: in total, and per endpoint.
    pub caps: (usize, usize),
    pub waits: [Duration; 3],
    /// No faults, and no lost or late signals.
    pub calm: bool,
    /// For this many of every 40 seconds almost no request can be made; otherwise one fails locally now and then. 0:
    /// never.
    pub exhausted: u64,
    /// Processes start and stop gracefully, so there must be no duplicates.
    pub gentle: bool,
    /// More lanes than one step visits, and enough deliveries for backlogs to yield.
    pub wide: bool,
}

/// A scheduled event, such as a fault.
#[derive(Clone, Copy, Debug)]
pub enum ScenarioEvent {
    Join(usize),
    Accept,
    /// Someone resends or cancels a delivery, or disables an endpoint.
    UserAction,
    /// kill -9, and the time until the restart.
    Crash(Duration),
    /// SIGSTOP, for this long.
    Pause(Duration),
    Resume(u64),
    /// SIGTERM, and the time until the restart.
    Shutdown(Duration),
    /// The drain time is over.
    DrainTimeout(u64),
    StoreOutage(Duration),
    /// Heartbeats of one process are lost.
    HeartbeatLoss(Duration),
    /// A machine's wall clock is set by this many seconds.
    ClockJump(i64),
    /// All faults end.
    EndFaults,
}

/// The drain time.
const DRAIN: Duration = Duration::from_secs(30);
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 86_400;

/// A world at its start. `size` (0 to 100) scales the number of everything.
pub fn world(seed: u64, size: u64) -> World {
    let mut rng = SeededRng::new(seed);
    let shared = rng.chance(70);
    let processes = if shared { 1 + rng.below(2 + size / 40) as usize } else { 1 };
    let kind = rng.below(10);
    let case = Case {
        shared,
        // Not drawn at random, so existing seeds keep their scenarios.
        page: if seed.is_multiple_of(8) { 1 } else { PAGE },
        scan_every: if shared && rng.chance(10) { SCAN_SHARED } else { SCAN_OWN },
        caps: (rng.pick(&[4, 8, 16, 64]), rng.pick(&[1, 2, 4, 16])),
        waits: [1, 3, 8].map(Duration::from_secs),
        calm: kind < 2,
        exhausted: if rng.chance(20) { 1 + rng.below(15) } else { 0 },
        gentle: kind < 4,
        wide: false,
    };
    let (lives, receivers) = endpoints(&mut rng, size, case.calm);
    let mut world = begin(case, rng, &lives, receivers);
    schedule_scenario(&mut world, processes, size);
    world
}

/// A world before any process joins.
pub fn begin(
    case: Case,
    mut rng: SeededRng,
    lives: &[Arc<LiveEndpoint>],
    receivers: BTreeMap<EndpointId, SimReceiver>,
) -> World {
    let wall_clocks =
        (0..4).map(|_| WallClock { skew: rng.below(900_000) as i64 - 450_000, ..WallClock::default() }).collect();
    let store = ModelStore::new(case.shared, lives);
    let mut world = World::new(case, rng, store, receivers, wall_clocks);
    let ordered = |live: &&Arc<LiveEndpoint>| live.endpoint.spec.ordered;
    world.checks.ordered = lives.iter().filter(ordered).map(|live| live.endpoint.id).collect();
    world
}

/// Endpoints of up to three applications, some with a rate limit, and their receivers.
fn endpoints(
    rng: &mut SeededRng,
    size: u64,
    calm: bool,
) -> (Vec<Arc<LiveEndpoint>>, BTreeMap<EndpointId, SimReceiver>) {
    let apps = 1 + rng.below(1 + size / 40);
    let throttles: Vec<Option<u16>> = (0..apps).map(|_| rng.chance(15).then(|| rng.pick(&[2, 5, 30]))).collect();
    let (mut lives, mut receivers) = (Vec::new(), BTreeMap::new());
    for number in 0..1 + rng.below(2 + size / 25) {
        let app = rng.below(apps);
        let live = endpoint(rng, number, app, throttles[app as usize]);
        let id = live.endpoint.id;
        lives.push(live);
        let behavior = if calm && rng.chance(50) { Behavior::Well } else { SimReceiver::any(rng) };
        receivers.insert(id, SimReceiver::new(behavior));
    }
    (lives, receivers)
}

/// Creates an endpoint of an application.
pub fn endpoint(rng: &mut SeededRng, number: u64, app: u64, app_throttle: Option<u16>) -> Arc<LiveEndpoint> {
    let spec = EndpointSpec {
        url: "http://127.0.0.1/".into(),
        throttle_rate: rng.chance(25).then(|| rng.pick(&[1, 3, 10, 40])),
        ordered: rng.chance(20),
        ..EndpointSpec::default()
    };
    let endpoint = Endpoint {
        id: EndpointId(uuid::Uuid::from_u128((1 << 65) | u128::from(number))),
        app_id: AppId(uuid::Uuid::from_u128((1 << 64) | u128::from(app))),
        spec,
        disabled_reason: None,
        created_at: START,
        updated_at: START,
    };
    // All endpoints of an application with a rate limit share one slot.
    let of = if app_throttle.is_some() { endpoint.app_id.0 } else { endpoint.id.0 };
    Arc::new(LiveEndpoint {
        org: OrgId::default_org(),
        version: 1,
        slot: of.as_bytes()[15] % SLOTS as u8,
        endpoint,
        app_throttle,
        app_slots: 1,
        url: None,
        signing: Err("the simulation does not sign"),
    })
}

/// Schedules the scenario.
fn schedule_scenario(world: &mut World, processes: usize, size: u64) {
    let duration_ms = 2_000 + size * 280;
    for machine in 0..processes {
        let at = if machine > 0 && world.rng.chance(30) { world.rng.millis(0, duration_ms) } else { Duration::ZERO };
        world.after(at, SimEvent::Scenario(ScenarioEvent::Join(machine)));
    }
    let mut burst = Duration::ZERO;
    for _ in 0..1 + world.rng.below(2 + size / 5) {
        if world.rng.chance(40) {
            burst = world.rng.millis(0, duration_ms);
        }
        world.after(burst, SimEvent::Scenario(ScenarioEvent::Accept));
    }
    if world.rng.chance(30) {
        for _ in 0..1 + world.rng.below(3) {
            let at = world.rng.millis(0, duration_ms);
            world.after(at, SimEvent::Scenario(ScenarioEvent::UserAction));
        }
    }
    let faults = if world.case.calm { 0 } else { 1 + world.rng.below(1 + size / 25) };
    for _ in 0..faults {
        let (at, event) = (world.rng.millis(0, duration_ms), fault(world));
        world.after(at, SimEvent::Scenario(event));
    }
    world.after(Duration::from_millis(duration_ms), SimEvent::Scenario(ScenarioEvent::EndFaults));
}

/// A random fault.
pub fn fault(world: &mut World) -> ScenarioEvent {
    let rng = &mut world.rng;
    let span = rng.millis(0, 15_000);
    match rng.below(10) {
        _ if world.case.gentle => ScenarioEvent::Shutdown(span),
        0..=2 => ScenarioEvent::Crash(span),
        3 | 4 => ScenarioEvent::Pause(span),
        5 => ScenarioEvent::Shutdown(span),
        6 | 7 => ScenarioEvent::StoreOutage(span),
        8 => ScenarioEvent::HeartbeatLoss(span),
        _ => ScenarioEvent::ClockJump(rng.pick(&[HOUR, -HOUR, YEAR, -YEAR])),
    }
}

impl World {
    /// Performs a scheduled event.
    pub fn perform(&mut self, event: ScenarioEvent) -> CheckResult {
        note!(self, "{event:?}");
        match event {
            ScenarioEvent::Join(machine) => self.join(machine),
            ScenarioEvent::Accept => self.accept(),
            ScenarioEvent::UserAction => self.user_action(),
            ScenarioEvent::EndFaults => self.end_faults(),
            ScenarioEvent::Resume(id) => {
                let waiting = self.processes.get_mut(&id).and_then(|process| process.stopped.take());
                // All at once and in order, after the process's own first actions.
                waiting.into_iter().flatten().for_each(|event| self.after(Duration::ZERO, event));
            }
            ScenarioEvent::StoreOutage(span) => self.store.unavailable_until = self.now + span,
            ScenarioEvent::DrainTimeout(id) => {
                if self.processes.contains_key(&id) {
                    self.after(Duration::ZERO, SimEvent::Call(id, StoreCall::Depart));
                }
            }
            ScenarioEvent::Crash(again) => {
                if let Some(id) = self.running_process() {
                    let machine = self.processes.remove(&id).map_or(0, |process| process.machine);
                    note!(self, "process {id} dies");
                    self.after(again, SimEvent::Scenario(ScenarioEvent::Join(machine)));
                }
            }
            ScenarioEvent::Shutdown(again) => self.leave(again),
            ScenarioEvent::Pause(span) | ScenarioEvent::HeartbeatLoss(span) => {
                let Some(id) = self.running_process() else { return Ok(()) };
                let until = self.now + span;
                let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
                if matches!(event, ScenarioEvent::HeartbeatLoss(_)) {
                    process.heartbeats_lost_until = until;
                } else if process.stopped.is_none() {
                    process.stopped = Some(Vec::new());
                    note!(self, "process {id} is paused");
                    self.after(span, SimEvent::Scenario(ScenarioEvent::Resume(id)));
                }
            }
            ScenarioEvent::ClockJump(seconds) => {
                let machine = self.rng.below(self.wall_clocks.len() as u64) as usize;
                self.wall_clocks[machine].jump += seconds * 1_000_000;
                // Other processes use times that this one recorded before it compensates the jump.
                self.checks.wrong_clock |= self.case.shared;
            }
        }
        Ok(())
    }

    /// A random running process.
    fn running_process(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.processes.iter().filter(|(_, one)| !one.leaving).map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| self.rng.pick(&ids))
    }

    fn join(&mut self, machine: usize) {
        // One process per machine. A process that ends leaves the machine free.
        if self.processes.values().any(|process| process.machine == machine) {
            return;
        }
        self.started_processes += 1;
        let id = self.started_processes;
        // A clock that is an hour ahead delays everything by an hour once corrected: correct it first.
        if self.wall_clocks[machine].jump.abs() == HOUR * 1_000_000 {
            self.wall_clocks[machine].jump = 0;
        }
        self.checks.wrong_clock |= self.wall_clocks[machine].jump != 0;
        let core = Core::new(self.case.shared, self.case.scan_every, self.case.caps, Duration::ZERO);
        self.processes.insert(id, SimProcess::new(machine, core, self.wall_clocks[machine], self.now));
        note!(self, "process {id} starts on machine {machine}");
        self.after(Duration::ZERO, SimEvent::LeaseTask(id, LeaseTask::Heartbeat));
        self.after(Duration::ZERO, SimEvent::Wake(id, 0));
    }

    fn leave(&mut self, again: Duration) {
        let Some(id) = self.running_process() else { return };
        let Some(process) = self.processes.get_mut(&id).filter(|process| process.stopped.is_none()) else { return };
        process.leaving = true;
        process.policy.depart();
        let machine = process.machine;
        note!(self, "process {id} gets SIGTERM");
        self.after(Duration::ZERO, SimEvent::Deliver(id, Box::new(CoreEvent::Drain)));
        self.after(DRAIN, SimEvent::Scenario(ScenarioEvent::DrainTimeout(id)));
        self.after(DRAIN + again, SimEvent::Scenario(ScenarioEvent::Join(machine)));
    }

    /// The process that serves an API request: one that also sends, or (`None`) one that only serves the API.
    fn api_process(&mut self) -> Result<Option<u64>, ()> {
        let open = |(id, one): (&u64, &SimProcess)| (!one.leaving && one.stopped.is_none()).then_some(*id);
        let ids: Vec<u64> = self.processes.iter().filter_map(open).collect();
        match (ids.is_empty(), self.case.shared && self.rng.chance(20)) {
            _ if self.now < self.store.unavailable_until => Err(()),
            (_, true) => Ok(None),
            (true, false) => Err(()),
            (false, false) => Ok(Some(self.rng.pick(&ids))),
        }
    }

    fn accept(&mut self) {
        let Ok(api_process) = self.api_process() else { return };
        let machine = api_process.map_or(API_MACHINE, |id| self.processes[&id].machine);
        let at = self.time_of(api_process);
        let soon = self.true_time().plus(self.rng.millis(0, 15_000));
        // Delays of more than 30 days are rejected.
        let possible = soon.since(at) < Duration::from_secs(30 * 86_400);
        let deliver_at = (possible && self.rng.chance(12)).then_some(soon);
        let id_time = self.wall_clocks[machine].last_id.max(at);
        self.wall_clocks[machine].last_id = id_time;
        let apps: Vec<AppId> = Checks::apps(&self.store).into_iter().collect();
        let app_id = self.rng.pick(&apps);
        let number = self.store.messages.len() as u128 + 1;
        let id = MessageId(uuid::Uuid::from_u128(MessageId::floor(id_time).0.as_u128() | number));
        let message = Arc::new(accepted(id, app_id, at, deliver_at));
        let (endpoints, seqs) = self.store.accept(&message, self.now);
        let ids: Vec<EndpointId> = endpoints.iter().map(|live| live.endpoint.id).collect();
        if self.trace.is_some() {
            let to: Vec<String> = ids.iter().map(|id| short_of(*id)).collect();
            note!(self, "{} is accepted by {api_process:?} for {}, at {deliver_at:?}", short(message.id), to.join(" "));
        }
        match api_process {
            Some(id) => self.signal(id, Signal::Accepted(vec![Admission { message, endpoints, seqs }])),
            None => self.notify_all(&ids),
        }
    }

    /// Notifications from a process that only serves the API.
    fn notify_all(&mut self, endpoints: &[EndpointId]) {
        let ids: Vec<u64> = self.processes.keys().copied().collect();
        for id in ids {
            for _ in 0..self.rng.pick(&[0, 1, 1, 2]) {
                let delay = self.latency();
                let named = endpoints.len() <= MAX_NAMED_ENDPOINTS;
                let heard = if named { Heard::Due(endpoints.to_vec()) } else { Heard::Anything };
                self.after(delay, SimEvent::Deliver(id, Box::new(CoreEvent::Notified(heard))));
            }
        }
    }

    fn user_action(&mut self) {
        let (Ok(api_process), false) = (self.api_process(), self.store.rows.is_empty()) else { return };
        let keys: Vec<_> = self.store.rows.keys().copied().collect();
        let key = self.rng.pick(&keys);
        let time = self.time_of(api_process);
        let app = self.store.lives[&key.0].endpoint.app_id;
        let signal = match self.rng.below(3) {
            0 => {
                note!(self, "{} to {} is resent", short(key.1), short_of(key.0));
                self.store.resend(key, time);
                Signal::Look(vec![key.0])
            }
            1 if self.store.cancel(key) => {
                note!(self, "{} to {} is canceled", short(key.1), short_of(key.0));
                Signal::Withdrawn(vec![key])
            }
            _ => {
                let disabled = !self.store.lives[&key.0].endpoint.spec.disabled;
                note!(self, "{} is disabled: {disabled}", short_of(key.0));
                self.store.set_disabled(key.0, disabled);
                if let Some(receiver) = self.receivers.get_mut(&key.0) {
                    receiver.always_working = false;
                }
                Signal::Changed(app)
            }
        };
        if let Some(id) = api_process {
            self.signal(id, signal);
        }
    }

    /// Ends all faults: receivers recover, clocks are right, machines run, endpoints are enabled.
    fn end_faults(&mut self) {
        self.healed_at = Some(self.now);
        self.store.unavailable_until = self.now;
        self.store.watched = true;
        let keep = self.rng.chance(50);
        for wall in self.wall_clocks.iter_mut().filter(|wall| !(keep && wall.jump != -HOUR * 1_000_000)) {
            wall.jump = 0;
        }
        self.receivers.values_mut().for_each(SimReceiver::end_faults);
        let stopped: Vec<u64> = self.processes.keys().copied().collect();
        for id in stopped {
            if let Some(process) = self.processes.get_mut(&id) {
                process.heartbeats_lost_until = self.now;
            }
            self.after(Duration::ZERO, SimEvent::Scenario(ScenarioEvent::Resume(id)));
        }
        let disabled = |live: &&Arc<LiveEndpoint>| live.endpoint.spec.disabled;
        let disabled: Vec<_> = self.store.lives.values().filter(disabled).map(|live| live.endpoint.clone()).collect();
        let processes: Vec<u64> = self.processes.keys().copied().collect();
        for endpoint in disabled {
            self.store.set_disabled(endpoint.id, false);
            if !processes.is_empty() {
                let api_process = self.rng.pick(&processes);
                self.signal(api_process, Signal::Changed(endpoint.app_id));
            }
        }
        if !self.processes.values().any(|process| !process.leaving) && self.case.shared {
            self.after(Duration::ZERO, SimEvent::Scenario(ScenarioEvent::Join(3)));
        }
    }
}
