//! How much of a thing there may be: checked in the transaction that makes one more.

use std::time::Duration;

use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScopes, KeySpec};
use sendoff::domain::access::portal::{PortalLink, PortalOptions};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::limits;
use sendoff::store::StoreError;
use sendoff::store::access::access_expiry::AccessExpiry;

use crate::home::*;
use crate::support::on_both;

/// The field that is refused.
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Invalid(wrong)) => wrong[0].to_string(),
        other => panic!("{other:?}"),
    }
}

fn link(app: &sendoff::domain::catalog::application::Application, n: u64) -> ([u8; 32], PortalLink) {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&n.to_be_bytes());
    let options = PortalOptions::all(later(9_000).micros());
    (hash, PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: later(1_000 + n) })
}

on_both! {
    an_application_has_so_many_endpoints_and_no_more
    the_oldest_link_and_portal_session_of_an_application_are_removed
    a_customer_s_access_ends_and_no_other
    access_can_end_after_a_grace_period_and_for_single_sessions
    the_catalog_and_the_keys_of_an_organization_are_bounded
}

async fn an_application_has_so_many_endpoints_and_no_more(home: Home) {
    let store = &home.store;
    store.limit_endpoints(3);
    let (app, other) = (application(store, "acme").await, application(store, "other").await);
    let (mut made, secret) = (Vec::new(), secret());
    for _ in 0..3 {
        made.push(endpoint(store, app.id, endpoint_spec()).await);
    }
    let mine = tenant();
    let one_more = || store.create_endpoint(&mine, app.id, endpoint_spec(), &secret, NOW);
    let said = refused(one_more().await);
    assert!(said.contains("url") && said.contains("its limit of 3 endpoints"), "{said}");
    endpoint(store, other.id, endpoint_spec()).await;

    // A place that becomes free is one endpoint's, whoever asks at the same time.
    assert!(store.delete_endpoint(&tenant(), app.id, made[0].id, later(1)).await.unwrap());
    assert!(!store.delete_endpoint(&tenant(), app.id, made[0].id, later(1)).await.unwrap());
    let results = futures_util::future::join_all((0..6).map(|_| one_more())).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert_eq!(home.number("SELECT count(*) FROM endpoint WHERE deleted_at IS NULL").await, 4);

    // What is there stays when the limit is lowered, and goes on to work.
    store.limit_endpoints(1);
    let changed = sendoff::domain::catalog::endpoint::EndpointSpec { description: "changed".into(), ..endpoint_spec() };
    updated(store, &made[1], changed, later(2)).await;
    refused(one_more().await);
    store.limit_endpoints(100);
    assert!(one_more().await.is_ok());
}

async fn the_oldest_link_and_portal_session_of_an_application_are_removed(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await, application(store, "other").await);
    let theirs = link(&other, 0);
    let theirs_hash = [9; 32];
    store.add_portal_link(&theirs_hash, &theirs.1, NOW).await.unwrap();
    let most = limits::PORTAL_LINKS as u64;
    for n in 0..most + 2 {
        let (hash, link) = link(&app, n);
        store.add_portal_link(&hash, &link, NOW).await.unwrap();
    }
    let good = async |n: u64| store.valid_portal_link(&link(&app, n).0, NOW).await.unwrap().is_some();
    assert_eq!([good(0).await, good(1).await, good(2).await, good(most + 1).await], [false, false, true, true]);
    assert!(store.valid_portal_link(&theirs_hash, NOW).await.unwrap().is_some(), "another application's");

    for n in 2..most + 2 {
        let (hash, at) = (link(&app, n).0, later(n));
        assert!(store.redeem_portal_link(&hash, &hash, at).await.unwrap().is_some());
    }
    store.redeem_portal_link(&theirs_hash, &theirs_hash, NOW).await.unwrap().unwrap();
    let now = later(most + 10);
    let lasts = async |n: u64| store.portal_session(&link(&app, n).0, now).await.unwrap().is_some();
    assert!(lasts(2).await && lasts(3).await);
    let (hash, one_more) = link(&app, most + 7);
    store.add_portal_link(&hash, &one_more, now).await.unwrap();
    store.redeem_portal_link(&hash, &hash, now).await.unwrap().unwrap();
    assert_eq!([lasts(2).await, lasts(3).await, lasts(most + 7).await], [false, true, true]);
    assert!(store.portal_session(&theirs_hash, now).await.unwrap().is_some(), "another application's");
}

