//! The audit log: each deed is noted once, together with what it does or not at all, and by whom.

use std::time::Duration;

use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScopes, KeySpec};
use sendoff::domain::access::audit::{Actor, ActorKind, action};
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::access::portal::{PortalLink, PortalOptions};
use sendoff::domain::catalog::endpoint::{EndpointSpec, HeaderChange};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::{AppId, OrgId};
use sendoff::store::access::audit::{AuditEntry, AuditFilter, NewAuditEntry};
use sendoff::store::access::operators::AccountChange;
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::idempotency::IdempotencyKey;
use sendoff::store::{Order, PageRequest, Store, StoreError, Tenant};

use crate::home::*;
use crate::support::on_both;

fn anna(store: &Store) -> Store {
    store.by(Actor::new(ActorKind::Operator, "anna"))
}

async fn log_of(store: &Store, tenant: &Tenant) -> Vec<AuditEntry> {
    store.audit_log(tenant, &AuditFilter::default(), &first()).await.expect("the log").data
}

/// What was noted since so many entries: acts and details.
async fn acts(store: &Store, seen: &mut usize) -> Vec<String> {
    let all = log_of(store, &tenant()).await;
    let new = all[*seen..].iter().map(|one| match one.detail.is_empty() {
        true => one.act.clone(),
        false => format!("{}: {}", one.act, one.detail),
    });
    let new = new.collect();
    *seen = all.len();
    new
}

fn event_type(name: &str) -> EventTypeSpec {
    EventTypeSpec { name: name.into(), ..EventTypeSpec::default() }
}

on_both! {
    acts_of_an_actor_are_audited
    people_and_keys_are_noted_too
    nothing_is_noted_of_what_is_not_done_or_nobody_did
    the_log_is_looked_through_page_by_page_and_forgotten_by_age
    a_filter_that_matches_little_looks_at_so_much_and_says_where_it_stopped
}

async fn acts_of_an_actor_are_audited(home: Home) {
    let (store, mut seen) = (anna(&home.store), 0);
    let (me, spec) = (tenant(), app_spec("acme"));
    let app = store.create_application(&me, spec.clone(), NOW).await.unwrap();
    changed_app(&store, &me, app.id, spec, NOW).await.unwrap().unwrap();
    assert_eq!(acts(&store, &mut seen).await, ["application created: acme", "application changed: acme"]);

    let url = EndpointSpec { url: "https://u:p@example.com/hook?token=x".into(), ..EndpointSpec::default() };
    let first = store.create_endpoint(&me, app.id, url.clone(), &secret(), NOW).await.unwrap();
    let off = EndpointSpec { disabled: true, ..url.clone() };
    let second = updated(&store, &first, off.clone(), NOW).await;
    let third = updated(&store, &second, url.clone(), NOW).await;
    let fourth = updated(&store, &third, EndpointSpec { description: "x".into(), ..url.clone() }, NOW).await;
    assert!(matches!(store.update_endpoint(&me, &third, url, NOW).await.unwrap(), OptimisticUpdate::Stale));
    let change = HeaderChange::Replace([("x-a".into(), "b".into())].into());
    assert!(store.change_headers(&me, app.id, fourth.id, &change, NOW).await.unwrap());
    assert!(store.rotate_secret(&me, app.id, fourth.id, &secret(), Duration::from_secs(60), NOW).await.unwrap());
    let wanted = [
        "endpoint created: example.com",
        "endpoint disabled: example.com",
        "endpoint enabled: example.com",
        "endpoint changed: example.com",
        "endpoint changed: headers, example.com",
        "secret rotated",
    ];
    assert_eq!(acts(&store, &mut seen).await, wanted, "and no more of the URL than its host");

    let message = accept(&store, app.id).await;
    assert!(acts(&store, &mut seen).await.is_empty(), "messages are not in the log");
    assert!(store.resend(&me, app.id, (message.id, fourth.id), NOW).await.unwrap());
    assert!(store.delete_content(&me, app.id, message.id, NOW).await.unwrap());
    assert_eq!(acts(&store, &mut seen).await, [format!("delivery resent: {}", fourth.id), "content deleted".into()]);

    store.create_event_type(&me, event_type("a.b"), NOW).await.unwrap();
    store.put_event_type(&me, event_type("a.b"), NOW).await.unwrap();
    assert!(store.delete_event_type(&me, "a.b", false, NOW).await.unwrap());
    assert!(store.delete_event_type(&me, "a.b", true, NOW).await.unwrap());
    assert!(!store.delete_event_type(&me, "a.b", true, NOW).await.unwrap());
    let wanted =
        ["event type changed: created", "event type changed", "event type changed: archived", "event type deleted"];
    assert_eq!(acts(&store, &mut seen).await, wanted);

    assert!(store.delete_endpoint(&me, app.id, fourth.id, NOW).await.unwrap());
    assert!(!store.delete_endpoint(&me, app.id, fourth.id, NOW).await.unwrap());
    assert!(store.delete_application(&me, app.id, NOW).await.unwrap());
    assert!(!store.delete_application(&me, app.id, NOW).await.unwrap());
    assert_eq!(acts(&store, &mut seen).await, ["endpoint deleted: example.com", "application deleted: acme"]);

    let all = log_of(&store, &me).await;
    assert!(all.iter().all(|one| one.actor == Actor::new(ActorKind::Operator, "anna") && one.at == NOW));
    let of_app = all.iter().filter(|one| one.app == Some(app.id)).count();
    assert_eq!(of_app, all.len() - 4, "all but the event types'");
    assert!(log_of(&store, &stranger()).await.is_empty());
}

