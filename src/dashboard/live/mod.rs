//! The live tail: attempts as they happen.
//!
//! * [`tail`] – the page and its stream of server-sent events. [`tail_feed`] – polls the store once for all open tails
//!   of an organization.
//!
//! Invariants:
//!
//! * However many tails are open, an organization has at most one polling loop per process.
//! * A stream ends within [`CHECK`](tail::CHECK) of the end of its session.

pub(in crate::dashboard) mod tail;
pub(in crate::dashboard) mod tail_feed;
