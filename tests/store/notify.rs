//! What processes on one PostgreSQL announce to each other; with SQLite there is nobody to hear.

use std::time::Duration;

use sendoff::domain::{EndpointId, Time};
use sendoff::store::queue::notify::{Notification, NotificationListener};
use sendoff::store::queue::slots::EngineProcess;
use uuid::Uuid;

use crate::home::*;
use crate::support::on_both;

/// What is heard next, if anything soon is.
async fn next(listener: &mut NotificationListener) -> Notification {
    tokio::time::timeout(Duration::from_secs(20), listener.next()).await.expect("something is heard").expect("it hears")
}

fn process(id: u128) -> EngineProcess {
    EngineProcess { id: Uuid::from_u128(id), name: format!("process {id}"), started_at: Time::ZERO }
}

on_both! {
    an_owner_hears_of_its_own_slots_alone
}

async fn an_owner_hears_of_its_own_slots_alone(home: Home) {
    let store = &home.store;
    let (owner, idle) = (process(1), process(2));
    let Some(mut listener) = store.listen(owner.id).await.unwrap() else {
        assert!(home.is_sqlite(), "processes share a PostgreSQL");
        return;
    };
    let (_, endpoint) = customer(store, "acme").await;
    let (other, third) = (home.another().await, home.another().await);
    let mut bystander = third.listen(idle.id).await.unwrap().unwrap();
    store.heartbeat(&owner, Time::ZERO).await.unwrap();
    other.signals().notify_processes(vec![endpoint.id, EndpointId(Uuid::from_u128(7))]);
    assert_eq!(next(&mut listener).await, Notification::Due(vec![endpoint.id]), "the one that exists");
    store.signals().notify_processes(vec![endpoint.id]);
    let many = (0..10_000).map(|n| EndpointId(Uuid::from_u128(n))).collect();
    other.signals().notify_processes(many);
    assert_eq!(next(&mut listener).await, Notification::AnyEndpoint, "too many to name, and nothing of its own before");
    let another = store.slot_of_endpoint(endpoint.id).await.unwrap() as u8 ^ 1;
    store.release_slots(owner.id, &[another]).await.unwrap();
    assert_eq!(
        next(&mut bystander).await,
        Notification::SlotsReleased,
        "all that one without slots hears is that there are some"
    );
    other.deregister(idle.id).await.unwrap();
    assert_eq!(next(&mut listener).await, Notification::SlotsReleased, "all of them were handed back");
    let channel = format!("sendoff_due_{}", owner.id.simple());
    home.execute(&format!("SELECT pg_notify('{channel}', 'whoever it was')")).await;
    assert_eq!(next(&mut listener).await, Notification::AnyEndpoint, "what cannot be understood makes us look");
    home.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
         AND datname = current_database()",
    )
    .await;
    assert_eq!(next(&mut listener).await, Notification::AnyEndpoint, "meanwhile something may have been said");
    other.signals().notify_processes(vec![endpoint.id]);
    assert_eq!(next(&mut listener).await, Notification::Due(vec![endpoint.id]), "and it hears again");
}
