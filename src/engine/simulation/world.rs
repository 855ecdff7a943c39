//! The world: one event queue in virtual time. Everything that takes time in reality (a call to the store, a request, a
//! sleep) is a queued event with a random delay, so signals are late, reads are stale, and replies overtake each other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checks::{AttemptStart, CheckResult, Checks};
use super::model_store::ModelStore;
use super::process::{LeaseTask, START, SimProcess, WallClock};
use super::receivers::SimReceiver;
use super::rng::SeededRng;
use super::scenario::Case;
use super::store_calls::{StoreCall, StoreReply};
use crate::domain::deliveries::attempt::{Outcome, OwnFailure};
use crate::domain::deliveries::backoff::Schedule;
use crate::domain::time::Steady;
use crate::domain::{EndpointId, MessageId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::event::{CoreAction, CoreEvent, UnsentAttempt};
use crate::engine::core::lanes::Dispatch;
use crate::engine::runtime::sender::finished;
use crate::store::queue::notify::Heard;
use crate::store::queue::signals::Signal;

/// A queued event.
pub enum SimEvent {
    Wake(u64, u64),
    LeaseTask(u64, LeaseTask),
    Deliver(u64, Box<CoreEvent>),
    /// A call reaches the store.
    Call(u64, StoreCall),
    Reply(u64, StoreReply),
    /// A request reaches its receiver.
    Request(u64, Box<Dispatch>, Time),
    /// The response reaches the process.
    Response(u64, Box<Dispatch>, Time, Outcome),
    /// A request failed locally.
    NotSent(u64, Box<Dispatch>, OwnFailure),
    /// An event of the scenario.
    Scenario(super::scenario::ScenarioEvent),
}

/// The simulated world.
pub struct World {
    pub case: Case,
    pub now: Duration,
    pub dice: SeededRng,
    pub store: ModelStore,
    pub receivers: BTreeMap<EndpointId, SimReceiver>,
    pub processes: BTreeMap<u64, SimProcess>,
    pub walls: Vec<WallClock>,
    /// The clock of the process that only serves the API, on the last machine.
    api: Steady,
    pub checks: Checks,
    pub schedule: Schedule,
    pub begun: u64,
    /// When the last fault ended.
    pub healed: Option<Duration>,
    pub trace: Option<Vec<String>>,
    agenda: BTreeMap<(Duration, u64), SimEvent>,
    entries: u64,
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
        dice: SeededRng,
        store: ModelStore,
        receivers: BTreeMap<EndpointId, SimReceiver>,
        walls: Vec<WallClock>,
    ) -> World {
        World {
            now: Duration::ZERO,
            dice,
            store,
            receivers,
            processes: BTreeMap::new(),
            api: Steady::new(walls[API].at(Duration::ZERO), Duration::ZERO),
            walls,
            checks: Checks::new(&case),
            schedule: Schedule::new("", case.waits.to_vec()).unwrap_or_default(),
            begun: 0,
            healed: None,
            trace: None,
            agenda: BTreeMap::new(),
            entries: 0,
            case,
        }
    }

    pub fn note(&mut self, line: String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} s  {line}", self.now.as_secs_f64()));
        }
    }

    /// Queues an event after a delay.
    pub fn after(&mut self, delay: Duration, what: SimEvent) {
        self.entries += 1;
        self.agenda.insert((self.now + delay, self.entries), what);
    }

    /// Handles the next event. Returns `false` if none is left.
    pub fn step(&mut self) -> Result<bool, String> {
        let Some(((at, _), what)) = self.agenda.pop_first() else { return Ok(false) };
        self.now = at;
        let to = match &what {
            SimEvent::Wake(to, _) | SimEvent::LeaseTask(to, _) | SimEvent::Deliver(to, _) | SimEvent::Reply(to, _) => {
                Some(*to)
            }
            SimEvent::Response(to, ..) | SimEvent::NotSent(to, ..) => Some(*to),
            SimEvent::Call(..) | SimEvent::Request(..) | SimEvent::Scenario(_) => None,
        };
        if let Some(to) = to {
            let Some(process) = self.processes.get_mut(&to) else { return Ok(true) };
            if let Some(waiting) = &mut process.stopped {
                waiting.push(what);
                return Ok(true);
            }
        }
        match what {
            SimEvent::Wake(to, wake) if self.processes[&to].wake == wake => self.core(to, None)?,
            SimEvent::Wake(..) => {}
            SimEvent::LeaseTask(to, deed) => self.heart(to, deed),
            SimEvent::Deliver(to, event) => self.core(to, Some(*event))?,
            SimEvent::Call(from, ask) => self.ask(from, ask)?,
            SimEvent::Reply(to, reply) => self.reply(to, reply)?,
            SimEvent::Request(from, start, at) => self.reach(from, start, at)?,
            SimEvent::Response(to, start, at, outcome) => self.answer(to, *start, at, outcome)?,
            SimEvent::NotSent(to, start, why) => self.not_made(to, &start, why)?,
            SimEvent::Scenario(scene) => self.play(scene)?,
        }
        Ok(true)
    }

    /// Runs one step of a process's core and performs its actions.
    pub fn core(&mut self, id: u64, event: Option<CoreEvent>) -> CheckResult {
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let moment = process.moment(self.walls[process.seat], self.now);
        let actions = process.core.step(event, moment);
        // Checking indexes iterates over all lanes, so do it rarely with many.
        let every = if process.core.lanes() > 64 { 4_096 } else { 16 };
        if process.wake.is_multiple_of(every) {
            process.core.check_indexes();
        }
        let nap = process.core.nap(moment);
        process.wake += 1;
        let wake = process.wake;
        self.after(nap, SimEvent::Wake(id, wake));
        let mut kinds: BTreeMap<EndpointId, Vec<bool>> = BTreeMap::new();
        for action in actions {
            if let CoreAction::Send(start) = &action {
                kinds.entry(start.live.endpoint.id).or_default().push(start.work.progress.step > 0);
            }
            self.act(id, action, moment)?;
        }
        for (endpoint, kinds) in kinds {
            let queued = self.processes.get(&id).map_or((0, 0), |process| process.core.queued(endpoint));
            if !self.checks.ordered.contains(&endpoint) {
                self.checks.turns(&kinds, queued)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, id: u64, action: CoreAction, moment: ClockReading) -> CheckResult {
        let way = self.way();
        match action {
            CoreAction::Send(start) => return self.send(id, start, moment),
            CoreAction::Record(one) => {
                let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
                let wait = one.next.due().map_or(Duration::ZERO, |due| due.since(moment.time));
                process.unrecorded.push((*one, self.now + (wait - wait / 9).saturating_sub(APART)));
                self.record(id);
            }
            CoreAction::Read(wants, _, _) => self.after(way, SimEvent::Call(id, StoreCall::Read(wants, moment))),
            CoreAction::Number(endpoint) => {
                self.after(way, SimEvent::Call(id, StoreCall::Number(endpoint, moment.time)))
            }
            CoreAction::Scan(scan) => self.after(way, SimEvent::Call(id, StoreCall::Scan(scan))),
            CoreAction::Load(load) => self.after(way, SimEvent::Call(id, StoreCall::Load(load))),
            CoreAction::Announce(endpoints) => self.announce(id, &endpoints),
            CoreAction::Quiet(slots) => self.heart(id, LeaseTask::HandBack(slots)),
            CoreAction::Drained => {
                note!(self, "process {id} has drained");
                let all: Vec<u8> = (0..super::model_store::SLOTS as u8).collect();
                self.checks.handed_back(id, &all)?;
                self.after(way, SimEvent::Call(id, StoreCall::Depart));
            }
        }
        Ok(())
    }

    /// The delay of a message: usually a few milliseconds.
    pub fn way(&mut self) -> Duration {
        if !self.case.calm && self.dice.chance(5) { self.dice.millis(50, 900) } else { self.dice.millis(0, 8) }
    }

    fn send(&mut self, id: u64, start: Dispatch, moment: ClockReading) -> CheckResult {
        let key = (start.live.endpoint.id, start.work.message.id);
        note!(
            self,
            "process {id} sends {} to {}, attempt {}",
            short(key.1),
            short_of(key.0),
            start.work.progress.attempts + 1
        );
        if let Some(process) = self.processes.get_mut(&id) {
            *process.in_flight.entry(key.0).or_insert(0) += 1;
            process.all_in_flight += 1;
        }
        let receiver = &self.receivers[&key.0];
        let begun = AttemptStart { id, process: &self.processes[&id], start: &start, moment, now: self.now, receiver };
        self.checks.start(&self.store, &begun)?;
        let way = self.way();
        let what = match self.own_failure() {
            Some(why) => SimEvent::NotSent(id, Box::new(start), why),
            None => SimEvent::Request(id, Box::new(start), moment.time),
        };
        self.after(way, what);
        Ok(())
    }

    /// Whether a request fails locally: now and then, or for seconds on end.
    fn own_failure(&mut self) -> Option<OwnFailure> {
        if self.case.calm || self.case.exhausted == 0 || self.healed.is_some() {
            return None;
        }
        let exhausted = self.now.as_secs() % 40 < self.case.exhausted;
        let fails = self.dice.chance(if exhausted { 90 } else { 1 });
        fails.then(|| if exhausted { OwnFailure::Descriptors } else { self.dice.pick(&OwnFailure::ALL) })
    }

    fn not_made(&mut self, id: u64, start: &Dispatch, why: OwnFailure) -> CheckResult {
        let (endpoint, message) = (start.live.endpoint.id, start.work.message.id);
        note!(self, "process {id} could not send {} to {}: {why:?}", short(message), short_of(endpoint));
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        if let Some(count) = process.in_flight.get_mut(&endpoint) {
            *count -= 1;
            process.all_in_flight -= 1;
        }
        process.short_until = self.now + SHORT;
        self.checks.not_made((endpoint, message), id, start.epoch);
        let jitter = self.dice.share();
        self.core(id, Some(CoreEvent::NotSent(UnsentAttempt { endpoint, message, why, jitter })))
    }

    fn reach(&mut self, id: u64, start: Box<Dispatch>, at: Time) -> CheckResult {
        // A process that died may have sent the request before, or not.
        if !self.processes.contains_key(&id) && self.dice.chance(50) {
            return Ok(());
        }
        let key = (start.live.endpoint.id, start.work.message.id);
        let Some(receiver) = self.receivers.get_mut(&key.0) else { return Ok(()) };
        let (outcome, after) = receiver.get(key.1, self.now, &mut self.dice);
        let taken = receiver.taken.get(&key.1).copied().unwrap_or(0);
        let answer = outcome.status.map_or("nothing".to_owned(), |status| status.to_string());
        note!(self, "{} receives {} and responds {answer}", short_of(key.0), short(key.1));
        if outcome.delivered() {
            self.checks.taken_by_receiver(&self.store, key, taken)?;
        }
        self.after(after, SimEvent::Response(id, start, at, outcome));
        Ok(())
    }

    fn answer(&mut self, id: u64, start: Dispatch, at: Time, outcome: Outcome) -> CheckResult {
        let (now, jitter) = (self.now, self.dice.share());
        let Some(process) = self.processes.get_mut(&id) else { return Ok(()) };
        let endpoint = start.live.endpoint.id;
        if let Some(count) = process.in_flight.get_mut(&endpoint) {
            *count -= 1;
            process.all_in_flight -= 1;
        }
        process.learn(endpoint, &outcome, now);
        let moment = process.moment(self.walls[process.seat], now);
        let finished = finished(start, Vec::new(), outcome, (at, moment.time), &self.schedule, jitter);
        self.core(id, Some(CoreEvent::Sent(Box::new(finished))))?;
        let Some(process) = self.processes.get(&id).filter(|process| process.core.may_send(moment)) else {
            return Ok(());
        };
        if now < process.short_until {
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
        let way = self.way();
        self.after(way, SimEvent::Call(id, StoreCall::Record(batch)));
    }

    /// Queues a task for a process's lease keeper.
    pub fn heart(&mut self, id: u64, deed: LeaseTask) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        process.heart.push_back(deed);
        if !process.heart_busy {
            self.heart_on(id);
        }
    }

    /// Starts the lease keeper's next task.
    pub fn heart_on(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let began = process.mono(self.now);
        let ask = match process.heart.pop_front() {
            None => None,
            Some(LeaseTask::Heartbeat) => Some(StoreCall::Heartbeat(process.beats.beat(began), began)),
            Some(LeaseTask::HandBack(slots)) => Some(StoreCall::HandBack(process.beats.quiet(slots))),
        };
        process.heart_busy = ask.is_some();
        if let Some(ask) = ask {
            let way = self.way();
            self.after(way, SimEvent::Call(id, ask));
        }
    }

    fn announce(&mut self, from: u64, endpoints: &[EndpointId]) {
        let others: Vec<u64> = self.processes.keys().copied().filter(|id| *id != from).collect();
        for id in others {
            for _ in 0..self.dice.pick(&[0, 1, 1, 1, 2]) {
                let way = self.way();
                let any = self.dice.chance(5) || endpoints.len() > NAMED;
                let heard = if any { Heard::Anything } else { Heard::Due(endpoints.to_vec()) };
                self.after(way, SimEvent::Deliver(id, Box::new(CoreEvent::Notified(heard))));
            }
        }
    }

    /// Delivers a signal to a process: at once, late, or not at all.
    pub fn signal(&mut self, id: u64, signal: Signal) {
        let delay = match self.dice.below(10) {
            0 if !self.case.calm => {
                note!(self, "process {id} loses a signal");
                self.after(Duration::ZERO, SimEvent::Deliver(id, Box::new(CoreEvent::SignalLost)));
                return;
            }
            1 => self.dice.millis(100, 4_000),
            _ => self.dice.millis(0, 5),
        };
        self.after(delay, SimEvent::Deliver(id, Box::new(CoreEvent::Signal(signal.into()))));
    }

    /// Whether nothing is left to do.
    pub fn over(&self) -> bool {
        self.healed.is_some() && self.store.pending == 0
    }

    /// The time of a process. `None`: the process that only serves the API.
    pub fn time_of(&mut self, process: Option<u64>) -> Time {
        match process.and_then(|id| self.processes.get_mut(&id)) {
            Some(process) => process.moment(self.walls[process.seat], self.now).time,
            None => self.api.read(self.walls[API].at(self.now), self.now),
        }
    }

    /// The time by a correct clock.
    pub fn right(&self) -> Time {
        START.plus(self.now)
    }
}

/// How long after a local failure sending may pause: 30 s, plus the time until the bound has grown beyond the breaker
/// check.
const SHORT: Duration = Duration::from_secs(35);
/// A notification about more endpoints than this names none.
pub const NAMED: usize = 800;
/// The machine of the process that only serves the API.
pub const API: usize = 3;
/// The largest difference between two machines' clocks.
pub const APART: Duration = Duration::from_millis(1_000);
/// A short name of a message: the last digits of its id.
pub fn short(message: MessageId) -> String {
    format!("m{}", message.0.as_u128() & 0xFFFF_FFFF)
}

/// A short name of an endpoint.
pub fn short_of(endpoint: EndpointId) -> String {
    format!("e{}", endpoint.0.as_u128() & 0xFFFF_FFFF)
}
