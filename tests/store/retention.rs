//! Counts go with what they count. (The messages themselves: `age.rs`.)

use std::time::Duration;

use sendoff::domain::deliveries::delivery::Transition;
use sendoff::store::maintenance::retention::RetentionStep;

use crate::home::*;
use crate::support::on_both;

on_both! {
    counts_are_forgotten_an_hour_at_a_time
    counts_of_hours_and_days_go_when_all_of_them_is_past
}

async fn counts_are_forgotten_an_hour_at_a_time(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for hour in 0..5u64 {
        accept(store, app.id).await;
        let mut done = finished(app.id, &only_waiting(store, made.id).await, answered(200), Transition::Delivered);
        done.attempt.at = later(hour * 3_600);
        store.record(vec![done]).await.unwrap();
    }
    let minutes = async || home.number("SELECT count(DISTINCT minute) FROM rollup").await;
    assert_eq!(store.expire(NOW.minus(Duration::from_secs(1)), NOW).await.unwrap(), RetentionStep::default());
    assert_eq!(minutes().await, 5);
    for left in [4, 3, 3] {
        store.expire(later(2 * 3_600), later(2 * 3_600)).await.unwrap();
        assert_eq!(minutes().await, left);
    }
}

async fn counts_of_hours_and_days_go_when_all_of_them_is_past(home: Home) {
    const HOUR: u64 = 3_600;
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for at in [later(0), later(24 * HOUR)] {
        accept(store, app.id).await;
        let mut done = finished(app.id, &only_waiting(store, made.id).await, answered(200), Transition::Delivered);
        done.attempt.at = at;
        store.record(vec![done]).await.unwrap();
    }
    let rows = async |table: &str| home.number(&format!("SELECT count(*) FROM {table}")).await;
    // 09:00 of one day and of the next: hours first, then, eight days later, the first of them a day.
    assert_eq!(store.compact_rollups(later(30 * HOUR)).await.unwrap(), 4);
    assert_eq!(store.compact_rollups(later(8 * 24 * HOUR)).await.unwrap(), 2);
    assert_eq!((rows("rollup").await, rows("rollup_hour").await, rows("rollup_day").await), (0, 2, 2));
    store.expire(later(14 * HOUR), later(14 * HOUR)).await.unwrap();
    assert_eq!(rows("rollup_day").await, 2, "an hour of that day is not past yet");
    store.expire(later(15 * HOUR), later(15 * HOUR)).await.unwrap();
    assert_eq!((rows("rollup_hour").await, rows("rollup_day").await), (2, 0));
    store.expire(later(25 * HOUR - 1), later(25 * HOUR - 1)).await.unwrap();
    assert_eq!(rows("rollup_hour").await, 2);
    store.expire(later(25 * HOUR), later(25 * HOUR)).await.unwrap();
    assert_eq!(rows("rollup_hour").await, 0);
}
