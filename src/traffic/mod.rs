//! Limits on incoming traffic.
//!
//! Come here to change a caller's rate limit, the address of a caller behind proxies, or how a long response is sent
//! and detects that its reader is gone.
//!
//! * [`RateLimits`](rate_limits::RateLimits): a token bucket per key, application, session and address.
//! * [`TrustedProxies`](proxies::TrustedProxies): the proxies that are trusted to report the caller's address.
//! * [`BodyBudget`](body_budget::BodyBudget): the memory for request bodies, with a share for each caller.
//! * [`Hangup`](hangup::Hangup): tells a long response that its reader is gone. [`event_stream`]: server-sent events.
//! * [`Traffic`]: all but the last, shared by the API and the dashboard.
//!
//! Invariants:
//!
//! * Memory is bounded for any number of callers.
//! * The rate limit of a known caller costs no lock and no allocation.
//! * Nothing here depends on routes or the store.

pub mod body_budget;
pub mod event_stream;
pub mod hangup;
pub mod proxies;
pub mod rate_limits;

use body_budget::BodyBudget;
use proxies::TrustedProxies;
use rate_limits::RateLimits;

/// The traffic limits of this process. Cheap to clone; clones share their buckets.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    pub limits: RateLimits,
    pub proxies: TrustedProxies,
    pub bodies: BodyBudget,
}
