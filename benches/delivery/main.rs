//! The cost of a delivery: `make bench`.
//!
//! Messages are posted to the real binary, which delivers them to a receiver in this process: once with nothing stored
//! (the **ceiling**: the same HTTP server, signing and client, see [`ceiling`]), once on SQLite and once on PostgreSQL,
//! in turn, for several rounds. All processes share one machine, so compare ratios within a run, not absolute figures.
//!
//! Loads: 256 connections in a closed loop, at fan-out 1 and 10 (throughput); then 200 and 1,000 messages per second in
//! an open loop (latency, from the scheduled time to the arrival). Costs from [`common::meter`] are per delivery.
//!
//! `cargo bench --bench delivery -- --seconds 8 --rounds 3 --payload 300`. `--fan-out 10` or `--rate 200` runs one
//! load, and `--only SQLite` one target. `--binary PATH` measures another build. `--url http://host:port --token TOKEN`
//! measures a running server with the same REST API, which must reach this process's loopback port; `--pid PID` adds
//! its CPU and memory.

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

mod ceiling;
mod load;
mod server;
mod table;

use std::time::Duration;

use common::arguments::Arguments;
use load::Load;
use server::Target;

/// The sizes of a run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Duration of a load. Outstanding deliveries are then waited for and counted.
    seconds: f64,
    rounds: usize,
    /// Of the closed loads.
    connections: usize,
    /// Bytes per payload.
    payload: usize,
    /// Endpoints at fan-out 1, one per application.
    applications: usize,
}

/// The targets given on the command line.
struct TargetArgs {
    /// The program to start.
    binary: String,
    /// A server that is already running.
    server: Option<ServerArgs>,
}

struct ServerArgs {
    authority: String,
    token: String,
    pid: Option<u32>,
}

fn main() {
    let arguments = Arguments::read();
    if arguments.has(ceiling::FLAG) {
        return ceiling::serve();
    }
    // `cargo test` runs benches too; there is nothing to test.
    if arguments.has("--test") {
        return;
    }
    let plan = Plan {
        seconds: arguments.number("--seconds", 8.0),
        rounds: arguments.count("--rounds", 3),
        connections: arguments.count("--connections", 256),
        payload: arguments.count("--payload", 300),
        applications: arguments.count("--applications", 8),
    };
    let given = given(&arguments);
    let only = arguments.text("--only");
    let own = if given.server.is_some() { vec![Target::External] } else { vec![Target::Sqlite, Target::Postgres] };
    let targets = [Target::Ceiling].into_iter().chain(own);
    let targets: Vec<Target> = targets.filter(|target| only.is_none_or(|name| name == target.name())).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    println!("{plan:?}");
    for load in loads(&arguments) {
        runtime.block_on(run(plan, load, &targets, &given));
    }
}

fn given(arguments: &Arguments) -> TargetArgs {
    let server = arguments.text("--url").map(|url| {
        let url: url::Url = url.parse().expect("--url: expected a URL such as http://127.0.0.1:8071");
        ServerArgs {
            authority: url.authority().to_owned(),
            token: arguments.text("--token").expect("--url needs --token").to_owned(),
            pid: arguments.given_number("--pid").map(|pid| pid as u32),
        }
    });
    TargetArgs { binary: arguments.text("--binary").unwrap_or(env!("CARGO_BIN_EXE_sendoff")).to_owned(), server }
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let fan_out = arguments.given_number("--fan-out").map(|fan_out| Load::Closed { fan_out: fan_out as usize });
    let rate = arguments.given_number("--rate").map(|rate| Load::Open { rate });
    let named: Vec<Load> = fan_out.into_iter().chain(rate).collect();
    if !named.is_empty() {
        return named;
    }
    vec![
        Load::Closed { fan_out: 1 },
        Load::Closed { fan_out: 10 },
        Load::Open { rate: 200.0 },
        Load::Open { rate: 1_000.0 },
    ]
}

async fn run(plan: Plan, load: Load, targets: &[Target], given: &TargetArgs) {
    let mut rows: Vec<table::Row> = targets.iter().map(|target| (*target, Vec::new())).collect();
    for round in 1..=plan.rounds {
        for (target, measured) in &mut rows {
            let one = server::measure(*target, plan, load, given).await;
            println!("{load}, round {round}: {:<10} {one}", target.name());
            measured.push(one);
            // Lets the disk and the kernel finish the previous run.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    table::print(load, &rows);
}
