//! The world: one event queue in virtual time. Each call to the store, request and sleep is a queued event with a
//! random delay, so signals are late, reads are stale, and replies overtake each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::case::Case;
use super::checks::{AttemptStart, CheckResult, Checks};
use super::model_store::ModelStore;
use super::process::{LeaseOperation, START, SimProcess, WallClock};
use super::receivers::SimReceiver;
use super::rng::SeededRng;
use super::store_calls::{StoreCall, StoreReply};
use crate::domain::deliveries::attempt::{LocalFailure, Outcome};
use crate::domain::deliveries::backoff::RetrySchedule;
use crate::domain::time::SteadyClock;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::event::{CoreAction, CoreEvent, UnsentAttempt};
use crate::engine::core::lanes::Dispatch;
use crate::engine::runtime::attempt_sender::finished;
use crate::store::queue::notify::Notification;
use crate::store::queue::signals::Signal;

/// A queued event.
pub enum SimEvent {
    Wake(u64, u64),
    LeaseOperation(u64, LeaseOperation),
    Deliver(u64, Box<CoreEvent>),
    /// A call reaches the store.
    Call(u64, StoreCall),
    Reply(u64, StoreReply),
    /// A request reaches its receiver.
    Request(u64, Box<Dispatch>, Time),
    /// The response reaches the process.
    Response(u64, Box<Dispatch>, Time, Outcome),
    /// A request failed locally.
    NotSent(u64, Box<Dispatch>, LocalFailure),
    /// An event of the scenario.
    Scenario(super::scenario::ScenarioEvent),
}

/// The simulated world.
pub struct World {
    pub case: Case,
    pub now: Duration,
    pub rng: SeededRng,
    pub store: ModelStore,
    pub receivers: BTreeMap<EndpointId, SimReceiver>,
    pub processes: BTreeMap<u64, SimProcess>,
    pub wall_clocks: Vec<WallClock>,
    /// The clock of the process that only serves the API, on the last machine.
    api: SteadyClock,
    pub checks: Checks,
    pub schedule: RetrySchedule,
    pub started_processes: u64,
    /// The end of the last fault.
    pub healed_at: Option<Duration>,
    pub trace: Option<Vec<String>>,
    queue: BTreeMap<(Duration, u64), SimEvent>,
    queued_events: u64,
}

/// Adds a line to the trace, if there is one.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.trace.is_some() {
            let line = format!($($text)*);
            $world.note(line);
        }
    };
}
pub(super) use note;

impl World {
    pub fn new(
        case: Case,
        rng: SeededRng,
        store: ModelStore,
        receivers: BTreeMap<EndpointId, SimReceiver>,
        wall_clocks: Vec<WallClock>,
    ) -> World {
        World {
            now: Duration::ZERO,
            rng,
            store,
            receivers,
            processes: BTreeMap::new(),
            api: SteadyClock::new(wall_clocks[API_MACHINE].at(Duration::ZERO), Duration::ZERO),
            wall_clocks,
            checks: Checks::new(&case),
            schedule: RetrySchedule::new("", case.waits.to_vec()).unwrap_or_default(),
            started_processes: 0,
            healed_at: None,
            trace: None,
            queue: BTreeMap::new(),
            queued_events: 0,
            case,
        }
    }

