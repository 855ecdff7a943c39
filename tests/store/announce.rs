//! What processes on one PostgreSQL announce to each other; with SQLite there is nobody to hear.

use std::time::Duration;

use sendoff::domain::{EndpointId, Time};
use sendoff::store::queue::notify::{Ear, Heard};
use sendoff::store::queue::slots::Process;
use uuid::Uuid;

/// What is heard next, if anything soon is.
async fn next(ear: &mut Ear) -> Heard {
    tokio::time::timeout(Duration::from_secs(20), ear.next()).await.expect("something is heard").expect("it hears")
}

on_both! {
    async fn what_one_announces_others_hear(home) {
        let store = &home.store;
        let Some(mut ear) = store.listen().await.unwrap() else {
            assert!(home.is_sqlite(), "processes share a PostgreSQL");
            return;
        };
        let other = home.another().await;
        let endpoint = EndpointId(Uuid::from_u128(7));
        other.signals().announce(vec![endpoint]);
        assert_eq!(next(&mut ear).await, Heard::Due(vec![endpoint]));
        store.signals().announce(vec![endpoint]);
        assert_eq!(next(&mut ear).await, Heard::Own, "this process knows it already");
        let process = Process { id: Uuid::from_u128(1), name: "there".into(), started_at: Time::ZERO };
        other.heartbeat(&process, Time::ZERO).await.unwrap();
        other.hand_back(process.id, &[1]).await.unwrap();
        assert_eq!(next(&mut ear).await, Heard::Freed, "a slot was handed back");
        other.depart(process.id).await.unwrap();
        assert_eq!(next(&mut ear).await, Heard::Freed, "all of them were");
        home.execute("SELECT pg_notify('sendoff_due', 'whoever it was')").await;
        assert_eq!(next(&mut ear).await, Heard::Anything, "what cannot be understood makes us look");
        home.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
             AND datname = current_database()").await;
        assert_eq!(next(&mut ear).await, Heard::Anything, "meanwhile something may have been said");
        other.signals().announce(vec![endpoint]);
        assert_eq!(next(&mut ear).await, Heard::Due(vec![endpoint]), "and it hears again");
    }
}
