//! Hostile receivers: the real binary sends to receivers that hang, lie, flood and break off, all at once, and says of each what was the
//! matter, in time, and without anything staying behind.
//!
//! * A **behaviour** – a row of the table in [`behaviours`]: what a receiver does, and what has to be recorded.
//! * A **receiver** – plain sockets that follow the behaviour's steps.
//! * The **world** – the binary on SQLite, asked over REST.
//!
//! `make chaos` runs the long one as well: `cargo test --test hostile -- --include-ignored`. Everything is on loopback.

#[path = "../support/mod.rs"]
mod support;

mod behaviours;
mod client_table;
mod clients;
mod flood;
mod receiver;
mod reuse;
mod world;

use std::time::Duration;

use serde_json::Value;

use behaviours::{Behaviour, KEPT, Until, Wait, Wanted, table};
use receiver::{Door, Receiver, Step};
use support::eventually;
use world::{Entry, World};

/// The endpoints' deadline in the table: long enough that what ends by itself does so before it, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(2);
/// So much later a busy machine may notice.
const LATE: Duration = Duration::from_millis(1_500);
/// The schedule of the table's endpoints: one wait.
const SCHEDULE: Duration = Duration::from_secs(1);
/// How long the table may take. Only a failing run waits it out.
const ALL: Duration = Duration::from_secs(60);