async fn people_and_keys_are_noted_too(home: Home) {
    let (store, mut seen) = (anna(&home.store), 0);
    let spec = KeySpec { name: "billing".into(), scopes: KeyScopes::EVERYTHING, expires_at: None };
    let (key, text) = ApiKey::make(tenant().org, spec, NOW).unwrap();
    store.add_api_key(&key, &api_key::hash(&text)).await.unwrap();
    for _ in 0..2 {
        assert!(store.revoke_api_key(&tenant(), key.id, later(1)).await.unwrap());
    }
    assert!(store.revoke_api_key(&tenant(), key.id, later(2)).await.unwrap());
    assert_eq!(store.api_key(&tenant(), key.id).await.unwrap().unwrap().revoked_at, Some(later(1)));
    assert_eq!(store.api_key(&stranger(), key.id).await.unwrap(), None);
    let called = key.label();
    let wanted = [format!("key created: {called}, write"), format!("key revoked: {called}")];
    assert_eq!(acts(&store, &mut seen).await, wanted, "once, however often it is revoked");

    let options = PortalOptions { session_id: Some("s-1".into()), ..PortalOptions::all(0) };
    let link = PortalLink { org: tenant().org, app_id: AppId::new(NOW), options, expires_at: later(60) };
    store.add_portal_link(&[1; 32], &link, NOW).await.unwrap();
    store.add_login_link(&[2; 32], &tenant().org, later(60)).await.unwrap();
    store.redeem_login_link(&[2; 32], new_session(&[3; 32], later(60)), NOW).await.unwrap().unwrap();
    assert_eq!(store.redeem_login_link(&[2; 32], new_session(&[4; 32], later(60)), NOW).await.unwrap(), None);
    for _ in 0..2 {
        store.end_session(&[3; 32], NOW).await.unwrap();
    }
    assert_eq!(acts(&store, &mut seen).await, ["portal link made", "signed in", "signed out"]);

    let hashes = ["correct horse battery", "another good password"].map(|text| PasswordHash::make("p", text).unwrap());
    let (org, bert) = (OrgId::default_org(), Operator::new("bert", OperatorRole::Viewer, None, NOW).unwrap());
    store.create_operator(&org, &bert, &hashes[0], NOW).await.unwrap();
    assert!(store.create_operator(&org, &bert, &hashes[0], NOW).await.is_err());
    assert!(store.open_session(by_password(&bert, &hashes[0]), new_session(&[5; 32], later(60)), NOW).await.unwrap());
    assert!(!store.open_session(by_password(&bert, &hashes[1]), new_session(&[6; 32], later(60)), NOW).await.unwrap());
    assert!(store.change_password(own_change(&org, &bert, &hashes[0], &[5; 32]), &hashes[1], NOW).await.unwrap());
    assert_eq!(store.remove_operator(&org, bert.id, NOW).await.unwrap(), AccountChange::Done);
    let wanted = ["operator created: viewer, all organizations", "signed in", "password changed", "operator removed"];
    assert_eq!(acts(&store, &mut seen).await, wanted);
}

