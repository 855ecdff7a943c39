//! The queue of what still has to be sent: the rows of `due`, the slots and their leases, the order of ordered
//! endpoints, and the signals that tell engines of new work.
//!
//! - [`pending_deliveries`] and [`ordered_heads`]: what the lanes read. [`ordering`]: the numbers of ordered deliveries.
//! - [`slots`]: who sends for which endpoints.
//! - [`requeue`], [`cancel`], [`dead`]: how deliveries enter and leave the queue other than by an attempt.
//! - [`signals`] within a process, [`notify`] between processes.
//!
//! Invariants: an endpoint's slot has one owner at a time, and every change of owner has a new epoch. Signals and
//! notifications only speed things up: a lost one costs time, never a delivery. Locks are taken in the order message,
//! due, dead, endpoint, ordering, rollup.

pub(in crate::store) mod cancel;
pub(in crate::store) mod dead;
pub mod ordered_heads;
pub mod notify;
pub(in crate::store) mod ordering;
pub(in crate::store) mod requeue;
pub mod signals;
pub mod slots;
pub mod pending_deliveries;
