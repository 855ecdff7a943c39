//! Many attempts at all of them: nothing grows with their number.

use std::time::{Duration, Instant};

use crate::behaviours::{Behaviour, KEPT, Wait, Wanted, table};
use crate::receiver::Step::{Deaf, Endless, ReadSome, Say};
use crate::receiver::{Door, Receiver};
use crate::support::eventually;
use crate::trap;
use crate::world::{Belongings, World};

/// By so much resident memory may grow, in KiB.
const GROWTH: usize = 50 * 1024;
/// How long a round may take. Only a failing run waits it out.
const ROUND: Duration = Duration::from_secs(180);

/// Receivers that would end a run: the endpoint is disabled, or its lane rests for a minute.
fn lasting(row: &Behaviour) -> bool {
    row.wanted != Wanted::Says(410) && row.wait == Wait::Schedule
}

/// Large payloads, and floods, take the machine to its bounds before Sendoff.
fn costly(row: &Behaviour) -> bool {
    row.large || row.steps.iter().any(|step| matches!(step, Endless(_)))
}

/// `endpoints` for each behaviour (two for the costly ones), and rounds of one message to each until `attempts` are recorded after a warm-up of `warm_up`. So many
/// endpoints, because an endpoint that fails 16 times in a row is only probed from then on.
async fn flood(endpoints: usize, warm_up: i64, attempts: i64) {
    let trap = trap();
    let rows: Vec<Behaviour> = table(&trap.url("/")).into_iter().filter(lasting).collect();
    let settings = [
        ("SENDOFF_REQUEST_TIMEOUT", "1s"),
        ("SENDOFF_MAX_IN_FLIGHT", "4096"),
        ("SENDOFF_ENDPOINT_MAX_IN_FLIGHT", "16"),
    ];
    let mut world = World::start(&settings).await;
    let mut receivers = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let receiver = Receiver::start(row.door, row.steps.clone());
        for copy in 0..if costly(row) { 2 } else { endpoints } {
            world.endpoint(&format!("r{number}-{copy}"), &receiver.url(&format!("/{copy}")), row.large, &[]).await;
        }
        receivers.push(receiver);
    }
    let before = world.belongings();
    let began = Instant::now();
    rounds(&world, warm_up).await;
    let warm = settled(&mut world, before).await;
    rounds(&world, warm_up + attempts).await;
    let end = settled(&mut world, before).await;
    let (made, waiting, longest) = world.counts().await;
    let (grown, failures) = (end.memory.saturating_sub(warm.memory), world.failures().await);
    println!(
        "{made} attempts at {} behaviours within {:?}: resident memory {} MiB at the start, {} after the warm-up, {} at the end",
        rows.len(),
        began.elapsed(),
        before.memory / 1024,
        warm.memory / 1024,
        end.memory / 1024
    );
    println!("{failures:?}; descriptors {} before, {} after", before.descriptors, end.descriptors);
    assert!(grown < GROWTH, "memory has grown by {} MiB in {attempts} attempts", grown / 1024);
    assert_eq!(waiting, 0, "deliveries that have come to no end");
    assert!(longest <= KEPT as i64, "{longest} bytes of a body are kept");
    assert_eq!(trap.connections(), 0, "a redirect was followed");
}

/// Rounds until so many attempts are recorded, every fourth with a large payload.
async fn rounds(world: &World, attempts: i64) {
    for round in 0.. {
        if world.counts().await.0 >= attempts {
            return;
        }
        world.send(false).await;
        if round % 4 == 0 {
            world.send(true).await;
        }
        eventually("the round is over", ROUND, async || (world.counts().await.1 == 0).then_some(())).await;
    }
}

async fn settled(world: &mut World, before: Belongings) -> Belongings {
    world.comes_to_rest(before).await;
    world.belongings()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_attempts() {
    flood(4, 300, 1_200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make chaos"]
async fn long_memory_does_not_grow_over_ten_thousand_attempts() {
    flood(12, 2_000, 10_000).await;
}

/// A receiver that answers and then reads no more of what it is sent would keep a connection, with all that is still to be written, for as
/// long as it likes; and such an attempt is a delivery, which no breaker slows down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_stop_reading_keep_no_connection() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut world = World::start(&[("SENDOFF_REQUEST_TIMEOUT", "1s")]).await;
    let before = world.belongings();
    let steps = |answer: &[u8]| vec![ReadSome(1_000), Say(answer.to_vec()), Deaf];
    let doors = [("plain", Door::Narrow), ("tls", Door::Tls("good"))];
    let mut receivers = Vec::new();
    for (name, door) in doors {
        for (manner, answer) in [("answers", OK), ("silent", b"")] {
            let receiver = Receiver::start(door, steps(answer));
            world.endpoint(&format!("{name}-{manner}"), &receiver.url("/"), true, &[]).await;
            receivers.push(receiver);
        }
    }
    for _ in 0..8 {
        world.send(true).await;
    }
    eventually("all have come to an end", ROUND, async || (world.counts().await.1 == 0).then_some(())).await;
    // Long before the receivers let go by themselves.
    world.comes_to_rest(before).await;
}
