//! The databases, SQLite and PostgreSQL: connections, transactions, errors, migrations, and helpers for SQL. Come here
//! to change how statements are run. The statements themselves are in the other folders of the store.
//!
//! * [`sqlite`] and [`checkpoint`]; [`postgres`]. [`location`]: the setting that selects one.
//! * [`tx`]: transactions, and the macros `on!` and `read!` that run one statement on either database.
//! * [`retry`]: conflicts. [`budget`]: the size of a transaction. [`skip_locked`]: rows that other processes have not
//!   locked.
//! * [`statement`]: SQL with bound values. [`codec`]: columns. [`scans`]: the concurrency limit of expensive reads.
//! * [`migrations`]: the schema. [`writable`]: the health check. [`store_error`]: errors by how callers react.
//!
//! Invariants:
//! * Except for [`codec`], nothing here knows messages or endpoints.
//! * A statement that is the same on both databases is written once. Where they differ, both are next to each other in
//!   a `match`.
//! * A write transaction is bounded, by a [`Budget`](budget::Budget) or by a constant of its module.
//! * A request never waits for a connection of the engine, and the engine never waits for a connection of a request.

pub(in crate::store) mod budget;
pub(in crate::store) mod checkpoint;
pub(in crate::store) mod codec;
pub(in crate::store) mod location;
pub mod migrations;
pub(in crate::store) mod postgres;
pub mod retry;
pub(in crate::store) mod scans;
pub(in crate::store) mod skip_locked;
pub(in crate::store) mod sqlite;
pub(in crate::store) mod statement;
pub(in crate::store) mod store_error;
pub(in crate::store) mod tx;
pub(in crate::store) mod writable;
