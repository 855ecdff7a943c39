//! The engine's **runtime**: the tasks that perform the decisions of the [core](super::core).
//!
//! Come here to change how a decision is carried out.
//!
//! * [`event_loop`]: feeds events to the core and performs its actions.
//! * [`attempt_sender`]: one delivery becomes one signed POST. [`recorder`]: writes results to the store in batches.
//! * [`relay_loop`]: turns outbox rows into messages. [`background_worker`]: replays and recoveries. [`mailer`]: mail
//!   to contacts.
//! * [`lease_keeper`]: heartbeats that keep this process's slots. [`fleet`]: the number of processes, as of the last
//!   heartbeat.
//! * [`maintenance`]: retention, rollups, failing endpoints, in one process of the fleet, scheduled by
//!   [`maintenance_schedule`]. [`local_upkeep`]: upkeep that every process does for itself.
//! * [`notification_listener`]: notifications from other processes.
//! * [`clocks`]: the time. [`periodic`]: a polling loop with backoff.
//!
//! Invariants:
//!
//! * The event loop never awaits the store or a receiver. Slow work is spawned and returns as an event.
//! * No transaction and no connection to the store is held during a request.
//! * No decision about order, rate, concurrency or retries is made here.

pub mod attempt_sender;
pub mod background_worker;
pub mod clocks;
pub mod event_loop;
pub mod fleet;
pub mod lease_keeper;
pub mod local_upkeep;
pub mod mailer;
pub mod maintenance;
pub mod maintenance_schedule;
pub mod notification_listener;
pub mod periodic;
pub mod recorder;
pub mod relay_loop;
