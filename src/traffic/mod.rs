//! Limits for those who call: how often they may, by which address they are known, and whether they are still there.
//!
//! * [`RateLimits`](rate_limits::RateLimits) – a token bucket for each key, application, session and address.
//! * [`Proxies`](proxies::Proxies) – the proxies whose word about the caller's address counts.
//! * [`Hangup`](hangup::Hangup) – tells an answer that lasts when its reader has gone.
//! * [`Traffic`] – the first two, for the API and the dashboard alike.
//!
//! Invariants: memory is bounded, however many callers there are; a caller who is known costs no lock and no allocation; nothing here
//! knows a route or a store.

pub mod hangup;
pub mod proxies;
pub mod rate_limits;

use proxies::Proxies;
use rate_limits::RateLimits;

/// What is known about traffic in this process. Cheap to clone; clones share their buckets.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    pub limits: RateLimits,
    pub proxies: Proxies,
}
