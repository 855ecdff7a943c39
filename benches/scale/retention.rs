//! Retention at full load: it must remove faster than deliveries arrive, without affecting others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::background_load::{BackgroundLoad, BackgroundResult};
use super::bench_store::{BenchStore, rest, start};
use super::common::client::Destination;
use super::common::closed_loop;
use super::common::receiver::Receiver;
use super::past_messages::PastMessages;
use super::plan::{Case, Plan};
use super::support::{Kind, Server};
use super::table::{Check, Row};

/// Deliveries that may wait: enough that the sender never runs out of work.
const WAITING: u64 = 20_000;
/// Interval between checks of what is removed.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const DAY: Duration = Duration::from_secs(86_400);

pub async fn measure(plan: &Plan, store: Kind) -> Vec<Row> {
    let mut rows = Vec::new();
    for fan_out in [1, 1_000] {
        rows.push(at(plan, store, fan_out).await);
    }
    rows
}

async fn at(plan: &Plan, store: Kind, fan_out: usize) -> Row {
    let receiver = Arc::new(Receiver::start(Instant::now()).await);
    let bench = BenchStore::on(plan, store).await;
    bench.customers(1, fan_out, receiver.port).await;
    let messages = plan.expired.div_ceil(fan_out);
    let past =
        PastMessages { of: "a.uid = 'app-0'", messages, oldest: DAY * 30, youngest: DAY * 2, some_failed: false };
    bench.fill(&past.statements(bench.is_sqlite())).await;

    let server = serve(&bench, "3650d");
    let mut others = BackgroundLoad::start(plan, &rest(&server)).await;
    let run = Run { plan, fan_out, receiver, bench: &bench, past: &past };
    // Two equal loads, each from startup: one keeps everything, and one removes what is older than a day.
    let mut loads = Vec::new();
    let mut last = server;
    for retention in ["3650d", "1d"] {
        // A clean stop returns its slots; after a kill, nothing would be sent until the leases end.
        last.terminate();
        last.wait(Duration::from_secs(60));
        let server = serve(&bench, retention);
        let api = rest(&server);
        others.move_to(&api);
        let destination =
            Destination { authority: api.authority, token: api.token, applications: vec!["app-0".into()] };
        loads.push(run.load(destination, &others).await);
        last = server;
    }
    let [kept, removing] = loads.try_into().unwrap_or_else(|_| unreachable!("two loads"));

    Row {
        case: Case::Retention.name(),
        store: store.name(),
        size: format!("{} deliveries at fan-out {fan_out}", messages * fan_out),
        checks: vec![
            Check::at_least("removed ÷ delivered", removing.removed / removing.delivered, 2.0, " ×"),
            Check::at_most("others' p99 ÷ without", removing.others.p99_ms / kept.others.p99_ms, 1.5, " ×"),
            Check::at_most("others lost", removing.others.lost as f64, 0.0, ""),
            Check::note("removed", removing.removed, "/s"),
            Check::note("delivered", removing.delivered, "/s"),
            Check::note("delivered without", kept.delivered, "/s"),
            Check::note("others' p99", removing.others.p99_ms, " ms"),
            Check::note("others' longest accept", removing.others.longest_ms, " ms"),
        ],
    }
}

/// Starts a process with this retention.
fn serve(bench: &BenchStore, retention: &str) -> Server {
    start(bench.binary().set("SENDOFF_RETENTION", retention)).0
}

struct Run<'a> {
    plan: &'a Plan,
    fan_out: usize,
    receiver: Arc<Receiver>,
    bench: &'a BenchStore,
    past: &'a PastMessages<'a>,
}

struct LoadSummary {
    /// Deliveries per second.
    delivered: f64,
    /// Removed deliveries per second, until none are left.
    removed: f64,
    others: BackgroundResult,
}

impl Run<'_> {
    async fn load(&self, destination: Destination, others: &BackgroundLoad) -> LoadSummary {
        let destination = Arc::new(destination);
        let running = Arc::new(AtomicBool::new(true));
        // A message to many endpoints keeps many connections busy.
        let connections = (self.plan.connections / self.fan_out).max(4);
        let (receiver, fan_out, before) = (Arc::clone(&self.receiver), self.fan_out as u64, self.receiver.count());
        let gate = Arc::new(move |accepted: u64| accepted * fan_out < receiver.count() - before + WAITING);
        let began = self.receiver.began();
        let full = closed_loop::run_gated(&destination, connections, self.plan.payload, began, &running, gate);
        let watched = async {
            let (count, began) = (self.receiver.count(), Instant::now());
            let (mut gone, mut took) = (0, Duration::ZERO);
            while began.elapsed() < self.plan.span() {
                tokio::time::sleep(POLL_INTERVAL).await;
                if gone < self.past.messages {
                    (gone, took) = (self.past.removed(self.bench).await, began.elapsed());
                }
            }
            let delivered = (self.receiver.count() - count) as f64 / began.elapsed().as_secs_f64();
            running.store(false, Ordering::Relaxed);
            (delivered, (gone * self.fan_out) as f64 / took.as_secs_f64())
        };
        let (_, (delivered, removed), others) = tokio::join!(full, watched, others.run_while(Arc::clone(&running)));
        // Drains before the next load.
        while self.bench.number("SELECT count(*) FROM due").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        LoadSummary { delivered, removed, others }
    }
}
