//! Big: one message to ten thousand endpoints, and its process killed in the middle; a million deliveries that wait for a start.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::ledger::{SECRET, WIDE, note};
use crate::support::backlog::backlog;
use crate::support::{SOON, eventually};
use crate::world::{Kind, World};

async fn to_many(kind: Kind, endpoints: usize) {
    let mut world = World::on(kind);
    let mut process = world.start("all");
    world.call("/app/", json!({"name": "Big", "uid": "big"})).await;
    world.call("/event-type/", json!({"name": "big", "description": ""})).await;
    let paths: Vec<String> = (0..endpoints).map(|n| format!("/big/{n}")).collect();
    stream::iter(&paths)
        .for_each_concurrent(8, async |path| {
            let body = json!({"url": world.receiver.url(path), "filterTypes": ["big"], "secret": SECRET});
            world.call("/app/big/endpoint/", body).await;
        })
        .await;
    world.ledger.expect("big", paths);
    let (key, _) = world.sender.next();
    world.sender.send("big", &key, "big").await;
    for fifth in 1..=2 {
        let wanted = endpoints * fifth / 5;
        eventually("some of them have it", SOON * 3, async || (world.ledger.arrived() >= wanted).then_some(())).await;
        world.kill(process).await;
        assert!(world.ledger.arrived() < endpoints, "in the middle");
        process = world.start("all");
    }
    let toll = world.judge(&format!("one message to {endpoints} endpoints, killed in the middle twice"), 2).await;
    assert_eq!(toll.delivered, endpoints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_message_to_many_endpoints_is_complete_after_kills_on_sqlite() {
    to_many(Kind::Sqlite, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_message_to_many_endpoints_is_complete_after_kills_on_postgres() {
    to_many(Kind::Postgres, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_one_message_to_ten_thousand_endpoints_is_complete_after_kills_on_sqlite() {
    to_many(Kind::Sqlite, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_one_message_to_ten_thousand_endpoints_is_complete_after_kills_on_postgres() {
    to_many(Kind::Postgres, 10_000).await;
}

/// From the start of the process.
const FIRST: Duration = Duration::from_secs(2);
/// Of memory, in KiB, at its peak.
const PEAK: u64 = 300 * 1_024;
/// After so many deliveries.
const SEEN: usize = 3_000;

async fn a_backlog(kind: Kind, deliveries: usize) {
    let mut world = World::on(kind);
    let process = world.start("all");
    world.call("/app/", json!({"name": "Chaos", "uid": "chaos"})).await;
    world.furnish_for("chaos", "wide", None).await;
    world.terminate(process).await;
    for sql in backlog(kind == Kind::Sqlite, "chaos", deliveries / WIDE.len()) {
        world.books.execute(&sql).await.expect("the backlog is written");
    }
    let began = Instant::now();
    let process = world.start("all");
    eventually("deliveries arrive", SOON, async || (world.ledger.arrived() > 0).then_some(())).await;
    let first = world.ledger.arrivals("/w/")[0] - began;
    eventually("many arrive", SOON * 3, async || (world.ledger.arrived() >= SEEN).then_some(())).await;
    let peak = peak_memory(world.server(process).pid());
    let waits = world.books.waiting().await.expect("the store answers");
    world.terminate(process).await;
    let left = world.books.waiting().await.expect("the store answers");
    note(&format!(
        "  {} on {}: {waits} of {deliveries} deliveries still waited at {SEEN}; the first arrived {first:.1?} after the start; memory {} MiB at most",
        "a backlog",
        kind.name(),
        peak / 1_024
    ));
    assert!(first < FIRST, "the first arrived after {first:?}");
    assert!(peak < PEAK, "{peak} KiB of memory");
    let arrived = world.ledger.arrived();
    assert_eq!(left as usize + arrived, deliveries / WIDE.len() * WIDE.len(), "each is delivered or waits");
}

/// The most that a process has had in memory, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the system tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_that_wait_slow_no_start_on_sqlite() {
    a_backlog(Kind::Sqlite, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_that_wait_slow_no_start_on_postgres() {
    a_backlog(Kind::Postgres, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_a_million_that_wait_slow_no_start_on_sqlite() {
    a_backlog(Kind::Sqlite, 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_a_million_that_wait_slow_no_start_on_postgres() {
    a_backlog(Kind::Postgres, 1_000_000).await;
}
