//! The two clocks of the engine. What is due goes by Sendoff's time ([`Clock`]); rates, caps, rests and leases go by the engine's own, which
//! only says how long it has been running.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Time;
use crate::domain::time::Clock;

/// One moment by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Sendoff's time: says what is due.
    pub time: Time,
    /// Since the engine started: paces.
    pub mono: Duration,
}

/// Where the engine's loops get their moments from. Copies tell the same.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    clock: Clock,
    began: Instant,
}

impl Clocks {
    /// Those of an engine that starts now.
    pub fn start(clock: Clock) -> Clocks {
        Clocks { clock, began: Instant::now() }
    }

    /// The moment that it is.
    pub fn moment(self) -> Moment {
        Moment { time: self.clock.now(), mono: self.began.elapsed() }
    }

    /// A point of the runtime's time, in the engine's own.
    pub fn mono(self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// The clock that says what is due.
    pub fn clock(self) -> Clock {
        self.clock
    }
}
