//! Response times of the dashboard on a full store: `cargo bench --bench pages`.
//!
//! Each store is filled with a month of history ([`common::history`]). The real binary serves it, and a signed-in
//! operator requests each of [`common::pages::PAGES`] several times, one after the other. Times end at the last byte,
//! over loopback. The engine runs meanwhile.
//!
//! `cargo bench --bench pages -- --deliveries 5000000 --requests 20 --store sqlite`; without `--store`, both stores.

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

use std::time::Instant;

use common::arguments::Arguments;
use common::history;
use common::pages::{Operator, PAGES};
use support::{Binary, Durability, Postgres, sqlite_file};

#[derive(Clone, Copy, Debug)]
struct Plan {
    deliveries: u64,
    /// Requests per page, after one warm-up.
    requests: usize,
}

fn main() {
    let arguments = Arguments::read();
    // `cargo test` runs benches too; there is nothing to test.
    if arguments.has("--test") {
        return;
    }
    let plan = Plan {
        deliveries: arguments.count("--deliveries", 5_000_000) as u64,
        requests: arguments.count("--requests", 20),
    };
    let is_selected = |name: &str| arguments.text("--store").is_none_or(|store| store == name);
    println!("{plan:?}");
    if is_selected("sqlite") {
        let file = sqlite_file();
        measure("SQLite", &file.url(), plan);
    }
    if is_selected("postgres") {
        // The measurement only reads, so filling need not be durable.
        let server = Postgres::start(Durability::Off);
        measure("PostgreSQL", &server.fresh_database(), plan);
    }
}

/// Fills the store at `url`, serves it, and prints each page's times.
fn measure(name: &str, url: &str, plan: Plan) {
    let began = Instant::now();
    let ids = history::fill(url, plan.deliveries);
    println!("{name}: {} deliveries in {:.0} s", plan.deliveries, began.elapsed().as_secs_f64());
    let server = Binary::on(url).serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let operator = Operator::of(&server, "org_default").await;
        println!();
        println!("| {name} | min | median | max | bytes |");
        println!("|---|---:|---:|---:|---:|");
        for page in PAGES.iter().copied() {
            let times = operator.measure(&ids.path(page), plan.requests).await;
            let (least, middle, most) = (times.at_ms(0), times.median_ms(), times.at_ms(usize::MAX));
            println!("| `{page}` | {least:.1} ms | {middle:.1} ms | {most:.1} ms | {} |", times.bytes);
        }
        println!();
    });
}
