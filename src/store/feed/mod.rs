//! The **feed**: an application's messages in commit order, read by polling. Come here when a reader misses, repeats or
//! waits for messages.
//!
//! * [`feed_order`]: assigning message ids that are positions in the feed.
//! * [`feed_page`]: a page after a position. [`wakeups`]: waiting for the next message.
//! * [`polling_endpoints`], [`polling_tokens`]: polling endpoints and their credentials.
//! * [`consumers`], [`leases`]: readers whose position the store keeps, without and with leases.
//! * [`development_endpoints`]: programs to which listeners forward messages, and their responses.
//! * [`silent_consumers`]: reports consumers that have stopped polling.
//! * [`autoconfig`]: tokens with which a receiver's program creates its own endpoint.
//!
//! Invariants:
//!
//! * Within an application, ids grow in commit order: a reader that continues from the greatest id it has seen misses
//!   nothing.
//! * A message is never inserted below a position that a reader may have passed.
//! * Reading a page writes nothing; only consumers have stored positions.
//! * A development endpoint has no deliveries: no list, count or health includes its attempts.

pub mod autoconfig;
pub mod consumers;
pub mod development_endpoints;
pub(in crate::store) mod feed_order;
pub mod feed_page;
pub mod leases;
pub mod polling_endpoints;
pub mod polling_tokens;
pub mod silent_consumers;
pub mod wakeups;
