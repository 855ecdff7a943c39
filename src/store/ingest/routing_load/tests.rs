//! The number of endpoints that an accepting transaction reads. `tests/store/routing.rs` tests the cached views on both
//! databases.

use super::*;
use crate::domain::OrgId;
use crate::domain::Time;
use crate::domain::catalog::application::ApplicationSpec;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::store::{Store, StoreOptions, Tenant, on};

fn tenant() -> Tenant {
    Tenant::org(OrgId::default_org())
}

struct Fixture {
    store: Store,
    app: AppId,
    endpoints: Vec<Endpoint>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A store with one application that has three endpoints; its row claims up to `most`.
    async fn with_most(most: usize) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::in_folder(&folder)).await.unwrap();
        store.migrate().await.unwrap();
        let app = store.create_application(&tenant(), ApplicationSpec::default(), Time::ZERO).await.unwrap().id;
        let mut endpoints = Vec::new();
        for _ in 0..3 {
            let spec = EndpointSpec { url: "https://example.com/".into(), ..EndpointSpec::default() };
            let secret = Secret::generate(SignatureType::default());
            endpoints.push(store.create_endpoint(&tenant(), app, spec, &secret, Time::ZERO).await.unwrap());
        }
        let fixture = Fixture { store, app, endpoints, _folder: folder };
        fixture.set("endpoints_made", most as i64).await;
        fixture
    }

    /// Sets a column of the application and increments its version.
    async fn set(&self, column: &str, value: i64) {
        let sql = format!("UPDATE application SET {column} = $1, version = version + 1");
        let mut tx = self.store.begin().await.unwrap();
        on!(&mut tx, db => sqlx::query(sqlx::AssertSqlSafe(sql)).bind(value).execute(db).await.map(drop)).unwrap();
        tx.commit().await.unwrap();
    }

    async fn change(&self, number: usize) {
        let found = self.store.endpoint(&tenant(), self.app, &self.endpoints[number].id.into()).await.unwrap();
        let before = found.unwrap();
        let spec = EndpointSpec { description: "changed".into(), ..before.spec.clone() };
        self.store.update_endpoint(&tenant(), &before, spec, Time::ZERO).await.unwrap();
    }

    /// The endpoints that an accepting transaction reads; `None`: the application has to be loaded first.
    async fn load_bounded(&self) -> Option<Vec<Arc<LiveEndpoint>>> {
        let inner = &self.store.inner;
        let mut tx = self.store.begin().await.unwrap();
        let apps = apps(&mut tx, &[(None, AppRef::Id(self.app))]).await.unwrap();
        let rows: Vec<&AppRow> = apps.by_id.values().collect();
        let mut loaded = load_bounded(&mut tx, &inner.routing_cache, &inner.master, &rows).await.unwrap();
        tx.roll_back().await.unwrap();
        assert_eq!(loaded.views.len() + loaded.not_loaded.len(), 1);
        loaded.views.pop().map(|view| view.endpoints)
    }

    async fn load(&self) {
        load(&self.store.inner, self.app).await.unwrap();
    }

    fn remembered(&self) -> Vec<Arc<LiveEndpoint>> {
        self.store.inner.routing_cache.get_any_version(self.app).unwrap().endpoints.clone()
    }
}

fn same(before: &[Arc<LiveEndpoint>], after: &[Arc<LiveEndpoint>]) -> Vec<bool> {
    before.iter().zip(after).map(|(before, after)| Arc::ptr_eq(before, after)).collect()
}

#[tokio::test]
async fn few_endpoints_are_read_inside_and_many_are_not() {
    assert_eq!(Fixture::with_most(MAX_ENDPOINTS_READ).await.load_bounded().await.map(|found| found.len()), Some(3));
    assert!(Fixture::with_most(MAX_ENDPOINTS_READ + 1).await.load_bounded().await.is_none());
}

#[tokio::test]
async fn changed_endpoints_are_read_inside_the_transaction() {
    let many = Fixture::with_most(MAX_ENDPOINTS_READ + 1).await;
    many.load().await;
    let before = many.remembered();
    many.change(1).await;
    let after = many.load_bounded().await.unwrap();
    assert_eq!(same(&before, &after), [true, false, true]);
    assert_eq!(after[1].endpoint.spec.description, "changed");
    many.store.delete_endpoint(&tenant(), many.app, many.endpoints[0].id, Time::ZERO).await.unwrap();
    let ids: Vec<EndpointId> = many.load_bounded().await.unwrap().iter().map(|live| live.endpoint.id).collect();
    assert_eq!(ids, [many.endpoints[1].id, many.endpoints[2].id]);
    // The engine has loaded one of them; the cached others are kept.
    many.store.live_endpoints(&[many.endpoints[1].id]).await.unwrap();
    assert_eq!(many.load_bounded().await.unwrap().len(), 2);
}

#[tokio::test]
async fn endpoints_loaded_by_the_engine_are_not_all_endpoints() {
    let many = Fixture::with_most(MAX_ENDPOINTS_READ + 1).await;
    many.store.live_endpoints(&[many.endpoints[1].id]).await.unwrap();
    assert!(many.load_bounded().await.is_none());
}

#[tokio::test]
async fn a_change_of_application_wide_values_reloads_all_endpoints() {
    for (column, value) in [("throttle_rate", 5), ("endpoints_made", 10_000), ("changes_from", 1_000)] {
        let many = Fixture::with_most(MAX_ENDPOINTS_READ + 1).await;
        many.set("throttle_rate", 1).await;
        many.load().await;
        many.set("created_at", 1).await;
        assert_eq!(same(&many.remembered(), &many.load_bounded().await.unwrap()), [true; 3]);
        many.set(column, value).await;
        assert!(many.load_bounded().await.is_none(), "{column}");
        many.load().await;
        let rate = many.remembered()[0].app_rate.unwrap();
        match column {
            "throttle_rate" => assert_eq!(rate.per_second, 5),
            "endpoints_made" => assert_eq!(rate.slots, 157),
            _ => assert_eq!(rate.per_second, 1),
        }
    }
}

#[tokio::test]
async fn a_change_of_too_many_endpoints_is_loaded_outside() {
    let few = Fixture::with_most(3).await;
    few.load().await;
    for number in 0..3 {
        few.change(number).await;
    }
    let mut tx = few.store.begin().await.unwrap();
    let listed = live_endpoints::changed_since(&mut tx, &[(few.app, 0)], 2).await.unwrap();
    assert_eq!(listed.len(), 2, "no more are read than asked for");
    tx.roll_back().await.unwrap();
}
