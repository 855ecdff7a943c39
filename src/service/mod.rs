//! Use cases that the REST API and the dashboard share. Come here when both must apply the same rule: one written in
//! only one of them is missing in the other.
//!
//! * [`endpoints`]: creating an endpoint, checking its URL, revealing its secret.
//! * [`event_types`]: the event types that a caller can see.
//! * [`portal_links`]: single-use links into the portal.
//! * [`polling_tokens`]: tokens of polling endpoints.
//!
//! # Invariants
//!
//! * No HTTP, no HTML, no JSON: a use case takes a [`Store`](crate::store::Store) and domain values, and returns domain
//!   values or an [`Invalid`](crate::domain::Invalid).
//! * No permission checks: the caller has made them.
//! * No SQL. A use case of a single transaction is a method of the store, which both callers use directly.

pub mod endpoints;
pub mod event_types;
pub mod polling_tokens;
pub mod portal_links;
