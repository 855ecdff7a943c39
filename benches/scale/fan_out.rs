//! One application with very many endpoints: one message to all of them over REST and many through the outbox, during a
//! background load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::background_load::BackgroundLoad;
use super::bench_store::{BenchStore, rest};
use super::common::process;
use super::common::receiver::{Arrivals, Receiver};
use super::common::rest::numbered;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

/// Without an arrival for this long, the rest counts as lost.
const STALLED: Duration = Duration::from_secs(60);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let receiver = Arc::new(Receiver::start(Instant::now()).await);
    let bench = Arc::new(BenchStore::on(plan, store).await);
    bench.customers(1, plan.endpoints, receiver.port).await;
    let (server, _) = bench.start();
    let rest = rest(&server);
    let others = BackgroundLoad::start(plan, &rest).await;
    let quiet = others.run_for(plan.span()).await;
    let messages = plan.messages + 1;
    receiver.expect(messages, plan.endpoints);
    let running = Arc::new(AtomicBool::new(true));
    let watched = tokio::spawn(longest_transaction(Arc::clone(&bench), Arc::clone(&running)));
    let began = Instant::now();
    let wide = async {
        let body = format!(r#"{{"eventType":"wide","payload":{}}}"#, numbered(0));
        let (status, _) = rest.try_post("/app/app-0/msg/", body).await;
        let answered = (status.as_u16(), began.elapsed());
        let rows: Vec<String> = (1..messages).map(|n| format!("('app-0', 'wide', '{}')", numbered(n))).collect();
        if !rows.is_empty() {
            bench
                .execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES {}", rows.join(", ")))
                .await;
        }
        let seen = arrive(&receiver, (messages * plan.endpoints) as u64, STALLED).await;
        running.store(false, Ordering::Relaxed);
        (answered, seen)
    };
    let (((status, answered), seen), then) = tokio::join!(wide, others.run_while(Arc::clone(&running)));
    let longest =
        watched.await.expect("it looks to the end").map_or(then.longest_ms / 1_000.0, |one| one.as_secs_f64());
    let expected = (messages * plan.endpoints) as u64;
    let rate = rate(&seen);
    let how = if store == Kind::Sqlite { "longest accept of the others" } else { "longest transaction" };
    Row {
        case: Case::FanOut.name(),
        store: store.name(),
        size: format!("{} endpoints, {messages} messages, {:.0} other events/s", plan.endpoints, plan.rate),
        checks: vec![
            Check::at_most("others' p99 ÷ quiet", then.p99_ms / quiet.p99_ms, 3.0, " ×"),
            Check::note("others' p99", then.p99_ms, " ms"),
            Check::at_most(how, longest, 1.0, " s"),
            once(&seen, expected),
            Check::at_most("others lost", then.lost as f64, 0.0, ""),
            Check::note(&format!("answer to the wide POST: {status} after"), answered.as_secs_f64(), " s"),
            Check::note("delivered", rate, "/s"),
            Check::note("memory", process::peak_resident_bytes(server.pid()).unwrap_or(0.0) / 1e6, " MB"),
        ],
    }
}

/// Waits until `expected` deliveries have arrived or none does for `stalled`, plus one second for duplicates.
pub async fn arrive(receiver: &Receiver, expected: u64, stalled: Duration) -> Arrivals {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let distinct = receiver.arrivals().distinct;
        if distinct > last {
            (last, since) = (distinct, Instant::now());
        }
        if distinct >= expected || since.elapsed() >= stalled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    receiver.arrivals()
}

/// Requires that everything arrived exactly once.
pub fn once(seen: &Arrivals, expected: u64) -> Check {
    let figure = format!("{} and {} again", seen.distinct, seen.repeats);
    Check::that(
        "arrived",
        &figure,
        &format!("{expected} and none again"),
        seen.distinct == expected && seen.repeats == 0,
    )
}

/// Arrivals per second, from the first to the last.
pub fn rate(seen: &Arrivals) -> f64 {
    let span = seen.first.zip(seen.last).map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
    if span > 0.0 { seen.distinct as f64 / span } else { 0.0 }
}

/// The longest open transaction of Sendoff on PostgreSQL, sampled 50 times per second. SQLite does not expose its
/// transactions, but a POST that is not answered waits for one of them.
async fn longest_transaction(bench: Arc<BenchStore>, running: Arc<AtomicBool>) -> Option<Duration> {
    const OPEN: &str = "SELECT CAST(coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) AS double precision)
         FROM pg_stat_activity WHERE application_name = 'sendoff' AND datname = current_database() AND xact_start IS NOT NULL";
    if bench.is_sqlite() {
        return None;
    }
    let mut connection = bench.connect().await;
    let mut longest = 0.0f64;
    while running.load(Ordering::Relaxed) {
        let open: f64 = sqlx::query_scalar(OPEN).fetch_one(&mut connection).await.expect("the activity");
        longest = longest.max(open);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(Duration::from_secs_f64(longest))
}
