//! Connections that are used again: what a receiver says without having been asked is never the answer to another request.

use std::time::Duration;

use crate::receiver::Step::{Hush, Pause, Read, Say};
use crate::receiver::{Door, Receiver};
use crate::support::{SOON, eventually};
use crate::world::World;

/// Messages to each receiver.
const MESSAGES: i64 = 60;

fn response(status: u16, size: usize) -> Vec<u8> {
    let body = "x".repeat(size);
    format!("HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n\r\n{body}").into_bytes()
}

/// Small answers and such as fill the client's buffers, with what was not asked for in one piece with them: when the next request goes
/// out, it has arrived. (Of what arrives later nobody can tell whether the request was there first.) What comes after a 500 is a 200, which
/// would make a delivery of what was refused: a message that nobody has, and nobody sends again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let mut world = World::start(&[]).await;
    let before = world.belongings();
    let mut receivers = Vec::new();
    for status in [500_u16, 200] {
        for size in [0, 2, 8_000, 16_384, 20_000] {
            let uid = format!("{status}-{size}");
            let poison = response(if status == 200 { 500 } else { 200 }, 0);
            let steps = vec![Read, Say([response(status, size), poison].concat())];
            let receiver = Receiver::start(Door::Plain, steps);
            world.endpoint(&uid, &receiver.url("/"), false, &[]).await;
            receivers.push((uid, status, receiver));
        }
    }
    for _ in 0..MESSAGES {
        world.send(false).await;
    }
    let all = MESSAGES * receivers.len() as i64;
    eventually("every attempt is recorded", 3 * SOON, async || (world.counts().await.0 >= all).then_some(())).await;
    for (uid, status, receiver) in &receivers {
        let attempts = world.attempts(uid).await;
        let other = attempts.iter().filter(|attempt| attempt["responseStatusCode"] != *status).count();
        assert_eq!(other, 0, "{uid}: {other} of {} have what was said unasked", attempts.len());
        assert_eq!(receiver.requests() as i64, MESSAGES, "{uid}: each was sent once");
    }
    world.comes_to_rest(before).await;
}

/// The poison comes while the connection is idle, and the next message only afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_on_which_something_is_said_is_used_no_more() {
    let world = World::start(&[]).await;
    let pause = Duration::from_millis(100);
    let steps = vec![Read, Say(response(500, 0)), Pause(pause), Say(response(200, 0)), Hush];
    let poisoned = Receiver::start(Door::Plain, steps);
    let clean = Receiver::start(Door::Plain, vec![Read, Say(response(500, 0))]);
    world.endpoint("poisoned", &poisoned.url("/"), false, &[]).await;
    world.endpoint("clean", &clean.url("/"), false, &[]).await;
    for count in 1..=10 {
        world.send(false).await;
        eventually("both are recorded", SOON, async || (world.counts().await.0 >= 2 * count).then_some(())).await;
        tokio::time::sleep(3 * pause).await;
    }
    let attempts = world.attempts("poisoned").await;
    assert!(attempts.iter().all(|attempt| attempt["responseStatusCode"] == 500), "{attempts:?}");
    assert_eq!(poisoned.connections(), 10, "each is thrown away");
    assert!(clean.connections() < 10, "used again");
}
