//! Configuration: **applications**, **endpoints** with their **secrets**, **event types**. Come here to change how one
//! of them is created, updated, deleted or listed.
//!
//! Invariants:
//!
//! * Every change to an endpoint increments its application's version; the [routing
//!   cache](crate::store::ingest::routing_cache) and the engine's endpoint cache are validated by it.
//! * Every change writes its audit entry and its operational event in the same transaction.
//! * An endpoint's slot is assigned at creation and never changes.
//! * Deleting marks a row; [`purge`](crate::store::maintenance::purge) removes it later.
//! * No update overwrites a concurrent one; see [`change`].

pub mod applications;
pub mod change;
pub mod endpoint_list;
pub mod endpoint_secrets;
pub mod endpoint_update;
pub mod endpoints;
pub mod event_type_import;
pub mod event_types;
pub mod organization_rows;
