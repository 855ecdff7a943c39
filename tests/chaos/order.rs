//! Ordered endpoints while processes die: what one caller sends, each event after the answer to the one before, arrives in this order.

use std::time::Duration;

use serde_json::json;

use crate::load::Load;
use crate::support::eventually;
use crate::world::{Kind, REST, World};

/// Between two events of the one caller.
const PACE: Duration = Duration::from_millis(8);
const PATHS: [&str; 2] = ["/ordered/well", "/ordered/flaky"];

fn some() -> usize {
    rand::random_range(12..30)
}

async fn ordered(kind: Kind, roles: &[&'static str]) -> World {
    let mut world = World::on(kind);
    roles.iter().for_each(|role| _ = world.start(role));
    world.call("/app/", json!({"name": "Chaos", "uid": "chaos"})).await;
    world.furnish_for("chaos", "ordered", None).await;
    world
}

/// Judges, and looks at the order.
async fn judge(world: &mut World, fault: &str, cycles: usize) {
    world.judge(fault, cycles).await;
    for path in PATHS {
        let order = world.ledger.order(path);
        let turned: Vec<&[usize]> = order.windows(2).filter(|two| two[0] >= two[1]).collect();
        assert!(turned.is_empty(), "{path}: {turned:?} are the wrong way round");
        assert_eq!(order.len(), world.ledger.acknowledged(), "{path}");
    }
}

/// The process that sends to `path`.
async fn owner(world: &mut World, path: &str) -> usize {
    let sql = format!(
        "SELECT CAST(substring(p.name FROM '[0-9]+$') AS bigint) FROM endpoint e
             JOIN slot s ON s.slot = get_byte(uuid_send(e.id), 15) JOIN process p ON p.id = s.owner WHERE e.url LIKE '%{path}'"
    );
    eventually("the endpoint has an owner that is up", REST, async || {
        let pid = *world.books.numbers(&sql).await.first()?;
        world.up().into_iter().find(|process| i64::from(world.server(*process).pid()) == pid)
    })
    .await
}

async fn killed_on_sqlite(cycles: usize) {
    let mut world = ordered(Kind::Sqlite, &["all"]).await;
    let load = Load::tick(&world.sender, "ordered", PACE);
    for _ in 0..cycles {
        world.progress(some()).await;
        let process = world.up()[0];
        world.kill(process).await;
        world.start("all");
    }
    world.progress(20).await;
    load.end().await;
    judge(&mut world, "`kill -9`, ordered endpoints", cycles).await;
}

/// One API process is left alone, so that the caller always has somebody to talk to; the other one is also an owner.
async fn owners_killed_on_postgres(cycles: usize) {
    let mut world = ordered(Kind::Postgres, &["api", "all", "worker", "worker"]).await;
    let load = Load::tick(&world.sender, "ordered", PACE);
    for cycle in 0..cycles {
        world.progress(some()).await;
        let victim = owner(&mut world, PATHS[cycle % 2]).await;
        let role = world.role(victim);
        world.kill(victim).await;
        world.start(role);
    }
    world.progress(20).await;
    load.end().await;
    judge(&mut world, "`kill -9` of an ordered endpoint's owner", cycles).await;
}

async fn owners_told_to_end(cycles: usize) {
    let mut world = ordered(Kind::Postgres, &["api", "all", "worker"]).await;
    let load = Load::tick(&world.sender, "ordered", PACE);
    for cycle in 0..cycles {
        world.progress(some()).await;
        let leaver = owner(&mut world, PATHS[cycle % 2]).await;
        let role = world.role(leaver);
        world.start(role);
        world.terminate(leaver).await;
    }
    world.progress(20).await;
    load.end().await;
    judge(&mut world, "SIGTERM to an ordered endpoint's owner", cycles).await;
    let toll = world.rest().await;
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
