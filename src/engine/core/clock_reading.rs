//! A reading of the engine's two clocks. The core takes it as an argument and never asks a clock.

use std::time::Duration;

use crate::domain::Time;

/// Both clocks, read at the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Sendoff's time: decides what is due.
    pub time: Time,
    /// Time since the engine started, on a clock that nobody sets: rates, limits, pauses and leases go by it.
    pub mono: Duration,
}