async fn a_customer_s_access_ends_and_no_other(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await, application(store, "other").await);
    for (n, of) in [(1, &app), (2, &app), (3, &other)] {
        let (hash, link) = link(of, n);
        store.add_portal_link(&hash, &link, NOW).await.unwrap();
        store.redeem_portal_link(&hash, &hash, NOW).await.unwrap().unwrap();
    }
    let open = async |app| store.open_portal_sessions(&tenant(), app, 9, NOW).await.unwrap().len();
    assert!(!store.revoke_portal_session(&tenant(), app.id, &link(&other, 3).0, NOW).await.unwrap());
    assert!(store.revoke_portal_session(&tenant(), app.id, &link(&app, 1).0, NOW).await.unwrap());
    assert_eq!((open(app.id).await, open(other.id).await), (1, 1));
    let end = AccessExpiry { issued: NOW, ..AccessExpiry::default() };
    assert!(!store.expire_portal_access(&stranger(), app.id, &end, NOW).await.unwrap());
    assert!(store.expire_portal_access(&tenant(), app.id, &end, NOW).await.unwrap());
    assert_eq!((open(app.id).await, open(other.id).await), (0, 1));
    let expired = async |app, issued| store.is_token_expired(app, None, issued, later(2)).await.unwrap();
    assert!(expired(app.id, NOW).await && !expired(app.id, later(1)).await && !expired(other.id, NOW).await);
}

