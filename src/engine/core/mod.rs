//! The engine's **core**: every decision, as a pure state machine. `Core::step(events, now) -> actions`.
//!
//! Come here to change the decisions: which deliveries to send, read, load or give up, and when.
//!
//! * [`event`]: the inputs ([`CoreEvent`](event::CoreEvent)) and outputs ([`CoreAction`](event::CoreAction)).
//! * [`step`]: the [`Core`](step::Core): leases, draining, when to scan, what to load.
//! * [`lanes`]: all lanes and their shared state: turns, totals, memory, leases. [`lane`]: the queue of one endpoint.
//! * [`concurrency`]: the policy on requests in flight. [`rate_limit`]: deliveries per second.
//! * [`endpoint_loads`]: which endpoint rows to load, and which results are stale.
//! * [`scanning`]: when to ask the store for pending deliveries, page by page. [`signal_queue`]: its signals, in
//!   portions.
//! * [`headroom`]: the number of concurrent requests that this process can make, learned from failures to make one.
//! * [`hold`]: every reason for not sending.
//! * [`lease_policy`]: when to send heartbeats, and which slots to return.
//!
//! Invariants:
//!
//! * No I/O, no tasks, no randomness. Nothing here reads a clock: time is an argument ([`clock_reading`]).
//! * Nothing here waits. Slow work is an action, and its result comes back as an event.
//! * The same events at the same times give the same actions, so the [simulation](super::simulation) can repeat every
//!   run.
//! * A step touches a bounded number of lanes, endpoints and rows. Nothing iterates over all of them.
//! * Payloads in memory are counted in bytes, and the bound is checked before they are loaded.

pub mod clock_reading;
pub mod concurrency;
pub mod endpoint_loads;
pub mod event;
pub mod headroom;
pub mod hold;
pub mod lane;
pub mod lanes;
pub mod lease_policy;
pub mod rate_limit;
pub mod scanning;
pub mod signal_queue;
pub mod step;
