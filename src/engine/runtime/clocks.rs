//! The engine's two clocks: Sendoff's time ([`Clock`]) decides which deliveries are due; monotonic time since the
//! engine's start governs rates, limits, pauses and leases.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::time::Clock;
use crate::engine::core::clock_reading::ClockReading;

/// Reads the time for the runtime's tasks. Copies show the same time.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    clock: Clock,
    began: Instant,
}

impl Clocks {
    /// The clocks of an engine that starts now.
    pub fn start(clock: Clock) -> Clocks {
        Clocks { clock, began: Instant::now() }
    }

    /// Reads both clocks.
    pub fn read(self) -> ClockReading {
        ClockReading { time: self.clock.now(), mono: self.began.elapsed() }
    }

    /// Converts an instant to monotonic time since the start.
    pub fn mono(self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    /// The clock that decides which deliveries are due.
    pub fn clock(self) -> Clock {
        self.clock
    }
}
