//! The life of an event: one **message** becomes one **delivery** per matching endpoint, and each delivery gets
//! **attempts** until it is delivered or dead. Come here for states, transitions, the retry schedule and the rules for
//! payloads.
//!
//! * [`message`]: an event, its payload and its validation.
//! * [`delivery`]: the state machine: [`delivery::after`] is the only transition after an attempt.
//! * [`attempt`]: one POST and its **outcome**. [`backoff`]: the retry **schedule** and its jitter.
//! * [`failure_streak`]: when a failing endpoint is warned about and disabled.
//! * [`delivery_settings`]: the settings of an installation.
//! * [`background`]: kinds, scopes and stages of **background tasks** (replay, recover, reconcile). [`id_digest`]: the
//!   **digest** of the message ids that a receiver has.
//!
//! Invariants:
//!
//! * An outcome is data. A failing receiver is never an `Err`; a failure on our side is never recorded as an attempt.
//! * "In flight" is not a state: the store only knows pending, delivered and dead.
//! * Stored words and numbers never change their meaning.

pub mod attempt;
pub mod background;
pub mod backoff;
pub mod delivery;
pub mod delivery_settings;
pub mod failure_streak;
pub mod id_digest;
pub mod message;
pub mod payload_condition;
