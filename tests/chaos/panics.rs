//! Every long-running task panics once. One that keeps state takes the process down, and others (or the next start) go on; the others are
//! started again. Nothing that was accepted is lost.

use crate::ledger::Toll;
use crate::points::stir;
use crate::support::eventually;
use crate::world::{Kind, REST, World};

/// What a process exits with that lost an essential task.
const LOST: i32 = 70;
/// Those tasks, and at which step they panic: late enough that there is traffic.
const ESSENTIAL: [(&str, u32); 4] = [("event_loop", 150), ("recorder", 15), ("lease_keeper", 2), ("writer", 40)];
/// Those that are started again, and what the event loop spawns; the last two only where processes share a store.
const RESTARTING: [(&str, u32); 9] = [
    ("relay", 20),
    ("maintenance", 2),
    ("background", 2),
    ("send", 30),
    ("read", 3),
    ("scan", 2),
    ("load", 2),
    ("listener", 3),
    ("announcer", 3),
];

async fn essential(kind: Kind) {
    let mut world = World::on(kind);
    let mut sound = world.start("all");
    world.furnish().await;
    let mut before = Toll::default();
    for (name, nth) in ESSENTIAL {
        if kind == Kind::Sqlite {
            world.terminate(sound).await;
        }
        let failing = world.start_panicking("all", &format!("{name}:{nth}"));
        let load = world.load();
        let what = format!("{name} panics and the process ends");
        let ended = eventually(&what, REST, async || world.server(failing).exited()).await;
        assert_eq!(ended.code(), Some(LOST), "{name}: {}", world.server(failing).output());
        let output = world.server(failing).output();
        let said: Vec<&str> = output.lines().filter(|line| line.starts_with("sendoff: ")).collect();
        assert!(matches!(said[..], [line] if line.contains(name)), "{said:?}");
        world.gone(failing).await;
        if kind == Kind::Sqlite {
            sound = world.start("all");
        }
        world.progress(20).await;
        load.end().await;
        let toll = world.rest().await;
        toll.since(&before).enter(&format!("`{name}` panics: the process exits"), kind.name(), 1);
        before = toll;
    }
}

async fn restarting(kind: Kind) {
    let mut world = World::on(kind);
    let sound = world.start("all");
    world.furnish().await;
    world.terminate(sound).await;
    let mut before = Toll::default();
    for (name, nth) in RESTARTING {
        if kind == Kind::Sqlite && matches!(name, "listener" | "announcer") {
            continue;
        }
        // A process that only serves the API announces all that it accepts, and one that only sends hears of it.
        let (role, other) = match name {
            "listener" => ("worker", Some("api")),
            "announcer" => ("api", Some("worker")),
            _ => ("all", None),
        };
        let failing = world.start_panicking(role, &format!("{name}:{nth}"));
        let other = other.map(|role| world.start(role));
        let load = world.load();
        let url = world.server(failing).url();
        let client = world.sender.client.clone();
        let counted = format!("sendoff_task_failures_total{{task=\"{name}\"}} 1");
        let metrics = async || client.get(format!("{url}/metrics")).send().await.ok()?.text().await.ok();
        let what = format!("{name} panics");
        let panicked =
            eventually(&what, REST, async || metrics().await.filter(|text| text.contains(&counted)).map(drop));
        tokio::select! {
            () = panicked => {}
            // A changed application has its endpoints loaded again.
            () = stir(&world, if name == "load" { "change" } else { name }) => unreachable!("it goes on until the task has panicked"),
        }
        world.progress(20).await;
        load.end().await;
        let toll = world.rest().await;
        toll.since(&before).enter(&format!("`{name}` panics: it is started again"), kind.name(), 1);
        assert_eq!(toll.duplicates, 0, "{name}");
        before = toll;
        let text = metrics().await.expect("the process goes on");
        let panics = text.lines().any(|line| line == "sendoff_attempts_not_made_total{reason=\"panic\"} 1");
        assert_eq!(panics, name == "send", "an attempt that panicked is none");
        assert_eq!(world.server(failing).get_status("/readyz"), Some(200), "{name}");
        world.terminate(failing).await;
        if let Some(other) = other {
            world.terminate(other).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_task_ends_the_process_and_loses_nothing_on_sqlite() {
    essential(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_task_ends_the_process_and_another_takes_over_on_postgres() {
    essential(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_without_state_is_started_again_on_sqlite() {
    restarting(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_without_state_is_started_again_on_postgres() {
    restarting(Kind::Postgres).await;
}
