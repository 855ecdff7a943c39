//! Concurrency: how much may be in flight, to whom, and who yields to whom. This is the whole policy; each mechanism is a file, and
//! [`lanes::concurrency`](super::lanes) applies them.
//!
//! 1. **One endpoint** never takes more than a quarter of what is free, and never more than its cap. The
//!    [`circuit_breaker`] lowers the cap of a receiver that is overloaded or cannot be reached, down to single probes.
//! 2. **Endpoints are of three kinds** by their [`responsiveness`], and each kind has a share of what may be in flight
//!    ([`shares`]): all that are silent together one half, all of which nothing is known one half, and the last quarter is
//!    kept for those that have answered lately. So any number of hanging endpoints leaves room for the others.
//! 3. **Applications take turns**, and then the endpoints of each ([`fair_queue`]), both for the next request and for a share that is
//!    used up. So an application with 100,000 endpoints delays another by one turn.
//! 4. **A backlog yields.** Endpoints for which more waits in the store than in memory keep, together, to a rate that the others do
//!    not notice ([`backlog_throttle`]).
//!
//! The policy cannot switch itself off:
//!
//! * The shares are counted from what is in flight and what is noted of each lane, not measured. They hold at every start.
//! * Every lane is checked again at a time that follows from its own state, so that an endpoint falls silent without an event
//!   ([`lanes::upkeep`](super::lanes)).
//! * Overload makes the throttle's measurements rare and late. Neither is taken for an idle machine: a late one counts as a second, and
//!   few of them mean that there are no others only if the last turn left none of the others in their line. Otherwise the rate falls,
//!   down to a least rate that is never zero.

pub mod backlog_throttle;
pub mod circuit_breaker;
pub mod fair_queue;
pub mod responsiveness;
pub mod shares;

pub use responsiveness::Responsiveness;
