//! Signing keys and signatures (Standard Webhooks 1.0.0). Come here for secret formats, encryption at rest, signature
//! headers and verification.
//!
//! * [`secret`]: an endpoint's **secret**. [`master_key`]: the **master key** that seals secrets for the store.
//! * [`signature`]: **signatures**: the headers that the sender adds to a request, and their verification by a
//!   receiver.
//!
//! Invariants:
//!
//! * Nothing prints a secret: `Debug` is redacted, errors never quote one, and memory is wiped on drop.
//! * Signing never fails and never blocks: keys are prepared once per endpoint.
//! * The signed bytes are the sent bytes; nothing here parses or rewrites a payload.

pub mod master_key;
pub mod secret;
pub mod signature;
