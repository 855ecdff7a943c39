//! What one process of a fleet does now and then: retention, compaction of rollups, purging of deleted rows, deletion of contents.
//!
//! Invariants: each step is bounded in rows, leaves the store consistent, and says whether there is more to do. Nothing here runs in a
//! caller's transaction.

pub mod content_deletion;
pub(in crate::store) mod purge;
pub mod reseal;
pub mod retention;
pub(in crate::store) mod rollup_compaction;
