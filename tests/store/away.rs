//! The store is away for a while: nothing is accepted, everybody is told, and it goes on by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sendoff::domain::EndpointId;
use sendoff::domain::deliveries::attempt::Trigger;
use sendoff::domain::deliveries::delivery::{DeliveryState, Transition};
use sendoff::domain::deliveries::message::Message;
use sendoff::store::StoreError;
use sendoff::store::queue::pending_deliveries::PendingDelivery;
use sendoff::store::recording::record::RecordOutcome;
use sqlx::Executor;

use crate::home::*;
use crate::support::{Durability, Postgres, SOON, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_and_comes_back() {
    let server = Postgres::start(Durability::On);
    let home = Home::at(&server.fresh_database()).await;
    let (app, made) = customer(&home.store, "acme").await;
    let kept = accept(&home.store, app.id).await;
    server.crash();
    let done = finished(app.id, &in_memory(&kept, made.id), answered(200), Transition::Delivered);
    // Many more than one batch holds: all of them hear it together and not one batch after the other.
    let begun = Instant::now();
    let (offers, recorded, ready, read) = tokio::join!(
        join_all((0..2_000).map(|_| home.store.accept(item(app.id)))),
        home.store.record(vec![done.clone()]),
        home.store.ready(),
        async { home.store.application(&tenant(), &app.id.into()).await },
    );
    for refused in offers {
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    for refused in [recorded.map(drop), ready, read.map(drop)] {
        assert!(refused.as_ref().is_err_and(StoreError::transient), "{refused:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    server.restart();
    eventually("the store takes messages again", SOON, async || home.store.accept(item(app.id)).await.ok())
        .await
        .unwrap();
    assert_eq!(
        home.number("SELECT count(*) FROM message").await,
        2,
        "what was answered, and nothing of what was refused"
    );
    home.store.ready().await.unwrap();
    assert_eq!(home.store.record(vec![done]).await.unwrap(), [RecordOutcome::Applied]);
}

/// A delivery as the engine has it in memory.
fn in_memory(message: &Message, endpoint: EndpointId) -> PendingDelivery {
    PendingDelivery {
        message_id: message.id,
        endpoint_id: endpoint,
        state: DeliveryState::Fresh,
        due_at: NOW,
        progress: progress(0, 0, 0, Trigger::Scheduled),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_somebody_else_holds_for_too_long() {
    let home = Home::sqlite().await;
    let app = application(&home.store, "acme").await;
    let Raw::Sqlite(mut holder) = home.connect().await else { panic!("SQLite") };
    holder.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = home.store.accept(item(app.id)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(home.store.application(&tenant(), &app.id.into()).await.unwrap().is_some(), "reading goes on");
    // Held for a moment only, it is waited for.
    let offered = tokio::spawn({
        let (store, one) = (home.store.clone(), item(app.id));
        async move { store.accept(one).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    holder.execute("COMMIT").await.unwrap();
    offered.await.unwrap().unwrap().unwrap();
    assert_eq!(home.number("SELECT count(*) FROM message").await, 1);
}
