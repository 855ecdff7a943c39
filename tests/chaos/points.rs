//! Every crash point is hit: before and after each commit and each POST, the process kills itself, and nothing is lost.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;

use crate::ledger::Toll;
use crate::world::{Kind, World};

/// Where, and at which time of coming there: late enough that there is traffic.
const PLACES: [(&str, u32); 7] =
    [("accept", 15), ("relay", 8), ("record", 15), ("post", 60), ("change", 6), ("lease", 2), ("background", 2)];

async fn every_point(kind: Kind) {
    let mut world = World::on(kind);
    let mut sound = world.start("all");
    world.furnish().await;
    let mut before = Toll::default();
    for (place, nth) in PLACES {
        for when in ["before", "after"] {
            world.terminate(sound).await;
            let armed = world.start_armed("all", &format!("{place}.{when}:{nth}:KILL"));
            let load = world.load();
            let stir = stir(&world, place);
            let ended = tokio::select! {
                ended = world.gone(armed) => ended,
                () = stir => unreachable!("it goes on until the process has ended"),
            };
            assert_eq!(ended.signal(), Some(9), "{place}.{when} was hit");
            sound = world.start("all");
            world.progress(5).await;
            load.end().await;
            let toll = world.rest().await;
            toll.since(&before).enter(&format!("dies at `{place}.{when}`"), kind.name(), 1);
            before = toll;
        }
    }
}

/// Does, over and over, what leads to the less common places.
pub fn stir(world: &World, place: &str) -> impl Future<Output = ()> + use<> {
    let (sender, place) = (world.sender.clone(), place.to_owned());
    async move {
        loop {
            let targets = sender.targets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
            let target = targets.first().cloned().unwrap_or_default();
            let request = match place.as_str() {
                "background" => {
                    // What failed for good is sent again.
                    let path = format!("{target}/api/v1/app/chaos/endpoint/dying/recover");
                    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
                    Some((sender.client.post(path), json!({"since": since.to_string()})))
                }
                "change" => {
                    let path = format!("{target}/api/v1/app/chaos");
                    Some((sender.client.put(path), json!({"name": "Chaos", "uid": "chaos"})))
                }
                _ => None,
            };
            if let Some((request, body)) = request {
                let _ = sender.ask(request, &body).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_crash_point_is_hit_on_sqlite() {
    every_point(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_crash_point_is_hit_on_postgres() {
    every_point(Kind::Postgres).await;
}
