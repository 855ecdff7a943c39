//! Ordered endpoints while processes die: what one caller sends, each event after the answer to the one before, arrives in this order.

use std::time::Duration;

use serde_json::json;

use crate::house::{House, Kind, REST};
use crate::load::Load;
use crate::support::eventually;

/// Between two events of the one caller.
const PACE: Duration = Duration::from_millis(8);
const PATHS: [&str; 2] = ["/ordered/well", "/ordered/flaky"];

fn some() -> usize {
    rand::random_range(12..30)
}

async fn ordered(kind: Kind, roles: &[&'static str]) -> House {
    let mut house = House::on(kind);
    roles.iter().for_each(|role| _ = house.start(role));
    house.call("/app/", json!({"name": "Chaos", "uid": "chaos"})).await;
    house.furnish_for("chaos", "ordered", None).await;
    house
}

/// Judges, and looks at the order.
async fn judge(house: &mut House, fault: &str, cycles: usize) {
    house.judge(fault, cycles).await;
    for path in PATHS {
        let order = house.ledger.order(path);
        let turned: Vec<&[usize]> = order.windows(2).filter(|two| two[0] >= two[1]).collect();
        assert!(turned.is_empty(), "{path}: {turned:?} are the wrong way round");
        assert_eq!(order.len(), house.ledger.acknowledged(), "{path}");
    }
}

/// The process that sends to `path`.
async fn owner(house: &mut House, path: &str) -> usize {
    let sql = format!(
        "SELECT CAST(substring(p.name FROM '[0-9]+$') AS bigint) FROM endpoint e
             JOIN slot s ON s.slot = get_byte(uuid_send(e.id), 15) JOIN process p ON p.id = s.owner WHERE e.url LIKE '%{path}'"
    );
    eventually("the endpoint has an owner that is up", REST, async || {
        let pid = *house.books.numbers(&sql).await.first()?;
        house.up().into_iter().find(|process| i64::from(house.server(*process).pid()) == pid)
    })
    .await
}

async fn killed_on_sqlite(cycles: usize) {
    let mut house = ordered(Kind::Sqlite, &["all"]).await;
    let load = Load::tick(&house.sender, "ordered", PACE);
    for _ in 0..cycles {
        house.progress(some()).await;
        let process = house.up()[0];
        house.kill(process).await;
        house.start("all");
    }
    house.progress(20).await;
    load.end().await;
    judge(&mut house, "`kill -9`, ordered endpoints", cycles).await;
}

/// One API process is left alone, so that the caller always has somebody to talk to; the other one is also an owner.
async fn owners_killed_on_postgres(cycles: usize) {
    let mut house = ordered(Kind::Postgres, &["api", "all", "worker", "worker"]).await;
    let load = Load::tick(&house.sender, "ordered", PACE);
    for cycle in 0..cycles {
        house.progress(some()).await;
        let victim = owner(&mut house, PATHS[cycle % 2]).await;
        let role = house.role(victim);
        house.kill(victim).await;
        house.start(role);
    }
    house.progress(20).await;
    load.end().await;
    judge(&mut house, "`kill -9` of an ordered endpoint's owner", cycles).await;
}

async fn owners_told_to_end(cycles: usize) {
    let mut house = ordered(Kind::Postgres, &["api", "all", "worker"]).await;
    let load = Load::tick(&house.sender, "ordered", PACE);
    for cycle in 0..cycles {
        house.progress(some()).await;
        let leaver = owner(&mut house, PATHS[cycle % 2]).await;
        let role = house.role(leaver);
        house.start(role);
        house.terminate(leaver).await;
    }
    house.progress(20).await;
    load.end().await;
    judge(&mut house, "SIGTERM to an ordered endpoint's owner", cycles).await;
    let toll = house.rest().await;
    assert_eq!(toll.duplicates, 0, "what was in flight was finished and recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_kills_change_no_order_on_sqlite() {
    killed_on_sqlite(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_kills_of_the_owner_change_no_order_on_postgres() {
    owners_killed_on_postgres(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_changes_no_order_on_postgres() {
    owners_told_to_end(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_hundred_kills_change_no_order_on_sqlite() {
    killed_on_sqlite(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_hundred_kills_of_the_owner_change_no_order_on_postgres() {
    owners_killed_on_postgres(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_rolling_restarts_change_no_order_on_postgres() {
    owners_told_to_end(50).await;
}
