//! A rolling upgrade: processes of two versions on one store, under load, while the schema changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sendoff::domain::AppId;
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::domain::time::Clock;
use sendoff::engine::Engine;
use sendoff::store::db::migrations::known_version;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::{AppRef, Store};
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

use crate::support::server::MASTER_KEY;
use crate::support::{Binary, Postgres, Receiver, SOON, eventually};
use crate::world::{World, egress, open, options};

/// What the next version might change: a column, a table, an index on a large table.
fn next_version() -> Vec<Migration> {
    let simple = format!(
        "ALTER TABLE message ADD COLUMN note TEXT; CREATE TABLE made_up (id BIGINT);
         INSERT INTO schema_compatibility (version, oldest_binary) VALUES ({}, {known}), ({}, {known})",
        known_version() + 1,
        known_version() + 2,
        known = known_version(),
    );
    let index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS made_up ON due (due_at)";
    let migration = |n: i64, sql: String, no_tx| {
        let sql = sqlx::AssertSqlSafe(sql).into_sql_str();
        Migration::new(known_version() + n, "made up".into(), MigrationType::Simple, sql, no_tx)
    };
    vec![migration(1, simple, false), migration(2, index.to_owned(), true)]
}

/// Accepts messages one after another until `stop`; gives back how many.
async fn load(store: Store, app: AppId, stop: Arc<AtomicBool>) -> usize {
    let mut accepted = 0;
    while !stop.load(Ordering::Relaxed) {
        let spec = MessageSpec {
            event_type: "invoice.paid".into(),
            payload: format!("{{\"n\":{accepted}}}").into(),
            ..MessageSpec::default()
        };
        let item = AcceptItem {
            tenant: None,
            app: AppRef::Id(app),
            only_endpoint: None,
            spec,
            at: Clock.now(),
            idempotency_key: None,
            audit: None,
        };
        store.accept(item).await.expect("the store").expect("accepted");
        accepted += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_upgrade_loses_nothing_and_everybody_stays_ready() {
    let master = MasterKey::parse(MASTER_KEY).unwrap();
    let mut world = World::at_with(&Postgres::shared().fresh_database(), None, master.clone()).await;
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/")).await;
    // Two of the old version: one here, one a process of its own.
    world.start(options());
    let old = Binary::on(&world.url).serve();
    let stop = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(load(world.store.clone(), world.app.id, stop.clone()));
    eventually("messages arrive", SOON, async || (receiver.count() > 20).then_some(())).await;

    // Each of the old ones is asked all the time.
    let asked = Arc::new(AtomicUsize::new(0));
    let watching = tokio::spawn({
        let (store, stop, asked) = (world.store.clone(), stop.clone(), asked.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                store.ready().await.expect("ready throughout");
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let newer = open(&world.url, master).await;
    newer.migrate_with(&next_version()).await.unwrap();
    let before = asked.load(Ordering::Relaxed);
    assert_eq!(old.get_status("/readyz"), Some(200), "the process is ready on the newer schema");
    let engine = Engine::start(newer.clone(), egress(), options());
    let more = tokio::spawn(load(newer.clone(), world.app.id, stop.clone()));
    old.terminate();
    let (status, said) = old.wait(SOON * 2);
    assert!(status.success(), "{said}");
    eventually("the old one is asked on", SOON, async || (asked.load(Ordering::Relaxed) > before + 20).then_some(()))
        .await;

    stop.store(true, Ordering::Relaxed);
    let accepted = sending.await.unwrap() + more.await.unwrap();
    watching.await.unwrap();
    world.stop().await;
    eventually("everything arrives", SOON, async || (receiver.count() >= accepted).then_some(())).await;
    let mut ids: Vec<_> = receiver.received().iter().map(|one| one.header("webhook-id").unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), accepted, "each of them");
    newer.ready().await.unwrap();
    engine.shut_down().await;
}