async fn nothing_is_noted_of_what_is_not_done_or_nobody_did(home: Home) {
    let (nobody, store) = (&home.store, anna(&home.store));
    let (app, first) = customer(nobody, "acme").await;
    nobody.rotate_secret(&tenant(), app.id, first.id, &secret(), Duration::ZERO, NOW).await.unwrap();
    let look = NewAuditEntry::of(&app.org, action::SECRET_REVEALED, "x").within(app.id);
    nobody.write_audit_entry(look, NOW).await.unwrap();
    assert!(log_of(&store, &tenant()).await.is_empty(), "nobody");

    assert!(matches!(store.create_application(&tenant(), app_spec("acme"), NOW).await, Err(StoreError::Taken(_))));
    assert!(!store.rotate_secret(&stranger(), app.id, first.id, &secret(), Duration::ZERO, NOW).await.unwrap());
    assert!(!store.delete_application(&stranger(), app.id, NOW).await.unwrap());
    assert!(log_of(&store, &tenant()).await.is_empty() && log_of(&store, &stranger()).await.is_empty());

    // A call that comes twice is done once, and noted once.
    let once = IdempotencyKey { hash: [1; 32], body: [2; 32], at: NOW };
    let store = store.with_idempotency_key(once);
    store.create_application(&tenant(), app_spec("other"), NOW).await.unwrap();
    assert!(matches!(store.create_application(&tenant(), app_spec("third"), NOW).await, Err(StoreError::Repeated)));
    assert_eq!(log_of(&store, &tenant()).await.len(), 1);
}

async fn the_log_is_looked_through_page_by_page_and_forgotten_by_age(home: Home) {
    let store = &home.store;
    let org = tenant().org;
    for n in 0..6u64 {
        let who = if n % 2 == 0 { "anna" } else { "bert" };
        let handle = store.by(Actor::new(ActorKind::Key, who));
        let act = if n < 3 { action::SECRET_REVEALED } else { action::KEY_CREATED };
        handle.write_audit_entry(NewAuditEntry::of(&org, act, &n.to_string()).with("ä\0ö"), later(n)).await.unwrap();
    }
    let things = async |filter: &AuditFilter, page: &PageRequest<_>| {
        let page = store.audit_log(&tenant(), filter, page).await.unwrap();
        (page.data.iter().map(|one| one.target.clone()).collect::<String>(), page.more)
    };
    let newest = PageRequest::first(4, Order::Descending);
    let all = AuditFilter::default();
    assert_eq!(things(&all, &newest).await, ("5432".into(), true));
    let page = store.audit_log(&tenant(), &all, &newest).await.unwrap();
    assert_eq!(page.data[0].detail, "ä\u{fffd}ö");
    let on = PageRequest { after: page.data.last().map(|one| one.id), ..newest.clone() };
    assert_eq!(things(&all, &on).await, ("10".into(), false));
    let back = PageRequest { after: Some(page.data[2].id), back: true, ..newest.clone() };
    assert_eq!(things(&all, &back).await, ("54".into(), false));
    let filter =
        |act: Option<&str>, who: Option<&str>| AuditFilter { act: act.map(str::to_owned), who: who.map(str::to_owned) };
    assert_eq!(things(&filter(Some(action::KEY_CREATED), None), &newest).await.0, "543");
    assert_eq!(things(&filter(None, Some("bert")), &newest).await.0, "531");
    assert_eq!(things(&filter(Some(action::KEY_CREATED), Some("anna")), &newest).await.0, "4");
    assert_eq!(things(&filter(Some("flown"), None), &newest).await, (String::new(), false));
    let only = Tenant { org: org.clone(), only: Some(AppId::new(NOW)) };
    assert!(store.audit_log(&only, &all, &first()).await.unwrap().data.is_empty());

    assert_eq!(store.delete_old_audit_entries(later(4), 3).await.unwrap(), 3);
    assert_eq!(store.delete_old_audit_entries(later(4), 3).await.unwrap(), 1);
    assert_eq!(things(&all, &newest).await, ("54".into(), false));
}

async fn a_filter_that_matches_little_looks_at_so_much_and_says_where_it_stopped(home: Home) {
    let store = &home.store;
    let anna = anna(store);
    let org = tenant().org;
    anna.write_audit_entry(NewAuditEntry::of(&org, action::SECRET_REVEALED, "first"), NOW).await.unwrap();
    let many = home.either(
        "INSERT INTO audit (id, org, at, kind, who, act, thing, detail)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10100)
         SELECT unhex(printf('f%031x', i)), 'org_default', 0, 'key', 'k', 'common', '', '' FROM n",
        "INSERT INTO audit (id, org, at, kind, who, act, thing, detail)
         SELECT CAST('f' || lpad(to_hex(i), 31, '0') AS uuid), 'org_default', 0, 'key', 'k', 'common', '', ''
         FROM generate_series(1, 10100) AS n(i)",
    );
    home.execute(many).await;
    let filter = AuditFilter { act: Some(action::SECRET_REVEALED.into()), who: None };
    let page = PageRequest::first(5, Order::Descending);
    let found = store.audit_log(&tenant(), &filter, &page).await.unwrap();
    assert!(found.data.is_empty() && found.more);
    let on = PageRequest { after: found.stopped, ..page };
    let found = store.audit_log(&tenant(), &filter, &on).await.unwrap();
    assert_eq!((found.data.len(), found.stopped), (1, None));
}
