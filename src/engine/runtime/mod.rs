//! The engine's **runtime**: the loops that do what the [core](super::core) decides.
//!
//! Start here to change *how* something is done:
//!
//! * [`event_loop`] – feeds events to the core and carries out its actions.
//! * [`send`] – one delivery, one signed POST. [`record`] – writes results to the store in batches.
//! * [`relay`] – turns outbox rows into messages. [`background`] – recoveries and replays. [`mail`] – mails to applications' contacts.
//! * [`lease_keeper`] – heartbeats that keep this process's slots. [`fleet`] – what they tell other loops.
//! * [`maintenance`] – retention, rollups, failing endpoints, by one process of a fleet, as its [`agenda`] says; [`local_upkeep`] – what
//!   each process does for itself.
//! * [`notification_listener`] – notifications from other processes.
//! * [`clocks`] – where the loops read the time. [`periodic`] – a loop with back-off for work that comes in turns.
//!
//! Invariants:
//!
//! * The event loop never awaits the store or a receiver: slow work is spawned and returns as an event.
//! * No transaction and no connection is held while a request is under way.
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
