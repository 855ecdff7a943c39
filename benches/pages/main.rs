//! How long the dashboard's pages take on a full store: `cargo bench --bench pages`.
//!
//! A store of each kind is filled with a month of made-up history ([`common::history`]); then the real binary serves it, and an operator who is signed in
//! asks for each of [`common::pages::PAGES`] several times, one after the other. What is measured is from the request to the last byte of the answer, over
//! loopback: the server's time and a little more. The engine runs meanwhile, as it would.
//!
//! `cargo bench --bench pages -- --deliveries 5000000 --requests 20 --store sqlite`; without `--store` it is both.

#[path = "../../tests/support/mod.rs"]
mod support;

#[path = "../common/mod.rs"]
mod common;

use std::time::Instant;

use common::arguments::Arguments;
use common::history;
use common::pages::{Operator, PAGES};
use support::{Binary, Durability, Postgres, sqlite_file};

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
struct Plan {
    deliveries: u64,
    /// How often each page is asked for, after once that does not count.
    requests: usize,
}

fn main() {
    let arguments = Arguments::read();
    // `cargo test` runs benches as well; there is nothing to test here. `make bench` measures deliveries.
    if arguments.has("--test") {
        return;
    }
    let plan = Plan {
        deliveries: arguments.count("--deliveries", 5_000_000) as u64,
        requests: arguments.count("--requests", 20),
    };
    let wanted = |name: &str| arguments.text("--store").is_none_or(|store| store == name);
    println!("{plan:?}");
    if wanted("sqlite") {
        let file = sqlite_file();
        measure("SQLite", &file.url(), plan);
    }
    if wanted("postgres") {
        // What is measured only reads: filling it need not be durable.
        let server = Postgres::start(Durability::Off);
        measure("PostgreSQL", &server.fresh_database(), plan);
    }
}

/// Fills the store behind `url`, serves it, and prints how long each page takes.
fn measure(name: &str, url: &str, plan: Plan) {
    let began = Instant::now();
    let seeded = history::fill(url, plan.deliveries);
    println!("{name}: {} deliveries in {:.0} s", plan.deliveries, began.elapsed().as_secs_f64());
    let server = Binary::on(url).serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let operator = Operator::of(&server, "org_default").await;
        println!();
        println!("| {name} | min | median | max | bytes |");
        println!("|---|---:|---:|---:|---:|");
        for page in PAGES.iter().copied() {
            let took = operator.ask(&seeded.place(page), plan.requests).await;
            let (least, middle, most) = (took.at_ms(0), took.median_ms(), took.at_ms(usize::MAX));
            println!("| `{page}` | {least:.1} ms | {middle:.1} ms | {most:.1} ms | {} |", took.bytes);
        }
        println!();
    });
}
