//! The feed: an application's messages in the order in which they were committed, and who reads it by polling.
//!
//! * [`order`] – how ids of messages are drawn, so that they are positions in the feed.
//! * [`read`] – a page of the feed behind a position.
//! * [`polling_endpoints`] – where it is fetched; [`consumers`] – readers whose position the store keeps; [`leases`] – those
//!   that commit what they have done; [`tokens`] – what they show.
//! * [`autoconfig`] – tokens by which a receiver's own program makes its endpoint or polling endpoint.
//! * [`wakeups`] – readers that wait for the next message.

pub mod autoconfig;
pub mod consumers;
pub mod leases;
pub(in crate::store) mod order;
pub mod polling_endpoints;
pub mod read;
pub mod tokens;
pub mod wakeups;
