//! The scenario of a case: scheduled events, such as faults, and their effects.

use std::sync::Arc;
use std::time::Duration;

use super::checks::{CheckResult, Checks};
use super::process::{LeaseOperation, SimProcess};
use super::receivers::SimReceiver;
use super::store_calls::StoreCall;
use super::world::{API_MACHINE, MAX_NAMED_ENDPOINTS, SimEvent, World, note, short, short_of};
use crate::domain::{AppId, EndpointId, MessageId};
use crate::engine::core::event::CoreEvent;
use crate::engine::core::lanes::tests::world::accepted;
use crate::engine::core::step::Core;
use crate::store::ingest::message_routing::LiveEndpoint;
use crate::store::queue::notify::Notification;
use crate::store::queue::signals::{Admission, Signal};

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

const DRAIN: Duration = Duration::from_secs(30);
const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 86_400;

/// Schedules the scenario.
pub fn schedule_scenario(world: &mut World, processes: usize, size: u64) {
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
        self.after(Duration::ZERO, SimEvent::LeaseOperation(id, LeaseOperation::Heartbeat));
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
                let heard = if named { Notification::Due(endpoints.to_vec()) } else { Notification::AnyEndpoint };
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
