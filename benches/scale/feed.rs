//! A page of 100 messages at any position of one application's long feed.

use std::time::{Duration, Instant};

use super::bench_store::{BenchStore, rest};
use super::common::percentile_ms;
use super::past_messages::PastMessages;
use super::plan::{Case, Plan};
use super::support::Kind;
use super::table::{Check, Row};

const DAY: Duration = Duration::from_secs(86_400);
/// Positions, evenly spread over the feed.
const POSITIONS: usize = 11;
/// The span of the messages. The retention of the measured program is longer.
const AGE: Duration = Duration::from_secs(28 * 86_400);

pub async fn measure(plan: &Plan, store: Kind) -> Row {
    let bench = BenchStore::on(plan, store).await;
    // The ages of the messages are relative to their insertion, which takes minutes.
    let now = jiff::Timestamp::now();
    // Two applications share the time, so the feed is interleaved with another one.
    bench.customers(2, 1, 1).await;
    // The first statement writes the messages. The feed needs none of their attempts.
    let past = |of| {
        let messages = plan.history / 2;
        let past = PastMessages { of, messages, oldest: AGE, youngest: DAY, some_failed: false };
        past.statements(bench.is_sqlite()).swap_remove(0)
    };
    bench.fill(&[past("a.uid = 'app-0'"), past("a.uid = 'app-1'")]).await;
    let (server, _) = bench.start();
    let api = rest(&server);
    api.post("/app/app-0/destination/", r#"{"type":"pollingEndpoint","uid":"bench"}"#.to_owned()).await;
    let mut slowest: (f64, usize) = (0.0, 0);
    let mut all = Vec::new();
    for position in 0..POSITIONS {
        // The last one begins shortly before the end, so that a page is full.
        let share = (position as f64 / (POSITIONS - 1) as f64).min(1.0 - 400.0 / plan.history as f64);
        let at = now - AGE + (AGE - DAY).mul_f64(share.max(0.0));
        let path = format!("/app/app-0/poller/bench?limit=100&after={at}");
        let mut times = Vec::new();
        for request in 0..=plan.requests {
            let began = Instant::now();
            let page = api.get(&path).await;
            let took = began.elapsed();
            let messages = page.matches("\"eventType\"").count();
            assert_eq!(messages, 100, "{path}");
            // The first one reads from the disk; it is a figure of its own.
            if request > 0 {
                times.push(took.as_micros() as u32);
            }
        }
        times.sort_unstable();
        let median = percentile_ms(&times, 0.5);
        println!("  {median:>8.2} ms at {:.0} %", share * 100.0);
        if median > slowest.0 {
            slowest = (median, position * 100 / (POSITIONS - 1));
        }
        all.extend(times);
    }
    all.sort_unstable();
    Row {
        case: Case::Feed.name(),
        store: store.name(),
        size: format!("pages of 100 of {} messages, {POSITIONS} positions", plan.history),
        checks: vec![
            Check::at_most(&format!("slowest position's median (at {} %)", slowest.1), slowest.0, 10.0, " ms"),
            Check::note("p50", percentile_ms(&all, 0.5), " ms"),
            Check::note("p99", percentile_ms(&all, 0.99), " ms"),
        ],
    }
}
