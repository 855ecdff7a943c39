//! Credentials, sessions and the audit log. Come here when a caller is wrongly accepted or rejected, or an audit entry
//! is missing.
//!
//! * [`tenant`]: the organization (and application) a request is restricted to.
//! * [`api_keys`], [`access_expiry`]: API keys, logged-out tokens, and expiring a customer's access.
//! * [`operators`], [`sign_in_links`], [`portal_sessions`]: accounts, one-time links and sessions.
//! * [`audit`]: the audit log.
//!
//! Invariants:
//!
//! * Tokens, keys and link codes are stored as SHA-256 only, passwords as argon2id only.
//! * Methods without a tenant look up a credential by its hash; all others are restricted to a tenant.
//! * An audit entry is written in the transaction of the change it describes.

pub mod access_expiry;
pub mod api_keys;
pub mod audit;
pub mod operators;
pub mod portal_sessions;
pub mod sign_in_links;
pub mod tenant;
