//! Periodic clean-up, run by one process at a time. Come here to change a retention period.
//!
//! * [`retention`]: deletes old messages. [`content_deletion`]: deletes payloads and responses. [`purge`]: removes
//!   deleted endpoints and applications. [`rollup_compaction`]: merges old counts. [`reseal`]: re-encrypts secrets
//!   under a new master key.
//!
//! Invariants:
//!
//! * Each step is one transaction, bounded in rows, and reports whether there is more to do.
//! * A step can be interrupted or repeated at any time.
//! * Nothing here runs in a caller's transaction.

pub mod content_deletion;
pub(in crate::store) mod purge;
pub mod reseal;
pub mod retention;
pub(in crate::store) mod rollup_compaction;
