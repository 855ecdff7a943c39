//! What Sendoff costs: `make bench`.
//!
//! 256 connections post messages to the real binary, which delivers them to a receiver in this process: once with nothing
//! stored (the **ceiling**: the same HTTP server, signing and client, see [`ceiling`]), once on SQLite, once on PostgreSQL, in turn and several
//! times. All of it shares one machine, so what counts are the ratios within a run, not the absolute figures.
//!
//! `cargo bench --bench delivery -- --seconds 8 --rounds 3 --payload 300`; `--only SQLite` runs one of the three.

#[path = "../../tests/support/mod.rs"]
mod support;

mod ceiling;
mod load;
mod receiver;
mod server;

use std::time::Duration;

use load::Measured;
use server::Target;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How long the load lasts; what is then still on its way is waited for and counted.
    seconds: f64,
    rounds: usize,
    connections: usize,
    /// Bytes of each payload.
    payload: usize,
    /// Applications with one endpoint each: one delivery per message.
    applications: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: f64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    if arguments.iter().any(|argument| argument == ceiling::FLAG) {
        return ceiling::serve();
    }
    // `cargo test` runs benches as well; there is nothing to test here.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let plan = Plan {
        seconds: number("--seconds", 8.0),
        rounds: number("--rounds", 3.0) as usize,
        connections: number("--connections", 256.0) as usize,
        payload: number("--payload", 300.0) as usize,
        applications: number("--applications", 8.0) as usize,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(run(plan, only.map(String::as_str)));
}

async fn run(plan: Plan, only: Option<&str>) {
    println!("{plan:?}");
    let wanted = |target: &Target| only.is_none_or(|name| name == target.name());
    let mut rows: Vec<(Target, Vec<Measured>)> =
        Target::ALL.into_iter().filter(wanted).map(|target| (target, Vec::new())).collect();
    for round in 1..=plan.rounds {
        for (target, measured) in &mut rows {
            let one = server::measure(*target, plan).await;
            println!("round {round} {:<9} {one}", target.name());
            measured.push(one);
            // Whatever the last run left to the disk and the kernel is theirs.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    println!();
    println!("medians of {} rounds, and as shares of the ceiling", plan.rounds);
    println!(
        "| store | accepted/s | delivered/s | of the ceiling | p50 | p99 | CPU per delivery: Sendoff | database |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let ceilings: Vec<f64> = rows[0].1.iter().map(|one| one.delivered_per_second).collect();
    for (target, measured) in &rows {
        let median = |of: fn(&Measured) -> f64| middle(measured.iter().map(of).collect());
        let shares = measured.iter().zip(&ceilings).map(|(one, ceiling)| one.delivered_per_second / ceiling).collect();
        println!(
            "| {} | {:.0} | {:.0} | {:.0} % | {:.1} ms | {:.1} ms | {:.0} µs | {:.0} µs |",
            target.name(),
            median(|one| one.accepted_per_second),
            median(|one| one.delivered_per_second),
            middle(shares) * 100.0,
            median(|one| one.p50_ms),
            median(|one| one.p99_ms),
            median(|one| one.cpu_us),
            median(|one| one.database_cpu_us),
        );
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
