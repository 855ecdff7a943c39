//! The store goes away and comes back: nothing is accepted meanwhile, what was sent is recorded afterwards, and the engine goes on by itself.

use std::time::{Duration, Instant};

use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::time::Clock;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::{AppRef, StoreError};

use crate::support::{Answer, Durability, Postgres, Receiver, SOON, eventually};
use crate::world::{World, options};

fn item(world: &World) -> AcceptItem {
    let spec = MessageSpec { event_type: "a".into(), payload: "{}".into(), ..MessageSpec::default() };
    AcceptItem {
        tenant: Some(world.tenant.clone()),
        app: AppRef::Id(world.app.id),
        only_endpoint: None,
        spec,
        at: Clock.now(),
        idempotency_key: None,
        audit: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_outlives_an_outage_of_the_store() {
    let server = Postgres::start(Durability::On);
    let mut world = World::at(&server.fresh_database(), None).await;
    // Slow enough that the answers come while the store is away.
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(700)));
    world.endpoint(receiver.url("/")).await;
    world.start(options());
    let mut accepted = Vec::new();
    for n in 0..10 {
        accepted.push(world.send(&format!("{{\"n\":{n}}}")).await.id);
    }
    eventually("all are in flight", SOON, async || (receiver.count() == 10).then_some(())).await;
    server.crash();
    let refused = world.store.accept(item(&world)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    server.restart();
    let back = Instant::now();
    for id in &accepted {
        world.until(*id, DeliveryState::Delivered).await;
        assert_eq!(world.attempts(*id).await.len(), 1);
    }
    assert_eq!(receiver.count(), 10, "what was answered during the outage is recorded, not sent again");
    let later = world.send("{\"later\":true}").await;
    world.until(later.id, DeliveryState::Delivered).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
}
