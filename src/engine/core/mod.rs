//! The engine's **core**: every decision, as a pure state machine. `Core::step(events, now) -> actions`.
//!
//! Start here to change *what* is sent, read, loaded or given up, and *when*:
//!
//! * [`event`] – the [`Event`](event::Event)s that go in and the [`Action`](event::Action)s that come out.
//! * [`step`] – the [`Core`](step::Core): leases, draining, when to scan, what to load.
//! * [`lanes`] – all lanes and what they share: turns, totals, memory, leases by slot. [`lane`] – one endpoint's queue.
//! * [`concurrency`] – how much may be in flight, to whom, and who yields: one policy. [`rate_limit`] – deliveries per second.
//! * [`endpoint_loads`] – which loads of endpoints are under way, and which results are stale.
//! * [`scanning`] – when the store is asked what is pending, page by page. [`signal_queue`] – its signals, in portions.
//! * [`headroom`] – how many requests this process can make at once, learned from those it could not make.
//! * [`lease_policy`] – when heartbeats go out and which slots are handed over.
//!
//! Invariants:
//!
//! * No I/O, no tasks, no randomness. Nothing here asks a clock: time is an argument ([`clock_reading`]).
//! * Nothing here waits. Slow work is an action, and its result comes back as an event.
//! * The same events at the same times give the same actions, so that the [simulation](super::simulation) can repeat every run.
//! * A step looks at a bounded number of lanes, endpoints and rows, however many there are: nothing walks over all of them.
//! * Whatever a lane holds is counted in bytes; memory is bounded before it is taken.

pub mod clock_reading;
pub mod concurrency;
pub mod endpoint_loads;
pub mod event;
pub mod headroom;
pub mod lane;
pub mod lanes;
pub mod lease_policy;
pub mod rate_limit;
pub mod scanning;
pub mod signal_queue;
pub mod step;
