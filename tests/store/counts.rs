//! Counts by time: what is read is what was recorded, whatever of it has been moved into hours and days meanwhile.

use std::time::Duration;

use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::{AppId, EndpointId, Time};
use sendoff::store::query::counts::{AttemptCounts, ChartRange, CountScope};
use sendoff::store::recording::rollups::{Counts, total};
use sendoff::store::{Store, Tenant};

use crate::home::*;
use crate::support::on_both;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// Accepts a message for `app`, and records an attempt at `endpoint` that was made then and came to `next`.
async fn attempt(store: &Store, app: AppId, endpoint: EndpointId, at: Time, next: Transition) {
    accept(store, app).await;
    let waiting =
        waiting(store, endpoint).await.into_iter().find(|one| one.progress.attempts == 0).expect("a fresh one");
    let status = if next == Transition::Delivered { 200 } else { 500 };
    let mut done = finished(app, &waiting, answered(status), next);
    done.attempt.at = at;
    store.record(vec![done]).await.expect("recorded");
}

fn dead() -> Transition {
    Transition::Dead(DeadReason::Exhausted)
}

async fn sum(store: &Store, who: &Tenant, scope: CountScope, range: ChartRange, now: Time) -> Counts {
    total(&store.buckets(who, scope, range, now).await.expect("the store"))
}

/// Moves all that is old enough.
async fn widen(store: &Store, now: Time) {
    while store.compact_rollups(now).await.expect("the store") > 0 {}
}

on_both! {
    moved_rollups_are_neither_lost_nor_counted_twice
    a_step_moves_so_much_and_no_more
    a_range_begins_with_a_whole_bucket_and_ends_now
    each_sees_what_is_its_own
    the_store_says_how_large_it_is
    records_go_on_while_counts_are_moved
}

async fn moved_rollups_are_neither_lost_nor_counted_twice(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let now = later(20 * DAY);
    // One attempt of each kind per time, from a minute to three weeks ago.
    let ages = [MINUTE, 59 * MINUTE, 61 * MINUTE, 3 * HOUR, 23 * HOUR, 2 * DAY, 6 * DAY, 9 * DAY, 19 * DAY];
    for age in ages {
        for next in [Transition::Delivered, retry(40 * DAY, 1), dead()] {
            attempt(store, app.id, made.id, now.minus(Duration::from_secs(age)), next).await;
        }
    }
    let scopes = [CountScope::Organization, CountScope::Application(app.id), CountScope::Endpoint(made.id)];
    let read = async || {
        let mut all = Vec::new();
        for scope in scopes {
            for range in ChartRange::ALL {
                all.push(store.buckets(&tenant(), scope, range, now).await.unwrap());
            }
        }
        all
    };
    // Periods end at a full hour or day, so that none of their attempts has moved across a border.
    let compared = async |when: &str| {
        for (range, unit) in
            [(ChartRange::Hour, HOUR), (ChartRange::Day, HOUR), (ChartRange::Week, DAY), (ChartRange::Month, DAY)]
        {
            let end = now.floor(Duration::from_secs(unit));
            let within = |since: Time, until: Time| {
                let made = ages.iter().map(|age| now.minus(Duration::from_secs(*age)));
                3 * made.filter(|at| *at >= since && *at < until).count() as i64
            };
            let (last, previous) = (end.minus(range.span()), end.minus(range.span() * 2));
            for scope in scopes {
                let totals = store.period_totals(&tenant(), scope, range, now).await.unwrap();
                let counted = (totals.previous.attempts(), totals.last.attempts());
                assert_eq!(counted, (within(previous, last), within(last, end)), "{scope:?} {range:?} {when}");
            }
        }
    };
    compared("by the minute").await;
    let before = read().await;
    let attempts: Vec<i64> = before.iter().map(|buckets| total(buckets).attempts()).collect();
    assert_eq!(attempts, [[6, 15, 21, 27]; 3].concat(), "an hour, a day, a week, a month");
    widen(store, now).await;
    assert_eq!(home.number("SELECT count(*) FROM rollup").await, 2 * 2, "the last hour");
    assert_eq!(home.number("SELECT count(*) FROM rollup_day").await, 2 * 2, "more than a week ago");
    assert_eq!(read().await, before);
    compared("after the move").await;

    // One more that was recorded late: it is moved as the others were, to where they are.
    let late = now.minus(Duration::from_secs(9 * DAY));
    attempt(store, app.id, made.id, late, Transition::Delivered).await;
    let month = sum(store, &tenant(), CountScope::Organization, ChartRange::Month, now).await;
    assert_eq!((month.delivered, month.failed, month.retried, month.dead), (10, 18, 9, 9));
    let unmoved = read().await;
    widen(store, now).await;
    assert_eq!(home.number("SELECT count(*) FROM rollup").await, 2 * 2);
    assert_eq!(home.number("SELECT count(*) FROM rollup_day").await, 2 * 2);
    assert_eq!(read().await, unmoved);
    assert_eq!(total(&unmoved[3]).latency[2], 28, "20 ms each");
}

