//! The REST API on a real server over a fresh store, each test on SQLite and on PostgreSQL: shapes and codes, lists in both
//! directions, what a PATCH leaves and clears, who may call and who sees what, bad input of every kind.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod background;
mod bad_input;
mod callers;
mod changes;
mod conformance;
mod cors;
mod development;
mod dialect;
mod docs;
mod document;
mod endpoint_messages;
mod event_type_import;
mod examples;
mod flood;
mod garbage;
mod headers;
mod leases;
mod limits;
mod lists;
mod messages;
mod once;
mod operational;
mod outage;
mod polling;
mod portal_access;
mod rates;
mod reconcile;
mod recorded;
mod resources;
mod routes;
mod tenants;
mod traffic;
mod world;
