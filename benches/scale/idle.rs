//! Very many endpoints, each in an application of its own, that have nothing to do.

use std::time::{Duration, Instant};

use super::common::process;
use super::plan::{Case, Plan};
use super::stage::Stage;
use super::support::Kind;
use super::table::{Check, Row};

/// How long what a start does is waited for.
const SETTLED: Duration = Duration::from_secs(10);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let stage = Stage::on(plan, store).await;
    // Nothing is sent: there is no receiver.
    stage.customers(plan.endpoints, 1, 1).await;
    let (server, _) = stage.start();
    tokio::time::sleep(SETTLED).await;
    let database = || match store {
        Kind::Sqlite => 0.0,
        Kind::Postgres => process::postgres_cpu_us(stage.postgres().postmaster()),
    };
    let (before, theirs, began) = (process::cpu_us(server.pid()), database(), Instant::now());
    // Long enough for the kernel's hundredths of a second.
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