async fn a_step_moves_so_much_and_no_more(home: Home) {
    let store = &home.store;
    let (_, made) = customer(store, "acme").await;
    let rows = home.either(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 4999) SELECT n FROM n",
        "SELECT n FROM generate_series(0::bigint, 4999) AS n",
    );
    let id = made.id.0.simple();
    let id = if home.is_sqlite() { format!("x'{id}'") } else { format!("'{id}'") };
    home.execute(&format!(
        "INSERT INTO rollup SELECT 'org_default', {id}, {} + n * 60000000, 1, 2, 1, 1, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0
         FROM ({rows}) AS n",
        NOW.micros()
    ))
    .await;
    let now = later(5_000 * MINUTE);
    for left in [3_000, 1_000, 80] {
        store.compact_rollups(now).await.unwrap();
        assert_eq!(
            home.number("SELECT count(*) FROM rollup").await,
            left,
            "the hour, and what of the one before it counts"
        );
    }
    assert_eq!(home.number("SELECT CAST(sum(delivered) AS BIGINT) FROM rollup_hour").await, 4_920);
    let all = sum(store, &tenant(), CountScope::Endpoint(made.id), ChartRange::Month, now).await;
    assert_eq!((all.delivered, all.failed, all.latency[2]), (5_000, 10_000, 15_000));
}

async fn a_range_begins_with_a_whole_bucket_and_ends_now(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let now = later(40 * DAY + 37 * MINUTE + 12);
    for range in ChartRange::ALL {
        let since = range.since(now);
        assert!(now.since(since) >= range.span() && now.since(since) < range.span() + range.width());
        let second = Duration::from_secs(1);
        for at in [since.minus(second), since, now] {
            attempt(store, app.id, made.id, at, Transition::Delivered).await;
        }
        let before = sum(store, &tenant(), CountScope::Organization, range, now).await.delivered;
        widen(store, now).await;
        let buckets = store.buckets(&tenant(), CountScope::Organization, range, now).await.unwrap();
        assert_eq!(total(&buckets).delivered, before, "{range:?}");
        assert_eq!(buckets[0].counts.delivered, 1, "{range:?}");
        assert!(buckets[buckets.len() - 1].counts.delivered >= 1, "{range:?}");
    }
}

async fn each_sees_what_is_its_own(home: Home) {
    let store = &home.store;
    let (acme, one) = customer(store, "acme").await;
    let two = endpoint(store, acme.id, endpoint_spec()).await;
    let (beta, three) = customer(store, "beta").await;
    for (app, end, next, times) in [
        (acme.id, one.id, dead(), 2),
        (acme.id, two.id, Transition::Delivered, 3),
        (beta.id, three.id, retry(DAY, 1), 5),
        (beta.id, three.id, dead(), 1),
    ] {
        for _ in 0..times {
            attempt(store, app, end, NOW, next).await;
        }
    }
    let now = later(3 * HOUR);
    widen(store, now).await;
    attempt(store, acme.id, one.id, later(3 * HOUR - 1), dead()).await;
    let only = Tenant { only: Some(acme.id), ..tenant() };
    let attempts = async |who: &Tenant, scope| sum(store, who, scope, ChartRange::Day, now).await.attempts();
    for (who, scope, wanted) in [
        (&tenant(), CountScope::Organization, 12),
        (&tenant(), CountScope::Application(acme.id), 6),
        (&tenant(), CountScope::Endpoint(three.id), 6),
        (&only, CountScope::Organization, 0),
        (&only, CountScope::Application(acme.id), 6),
        (&only, CountScope::Application(beta.id), 0),
        (&only, CountScope::Endpoint(one.id), 3),
        (&only, CountScope::Endpoint(three.id), 0),
        (&stranger(), CountScope::Organization, 0),
        (&stranger(), CountScope::Application(acme.id), 0),
        (&stranger(), CountScope::Endpoint(one.id), 0),
    ] {
        assert_eq!(attempts(who, scope).await, wanted, "{who:?} {scope:?}");
    }

    let ends = [one.id, two.id, three.id];
    let counts = async |who: &Tenant| {
        let found = store.endpoint_counts(who, &ends, ChartRange::Day, now).await.unwrap();
        ends.map(|end| found.get(&end).map(|counts| (counts.delivered, counts.failed, counts.dead)))
    };
    assert_eq!(counts(&tenant()).await, [Some((0, 3, 3)), Some((3, 0, 0)), Some((0, 6, 1))]);
    assert_eq!(counts(&only).await, [Some((0, 3, 3)), Some((3, 0, 0)), None]);
    assert_eq!(counts(&stranger()).await, [None; 3]);
    assert!(store.endpoint_counts(&tenant(), &[], ChartRange::Day, now).await.unwrap().is_empty());

    let worst = async |who: &Tenant, range, limit| {
        let found = store.top_failing(who, range, now, limit).await.unwrap();
        found.into_iter().map(|one| (one.endpoint_id, one.app_name, one.counts.failed)).collect::<Vec<_>>()
    };
    let (first, second) = ((three.id, "beta".to_owned(), 6), (one.id, "acme".to_owned(), 3));
    assert_eq!(worst(&tenant(), ChartRange::Week, 5).await, [first.clone(), second.clone()]);
    assert_eq!(worst(&tenant(), ChartRange::Week, 1).await, [first]);
    assert_eq!(worst(&only, ChartRange::Week, 5).await, std::slice::from_ref(&second));
    assert_eq!(worst(&tenant(), ChartRange::Hour, 5).await, [(one.id, "acme".to_owned(), 1)]);
    assert!(worst(&stranger(), ChartRange::Week, 5).await.is_empty());
    store.delete_endpoint(&tenant(), beta.id, three.id, now).await.unwrap();
    assert_eq!(worst(&tenant(), ChartRange::Week, 5).await, [second], "nothing can be done about a deleted one");

    let tried =
        async |since, until| store.attempt_counts(&tenant(), acme.id, None, later(since), later(until)).await.unwrap();
    assert_eq!(tried(0, 4 * HOUR).await, AttemptCounts { delivered: 3, failed: 3 });
    assert_eq!(tried(30 * MINUTE, 4 * HOUR).await, AttemptCounts { delivered: 3, failed: 3 }, "all of the hour");
    assert_eq!(tried(HOUR, 4 * HOUR).await, AttemptCounts { delivered: 0, failed: 1 });
    assert_eq!(tried(0, 2 * HOUR).await, AttemptCounts { delivered: 3, failed: 2 });
}

