//! Very many endpoints with one pending delivery each at startup, compared with as many deliveries at 64 endpoints (the
//! peak).

use std::time::{Duration, Instant};

use super::bench_store::BenchStore;
use super::common::process;
use super::common::receiver::{Arrivals, Receiver};
use super::fan_out::{arrive, once, rate};
use super::plan::{Case, Plan};
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

/// The result of a process that started with pending deliveries.
pub struct DrainResult {
    /// From startup to the first arrival.
    pub first: Duration,
    pub seen: Arrivals,
    /// Peak resident memory, in bytes.
    pub memory: f64,
}

async fn drain(plan: &Plan, store: Kind, endpoints: usize, messages: usize) -> DrainResult {
    drain_payloads(plan, store, (endpoints, messages), plan.payload).await
}

/// Starts on a store with `endpoints` applications of one endpoint each, and `messages` pending messages per
/// application.
pub async fn drain_payloads(
    plan: &Plan,
    store: Kind,
    (endpoints, messages): (usize, usize),
    payload: usize,
) -> DrainResult {
    let receiver = Receiver::start(Instant::now()).await;
    let bench = BenchStore::on(plan, store).await;
    bench.customers(endpoints, 1, receiver.port).await;
    bench.fill(&backlog::pending(bench.is_sqlite(), messages, payload)).await;
    receiver.expect(messages, endpoints);
    let began = Instant::now();
    let server = bench.binary().launch();
    let seen = arrive(&receiver, (endpoints * messages) as u64, STALLED).await;
    let first = seen.first.map_or(STALLED, |first| first.duration_since(began));
    DrainResult { first, seen, memory: process::peak_resident_bytes(server.pid()).unwrap_or(0.0) }
}
