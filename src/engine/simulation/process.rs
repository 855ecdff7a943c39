//! A simulated process: the real core and lease policy, its clocks, and its recorder.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::world::SimEvent;
use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::domain::time::SteadyClock;
use crate::domain::{EndpointId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lease_policy::LeasePolicy;
use crate::engine::core::step::Core;
use crate::store::recording::record::FinishedAttempt;

/// The start of the simulation, by a correct clock.
pub const START: Time = Time::from_micros(1_763_800_000_000_000);

/// A machine's wall clock: its difference from the true time, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    pub skew: i64,
    pub jump: i64,
    /// The time of the last id generated on this machine; ids only grow.
    pub last_id: Time,
}

impl WallClock {
    /// The wall-clock time at `now`.
    pub fn at(self, now: Duration) -> Time {
        Time::from_micros(START.micros() + now.as_micros() as i64 + self.skew + self.jump)
    }
}

/// A task of the lease keeper.
#[derive(Clone, Debug)]
pub enum LeaseOperation {
    Heartbeat,
    HandBack(Vec<u8>),
}

/// For an unreachable endpoint: failures in a row, pauses so far, and the end of the current pause.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnreachableStreak {
    pub row: u32,
    pauses: u32,
    pub until: Duration,
}

/// A running process.
pub struct SimProcess {
    /// The machine's number.
    pub machine: usize,
    pub core: Core,
    pub policy: LeasePolicy,
    born: Duration,
    steady: SteadyClock,
    /// The number of the last wake-up; earlier ones are void.
    pub wake: u64,
    /// Events held back while the process is paused (SIGSTOP).
    pub stopped: Option<Vec<SimEvent>>,
    /// The process is draining.
    pub leaving: bool,
    /// Results to record, each with the true time before which its retry must not start.
    pub unrecorded: Vec<(FinishedAttempt, Duration)>,
    pub recording: bool,
    pub record_backoff: Duration,
    /// Requests in flight, per endpoint and in total.
    pub in_flight: HashMap<EndpointId, usize>,
    pub all_in_flight: usize,
    /// The time at which it learned of each lease (slot and epoch).
    pub leased: HashMap<(u8, i64), Duration>,
    /// Unreachable endpoints.
    pub unreachable: HashMap<EndpointId, UnreachableStreak>,
    /// Successes in a row per endpoint.
    pub well: HashMap<EndpointId, u32>,
    /// The lease keeper's tasks, one at a time, and whether one is under way.
    pub lease_operations: VecDeque<LeaseOperation>,
    pub lease_operation_running: bool,
    /// A request recently failed locally: until then sending may pause.
    pub local_failure_until: Duration,
    /// Heartbeats sent before this are lost.
    pub heartbeats_lost_until: Duration,
}

impl SimProcess {
    /// A process that starts `now`, on a machine with this wall clock.
    pub fn new(machine: usize, core: Core, wall: WallClock, now: Duration) -> SimProcess {
        SimProcess {
            machine,
            core,
            policy: LeasePolicy::default(),
            born: now,
            steady: SteadyClock::new(wall.at(now), Duration::ZERO),
            wake: 0,
            lease_operations: VecDeque::new(),
            lease_operation_running: false,
            stopped: None,
            leaving: false,
            unrecorded: Vec::new(),
            recording: false,
            record_backoff: Duration::ZERO,
            in_flight: HashMap::new(),
            all_in_flight: 0,
            leased: HashMap::new(),
            unreachable: HashMap::new(),
            well: HashMap::new(),
            local_failure_until: Duration::ZERO,
            heartbeats_lost_until: Duration::ZERO,
        }
    }

    /// The process's monotonic time.
    pub fn mono(&self, now: Duration) -> Duration {
        now - self.born
    }

    pub fn read_clocks(&mut self, wall: WallClock, now: Duration) -> ClockReading {
        let mono = self.mono(now);
        ClockReading { time: self.steady.read(wall.at(now), mono), mono }
    }

    /// An independent model of the circuit breaker.
    pub fn learn(&mut self, endpoint: EndpointId, outcome: &Outcome, now: Duration) {
        let well = self.well.entry(endpoint).or_insert(0);
        *well = if outcome.delivered() { *well + 1 } else { 0 };
        let away = self.unreachable.entry(endpoint).or_default();
        match outcome.failure {
            None | Some(Failure::Status) => *away = UnreachableStreak::default(),
            Some(_) => {
                away.row += 1;
                if away.row >= PROBES && now >= away.until {
                    away.until = now + (FIRST_PAUSE * (1 << away.pauses.min(6))).min(LONGEST_PAUSE);
                    away.pauses += 1;
                }
            }
        }
    }
}

/// After this many failures in a row an endpoint gets probes only. Stated here again on purpose, to check the breaker.
pub const PROBES: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
