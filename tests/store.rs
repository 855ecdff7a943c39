//! The conformance suite of the store: every method, driven by the same test code on SQLite and on PostgreSQL. What
//! one of them does differently fails here.
//!
//! One file per story under `store/`; `store/home.rs` is what they stand on: a [`home::Home`] is a fresh database on
//! either engine, and `on_both!` makes of one story a test for each.

mod support;

#[macro_use]
#[path = "store/home.rs"]
mod home;

#[path = "store/accept.rs"]
mod accept;
#[path = "store/notify.rs"]
mod notify;
#[path = "store/api_keys.rs"]
mod api_keys;
#[path = "store/applications.rs"]
mod applications;
#[path = "store/audit.rs"]
mod audit;
#[path = "store/autoconfig.rs"]
mod autoconfig;
#[path = "store/away.rs"]
mod away;
#[path = "store/background.rs"]
mod background;
#[path = "store/background_wide.rs"]
mod background_wide;
#[path = "store/backlog.rs"]
mod backlog;
#[path = "store/bounds.rs"]
mod bounds;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/conflicts.rs"]
mod conflicts;
#[path = "store/contents.rs"]
mod contents;
#[path = "store/counts.rs"]
mod counts;
#[path = "store/deliveries.rs"]
mod deliveries;
#[path = "store/endpoint_lines.rs"]
mod endpoint_lines;
#[path = "store/endpoint_messages.rs"]
mod endpoint_messages;
#[path = "store/endpoints.rs"]
mod endpoints;
#[path = "store/estimate.rs"]
mod estimate;
#[path = "store/event_types.rs"]
mod event_types;
#[path = "store/failing.rs"]
mod failing;
#[path = "store/fan_out.rs"]
mod fan_out;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/feed.rs"]
mod feed;
#[path = "store/keys.rs"]
mod keys;
#[path = "store/lane_floor.rs"]
mod lane_floor;
#[path = "store/leases.rs"]
mod leases;
#[path = "store/listed.rs"]
mod listed;
#[path = "store/lists.rs"]
mod lists;
#[path = "store/mail.rs"]
mod mail;
#[path = "store/migrating.rs"]
mod migrating;
#[path = "store/once.rs"]
mod once;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/operational.rs"]
mod operational;
#[path = "store/operators.rs"]
mod operators;
#[path = "store/ordering.rs"]
mod ordering;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/outbox_watermark.rs"]
mod outbox_watermark;
#[path = "store/polling.rs"]
mod polling;
#[path = "store/reading.rs"]
mod reading;
#[path = "store/reconcile.rs"]
mod reconcile;
#[path = "store/record.rs"]
mod record;
#[path = "store/resting.rs"]
mod resting;
#[path = "store/retention.rs"]
mod retention;
#[path = "store/routing.rs"]
mod routing;
#[path = "store/scans.rs"]
mod scans;
#[path = "store/slots.rs"]
mod slots;
#[path = "store/special.rs"]
mod special;
#[path = "store/tail.rs"]
mod tail;
#[path = "store/writers.rs"]
mod writers;

use support::sources::texts;

#[test]
fn the_suite_drives_every_method_of_the_store() {
    let (sources, suite) = (texts("src/store"), texts("tests/store"));
    let methods: Vec<&str> =
        sources.lines().filter_map(|line| line.strip_prefix("    pub async fn ")?.split(['(', '<']).next()).collect();
    assert!(methods.len() > 50, "the methods are not where they were: {methods:?}");
    let called = |name: &&str| suite.contains(&format!(".{name}(")) || suite.contains(&format!("Store::{name}("));
    let missing: Vec<&str> = methods.into_iter().filter(|name| !called(name)).collect();
    assert!(missing.is_empty(), "no story of tests/store calls {missing:?}");
}
