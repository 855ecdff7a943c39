//! One application with very many endpoints: messages to all of them, one over REST and many through the outbox, beside the events of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::common::process;
use super::common::receiver::{Receiver, Seen};
use super::common::rest::numbered;
use super::others::Others;
use super::plan::{Case, Plan};
use super::stage::{Stage, rest};
use super::support::Kind;
use super::table::{Check, Row};

/// How long nothing may arrive before the rest counts as lost.
const STALLED: Duration = Duration::from_secs(60);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let receiver = Arc::new(Receiver::start(Instant::now()).await);
    let stage = Arc::new(Stage::on(plan, store).await);
    stage.customers(1, plan.endpoints, receiver.port).await;
    let (server, _) = stage.start();
    let rest = rest(&server);
    let others = Others::settle(plan, &rest).await;
    let quiet = others.fare_for(plan.span()).await;
    let messages = plan.messages + 1;
    receiver.expect(messages, plan.endpoints);
    let going = Arc::new(AtomicBool::new(true));
    let watched = tokio::spawn(longest_transaction(Arc::clone(&stage), Arc::clone(&going)));
    let began = Instant::now();
    let wide = async {
        let body = format!(r#"{{"eventType":"wide","payload":{}}}"#, numbered(0));
        let (status, _) = rest.try_post("/app/app-0/msg/", body).await;
        let answered = (status.as_u16(), began.elapsed());
        let rows: Vec<String> = (1..messages).map(|n| format!("('app-0', 'wide', '{}')", numbered(n))).collect();
        if !rows.is_empty() {
            stage
                .execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES {}", rows.join(", ")))
                .await;
        }
        let seen = arrive(&receiver, (messages * plan.endpoints) as u64, STALLED).await;
        going.store(false, Ordering::Relaxed);
        (answered, seen)
    };
    let (((status, answered), seen), then) = tokio::join!(wide, others.fare_while(Arc::clone(&going)));
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

/// Waits until so many different deliveries have arrived, or nothing has for so long, and a second more for those that come twice.
pub async fn arrive(receiver: &Receiver, expected: u64, stalled: Duration) -> Seen {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let distinct = receiver.seen().distinct;
        if distinct > last {
            (last, since) = (distinct, Instant::now());
        }
        if distinct >= expected || since.elapsed() >= stalled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    receiver.seen()
}

/// That all of it arrived, and none of it twice.
pub fn once(seen: &Seen, expected: u64) -> Check {
    let figure = format!("{} and {} again", seen.distinct, seen.repeats);
    Check::that(
        "arrived",
        &figure,
        &format!("{expected} and none again"),
        seen.distinct == expected && seen.repeats == 0,
    )
}

/// Arrivals a second, from the first to the last.
pub fn rate(seen: &Seen) -> f64 {
    let span = seen.first.zip(seen.last).map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64());
    if span > 0.0 { seen.distinct as f64 / span } else { 0.0 }
}

/// The longest that a transaction of Sendoff was open on PostgreSQL, looked at 50 times a second. SQLite does not show its transactions to other
/// processes; but a POST that is not answered has waited for one of them, or for its own.
async fn longest_transaction(stage: Arc<Stage>, going: Arc<AtomicBool>) -> Option<Duration> {
    const OPEN: &str = "SELECT CAST(coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) AS double precision)
         FROM pg_stat_activity WHERE application_name = 'sendoff' AND datname = current_database() AND xact_start IS NOT NULL";
    if stage.is_sqlite() {
        return None;
    }
    let mut connection = stage.connect().await;
    let mut longest = 0.0f64;
    while going.load(Ordering::Relaxed) {
        let open: f64 = sqlx::query_scalar(OPEN).fetch_one(&mut connection).await.expect("the activity");
        longest = longest.max(open);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(Duration::from_secs_f64(longest))
}
