//! The engine's **runtime**: the tasks that perform what the [core](super::core) decides.
//!
//! Come here to change *how* something is done:
//!
//! * [`event_loop`]: feeds events to the core and performs its actions.
//! * [`send`]: one delivery becomes one signed POST. [`record`]: writes results to the store in batches.
//! * [`relay`]: turns outbox rows into messages. [`background`]: replays and recoveries. [`mail`]: mail to contacts.
//! * [`lease_keeper`]: heartbeats that keep this process's slots. [`fleet`]: what they report to the other tasks.
//! * [`maintenance`]: retention, rollups, failing endpoints, in one process of the fleet, scheduled by [`agenda`].
//!   [`local_upkeep`]: upkeep that every process does for itself.
//! * [`notification_listener`]: notifications from other processes.
//! * [`clocks`]: the time. [`periodic`]: a polling loop with backoff.
//!
//! Invariants:
//!
//! * The event loop never awaits the store or a receiver. Slow work is spawned and returns as an event.
//! * No transaction and no connection to the store is held during a request.
//! * No decision about order, rate, concurrency or retries is made here.

pub mod agenda;
pub mod background;
pub mod clocks;
pub mod event_loop;
pub mod fleet;
pub mod lease_keeper;
pub mod local_upkeep;
pub mod mail;
pub mod maintenance;
pub mod notification_listener;
pub mod periodic;
pub mod record;
pub mod relay;
pub mod send;
