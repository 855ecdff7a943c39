//! The delivery queue: pending deliveries, the leases that decide which process sends them, and the signals that wake
//! engines. Come here to change how deliveries are read, ordered, requeued or canceled.
//!
//! * [`pending_deliveries`], [`ordered_heads`]: reads of the engine's lanes. [`ordering`]: sequence numbers of ordered
//!   endpoints.
//! * [`slots`]: the leases of slots.
//! * [`requeue`], [`cancel`], [`dead`]: deliveries enter and leave the queue other than by an attempt.
//! * [`signals`] within a process, [`notify`] between processes.
//!
//! Nouns: a *pending* delivery is a row of `due`, either *fresh* or a *retry*; a *dead* one is a row of `dead`. A
//! *slot* is a share of the endpoints, leased by one process; each change of owner starts a new *epoch*. A
//! *generation* counts resends and cancels of a delivery.
//!
//! Invariants:
//! * A delivery is in one place: `due`, `dead`, or the attempt that delivered it.
//! * A slot has one owner at a time, and every change of owner increments its epoch.
//! * Signals and notifications only reduce latency. Losing one delays a delivery but never loses it.
//! * Locks are acquired in the order message, due, dead, endpoint, ordering, rollup.
//! * Nothing here decides when to send or retry; the engine does.

pub(in crate::store) mod cancel;
pub(in crate::store) mod dead;
pub mod notify;
pub mod ordered_heads;
pub(in crate::store) mod ordering;
pub mod pending_deliveries;
pub(in crate::store) mod requeue;
pub mod signals;
pub mod slots;
