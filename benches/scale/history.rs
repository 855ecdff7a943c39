//! A store with a long history beside an empty one: startup time, throughput, and the dashboard's pages.

use std::sync::Arc;
use std::time::Instant;

use super::bench_store::{BenchStore, rest};
use super::common::client::Destination;
use super::common::pages::{Operator, PAGES};
use super::common::receiver::Receiver;
use super::common::{closed_loop, history, median};
use super::plan::{Case, Plan};
use super::support::{Kind, Server};
use super::table::{Check, Row};

/// Applications of the load, each with one endpoint.
const APPLICATIONS: usize = 8;

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let full = BenchStore::on(plan, store).await;
    let empty = full.beside(plan).await;
    let (url, messages) = (full.url.clone(), plan.history as u64);
    let ids = std::thread::spawn(move || history::fill(&url, messages)).join().expect("the thread that fills it");
    let (server, started) = full.start();
    let operator = Operator::of(&server, "org_default").await;
    let mut slowest = ("", 0.0);
    for page in PAGES.iter().copied() {
        let took = operator.measure(&ids.path(page), plan.requests).await.median_ms();
        println!("  {took:>8.1} ms {page}");
        if took > slowest.1 {
            slowest = (page, took);
        }
    }
    let (other, _) = empty.start();
    let (mut of_full, mut of_empty) = (Load::on(&server).await, Load::on(&other).await);
    for round in 0..plan.rounds {
        // Neither store always runs first.
        let order = if round % 2 == 0 { [&mut of_empty, &mut of_full] } else { [&mut of_full, &mut of_empty] };
        for load in order {
            load.run(plan).await;
        }
    }
    let (with, without) = (median(of_full.rates), median(of_empty.rates));
    Row {
        case: Case::History.name(),
        store: store.name(),
        size: format!("{messages} messages with their attempts"),
        checks: vec![
            Check::at_least("delivered ÷ empty store", with / without * 100.0, 90.0, " %"),
            Check::at_most(&format!("slowest page's median (`{}`)", slowest.0), slowest.1, 100.0, " ms"),
            Check::at_most("start", started.as_secs_f64(), 2.0, " s"),
            Check::note("delivered", with, "/s"),
            Check::note("empty store", without, "/s"),
        ],
    }
}

/// A closed load on one of the two stores.
struct Load {
    receiver: Receiver,
    destination: Arc<Destination>,
    /// Deliveries per second and round.
    rates: Vec<f64>,
}

impl Load {
    async fn on(server: &Server) -> Load {
        let receiver = Receiver::start(Instant::now()).await;
        let destination = Arc::new(rest(server).create_applications(APPLICATIONS, &[receiver.url(0)]).await);
        Load { receiver, destination, rates: Vec::new() }
    }

    async fn run(&mut self, plan: &Plan) {
        let (before, began) = (self.receiver.count(), Instant::now());
        let posted =
            closed_loop::run_for(&self.destination, plan.connections, plan.payload, self.receiver.began(), plan.span())
                .await;
        let last = self.receiver.wait_for(before + posted.accepted).await;
        self.rates.push((self.receiver.count() - before) as f64 / last.duration_since(began).as_secs_f64());
    }
}
