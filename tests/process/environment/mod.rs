//! What surrounds a process, with the real binary: receivers that are particular about a request, databases behind TLS, a pooler and
//! several hosts, a file that is locked, a WAL that is pinned, a
//! store that is away at the end; and a portal and a dashboard that are reached elsewhere.

mod api;
mod dashboard;
mod database;
mod ending;
mod file;
mod master_key;
mod pooler;
mod portal;
mod token_secret;
mod way;
mod wire;