/// Nobody may come here.
fn trap() -> Receiver {
    Receiver::start(Door::Plain, vec![Step::Close])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behaviors_of_receivers_are_recorded_as_in_the_table() {
    let trap = trap();
    let table = table(&trap.url("/"));
    assert!(table.len() >= 40);
    let mut world = World::start(&[("SENDOFF_REQUEST_TIMEOUT", "2s")]).await;
    let mut receivers = Vec::new();
    for (number, row) in table.iter().enumerate() {
        let receiver = Receiver::start(row.door, row.steps.clone());
        world.endpoint(&format!("r{number}"), &receiver.url("/"), row.large, &[1]).await;
        receivers.push(receiver);
    }
    let before = world.belongings();
    let messages = [world.send(false).await, world.send(true).await];
    let asked = table.iter().filter(|row| row.wait != Wait::Schedule).count() as i64;
    // Each has been tried once, and only those wait that were asked to.
    eventually("every delivery has come to its end", ALL, async || {
        let (attempts, waiting, _) = world.counts().await;
        (attempts >= table.len() as i64 && waiting == asked).then_some(())
    })
    .await;

    let (entries, mut wrong) = (world.entries().await, Vec::new());
    for (number, row) in table.iter().enumerate() {
        let uid = format!("r{number}");
        let told = world.attempts(&uid).await;
        let stored: Vec<&Entry> = entries.iter().filter(|entry| entry.uid == uid).collect();
        if told.len() != tries(row) && !matches!(row.wanted, Wanted::Crossed(..)) {
            wrong.push(format!("{}: {} attempts", row.name, told.len()));
        }
        let faults = told
            .iter()
            .flat_map(|attempt| faults(row, attempt))
            .chain(stored.iter().flat_map(|entry| misfits(row, entry)));
        wrong.extend(faults.map(|fault| format!("{}: {fault}", row.name)));
    }
    for message in &messages {
        for (uid, standing) in world.deliveries(message).await {
            let row = &table[uid[1..].parse::<usize>().expect("a number")];
            if !standings(row).contains(&&*standing) {
                wrong.push(format!("{}: its delivery is {standing}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    assert_eq!(trap.connections(), 0, "a redirect was followed");
    world.comes_to_rest(before).await;
    println!("{} behaviours, {} attempts: as the table says", table.len(), entries.len());
}

/// How many attempts a delivery comes to while we look.
fn tries(row: &Behaviour) -> usize {
    let once = matches!(row.wanted, Wanted::Took(_) | Wanted::Says(410) | Wanted::Crossed(..));
    if once || row.wait != Wait::Schedule { 1 } else { 2 }
}

/// How its delivery may stand in the end.
fn standings(row: &Behaviour) -> &'static [&'static str] {
    match (row.wanted, row.wait) {
        (Wanted::Took(_), _) => &["success"],
        (Wanted::Crossed(..), _) => &["success", "pending", "sending", "fail"],
        (_, Wait::Schedule) => &["fail"],
        (_, Wait::Asked(_)) => &["sending"],
    }
}

/// What is wrong with an attempt as it is told over REST.
fn faults(row: &Behaviour, attempt: &Value) -> Vec<String> {
    let status = attempt["responseStatusCode"].as_u64().unwrap_or(u64::MAX);
    let failure = attempt["failure"].as_str();
    let lasted = Duration::from_millis(attempt["responseDurationMs"].as_u64().unwrap_or(u64::MAX));
    let took = |wanted: u16| failure.is_none() && status == u64::from(wanted);
    let failed = |kind: &str| failure == Some(kind) && status == 0;
    let right = match row.wanted {
        Wanted::Took(wanted) => took(wanted),
        Wanted::Says(wanted) => failure == Some("status") && status == u64::from(wanted),
        Wanted::Fails(kind, _) => failed(kind),
        Wanted::Crossed(wanted, kind, _) => took(wanted) || failed(kind),
    };
    let mut faults = Vec::new();
    if !right {
        faults.push(format!("{:?} wanted, told is {failure:?}, {status}", row.wanted));
    }
    let in_time = match row.until {
        Until::Itself => lasted < DEADLINE,
        Until::Deadline => (DEADLINE..DEADLINE + LATE).contains(&lasted),
    };
    if !in_time {
        faults.push(format!("lasted {lasted:?}, which is not until {:?}", row.until));
    }
    if attempt["response"].as_str().is_none_or(|response| response.chars().count() > KEPT) {
        faults.push("more of the body is told than is kept".to_owned());
    }
    faults.extend(impatience(row, attempt, lasted));
    faults
}

/// What is wrong with the time of the next attempt.
fn impatience(row: &Behaviour, attempt: &Value, lasted: Duration) -> Option<String> {
    let at = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok();
    let Some(next) = at(&attempt["nextAttempt"]) else {
        let last = tries(row) == 1 && row.wait == Wait::Schedule || attempt["number"] == 2;
        return (!last).then(|| "there is no next attempt".to_owned());
    };
    let ended = at(&attempt["timestamp"])? + lasted;
    let wait = Duration::try_from(next.duration_since(ended)).unwrap_or_default();
    let (least, most) = match row.wait {
        Wait::Schedule => (SCHEDULE.mul_f64(0.79), SCHEDULE.mul_f64(1.2) + LATE),
        Wait::Asked(span) => (span - Duration::from_millis(10), span + LATE),
    };
    (!(least..=most).contains(&wait)).then(|| format!("waits for {wait:?}, which is not {least:?} to {most:?}"))
}

/// What is wrong with an attempt as it is stored.
fn misfits(row: &Behaviour, entry: &Entry) -> Vec<String> {
    let mut misfits = Vec::new();
    let told = match row.wanted {
        Wanted::Took(_) => entry.detail.is_empty(),
        Wanted::Says(status) => {
            let redirect = (300..400).contains(&status);
            entry.detail.contains(&status.to_string())
                && redirect == entry.detail.contains("redirects are not followed")
        }
        Wanted::Fails(_, word) => entry.detail.contains(word),
        Wanted::Crossed(_, _, word) => entry.detail.is_empty() || entry.detail.contains(word),
    };
    if !told {
        misfits.push(format!("{:?} wanted, the sentence is {:?}", row.wanted, entry.detail));
    }
    if entry.body.len() > KEPT {
        misfits.push(format!("{} bytes of the body are kept", entry.body.len()));
    }
    if row.name.contains("bomb") && !(entry.body.len() == KEPT && entry.body.starts_with(&[0x1f, 0x8b])) {
        misfits.push("the bomb is not kept as it came".to_owned());
    }
    misfits
}
