//! Processes die, without a word and with one.

use crate::world::{Kind, World};

/// Something between the two: where in its work a process is killed is left to chance.
fn some() -> usize {
    rand::random_range(20..80)
}

async fn killed_on_sqlite(cycles: usize) {
    let mut world = World::on(Kind::Sqlite);
    let mut process = world.start("all");
    world.furnish().await;
    let load = world.load();
    for _ in 0..cycles {
        world.progress(some()).await;
        world.kill(process).await;
        process = world.start("all");
    }
    world.progress(20).await;
    load.end().await;
    world.judge("`kill -9` of the process", cycles).await;
}

/// Whoever it is, an API process among them.
async fn killed_on_postgres(cycles: usize) {
    let mut world = World::on(Kind::Postgres);
    ["all", "worker", "worker", "api"].into_iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    let load = world.load();
    for _ in 0..cycles {
        world.progress(some()).await;
        let up = world.up();
        let victim = up[rand::random_range(0..up.len())];
        let role = world.role(victim);
        world.kill(victim).await;
        world.start(role);
    }
    world.progress(20).await;
    load.end().await;
    world.judge("`kill -9` of one of 4 processes", cycles).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_kills_lose_nothing_on_sqlite() {
    killed_on_sqlite(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_kills_lose_nothing_on_postgres() {
    killed_on_postgres(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_five_hundred_kills_lose_nothing_on_sqlite() {
    killed_on_sqlite(500).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_five_hundred_kills_lose_nothing_on_postgres() {
    killed_on_postgres(500).await;
}

async fn told_to_end(kind: Kind, roles: &[&'static str], cycles: usize) {
    let mut world = World::on(kind);
    roles.iter().for_each(|role| _ = world.start(role));
    world.furnish().await;
    let load = world.load();
    for _ in 0..cycles {
        world.progress(some()).await;
        let first = world.up()[0];
        let role = world.role(first);
        // With others there, the next one is up before it goes; SQLite is for one process at a time.
        if kind == Kind::Postgres {
            world.start(role);
        }
        world.terminate(first).await;
        if kind == Kind::Sqlite {
            world.start(role);
        }
    }
    world.progress(20).await;
    load.end().await;
    let toll = world.judge("SIGTERM", cycles).await;
    assert_eq!(toll.duplicates, 0, "what was in flight was finished and recorded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_orderly_end_costs_nothing_on_sqlite() {
    told_to_end(Kind::Sqlite, &["all"], 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_costs_nothing_on_postgres() {
    told_to_end(Kind::Postgres, &["all", "worker", "all"], 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_orderly_ends_cost_nothing_on_sqlite() {
    told_to_end(Kind::Sqlite, &["all"], 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "long: make chaos"]
async fn long_orderly_ends_cost_nothing_on_postgres() {
    told_to_end(Kind::Postgres, &["all", "worker", "all"], 50).await;
}
