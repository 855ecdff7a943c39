//! Counts go with what they count. (The messages themselves: `age.rs`.)

use std::time::Duration;

use sendoff::domain::delivery::Next;

use crate::home::*;

on_both! {
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
