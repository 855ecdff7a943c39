//! What the team manages: applications, endpoints with their secrets, event types.
//!
//! Invariants: a change of an endpoint raises its application's version, by which the [routing cache](crate::store::ingest::routing_cache)
//! is checked. An endpoint's slot is set when it is created and never changes. A deleted row stays until
//! [`purge`](crate::store::maintenance::purge) removes what lists no longer need.

pub mod applications;
pub mod change;
pub mod endpoint_list;
pub mod endpoint_secrets;
pub mod endpoints;
pub mod event_types;
