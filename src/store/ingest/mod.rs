//! The way in: a message is accepted over REST or relayed from the outbox, routed to its endpoints, and stored with
//! its deliveries.
//!
//! - [`accept`]: one message and its deliveries. [`writer`]: many of them in one transaction.
//! - [`fan_out`]: messages to very many endpoints, in bounded steps. [`fan_out_scheduler`]: whose step is next.
//! - [`outbox`] and [`relay`]: rows that the team's own transactions wrote. [`relay_batch_size`]: how many of them one step
//!   takes; [`outbox_watermark`]: from where on it looks.
//! - [`routing`] and [`routing_cache`]: which endpoints get a message. [`routing_load`]: how much of that is read
//!   where. [`live_endpoints`] loads endpoints with their secrets.
//! - [`idempotency`]: calls that may come twice and take effect once.
//!
//! Invariants: a message that was acknowledged is committed, with all of its deliveries. The routing cache is checked
//! against the store inside the accepting transaction. A caller is turned away before its message is queued, never
//! after.

pub mod accept;
pub(in crate::store) mod due_insert;
pub mod fan_out;
pub mod fan_out_scheduler;
pub mod idempotency;
pub(in crate::store) mod live_endpoints;
pub(in crate::store) mod message_insert;
pub mod outbox;
pub mod routing;
pub(in crate::store) mod routing_cache;
pub(in crate::store) mod routing_load;
pub(in crate::store) mod writer;
