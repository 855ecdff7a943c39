//! Every reason for not sending at the moment, in one place.
//!
//! The checks run from the process to the endpoint, and the first one that fails returns its [`Hold`]:
//!
//! 1. `Core::hold`: may this process send at all?
//! 2. `Lanes::capacity_hold`: may it have another request in flight?
//! 3. `Lanes::throttle_hold`: may a backlogged lane send, or does it yield to the others?
//! 4. `Lanes::share_hold`: does the kind of endpoint have a share of the capacity left?
//! 5. `Lane::hold`: may this endpoint get another request?
//!
//! A delivery that is in no lane waits in the store: it is not due, its lane or the memory is full, or its endpoint is
//! disabled. See [`lanes::reading`](super::lanes::reading) for the times of reads.

use std::time::Duration;

/// A reason for not sending, and the event that ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The process drains. Nothing ends this.
    Draining,
    /// The leases may have expired. The next heartbeat that reaches the store ends this.
    LeasesExpired,
    /// The concurrency limit of the process is reached. The end of an attempt ends this.
    ProcessLimit,
    /// The process cannot make more requests ([`Headroom`](super::headroom::Headroom)). Time ends this.
    Headroom,
    /// Too many results are unrecorded; or many, most of them of this application
    /// ([`RecordRoom`](super::concurrency::record_room::RecordRoom)). The next record ends this.
    Unrecorded,
    /// This step has handled enough lanes. The next step continues.
    StepBudget,
    /// Backlogged lanes yield to the others until then.
    Throttled(Duration),
    /// The share of the endpoint's kind is used up. The end of an attempt to this kind ends this.
    Share,
    /// Nothing is queued. A signal or a read ends this.
    Empty,
    /// The endpoint is disabled or deleted. A change of the endpoint ends this.
    Disabled,
    /// Another process leases the slot. A new lease ends this.
    NotOwned,
    /// An ordered endpoint's previous delivery is not recorded. Its record ends this.
    Sequence,
    /// The last attempt could not be made for a local reason. The endpoint pauses until then.
    LocalFailure(Duration),
    /// The circuit breaker pauses the endpoint until then.
    CircuitBreaker(Duration),
    /// The endpoint's concurrency limit is reached. The end of an attempt ends this.
    EndpointLimit,
    /// The rate limit of the endpoint or its application is reached until then.
    RateLimit(Duration),
}

impl Hold {
    /// The monotonic time at which the wait ends by itself. `None`: only an event ends it.
    pub fn until(self) -> Option<Duration> {
        match self {
            Hold::Throttled(until)
            | Hold::LocalFailure(until)
            | Hold::CircuitBreaker(until)
            | Hold::RateLimit(until) => Some(until),
            Hold::Draining
            | Hold::LeasesExpired
            | Hold::ProcessLimit
            | Hold::Headroom
            | Hold::Unrecorded
            | Hold::StepBudget
            | Hold::Share
            | Hold::Empty
            | Hold::Disabled
            | Hold::NotOwned
            | Hold::Sequence
            | Hold::EndpointLimit => None,
        }
    }
}
