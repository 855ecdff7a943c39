//! Chaos: the real binary under load, and something goes wrong. What was acknowledged is compared with what arrived.
//!
//! * The **ledger** – what was acknowledged (202, or the outbox transaction committed) and what the receiver got. It judges.
//! * The **books** – what the store says, read past the product.
//! * The **world** – the processes on one store, their receiver and whoever sends them events ([`load`]).
//! * A **fault** – what goes wrong. After it the world comes to rest, and the ledger prints a row of the table.
//!
//! What is not ignored is a short run of each, for every day. `make chaos` is the long one: `cargo test --test chaos -- --include-ignored`.
//! Two worlds stand at a time at most; everything is on loopback.

#[path = "../support/mod.rs"]
mod support;

mod big;
mod books;
mod clock;
mod crashes;
mod feed;
mod fleet;
mod ledger;
mod load;
mod logging;
mod order;
mod outages;
mod own;
mod panics;
mod points;
mod publication;
mod read_only;
mod strace;
mod world;
