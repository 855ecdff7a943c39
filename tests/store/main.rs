//! The conformance suite of the store: the same test code drives every method on SQLite and on PostgreSQL.
//!
//! [`home`] makes a fresh database on either engine. [`model`] runs random sequences of calls against both stores and a
//! model of them.

#[path = "../support/mod.rs"]
mod support;

mod home;

mod accept;
mod accounts;
mod age;
mod api_keys;
mod applications;
mod audit;
mod autoconfig;
mod away;
mod background;
mod background_wide;
mod backlog;
mod bounds;
mod changes;
mod conflicts;
mod contents;
mod counts;
mod deliveries;
mod development;
mod endpoint_lines;
mod endpoint_messages;
mod endpoints;
mod estimate;
mod event_types;
mod failing;
mod fan_out;
mod faults;
mod feed;
mod keys;
mod lane_floor;
mod leases;
mod listed;
mod lists;
mod mail;
mod migrating;
mod model;
mod notify;
mod once;
mod opening;
mod operational;
mod operators;
mod ordering;
mod organization_rows;
mod organizations;
mod outbox;
mod outbox_watermark;
mod partitions;
mod partitions_past;
mod polling;
mod purge;
mod reading;
mod reconcile;
mod record;
mod resting;
mod retention;
mod routing;
mod saved_views;
mod scans;
mod search_terms;
mod silence;
mod slots;
mod special;
mod tail;
mod validation;
mod writers;

use crate::support::sources::{texts, texts_without};

#[test]
fn the_suite_drives_every_method_of_the_store() {
    let (sources, suite) = (texts("src/store"), texts_without("tests/store", "model"));
    let methods: Vec<&str> =
        sources.lines().filter_map(|line| line.strip_prefix("    pub async fn ")?.split(['(', '<']).next()).collect();
    assert!(methods.len() > 50, "the methods are not where they were: {methods:?}");
    let called = |name: &&str| suite.contains(&format!(".{name}(")) || suite.contains(&format!("Store::{name}("));
    let missing: Vec<&str> = methods.into_iter().filter(|name| !called(name)).collect();
    assert!(missing.is_empty(), "no story of tests/store calls {missing:?}");
}
