//! How many reads that scan one caller has at a time: each method that scans takes a place.

use std::time::{Duration, Instant};

use futures_util::future::{LocalBoxFuture, join_all};
use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScopes, KeySpec};
use sendoff::domain::catalog::endpoint::Endpoint;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::catalog::endpoint_list::EndpointListFilter;
use sendoff::store::jobs::background::{BackgroundSpec, TaskSelection};
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::counts::{ChartRange, CountScope};
use sendoff::store::query::delivery_list::DeliveryFilter;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::query::message_list::MessageSearch;
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::query::tail::TailFilter;
use sendoff::store::{StoreError, Tenant};

use crate::home::*;
use crate::support::on_both;

/// The results of all methods that scan, at once, for the application's callers.
async fn scan_all(home: &Home, tenant: &Tenant, endpoint: &Endpoint) -> Vec<(&'static str, Result<(), StoreError>)> {
    let store = &home.store;
    let (app, id) = (endpoint.app_id, endpoint.id);
    let messages = MessageFilter { topics: of_types(&["none"]), ..MessageFilter::default() };
    let attempts = AttemptFilter { delivered: Some(false), ..AttemptFilter::default() };
    let work = BackgroundSpec {
        kind: TaskKind::Recover,
        scope: TaskScope::Endpoint(app, id),
        selection: TaskSelection::Messages(EndpointMessageFilter::default()),
        by: String::new(),
        total: None,
    };
    macro_rules! all {
        ($($name:ident($($argument:expr),*)),* $(,)?) => {
            vec![$((stringify!($name), Box::pin(async { store.$name($($argument),*).await.map(drop) }) as LocalBoxFuture<'_, _>)),*]
        };
    }
    let calls = all![
        list_deliveries(tenant, &DeliveryFilter::default(), None, 10),
        list_messages(tenant, &MessageSearch::default(), None, 10),
        messages(tenant, app, &messages, &first()),
        endpoint_messages(tenant, app, id, &EndpointMessageFilter::default(), &first()),
        delivery_status_counts(tenant, app, id, NOW, later(1)),
        attempts(tenant, app, &attempts, &first()),
        newest_attempts_to(tenant, app, id, true, 10),
        oldest_due(tenant, NOW),
        count_in_state(tenant, DeliveryState::Retry, 10),
        buckets(tenant, CountScope::Application(app), ChartRange::Hour, NOW),
        top_failing(tenant, ChartRange::Hour, NOW, 10),
        attempt_counts(tenant, app, None, NOW, later(1)),
        tail(tenant, &TailFilter::default(), 10),
        list_endpoints(tenant, &EndpointListFilter::default(), &first()),
        applications_like(tenant, "a", &first()),
        audit_log(tenant, &AuditFilter::default(), &first()),
        offered_event_types(tenant, &[], &first()),
        estimate(tenant, &work, None),
    ];
    join_all(calls.into_iter().map(|(name, call)| async move { (name, call.await) })).await
}

on_both! {
    two_scans_of_an_application_go_on_and_no_third
    an_organization_leaves_a_place_for_others
}

async fn two_scans_of_an_application_go_on_and_no_third(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await, application(store, "other").await);
    let mine = endpoint(store, app.id, endpoint_spec()).await;
    let others = endpoint(store, other.id, endpoint_spec()).await;
    let of = |app| Tenant { only: Some(app), ..tenant() };
    let held = [store.scan(&of(app.id)).await.unwrap(), store.scan(&of(app.id)).await.unwrap()];

    let began = Instant::now();
    for (name, result) in scan_all(&home, &of(app.id), &mine).await {
        assert!(matches!(result, Err(StoreError::Crowded { .. })), "{name}: {result:?}");
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "they wait a little: {:?}", began.elapsed());

    // Who reads one thing, or is somebody else, is not held up: not by those that go on, nor by those that wait.
    let crowded = of(app.id);
    let waiting = scan_all(&home, &crowded, &mine);
    let meanwhile = async {
        let (key, hash) = {
            let spec = KeySpec { name: "k".into(), scopes: KeyScopes::EVERYTHING, expires_at: None };
            let (key, text) = ApiKey::make(tenant().org, spec, NOW).expect("a key");
            (key, api_key::hash(&text))
        };
        store.add_api_key(&key, &hash).await.unwrap();
        assert!(store.api_key_by_hash(&hash).await.unwrap().is_some());
        assert_eq!(store.messages(&of(app.id), app.id, &MessageFilter::default(), &first()).await.unwrap().data, []);
        for _ in 0..20 {
            for (name, result) in scan_all(&home, &of(other.id), &others).await {
                assert!(result.is_ok(), "{name}: {result:?}");
            }
        }
    };
    tokio::join!(waiting, meanwhile);

    drop(held);
    for (name, result) in scan_all(&home, &of(app.id), &mine).await {
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

async fn an_organization_leaves_a_place_for_others(home: Home) {
    let store = &home.store;
    let mut held = Vec::new();
    let refused = loop {
        match store.scan(&tenant()).await {
            Ok(scan) => held.push(scan),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Crowded { .. }), "{refused}");
    assert!(held.len() >= 2, "{}", held.len());
    assert!(store.scan(&stranger()).await.is_ok());
}
