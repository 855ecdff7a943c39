//! The concurrency policy: the limits on requests in flight, in total and per endpoint, and the lanes that yield. Each
//! mechanism is a file; [`lanes::concurrency`](super::lanes) applies them.
//!
//! 1. **One endpoint** gets at most a quarter of the free capacity, and at most its limit. The [`circuit_breaker`]
//!    lowers the limit of an overloaded or unreachable receiver, down to single probes.
//! 2. **Three kinds of endpoints**, by their [`responsiveness`], share the capacity ([`shares`]): silent ones get at
//!    most half, unknown ones at most half, and the last quarter is reserved for endpoints that responded recently. Any
//!    number of hanging endpoints leaves room for the others.
//! 3. **Applications take turns**, and so do the endpoints of each ([`fair_queue`]), both for the next request and
//!    for an exhausted share. An application with 100,000 endpoints delays another by one turn.
//! 4. **A backlog yields.** Endpoints with more deliveries in the store than in memory share a rate limit that keeps
//!    the latency of the others normal ([`backlog_throttle`]).
//!
//! # Invariants
//!
//! The policy cannot disable itself:
//!
//! * The shares are counted from the requests in flight, not measured. They hold at every start.
//! * Every lane schedules its next check from its own state, so an endpoint becomes silent even if no event arrives
//!   ([`lanes::indexes`](super::lanes)).
//! * Overload makes the throttle's samples rare and late. The throttle does not mistake that for an idle machine. A
//!   late sample counts as one second. Few samples mean that no other lane is active only if none of them is queued
//!   either. Otherwise the rate falls, down to a minimum above zero.

pub mod backlog_throttle;
pub mod circuit_breaker;
pub mod fair_queue;
pub mod record_room;
pub mod responsiveness;
pub mod shares;

pub use responsiveness::Responsiveness;
