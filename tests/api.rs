//! The REST API on a real server over a fresh store, each test on SQLite and on PostgreSQL: shapes and codes, lists in both
//! directions, what a PATCH leaves and clears, who may call and who sees what, bad input of every kind.

mod support;

#[path = "api/background.rs"]
mod background;
#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/callers.rs"]
mod callers;
#[path = "api/changes.rs"]
mod changes;
#[path = "api/conformance.rs"]
mod conformance;
#[path = "api/cors.rs"]
mod cors;
#[path = "api/dialect.rs"]
mod dialect;
#[path = "api/docs.rs"]
mod docs;
#[path = "api/document.rs"]
mod document;
#[path = "api/endpoint_messages.rs"]
mod endpoint_messages;
#[path = "api/examples.rs"]
mod examples;
#[path = "api/flood.rs"]
mod flood;
#[path = "api/garbage.rs"]
mod garbage;
#[path = "api/headers.rs"]
mod headers;
#[path = "api/leases.rs"]
mod leases;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/lists.rs"]
mod lists;
#[path = "api/messages.rs"]
mod messages;
#[path = "api/once.rs"]
mod once;
#[path = "api/operational.rs"]
mod operational;
#[path = "api/outage.rs"]
mod outage;
#[path = "api/polling.rs"]
mod polling;
#[path = "api/portal_access.rs"]
mod portal_access;
#[path = "api/rates.rs"]
mod rates;
#[path = "api/reconcile.rs"]
mod reconcile;
#[path = "api/recorded.rs"]
mod recorded;
#[path = "api/resources.rs"]
mod resources;
#[path = "api/routes.rs"]
mod routes;
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
