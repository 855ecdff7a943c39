//! Who may do what: API keys, operators, sign-in links, portal sessions, the audit log, and the [`Tenant`](tenant::Tenant) of a call.
//!
//! Invariants: secrets are stored as hashes only. Every method that serves a caller takes a tenant. A line of the audit log is written in
//! the transaction of what it describes.

pub mod access_end;
pub mod api_keys;
pub mod audit;
pub mod operators;
pub mod portal_sessions;
pub mod sign_in_links;
pub mod tenant;
