//! Authentication and authorization. Come here to change who may call the API, by which credential, and for which
//! operations.
//!
//! * [`authenticator`]: turns an API key or token into a [`Caller`](credential::Caller), caches it, and enforces rate
//!   limits. [`credential`]: the kinds of credentials. [`key_usage`]: when keys were last used.
//! * [`jwt`]: issues and verifies tokens. [`jwt_crypto`]: the signature algorithms behind them.
//! * [`permissions`]: the permission that each operation needs, and those that each credential grants.
//!
//! # Invariants
//!
//! * A revoked credential is rejected by every process within [`MAX_AGE`](authenticator::MAX_AGE) (3 seconds).
//! * Credentials appear in no log and no error. The store has only their hashes.
//! * An organization's boundary is not enforced here: the [`Tenant`](crate::store::Tenant) in every SQL statement does
//!   that.
//! * An operation without an entry in the permission table needs `Read` for a GET and `Write` for anything else.

pub mod authenticator;
pub(in crate::api) mod credential;
pub mod jwt;
pub(in crate::api) mod jwt_crypto;
mod key_usage;
pub(in crate::api) mod permissions;
