//! The part of the store's conformance suite that is about PostgreSQL's partitions. Ids only ever grow within a process, whatever time they are
//! made for, and these stories are about years: they share their process with no others, and take place one after another.

mod support;

#[allow(dead_code, unused_macros)]
#[path = "store/home.rs"]
mod home;

#[path = "store/partitions.rs"]
mod partitions;
#[path = "store/partitions_past.rs"]
mod partitions_past;
