//! What is older than the retention goes, step by step, and nothing else.

use std::time::Duration;

use sendoff::domain::delivery::Next;
use sendoff::store::Store;

use crate::home::*;

on_both! {
    async fn what_is_older_goes_in_steps_with_all_that_hangs_on_it(home) {
        let store = &home.store;
        let (app, made) = customer(store, "acme").await;
        let offers = (0..1_203u64).map(|n| {
            let mut one = item(app.id);
            one.spec.event_id = Some(uid(&format!("event-{n}")));
            one.at = later(n / 10);
            store.accept(one)
        });
        // One after the other in time, as ids are.
        for offered in futures_util::future::join_all(offers).await {
            offered.unwrap().unwrap();
        }
        let all = waiting(store, made.id).await;
        let done = all.iter().map(|one| {
            let mut done = finished(app.id, one, answered(200), Next::Delivered);
            done.attempt.at = one.due_at;
            done
        });
        store.record(done.collect()).await.unwrap();
        accept(store, app.id).await;

        let cutoff = later(120);
        let old = all.iter().filter(|one| one.message_id.time() < cutoff).count() as u64;
        let mut steps = Vec::new();
        while steps.last() != Some(&0) {
            steps.push(store.expire(cutoff).await.unwrap());
        }
        assert_eq!(steps.iter().sum::<u64>(), old + u64::from(NOW < cutoff), "{steps:?}");
        assert!(steps.iter().all(|step| *step <= Store::EXPIRE_STEP) && steps.len() == 4, "{steps:?}");
        for (table, column) in [("message", "id"), ("delivery", "message_id"), ("attempt", "message_id"), ("message_key", "message_id")] {
            let left = home.number(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(left, 3, "{table} by {column}: the last three were accepted at the cutoff");
        }
        let minutes = store.minutes(&tenant(), None, NOW).await.unwrap();
        assert!(minutes.iter().all(|minute| minute.minute >= later(60)), "{minutes:?}");
        let mut again = item(app.id);
        again.spec.event_id = Some(uid("event-1"));
        assert!(offer(store, again).await.is_ok(), "its id is free again");
    }

    async fn counts_are_forgotten_an_hour_at_a_time(home) {
        let store = &home.store;
        let (app, made) = customer(store, "acme").await;
        for hour in 0..5u64 {
            accept(store, app.id).await;
            let mut done = finished(app.id, &only_waiting(store, made.id).await, answered(200), Next::Delivered);
            done.attempt.at = later(hour * 3_600);
            store.record(vec![done]).await.unwrap();
        }
        let minutes = async || store.minutes(&tenant(), None, NOW).await.unwrap().len();
        assert_eq!(store.expire(NOW.minus(Duration::from_secs(1))).await.unwrap(), 0);
        assert_eq!(minutes().await, 5);
        for left in [4, 3, 3] {
            store.expire(later(2 * 3_600)).await.unwrap();
            assert_eq!(minutes().await, left);
        }
    }
}
