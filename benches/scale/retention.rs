//! Retention at full load: it has to remove faster than deliveries come, and others must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::common::client::Door;
use super::common::closed_loop;
use super::common::receiver::Receiver;
use super::others::{Fared, Others};
use super::past::Past;
use super::plan::{Case, Plan};
use super::stage::{Stage, rest, start};
use super::support::{Kind, Server};
use super::table::{Check, Row};

/// How many deliveries may wait: enough that the sender is never without work.
const WAITING: u64 = 20_000;
/// How often it is looked at what is gone.
const LOOK: Duration = Duration::from_millis(100);
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
    let stage = Stage::on(plan, store).await;
    stage.customers(1, fan_out, receiver.port).await;
    let messages = plan.expired.div_ceil(fan_out);
    let past = Past { of: "a.uid = 'app-0'", messages, oldest: DAY * 30, youngest: DAY * 2, some_failed: false };
    stage.fill(&past.statements(stage.is_sqlite())).await;

    let server = serve(&stage, "3650d");
    let mut others = Others::settle(plan, &rest(&server)).await;
    let run = Run { plan, fan_out, receiver, stage: &stage, past: &past };
    // The same load twice, from the start of a process: while everything is kept, and while what is older than a day goes.
    let mut loads = Vec::new();
    let mut last = server;
    for retention in ["3650d", "1d"] {
        // It gives its slots back: after a kill nothing would be sent until their leases are over.
        last.terminate();
        last.wait(Duration::from_secs(60));
        let server = serve(&stage, retention);
        let api = rest(&server);
        others.at(&api);
        let door = Door { authority: api.authority, token: api.token, applications: vec!["app-0".into()] };
        loads.push(run.load(door, &others).await);
        last = server;
    }
    let [kept, going] = loads.try_into().unwrap_or_else(|_| unreachable!("two loads"));

    Row {
        case: Case::Retention.name(),
        store: store.name(),
        size: format!("{} deliveries at fan-out {fan_out}", messages * fan_out),
        checks: vec![
            Check::at_least("removed ÷ delivered", going.removed / going.delivered, 2.0, " ×"),
            Check::at_most("others' p99 ÷ without", going.others.p99_ms / kept.others.p99_ms, 1.5, " ×"),
            Check::at_most("others lost", going.others.lost as f64, 0.0, ""),
            Check::note("removed", going.removed, "/s"),
            Check::note("delivered", going.delivered, "/s"),
            Check::note("delivered without", kept.delivered, "/s"),
            Check::note("others' p99", going.others.p99_ms, " ms"),
            Check::note("others' longest accept", going.others.longest_ms, " ms"),
        ],
    }
}

/// Starts a process that keeps what is past for so long.
fn serve(stage: &Stage, retention: &str) -> Server {
    start(stage.binary().set("SENDOFF_RETENTION", retention)).0
}

struct Run<'a> {
    plan: &'a Plan,
    fan_out: usize,
    receiver: Arc<Receiver>,
    stage: &'a Stage,
    past: &'a Past<'a>,
}

/// What came of a load.
struct Loaded {
    /// Deliveries a second.
    delivered: f64,
    /// Deliveries of the past a second, for as long as there were any.
    removed: f64,
    others: Fared,
}

impl Run<'_> {
    async fn load(&self, door: Door, others: &Others) -> Loaded {
        let door = Arc::new(door);
        let going = Arc::new(AtomicBool::new(true));
        // A message to many endpoints is work for many connections.
        let connections = (self.plan.connections / self.fan_out).max(4);
        let (receiver, fan_out, before) = (Arc::clone(&self.receiver), self.fan_out as u64, self.receiver.count());
        let gate = Arc::new(move |accepted: u64| accepted * fan_out < receiver.count() - before + WAITING);
        let began = self.receiver.began();
        let full = closed_loop::run_gated(&door, connections, self.plan.payload, began, &going, gate);
        let watched = async {
            let (count, began) = (self.receiver.count(), Instant::now());
            let (mut gone, mut took) = (0, Duration::ZERO);
            while began.elapsed() < self.plan.span() {
                tokio::time::sleep(LOOK).await;
                if gone < self.past.messages {
                    (gone, took) = (self.past.gone(self.stage).await, began.elapsed());
                }
            }
            let delivered = (self.receiver.count() - count) as f64 / began.elapsed().as_secs_f64();
            going.store(false, Ordering::Relaxed);
            (delivered, (gone * self.fan_out) as f64 / took.as_secs_f64())
        };
        let (_, (delivered, removed), others) = tokio::join!(full, watched, others.fare_while(Arc::clone(&going)));
        // What waits is delivered before the next load.
        while self.stage.number("SELECT count(*) FROM due").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Loaded { delivered, removed, others }
    }
}
