//! Credentials, sessions and the audit log. Come here when a caller is wrongly accepted or rejected, or an audit entry
//! is missing.
//!
//! * [`tenant`]: the organization (and application) a request is restricted to.
//! * [`api_keys`], [`access_expiry`]: API keys, logged-out tokens, and expiring a customer's access.
//! * [`operators`], [`second_factors`], [`password_resets`]: accounts, and what belongs to them.
//! * [`operator_sessions`], [`oidc_sign_ins`], [`sign_in_links`], [`portal_sessions`]: sessions and one-time links.
//! * [`saved_views`]: the filters that an account keeps. [`audit`]: the audit log.
//!
//! Invariants:
//!
//! * Tokens, keys, link codes and recovery codes are stored as SHA-256 only, passwords as argon2id only, secrets of
//!   second factors sealed.
//! * One function creates sessions of operators.
//! * Methods without a tenant look up a credential by its hash; all others are restricted to a tenant.
//! * An audit entry is written in the transaction of the change it describes.

pub mod access_expiry;
pub mod api_keys;
pub mod audit;
pub mod oidc_sign_ins;
pub mod operator_sessions;
pub mod operators;
pub mod password_resets;
pub mod portal_sessions;
pub mod saved_views;
pub mod second_factors;
pub mod sign_in_links;
pub mod tenant;
