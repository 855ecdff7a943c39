//! Counting what background work would send, at many endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::DeliveryStatus;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::background::{since, spec};
use crate::background_wide::count;
use crate::home::*;
use crate::support::on_both;

const ENDPOINTS: usize = 150;
/// More deliveries than are counted together with those of other endpoints.
const DEEP: usize = 1_100;

/// Ends all that waits as dead.
async fn end_all(home: &Home) {
    let org = tenant().org;
    home.execute(&format!(
        "INSERT INTO dead (message_id, endpoint_id, app_id, org, reason, at, attempts, step, generation)
         SELECT message_id, endpoint_id, app_id, '{}', 'exhausted', due_at, 1, 0, 0 FROM due",
        org.as_str()
    ))
    .await;
    home.execute("DELETE FROM due").await;
}

/// An application with many endpoints that have a few dead deliveries each, and between two such ones of an application with a single endpoint
/// that has very many.
async fn town(home: &Home) {
    let store = &home.store;
    for (name, endpoints, messages) in [("a", ENDPOINTS, 2), ("deep", 1, DEEP), ("b", 3, 4)] {
        let app = application(store, name).await.id;
        for _ in 0..endpoints {
            endpoint(store, app, endpoint_spec()).await;
        }
        for some in (0..messages).collect::<Vec<_>>().chunks(100) {
            join_all(some.iter().map(|_| accept(store, app))).await;
        }
    }
    end_all(home).await;
    // What is pending is not meant.
    let deep = application(store, "c").await.id;
    endpoint(store, deep, endpoint_spec()).await;
    accept(store, deep).await;
}

fn dead() -> EndpointMessageFilter {
    EndpointMessageFilter { standings: vec![DeliveryStatus::Dead], ..since(0, 900) }
}

const WANTED: i64 = (ENDPOINTS * 2 + DEEP + 3 * 4) as i64;

on_both! {
    deliveries_of_many_endpoints_are_counted_once
}

async fn deliveries_of_many_endpoints_are_counted_once(home: Home) {
    town(&home).await;
    let of = |filter| spec(TaskScope::Organization, TaskKind::BulkReplay, filter);
    assert_eq!(count(&home.store, &tenant(), &of(dead())).await, WANTED);
    assert_eq!(count(&home.store, &tenant(), &of(since(0, 900))).await, WANTED + 1);
    assert_eq!(count(&home.store, &tenant(), &of(since(1, 900))).await, 0);
    assert_eq!(count(&home.store, &stranger(), &of(dead())).await, 0);
}

/// Counts the statements of this thread.
#[derive(Clone, Default)]
struct Statements(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// On one thread, so that every statement is seen.
#[tokio::test]
async fn counting_at_many_endpoints_takes_few_statements() {
    // With two subscribers, it is not left to chance whether a line of code logs at all.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    let home = Home::postgres().await;
    town(&home).await;
    let statements = Statements::default();
    let _seen = tracing::subscriber::set_default(tracing_subscriber::registry().with(statements.clone()));
    let spec = spec(TaskScope::Organization, TaskKind::BulkReplay, dead());
    assert_eq!(count(&home.store, &tenant(), &spec).await, WANTED);
    let sent = statements.0.load(Ordering::Relaxed);
    assert!((6..=30).contains(&sent), "{sent} statements for {ENDPOINTS} endpoints");
}
