//! Connections that are used again: what a receiver says without having been asked is never the answer to another request.

use std::time::Duration;

use crate::house::House;
use crate::receiver::Step::{Hush, Pause, Read, Say};
use crate::receiver::{Door, Receiver, Step};
use crate::support::{SOON, eventually};

/// Messages to each receiver.
const MESSAGES: i64 = 60;

fn response(status: u16, size: usize) -> Vec<u8> {
    let body = "x".repeat(size);
    format!("HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n\r\n{body}").into_bytes()
}

/// Answers with a status, and says unasked that of another.
fn poisoned(status: u16, size: usize, pause: Option<Duration>) -> Vec<Step> {
    let (answer, poison) = (response(status, size), response(if status == 200 { 500 } else { 200 }, 0));
    match pause {
        None => vec![Read, Say([answer, poison].concat())],
        Some(pause) => vec![Read, Say(answer), Pause(pause), Say(poison)],
    }
}

/// The poison of a 500 is a 200, which would make a delivery of what was refused: messages that nobody has, and nobody sends again.
/// Small answers and such as fill the client's buffers, the poison in one piece with them or in one of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_asked_for_is_nobodys() {
    let mut house = House::start(&[]).await;
    let before = house.belongings();
    let mut receivers = Vec::new();
    for status in [500_u16, 200] {
        for size in [0, 2, 8_000, 16_384, 20_000] {
            for pause in [None, Some(Duration::ZERO)] {
                let uid = format!("{status}-{size}-{}", if pause.is_some() { "apart" } else { "together" });
                let receiver = Receiver::start(Door::Plain, poisoned(status, size, pause));
                house.endpoint(&uid, &receiver.url("/"), false, &[]).await;
                receivers.push((uid, status, receiver));
            }
        }
    }
    for _ in 0..MESSAGES {
        house.send(false).await;
    }
    let all = MESSAGES * receivers.len() as i64;
    eventually("every attempt is recorded", SOON, async || (house.counts().await.0 >= all).then_some(())).await;
    for (uid, status, receiver) in &receivers {
        let attempts = house.attempts(uid).await;
        // Two pieces may overtake each other's request by a hair: what is on its way already, nobody can tell from an answer.
        let other = attempts.iter().filter(|attempt| attempt["responseStatusCode"] != *status).count();
        assert_eq!(other, 0, "{uid}: {other} of {} have what was said unasked", attempts.len());
        assert_eq!(receiver.requests() as i64, MESSAGES, "{uid}: each was sent once");
    }
    house.comes_to_rest(before).await;
}

/// The poison comes while the connection is idle, and the next message only afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_on_which_something_is_said_is_used_no_more() {
    let house = House::start(&[]).await;
    let pause = Duration::from_millis(100);
    let steps = vec![Read, Say(response(500, 0)), Pause(pause), Say(response(200, 0)), Hush];
    let poisoned = Receiver::start(Door::Plain, steps);
    let clean = Receiver::start(Door::Plain, vec![Read, Say(response(500, 0))]);
    house.endpoint("poisoned", &poisoned.url("/"), false, &[]).await;
    house.endpoint("clean", &clean.url("/"), false, &[]).await;
    for count in 1..=10 {
        house.send(false).await;
        eventually("both are recorded", SOON, async || (house.counts().await.0 >= 2 * count).then_some(())).await;
        tokio::time::sleep(3 * pause).await;
    }
    let attempts = house.attempts("poisoned").await;
    assert!(attempts.iter().all(|attempt| attempt["responseStatusCode"] == 500), "{attempts:?}");
    assert_eq!((poisoned.connections(), clean.connections()), (10, 1), "the one is thrown away, the other used again");
}