async fn access_can_end_after_a_grace_period_and_for_single_sessions(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for (n, name) in [(1, "anna"), (2, "bert"), (3, "anna")] {
        let (hash, mut link) = link(&app, n);
        link.options.session_id = Some(name.to_owned());
        link.options.until = later(3_600).micros();
        store.add_portal_link(&hash, &link, NOW).await.unwrap();
        if n < 3 {
            store.redeem_portal_link(&hash, &hash, NOW).await.unwrap().unwrap();
        }
    }
    let expired = async |session, issued, now| store.is_token_expired(app.id, session, issued, now).await.unwrap();
    let lasts = async |n: u64, now| store.portal_session(&link(&app, n).0, now).await.unwrap().is_some();
    let unused = async |now| store.valid_portal_link(&link(&app, 3).0, now).await.unwrap().is_some();
    let minute = Duration::from_secs(60);
    let anna = AccessExpiry { issued: NOW, grace: minute, sessions: vec!["anna".to_owned()] };
    assert!(unused(NOW).await);
    assert!(store.expire_portal_access(&tenant(), app.id, &anna, NOW).await.unwrap());
    assert!(!unused(NOW).await, "a link opens a session that would outlast the grace");
    for (session, issued, now, wanted) in [
        (Some("anna"), NOW, later(59), false),
        (Some("anna"), NOW, later(60), true),
        (Some("anna"), later(1), later(60), false),
        (Some("bert"), NOW, later(60), false),
        (None, NOW, later(60), false),
    ] {
        assert_eq!(expired(session, issued, now).await, wanted, "{session:?} {issued:?} {now:?}");
    }
    assert!(lasts(1, later(59)).await && !lasts(1, later(60)).await && lasts(2, later(60)).await);

    // Of all, later; and an end that comes before takes its place.
    let all = |grace| AccessExpiry { issued: later(2), grace, sessions: Vec::new() };
    store.expire_portal_access(&tenant(), app.id, &all(20 * minute), later(2)).await.unwrap();
    store.expire_portal_access(&tenant(), app.id, &all(10 * minute), later(2)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM access_end WHERE session_id = ''").await, 1);
    assert!(!expired(None, later(2), later(601)).await && expired(None, later(2), later(602)).await);
    assert!(!expired(None, later(3), later(700)).await, "what is issued later");
    assert!(!lasts(2, later(602)).await);
    // What is past is kept, however many follow.
    let later_on = AccessExpiry { issued: later(700), grace: minute, sessions: Vec::new() };
    store.expire_portal_access(&tenant(), app.id, &later_on, later(700)).await.unwrap();
    assert!(expired(None, later(2), later(701)).await && !expired(None, later(3), later(701)).await);
    let now = AccessExpiry { issued: later(701), ..AccessExpiry::default() };
    store.expire_portal_access(&tenant(), app.id, &now, later(701)).await.unwrap();
    assert!(expired(Some("bert"), later(701), later(702)).await);
    assert_eq!(home.number("SELECT count(*) FROM access_end").await, 0);

    // A bounded number is remembered.
    let fill = format!(
        "INSERT INTO access_end (app_id, session_id, issued, ends_at)
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {})
         SELECT id, 's' || n, {}, 0 FROM application CROSS JOIN n",
        limits::ACCESS_ENDS,
        later(800).micros()
    );
    home.execute(&fill).await;
    let one_more = AccessExpiry { issued: later(800), sessions: vec!["carl".to_owned()], ..AccessExpiry::default() };
    let said = refused(store.expire_portal_access(&tenant(), app.id, &one_more, later(800)).await);
    assert!(said.contains("sessionIds"), "{said}");
    let weeks_later = AccessExpiry { issued: later(900 + 15 * 86_400), ..one_more };
    store.expire_portal_access(&tenant(), app.id, &weeks_later, later(900 + 15 * 86_400)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM access_end").await, 1);
}

async fn the_catalog_and_the_keys_of_an_organization_are_bounded(home: Home) {
    let store = &home.store;
    let spec = |name: &str| EventTypeSpec { name: name.into(), ..EventTypeSpec::default() };
    store.create_event_type(&tenant(), spec("first"), NOW).await.unwrap();
    let fill = format!(
        "INSERT INTO event_type (org, name, description, archived, deprecated, feature_flags, created_at, updated_at)
         WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < {})
         SELECT org, 'filled.' || n, '', archived, deprecated, feature_flags, created_at, updated_at
         FROM event_type CROSS JOIN n WHERE name = 'first'",
        limits::CATALOG
    );
    assert_eq!(home.execute(&fill).await, limits::CATALOG as u64 - 1);
    let said = refused(store.create_event_type(&tenant(), spec("last"), NOW).await);
    assert!(said.contains("name") && said.contains("10000 event types"), "{said}");
    refused(store.put_event_type(&tenant(), spec("last"), NOW).await);
    store.put_event_type(&tenant(), spec("first"), later(1)).await.expect("what is there can be changed");
    store.create_event_type(&stranger(), spec("last"), NOW).await.expect("another organization");
    store.delete_event_type(&tenant(), "filled.2", true, later(1)).await.unwrap();
    store.create_event_type(&tenant(), spec("last"), NOW).await.expect("there is a place again");

    let mut last = None;
    let made = || {
        let spec = KeySpec { name: "k".into(), scopes: KeyScopes::EVERYTHING, expires_at: None };
        let (key, text) = ApiKey::make(tenant().org, spec, NOW).expect("a key");
        (key, api_key::hash(&text))
    };
    for _ in 0..limits::KEYS {
        let (key, hash) = made();
        store.add_api_key(&key, &hash).await.unwrap();
        last = Some(key.id);
    }
    let (key, hash) = made();
    let said = refused(store.add_api_key(&key, &hash).await);
    assert!(said.contains("1000 API keys"), "{said}");
    store.revoke_api_key(&tenant(), last.unwrap(), NOW.plus(Duration::from_secs(1))).await.unwrap();
    store.add_api_key(&key, &hash).await.expect("a revoked one is none");
}
