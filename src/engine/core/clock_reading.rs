//! A reading of the engine's two clocks. The core takes it as an argument and never reads a clock itself.

use std::time::Duration;

use crate::domain::Time;

/// Both clocks, read at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Sendoff's time. Decides which deliveries are due.
    pub time: Time,
    /// Time since the engine started, on a monotonic clock. Rates, limits, pauses and leases use it.
    pub mono: Duration,
}
