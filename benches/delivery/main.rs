//! What a delivery costs: `make bench`.
//!
//! Messages are posted to the real binary, which delivers them to a receiver in this process: once with nothing stored (the **ceiling**: the same HTTP
//! server, signing and client, see [`ceiling`]), once on SQLite, once on PostgreSQL, in turn and several times. All of it shares one machine, so
//! compare the ratios within a run, not the absolute figures.
//!
//! The loads: 256 connections that each post one message after the other, at fan-out 1 and 10 (throughput), then 200 and 1,000 messages a second at
//! fixed times (latency, counted from the scheduled time to the arrival). What [`common::meter`] counts is given per delivery.
//!
//! `cargo bench --bench delivery -- --seconds 8 --rounds 3 --payload 300`. Parts of it: `--fan-out 10` or `--rate 200` runs that load alone,
//! `--only SQLite` one target. `--binary PATH` measures another build. `--url http://host:port --token TOKEN` measures a server that runs already and
//! has the same REST dialect (it must reach this process's loopback port); with `--pid PID`, also its CPU and memory.

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
    /// How long the load lasts; what is then still on its way is waited for and counted.
    seconds: f64,
    rounds: usize,
    /// Of the closed loads.
    connections: usize,
    /// Bytes of each payload.
    payload: usize,
    /// Endpoints at fan-out 1, each in an application of its own.
    applications: usize,
}

/// What was named on the command line.
struct Given {
    /// The program to start.
    binary: String,
    /// A server that runs already.
    server: Option<GivenServer>,
}

struct GivenServer {
    authority: String,
    token: String,
    pid: Option<u32>,
}

fn main() {
    let arguments = Arguments::read();
    if arguments.has(ceiling::FLAG) {
        return ceiling::serve();
    }
    // `cargo test` runs benches as well; there is nothing to test here.
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
    let own = if given.server.is_some() { vec![Target::Given] } else { vec![Target::Sqlite, Target::Postgres] };
    let targets = [Target::Ceiling].into_iter().chain(own);
    let targets: Vec<Target> = targets.filter(|target| only.is_none_or(|name| name == target.name())).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    println!("{plan:?}");
    for load in loads(&arguments) {
        runtime.block_on(run(plan, load, &targets, &given));
    }
}

fn given(arguments: &Arguments) -> Given {
    let server = arguments.text("--url").map(|url| {
        let url: url::Url = url.parse().expect("--url: a URL such as http://127.0.0.1:8071 is expected");
        GivenServer {
            authority: url.authority().to_owned(),
            token: arguments.text("--token").expect("--url needs --token").to_owned(),
            pid: arguments.given_number("--pid").map(|pid| pid as u32),
        }
    });
    Given { binary: arguments.text("--binary").unwrap_or(env!("CARGO_BIN_EXE_sendoff")).to_owned(), server }
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

async fn run(plan: Plan, load: Load, targets: &[Target], given: &Given) {
    let mut rows: Vec<table::Row> = targets.iter().map(|target| (*target, Vec::new())).collect();
    for round in 1..=plan.rounds {
        for (target, measured) in &mut rows {
            let one = server::measure(*target, plan, load, given).await;
            println!("{load}, round {round}: {:<10} {one}", target.name());
            measured.push(one);
            // The disk and the kernel finish with the last run.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    table::print(load, &rows);
}
