//! The team's database publishes all of its tables (change data capture, an upgrade to a new server), and somebody subscribes.

use crate::books::Books;
use crate::support::{Binary, Durability, Postgres, SOON, eventually};
use crate::world::{Kind, World};

/// Tables of which a publication of all tables refuses updates and deletes.
const WITHOUT_IDENTITY: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'sendoff' AND c.relkind IN ('r', 'p') AND c.relreplident <> 'f' AND NOT (c.relreplident = 'd'
         AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))";
const TABLES: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'sendoff' AND c.relkind IN ('r', 'p')";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_publication_of_all_tables_is_in_nobody_s_way() {
    let postgres = Postgres::start_with(Durability::On, "-c wal_level=logical");
    let (url, copy) = (postgres.fresh_database(), postgres.fresh_database());
    let mut world = World::at(Kind::Postgres, &url, None);
    // A short retention, so that maintenance makes partitions, drops them and removes rows meanwhile.
    world.set("SENDOFF_RETENTION", "1h");
    ["all", "worker"].into_iter().for_each(|role| _ = world.start(role));
    let migrated = Binary::on(&copy).run(&["migrate"]);
    assert!(migrated.status.success(), "{migrated:?}");
    let subscriber = Books::at(&copy);
    world
        .books
        .execute("CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)")
        .await
        .expect("a publication");
    // Within one server, the slot has to be there before the subscription.
    world.books.execute("SELECT pg_create_logical_replication_slot('copy', 'pgoutput')").await.expect("a slot");
    let subscribe = format!(
        "CREATE SUBSCRIPTION copy CONNECTION '{url}' PUBLICATION everything
         WITH (create_slot = false, slot_name = 'copy', copy_data = false)"
    );
    subscriber.execute(&subscribe).await.expect("a subscription");
    world.furnish().await;
    let load = world.load();
    world.progress(200).await;
    load.end().await;
    let toll = world.judge("a publication of all tables, and a subscriber", 1).await;
    assert_eq!(toll.duplicates, 0);
    for table in ["message", "attempt", "dead", "due", "outbox", "application", "endpoint"] {
        let count = format!("SELECT count(*) FROM {table}");
        let wanted = world.books.number(&count).await;
        eventually(&format!("the subscriber has all of {table}"), SOON, async || {
            (subscriber.number(&count).await == wanted).then_some(())
        })
        .await;
    }
    assert!(world.books.number(TABLES).await > 25, "the tables are where they are looked for");
    assert_eq!(world.books.number(WITHOUT_IDENTITY).await, 0);
}
