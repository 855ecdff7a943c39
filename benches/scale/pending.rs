//! Very many endpoints with one pending delivery each, when the process starts; beside it, as many deliveries at 64 endpoints: the peak.

use std::time::{Duration, Instant};

use super::common::process;
use super::common::receiver::{Receiver, Seen};
use super::fan_out::{arrive, once, rate};
use super::plan::{Case, Plan};
use super::stage::Stage;
use super::support::{Kind, backlog};
use super::table::{Check, Row};

const FEW: usize = 64;
const STALLED: Duration = Duration::from_secs(60);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let (mut peaks, mut rates, mut firsts, mut last) = (Vec::new(), Vec::new(), Vec::new(), None);
    for _ in 0..plan.rounds {
        peaks.push(rate(&drain(plan, store, FEW, plan.endpoints / FEW).await.seen));
        let drained = drain(plan, store, plan.endpoints, 1).await;
        rates.push(rate(&drained.seen));
        firsts.push(drained.first.as_secs_f64());
        last = Some(drained);
    }
    let (peak, rate) = (super::common::median(peaks), super::common::median(rates));
    let last = last.expect("a round at least");
    Row {
        case: Case::Pending.name(),
        store: store.name(),
        size: format!("{} endpoints with one pending each", plan.endpoints),
        checks: vec![
            Check::at_most("start to first attempt", super::common::median(firsts), 2.0, " s"),
            Check::at_least("delivered ÷ peak", rate / peak * 100.0, 70.0, " %"),
            Check::note("delivered", rate, "/s"),
            Check::note("peak", peak, "/s"),
            once(&last.seen, plan.endpoints as u64),
            Check::note("memory", last.memory / 1e6, " MB"),
        ],
    }
}

/// What a process did that started with deliveries pending.
pub struct Drained {
    /// From its start to the first arrival.
    pub first: Duration,
    pub seen: Seen,
    /// The most resident memory, in bytes.
    pub memory: f64,
}

async fn drain(plan: &Plan, store: Kind, endpoints: usize, messages: usize) -> Drained {
    drain_payloads(plan, store, (endpoints, messages), plan.payload).await
}

/// Starts on a store with so many applications of an endpoint each, and so many messages of each pending.
pub async fn drain_payloads(
    plan: &Plan,
    store: Kind,
    (endpoints, messages): (usize, usize),
    payload: usize,
) -> Drained {
    let receiver = Receiver::start(Instant::now()).await;
    let stage = Stage::on(plan, store).await;
    stage.customers(endpoints, 1, receiver.port).await;
    stage.fill(&backlog::pending(stage.is_sqlite(), messages, payload)).await;
    receiver.expect(messages, endpoints);
    let began = Instant::now();
    let server = stage.binary().launch();
    let seen = arrive(&receiver, (endpoints * messages) as u64, STALLED).await;
    let first = seen.first.map_or(STALLED, |first| first.duration_since(began));
    Drained { first, seen, memory: process::peak_resident_bytes(server.pid()).unwrap_or(0.0) }
}
