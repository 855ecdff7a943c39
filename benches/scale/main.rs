//! Bounds at scale: `cargo bench --bench scale`.
//!
//! Each case fills a new store, starts the real binary on it and measures: many endpoints, large payloads, a long
//! history, many organizations, many processes, many polls. It prints a row with figures, bounds and whether they hold. Cases run
//! one after the other, on SQLite and on a temporary PostgreSQL with fsync. Everything shares one machine, including
//! the receiver in this process.
//!
//! `-- --short` takes minutes and says little about time bounds. Without it, sizes are those that the bounds are meant
//! for: hours, and up to 60 GB of disk. `--case NAME` and `--only SQLite` run a part, `--binary PATH` measures another
//! build, and [`plan`] lists the flags for sizes. Exits with 1 if a bound does not hold.

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

mod background_load;
mod bench_store;
mod fan_out;
mod feed;
mod fleet;
mod history;
mod idle;
mod long_polls;
mod organizations;
mod past_messages;
mod payloads;
mod pending;
mod plan;
mod retention;
mod short_polls;
mod snapshot;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use common::arguments::Arguments;
use plan::{Case, Plan};
use support::Kind;
use table::Row;

fn main() {
    let arguments = Arguments::read();
    // `cargo test` runs benches too; there is nothing to test.
    if arguments.has("--test") {
        return;
    }
    let plan = Plan::read(&arguments);
    let cases: Vec<Case> = match arguments.text("--case") {
        Some(name) => vec![Case::parse(name)],
        None => Case::ALL.to_vec(),
    };
    let only = arguments.text("--only");
    let stores: Vec<Kind> =
        [Kind::Sqlite, Kind::Postgres].into_iter().filter(|kind| only.is_none_or(|name| name == kind.name())).collect();
    assert!(!stores.is_empty(), "--only: expected SQLite or PostgreSQL");
    // Grows the receivers' descriptor table now, because growing it later would cost some 10 ms each time.
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 4_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    println!("{plan:?}\n");
    let mut rows: Vec<Row> = Vec::new();
    for case in cases {
        for store in stores.iter().copied().filter(|store| case.runs_on(*store)) {
            println!("{}, {} (load of the machine: {}) …", case.name(), store.name(), load());
            let began = Instant::now();
            // A case that panics does not hold, and the others still run.
            let measured = catch_unwind(AssertUnwindSafe(|| runtime.block_on(measure(&plan, case, store))));
            let measured = measured.unwrap_or_else(|_| vec![Row::failed(case.name(), store.name())]);
            measured.iter().for_each(|row| println!("  {row}"));
            println!("  took {:.0} s", began.elapsed().as_secs_f64());
            rows.extend(measured);
        }
    }
    table::print(&rows);
    std::process::exit(if rows.iter().all(Row::holds) { 0 } else { 1 });
}

async fn measure(plan: &Plan, case: Case, store: Kind) -> Vec<Row> {
    match case {
        Case::FanOut => vec![fan_out::measure(plan, store).await],
        Case::Pending => vec![pending::measure(plan, store).await],
        Case::Idle => vec![idle::measure(plan, store).await],
        Case::Payloads => payloads::measure(plan, store).await,
        Case::History => vec![history::measure(plan, store).await],
        Case::Retention => retention::measure(plan, store).await,
        Case::Snapshot => vec![snapshot::measure(plan, store).await],
        Case::Organizations => vec![organizations::measure(plan, store).await],
        Case::Workers => vec![fleet::measure_busy(plan, store).await],
        Case::Processes => vec![fleet::measure_idle(plan, store).await],
        Case::LongPolls => vec![long_polls::measure(plan, store).await],
        Case::ShortPolls => vec![short_polls::measure(plan, store).await],
        Case::Feed => vec![feed::measure(plan, store).await],
    }
}

/// The load average of the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
