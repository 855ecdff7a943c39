//! The REST API on a real server over a fresh store, each test on SQLite and on PostgreSQL: shapes and codes, lists in both
//! directions, what a PATCH leaves and clears, who sees what, bad input of every kind, and the official Python client.

mod support;

#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/conformance.rs"]
mod conformance;
#[path = "api/docs.rs"]
mod docs;
#[path = "api/document.rs"]
mod document;
#[path = "api/garbage.rs"]
mod garbage;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/once.rs"]
mod once;
#[path = "api/outage.rs"]
mod outage;
#[path = "api/resources.rs"]
mod resources;
#[path = "api/svix_client.rs"]
mod svix_client;
#[path = "api/tenants.rs"]
mod tenants;
#[path = "api/traffic.rs"]
mod traffic;
#[path = "api/world.rs"]
mod world;

/// Makes two tests of each function that takes a [`world::World`]: one on each store.
macro_rules! on_both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::world::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::world::World::postgres().await).await;
            })*
        }
    };
}

pub(crate) use on_both_stores;