    pub fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} s  {line}", self.now.as_secs_f64()));
        }
    }

    /// Queues an event after a delay.
    pub fn after(&mut self, delay: Duration, event: SimEvent) {
        self.queued_events += 1;
        self.queue.insert((self.now + delay, self.queued_events), event);
    }

    /// Handles the next event. Returns `false` if none is left.
    pub fn step(&mut self) -> Result<bool, String> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(false) };
        self.now = at;
        let to = match &event {
            SimEvent::Wake(to, _)
            | SimEvent::LeaseOperation(to, _)
            | SimEvent::Deliver(to, _)
            | SimEvent::Reply(to, _) => Some(*to),
            SimEvent::Response(to, ..) | SimEvent::NotSent(to, ..) => Some(*to),
            SimEvent::Call(..) | SimEvent::Request(..) | SimEvent::Scenario(_) => None,
        };
        if let Some(to) = to {
            let Some(process) = self.processes.get_mut(&to) else { return Ok(true) };
            if let Some(waiting) = &mut process.stopped {
                waiting.push(event);
                return Ok(true);
            }
        }
        match event {
            SimEvent::Wake(to, wake) if self.processes[&to].wake == wake => self.core(to, None)?,
            SimEvent::Wake(..) => {}
            SimEvent::LeaseOperation(to, task) => self.queue_lease_operation(to, task),
            SimEvent::Deliver(to, event) => self.core(to, Some(*event))?,
            SimEvent::Call(from, call) => self.call(from, call)?,
            SimEvent::Reply(to, reply) => self.reply(to, reply)?,
            SimEvent::Request(from, dispatch, at) => self.request(from, dispatch, at)?,
            SimEvent::Response(to, dispatch, at, outcome) => self.response(to, *dispatch, at, outcome)?,
            SimEvent::NotSent(to, dispatch, why) => self.failed_locally(to, &dispatch, why)?,
            SimEvent::Scenario(event) => self.perform(event)?,
        }
        Ok(true)
    }

    /// Runs one step of a process's core and performs its actions.
    pub fn core(&mut self, id: u64, event: Option<CoreEvent>) -> CheckResult {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let clocks = process.read_clocks(self.wall_clocks[process.machine], self.now);
        let actions = process.core.step(event, clocks);
        // Checking indexes iterates over all lanes, so do it rarely with many.
        let every = if process.core.lanes() > 64 { 4_096 } else { 16 };
        if process.wake.is_multiple_of(every) {
            process.core.check_indexes();
        }
        let sleep = process.core.sleep_time(clocks);
        process.wake += 1;
        let wake = process.wake;
        self.after(sleep, SimEvent::Wake(id, wake));
        let mut kinds: BTreeMap<EndpointId, Vec<bool>> = BTreeMap::new();
        for action in actions {
            if let CoreAction::Send(dispatch) = &action {
                kinds.entry(dispatch.live.endpoint.id).or_default().push(dispatch.delivery.progress.step > 0);
            }
            self.act(id, action, clocks)?;
        }
        for (endpoint, kinds) in kinds {
            let queued = self.processes.get(&id).map_or((0, 0), |process| process.core.queued(endpoint));
            if !self.checks.ordered.contains(&endpoint) {
                self.checks.turns(&kinds, queued)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, id: u64, action: CoreAction, clocks: ClockReading) -> CheckResult {
        let delay = self.latency();
        match action {
            CoreAction::Send(dispatch) => return self.send(id, dispatch, clocks),
            CoreAction::Record(one) => {
                let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
                let wait = one.next.due().map_or(Duration::ZERO, |due| due.since(clocks.time));
                process.unrecorded.push((*one, self.now + (wait - wait / 9).saturating_sub(MAX_CLOCK_DIFFERENCE)));
                self.record(id);
            }
            CoreAction::Read(wants, _, _) => self.after(delay, SimEvent::Call(id, StoreCall::Read(wants, clocks))),
            CoreAction::Number(endpoint) => {
                self.after(delay, SimEvent::Call(id, StoreCall::Number(endpoint, clocks.time)))
            }
            CoreAction::Scan(scan) => self.after(delay, SimEvent::Call(id, StoreCall::Scan(scan))),
            CoreAction::Load(load) => self.after(delay, SimEvent::Call(id, StoreCall::Load(load))),
            CoreAction::Announce(endpoints) => self.announce(id, &endpoints),
            CoreAction::Quiet(slots) => self.queue_lease_operation(id, LeaseOperation::HandBack(slots)),
            CoreAction::Drained => {
                note!(self, "process {id} has drained");
                let all: Vec<u8> = (0..super::model_store::SLOTS as u8).collect();
                self.checks.slots_returned(id, &all)?;
                self.after(delay, SimEvent::Call(id, StoreCall::Depart));
            }
        }
        Ok(())
    }

    /// The delay of a message: usually a few milliseconds.
    pub fn latency(&mut self) -> Duration {
        if !self.case.calm && self.rng.chance(5) { self.rng.millis(50, 900) } else { self.rng.millis(0, 8) }
    }

    fn send(&mut self, id: u64, dispatch: Dispatch, clocks: ClockReading) -> CheckResult {
        let key = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        note!(
            self,
            "process {id} sends {} to {}, attempt {}",
            short(key.1),
            short_of(key.0),
            dispatch.delivery.progress.attempts + 1
        );
        if let Some(process) = self.processes.get_mut(&id) {
            *process.in_flight.entry(key.0).or_insert(0) += 1;
            process.all_in_flight += 1;
        }
        let receiver = &self.receivers[&key.0];
        let attempt =
            AttemptStart { id, process: &self.processes[&id], dispatch: &dispatch, clocks, now: self.now, receiver };
        self.checks.start(&self.store, &attempt)?;
        let delay = self.latency();
        let event = match self.local_failure() {
            Some(why) => SimEvent::NotSent(id, Box::new(dispatch), why),
            None => SimEvent::Request(id, Box::new(dispatch), clocks.time),
        };
        self.after(delay, event);
        Ok(())
    }

    /// Whether a request fails locally: a rare single failure, or nearly all requests for some seconds.
    fn local_failure(&mut self) -> Option<LocalFailure> {
        if self.case.calm || self.case.exhausted == 0 || self.healed_at.is_some() {
            return None;
        }
        let exhausted = self.now.as_secs() % 40 < self.case.exhausted;
        let fails = self.rng.chance(if exhausted { 90 } else { 1 });
        fails.then(|| if exhausted { LocalFailure::Descriptors } else { self.rng.pick(&LocalFailure::ALL) })
    }

    fn failed_locally(&mut self, id: u64, dispatch: &Dispatch, why: LocalFailure) -> CheckResult {
        let (endpoint, message) = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        note!(self, "process {id} could not send {} to {}: {why:?}", short(message), short_of(endpoint));
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if let Some(count) = process.in_flight.get_mut(&endpoint) {
            *count -= 1;
            process.all_in_flight -= 1;
        }
        process.local_failure_until = self.now + LOCAL_FAILURE_PAUSE;
        self.checks.failed_locally((endpoint, message), id, dispatch.epoch);
        let jitter = self.rng.share();
        self.core(id, Some(CoreEvent::NotSent(UnsentAttempt { endpoint, message, why, jitter })))
    }

    fn request(&mut self, id: u64, dispatch: Box<Dispatch>, at: Time) -> CheckResult {
        // A process that died may have sent the request before, or not.
        if !self.processes.contains_key(&id) && self.rng.chance(50) {
            return Ok(());
        }
        let key = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
        let Some(receiver) = self.receivers.get_mut(&key.0) else { return Ok(()) };
        let (outcome, after) = receiver.get(key.1, self.now, &mut self.rng);
        let taken = receiver.taken.get(&key.1).copied().unwrap_or(0);
        let answer = outcome.status.map_or("nothing".to_owned(), |status| status.to_string());
        note!(self, "{} receives {} and responds {answer}", short_of(key.0), short(key.1));
        if outcome.delivered() {
            self.checks.received(&self.store, key, taken)?;
        }
        self.after(after, SimEvent::Response(id, dispatch, at, outcome));
        Ok(())
    }

    fn response(&mut self, id: u64, dispatch: Dispatch, at: Time, outcome: Outcome) -> CheckResult {
        let (now, jitter) = (self.now, self.rng.share());
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let endpoint = dispatch.live.endpoint.id;
        if let Some(count) = process.in_flight.get_mut(&endpoint) {
            *count -= 1;
            process.all_in_flight -= 1;
        }
        process.learn(endpoint, &outcome, now);
        let clocks = process.read_clocks(self.wall_clocks[process.machine], now);
        let finished = finished(dispatch, Vec::new(), outcome, (at, clocks.time), &self.schedule, jitter);
        self.core(id, Some(CoreEvent::Sent(Box::new(finished))))?;
        let Some(process) = self.processes.get(&id).filter(|process| process.core.may_send(clocks)) else {
            return Ok(());
        };
        if now < process.local_failure_until {
            return Ok(());
        }
        self.checks.breaker_closes(&self.store, process, endpoint)
    }

    /// The recorder: one batch at a time.
    pub fn record(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.recording || process.unrecorded.is_empty() {
            return;
        }
        process.recording = true;
        let batch = std::mem::take(&mut process.unrecorded);
        let delay = self.latency();
        self.after(delay, SimEvent::Call(id, StoreCall::Record(batch)));
    }

    /// Queues a task for a process's lease keeper.
    pub fn queue_lease_operation(&mut self, id: u64, task: LeaseOperation) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.lease_operations.push_back(task);
        if !process.lease_operation_running {
            self.next_lease_operation(id);
        }
    }

    /// Starts the lease keeper's next task.
    pub fn next_lease_operation(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let began = process.mono(self.now);
        let call = match process.lease_operations.pop_front() {
            None => None,
            Some(LeaseOperation::Heartbeat) => Some(StoreCall::Heartbeat(process.policy.mode(began), began)),
            Some(LeaseOperation::HandBack(slots)) => Some(StoreCall::HandBack(process.policy.returnable(slots))),
        };
        process.lease_operation_running = call.is_some();
        if let Some(call) = call {
            let delay = self.latency();
            self.after(delay, SimEvent::Call(id, call));
        }
    }

    fn announce(&mut self, from: u64, endpoints: &[EndpointId]) {
        let others: Vec<u64> = self.processes.keys().copied().filter(|id| *id != from).collect();
        for id in others {
            for _ in 0..self.rng.pick(&[0, 1, 1, 1, 2]) {
                let delay = self.latency();
                let any = self.rng.chance(5) || endpoints.len() > MAX_NAMED_ENDPOINTS;
                let heard = if any { Notification::AnyEndpoint } else { Notification::Due(endpoints.to_vec()) };
                self.after(delay, SimEvent::Deliver(id, Box::new(CoreEvent::Notified(heard))));
            }
        }
    }

    /// Delivers a signal to a process: at once, late, or not at all.
    pub fn signal(&mut self, id: u64, signal: Signal) {
        let delay = match self.rng.below(10) {
            0 if !self.case.calm => {
                note!(self, "process {id} loses a signal");
                self.after(Duration::ZERO, SimEvent::Deliver(id, Box::new(CoreEvent::SignalLost)));
                return;
            }
            1 => self.rng.millis(100, 4_000),
            _ => self.rng.millis(0, 5),
        };
        self.after(delay, SimEvent::Deliver(id, Box::new(CoreEvent::Signal(signal.into()))));
    }

    /// Whether nothing is left to do.
    pub fn over(&self) -> bool {
        self.healed_at.is_some() && self.store.pending == 0
    }

    /// The time of a process. `None`: the process that only serves the API.
    pub fn time_of(&mut self, process: Option<u64>) -> Time {
        match process.and_then(|id| self.processes.get_mut(&id)) {
            Some(process) => process.read_clocks(self.wall_clocks[process.machine], self.now).time,
            None => self.api.read(self.wall_clocks[API_MACHINE].at(self.now), self.now),
        }
    }

    /// The time by a correct clock.
    pub fn true_time(&self) -> Time {
        START.plus(self.now)
    }
}

/// The longest pause of sending after a local failure: 30 s, plus the time until the bound has grown beyond the breaker
/// check.
const LOCAL_FAILURE_PAUSE: Duration = Duration::from_secs(35);
/// A notification about more endpoints than this names none.
pub const MAX_NAMED_ENDPOINTS: usize = 800;
/// The machine of the process that only serves the API.
pub const API_MACHINE: usize = 3;
/// The largest difference between two machines' clocks.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_millis(1_000);
/// A short name of a message: the last digits of its id.
pub fn short(message: MessageId) -> String {
    format!("m{}", message.0.as_u128() & 0xFFFF_FFFF)
}

/// A short name of an endpoint.
pub fn short_of(endpoint: EndpointId) -> String {
    format!("e{}", endpoint.0.as_u128() & 0xFFFF_FFFF)
}
