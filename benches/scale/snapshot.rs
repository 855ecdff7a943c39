//! A transaction that holds a snapshot open, like `pg_dump`, at full load on PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::Executor;

use super::bench_store::{BenchStore, rest};
use super::common::closed_loop;
use super::common::receiver::Receiver;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Each with one endpoint.
const APPLICATIONS: usize = 8;
const WARM: Duration = Duration::from_secs(2);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let receiver = Receiver::start(Instant::now()).await;
    let bench = BenchStore::on(plan, store).await;
    let (server, _) = bench.start();
    let destination = Arc::new(rest(&server).create_applications(APPLICATIONS, &[receiver.url(0)]).await);
    let running = Arc::new(AtomicBool::new(true));
    let load = closed_loop::run(&destination, plan.connections, plan.payload, receiver.began(), &running);
    let rate = async |seconds: f64| {
        let (before, began) = (receiver.count(), Instant::now());
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        (receiver.count() - before) as f64 / began.elapsed().as_secs_f64()
    };
    let watched = async {
        tokio::time::sleep(WARM).await;
        let without = rate(plan.seconds).await;
        let mut holder = bench.connect().await;
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM slot").await.expect("a snapshot");
        let most = rate(plan.snapshot * 0.9).await;
        let last = rate(plan.snapshot * 0.1).await;
        holder.execute("ROLLBACK").await.expect("its end");
        running.store(false, Ordering::Relaxed);
        (without, most * 0.9 + last * 0.1, last)
    };
    let (posted, (without, with, last)) = tokio::join!(load, watched);
    Row {
        case: Case::Snapshot.name(),
        store: store.name(),
        size: format!("{:.0} s, {} messages", plan.snapshot, posted.accepted),
        checks: vec![
            Check::at_least("delivered ÷ without", with / without * 100.0, 80.0, " %"),
            Check::at_most("refused", posted.failed as f64, 0.0, ""),
            Check::note("without", without, "/s"),
            Check::note("with", with, "/s"),
            Check::note("in its last tenth", last, "/s"),
        ],
    }
}
