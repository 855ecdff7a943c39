//! A process of the fleet: the real core and heartbeats, its clocks, and what it has told the recorder.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::world::What;
use crate::domain::attempt::{Failure, Outcome};
use crate::domain::time::Steady;
use crate::domain::{EndpointId, Time};
use crate::engine::core::clock_reading::ClockReading;
use crate::engine::core::lease_policy::Beats;
use crate::engine::core::step::Core;
use crate::store::recording::record::Finished;

/// When the simulation begins, by a clock that is right.
pub const START: Time = Time::from_micros(1_763_800_000_000_000);

/// A machine's clock on the wall: how far it is from the true one, in µs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall {
    pub skew: i64,
    pub jump: i64,
    /// The time in the last id that was made here: ids only grow.
    pub last_id: Time,
}

impl Wall {
    /// What it shows at `now`.
    pub fn at(self, now: Duration) -> Time {
        Time::from_micros(START.micros() + now.as_micros() as i64 + self.skew + self.jump)
    }
}

/// What a heartbeat loop does.
#[derive(Clone, Debug)]
pub enum Deed {
    Beat,
    HandBack(Vec<u8>),
}

/// How often in a row an endpoint could not be reached, how many rests that made, and until when it is left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Away {
    pub row: u32,
    rests: u32,
    pub until: Duration,
}

/// A running Sendoff.
pub struct Process {
    /// On which machine.
    pub seat: usize,
    pub core: Core,
    pub beats: Beats,
    born: Duration,
    steady: Steady,
    /// Only the last wake-up call counts.
    pub wake: u64,
    /// What waits for it while it is stopped.
    pub stopped: Option<Vec<What>>,
    /// It has been told to drain.
    pub leaving: bool,
    /// What waits to be recorded, each with when its retry may come, by the true clock; and what is being recorded.
    pub unrecorded: Vec<(Finished, Duration)>,
    pub recording: bool,
    pub record_again: Duration,
    /// To each endpoint, and in all.
    pub in_flight: HashMap<EndpointId, usize>,
    pub all_in_flight: usize,
    /// Since when it has known of a lease: slot and epoch.
    pub leased: HashMap<(u8, i64), Duration>,
    /// Endpoints that could not be reached.
    pub unreachable: HashMap<EndpointId, Away>,
    /// How many deliveries in a row there were since an endpoint last failed.
    pub well: HashMap<EndpointId, u32>,
    /// What its heartbeat loop has still to do, one thing at a time, and whether it is at one.
    pub heart: VecDeque<Deed>,
    pub heart_busy: bool,
    /// It could not make requests lately: until then some may rest.
    pub short_until: Duration,
    /// The heartbeats that go out before this do not arrive.
    pub beats_lost_until: Duration,
}

impl Process {
    /// One that begins `now`, on a machine whose clock shows `wall`.
    pub fn new(seat: usize, core: Core, wall: Wall, now: Duration) -> Process {
        Process {
            seat,
            core,
            beats: Beats::default(),
            born: now,
            steady: Steady::new(wall.at(now), Duration::ZERO),
            wake: 0,
            heart: VecDeque::new(),
            heart_busy: false,
            stopped: None,
            leaving: false,
            unrecorded: Vec::new(),
            recording: false,
            record_again: Duration::ZERO,
            in_flight: HashMap::new(),
            all_in_flight: 0,
            leased: HashMap::new(),
            unreachable: HashMap::new(),
            well: HashMap::new(),
            short_until: Duration::ZERO,
            beats_lost_until: Duration::ZERO,
        }
    }

    /// Its own time, on the clock that nobody sets.
    pub fn mono(&self, now: Duration) -> Duration {
        now - self.born
    }

    pub fn moment(&mut self, wall: Wall, now: Duration) -> ClockReading {
        let mono = self.mono(now);
        ClockReading { time: self.steady.read(wall.at(now), mono), mono }
    }

    /// What a breaker has to know, told from outside of it.
    pub fn learn(&mut self, endpoint: EndpointId, outcome: &Outcome, now: Duration) {
        let well = self.well.entry(endpoint).or_insert(0);
        *well = if outcome.delivered() { *well + 1 } else { 0 };
        let away = self.unreachable.entry(endpoint).or_default();
        match outcome.failure {
            None | Some(Failure::Status) => *away = Away::default(),
            Some(_) => {
                away.row += 1;
                if away.row >= PROBES && now >= away.until {
                    away.until = now + (FIRST_REST * (1 << away.rests.min(6))).min(LONGEST_REST);
                    away.rests += 1;
                }
            }
        }
    }
}

/// After so many failures in a row an endpoint gets a probe at a time, with rests: told here a second time.
pub const PROBES: u32 = 16;
const FIRST_REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(15);