async fn the_store_says_how_large_it_is(home: Home) {
    let before = home.store.size().await.unwrap();
    assert!(before > 0);
    let (app, _) = customer(&home.store, "acme").await;
    let mut large = item(app.id);
    large.spec.payload = format!("{{\"a\": \"{}\"}}", "0123456789abcdef".repeat(10_000)).into();
    offer(&home.store, large).await.unwrap();
    let grown = home.store.size().await.unwrap() - before;
    // PostgreSQL compresses what repeats itself. SQLite keeps the beginning of the row in the table's first page (8 KiB), which was there.
    assert!(grown >= if home.is_sqlite() { 160_000 - 8_192 } else { 0 }, "{grown}");
}

async fn records_go_on_while_counts_are_moved(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let other = home.another().await;
    for _ in 0..200 {
        accept(store, app.id).await;
    }
    let due = waiting(store, made.id).await;
    // Late, all of them: what is counted is moved at the same moment, by two at once.
    let records = async {
        for one in &due {
            let mut done = finished(app.id, one, answered(200), Transition::Delivered);
            done.attempt.at = NOW;
            store.record(vec![done]).await.unwrap();
        }
    };
    let moves = async |by: &Store| {
        for _ in 0..60 {
            by.compact_rollups(later(5 * HOUR)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(records, moves(store), async {
        if !home.is_sqlite() {
            moves(&other).await
        }
    });
    let all = sum(store, &tenant(), CountScope::Organization, ChartRange::Day, later(5 * HOUR)).await;
    assert_eq!((all.delivered, all.latency[2]), (200, 200));
    widen(store, later(5 * HOUR)).await;
    assert_eq!(home.number("SELECT delivered FROM rollup_hour ORDER BY endpoint_id LIMIT 1").await, 200);
}

/// PostgreSQL: counts are added to again and again, and no index is written for it as long as the new version of a row fits on its page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adding_to_counts_writes_no_index() {
    let home = Home::postgres().await;
    for table in ["rollup", "rollup_hour", "rollup_day"] {
        let zeros = ["0"; 16].join(", ");
        home.execute(&format!(
            "INSERT INTO {table} SELECT 'acme', CAST(md5(CAST(n AS text)) AS uuid), n, {zeros} FROM generate_series(1, 3000) AS n"
        ))
        .await;
        let pages = async || home.number(&format!("SELECT pg_relation_size('{table}_pkey')")).await;
        let before = pages().await;
        home.execute(&format!("UPDATE {table} SET delivered = delivered + 1")).await;
        assert_eq!(pages().await, before, "{table}");
    }
}
