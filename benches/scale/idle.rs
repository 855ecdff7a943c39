//! Very many idle endpoints, each in its own application.

use std::time::{Duration, Instant};

use super::bench_store::BenchStore;
use super::common::process;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Time for the startup work to finish.
const SETTLED: Duration = Duration::from_secs(10);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    // No receiver: nothing is sent.
    bench.customers(plan.endpoints, 1, 1).await;
    let (server, _) = bench.start();
    tokio::time::sleep(SETTLED).await;
    let database = || match store {
        Kind::Sqlite => 0.0,
        Kind::Postgres => process::postgres_cpu_us(bench.postgres().postmaster()),
    };
    let (before, theirs, began) = (process::cpu_us(server.pid()), database(), Instant::now());
    // Long enough for the kernel's resolution of 10 ms.
    tokio::time::sleep(plan.span().max(Duration::from_secs(10))).await;
    let share = |cpu_us: f64| cpu_us / began.elapsed().as_micros() as f64 * 100.0;
    let (ours, theirs) = (share(process::cpu_us(server.pid()) - before), share(database() - theirs));
    Row {
        case: Case::Idle.name(),
        store: store.name(),
        size: format!("{0} endpoints in {0} applications", plan.endpoints),
        checks: vec![
            Check::at_most("CPU", ours, 1.0, " % of a core"),
            Check::at_most("memory", process::peak_resident_bytes(server.pid()).unwrap_or(0.0) / 1e6, 300.0, " MB"),
            Check::note("CPU of the database", theirs, " %"),
        ],
    }
}
