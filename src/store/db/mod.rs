//! The two databases: connections, transactions, errors, migrations, and the helpers that SQL text and values need.
//!
//! Invariants: nothing here knows a message or an endpoint. SQL that is the same on both databases is written once,
//! with the macros `on!` and `read!`; what differs stands side by side in a `match`. Every write transaction is
//! bounded by a [`Budget`](budget::Budget) or by constants of its module.

pub(in crate::store) mod budget;
pub(in crate::store) mod checkpoint;
pub(in crate::store) mod codec;
pub(in crate::store) mod store_error;
pub(in crate::store) mod location;
pub mod migrations;
pub(in crate::store) mod postgres;
pub mod retry;
pub(in crate::store) mod scans;
pub(in crate::store) mod sqlite;
pub(in crate::store) mod statement;
pub(in crate::store) mod tx;
pub(in crate::store) mod writable;
