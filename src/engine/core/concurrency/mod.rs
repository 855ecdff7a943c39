//! The concurrency policy: how many requests may be in flight, to which endpoints, and which lanes yield. Each
//! mechanism is a file; [`lanes::concurrency`](super::lanes) applies them.
//!
//! 1. **One endpoint** gets at most a quarter of the free capacity, and at most its limit. The [`circuit_breaker`]
//!    lowers the limit of an overloaded or unreachable receiver, down to single probes.
//! 2. **Endpoints are of three kinds** by their [`responsiveness`], and each kind has a share of the capacity
//!    ([`shares`]): at most half for silent ones, at most half for unknown ones, and the last quarter is reserved for
//!    those that responded recently. So any number of hanging endpoints leaves room for the others.
//! 3. **Applications take turns**, and so do the endpoints of each ([`fair_queue`]), both for the next request and
//!    for an exhausted share. An application with 100,000 endpoints delays another by one turn.
//! 4. **A backlog yields.** Endpoints with more deliveries in the store than in memory share a rate limit that keeps
//!    the latency of the others normal ([`backlog_throttle`]).
//!
//! Why the policy cannot disable itself:
//!
//! * The shares are counted from the requests in flight, not measured. They hold at every start.
//! * Every lane is checked again at a time that follows from its own state, so an endpoint becomes silent without an
//!   event ([`lanes::indexes`](super::lanes)).
//! * Overload makes the throttle's samples rare and late, but the throttle does not mistake that for an idle machine. A
//!   late sample counts as one second. Few samples mean that no other lane is active only if none of them is queued
//!   either. Otherwise the rate falls, down to a minimum above zero.

pub mod backlog_throttle;
pub mod circuit_breaker;
pub mod fair_queue;
pub mod responsiveness;
pub mod shares;

pub use responsiveness::Responsiveness;
