//! Processes on one PostgreSQL: 1, 2 and 4 workers at full load, and many idle ones.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bench_store::{self, BenchStore, rest};
use super::common::client::Destination;
use super::common::receiver::Receiver;
use super::common::{closed_loop, median, process};
use super::plan::{Case, Plan};
use super::support::{Kind, Server};
use super::table::{Check, Row};

const WORKERS: [usize; 3] = [1, 2, 4];
/// Each with one endpoint and its own slot.
const APPLICATIONS: usize = 256;
/// How long a fleet may take to distribute the slots.
const SLOT_TIMEOUT: Duration = Duration::from_secs(120);

/// One process accepts, and a growing number of workers send.
pub async fn measure_busy(plan: &Plan, store: Kind) -> Row {
    let first = BenchStore::on(plan, store).await;
    let (mut rates, mut idle) = ([const { Vec::new() }; WORKERS.len()], 0);
    for _ in 0..plan.rounds {
        for (workers, rates) in WORKERS.into_iter().zip(&mut rates) {
            let bench = first.beside(plan).await;
            let (rate, owners) = measure_workers(plan, &bench, workers).await;
            rates.push(rate);
            idle = idle.max(workers - owners);
        }
    }
    let rates = rates.map(median);
    let share = rates.iter().copied().fold(f64::INFINITY, f64::min) / rates[0] * 100.0;
    Row {
        case: Case::Workers.name(),
        store: store.name(),
        size: "1, 2 and 4 workers, and one process that accepts".to_owned(),
        checks: vec![
            Check::at_least("least delivered ÷ one worker", share, 95.0, " %"),
            Check::at_most("workers without slots", idle as f64, 0.0, ""),
            Check::note("with 1", rates[0], "/s"),
            Check::note("with 2", rates[1], "/s"),
            Check::note("with 4", rates[2], "/s"),
        ],
    }
}

/// Deliveries per second, and how many of the workers own slots.
async fn measure_workers(plan: &Plan, bench: &BenchStore, workers: usize) -> (f64, usize) {
    let receiver = Receiver::start(Instant::now()).await;
    bench.customers(APPLICATIONS, 1, receiver.port).await;
    let (api, _) = bench_store::start(bench.binary().set("SENDOFF_ROLE", "api"));
    let _workers: Vec<Server> =
        (0..workers).map(|_| bench_store::start(bench.binary().set("SENDOFF_ROLE", "worker")).0).collect();
    let owners = owners(bench, workers).await;
    let api = rest(&api);
    let applications = (0..APPLICATIONS).map(|n| format!("app-{n}")).collect();
    let destination = Arc::new(Destination { authority: api.authority, token: api.token, applications });
    // The first pass is a warm-up.
    for seconds in [2.0, plan.seconds] {
        let (before, began) = (receiver.count(), Instant::now());
        let span = Duration::from_secs_f64(seconds);
        let posted = closed_loop::run_for(&destination, plan.connections, plan.payload, receiver.began(), span).await;
        let last = receiver.wait_for(before + posted.accepted).await;
        if seconds == plan.seconds {
            return ((receiver.count() - before) as f64 / last.duration_since(began).as_secs_f64(), owners);
        }
    }
    unreachable!("the last of the two returns")
}

/// Waits until `expected` processes own slots; returns how many do.
async fn owners(bench: &BenchStore, expected: usize) -> usize {
    const OWNERS: &str = "SELECT count(DISTINCT owner) FROM slot WHERE owner IS NOT NULL";
    let since = Instant::now();
    loop {
        let owners = bench.number(OWNERS).await as usize;
        if owners >= expected || since.elapsed() >= SLOT_TIMEOUT {
            return owners;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Idle processes.
pub async fn measure_idle(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    let began = Instant::now();
    let servers: Vec<Server> = (0..plan.processes).map(|_| bench.binary().launch()).collect();
    let owners = owners(&bench, plan.processes).await;
    let shared_out = began.elapsed();
    // A pool closes connections that are idle for ten seconds.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let pids: Vec<u32> = servers.iter().map(Server::pid).collect();
    let cpu = || pids.iter().copied().map(process::cpu_us).sum::<f64>();
    let span = plan.span().max(Duration::from_secs(10));
    let log = bench.postgres().log();
    bench.postgres().execute("ALTER SYSTEM SET log_statement = 'all'");
    bench.postgres().execute("SELECT pg_reload_conf()");
    // The server needs a moment to reload all its processes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (from, before, since) = (length(&log), cpu(), Instant::now());
    tokio::time::sleep(span).await;
    let (to, spent, seconds) = (length(&log), cpu() - before, since.elapsed().as_secs_f64());
    let connections = bench
        .number(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sendoff' AND datname = current_database()",
        )
        .await;
    let processes = plan.processes as f64;
    let memory = pids.iter().filter_map(|pid| process::resident_bytes(*pid)).sum::<f64>() / processes;
    let per_second = statements(&log, from, to) as f64 / seconds / processes;
    Row {
        case: Case::Processes.name(),
        store: store.name(),
        size: format!("{} idle processes", plan.processes),
        checks: vec![
            Check::at_most("statements a second, per process", per_second, 20.0, ""),
            Check::at_most("connections, per process", connections / processes, 4.0, ""),
            Check::at_most("processes without slots", processes - owners as f64, 0.0, ""),
            Check::note("slots shared out", shared_out.as_secs_f64(), " s after the start"),
            Check::note("CPU, per process", spent / 1e6 / seconds / processes * 100.0, " %"),
            Check::note("memory, per process", memory / 1e6, " MB"),
        ],
    }
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |metadata| metadata.len())
}

/// Statements in a part of the server's log.
fn statements(log: &Path, from: u64, to: u64) -> usize {
    use std::io::Read;
    let mut file = std::fs::File::open(log).expect("the server's log can be read");
    file.seek(SeekFrom::Start(from)).expect("a place in it");
    let lines = BufReader::new(file.take(to - from)).lines().map_while(Result::ok);
    lines.filter(|line| line.contains("LOG:  execute ") || line.contains("LOG:  statement: ")).count()
}
