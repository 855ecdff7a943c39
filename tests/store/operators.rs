//! Operators' accounts, their sessions, and the organizations that there are.

use std::sync::LazyLock;

use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScopes, KeySpec};
use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::{OperatorId, OrgId};
use sendoff::store::StoreError;
use sendoff::store::access::operators::AccountChange;

use crate::home::*;
use crate::support::on_both;

/// Two passwords, worked out once.
static HASHES: LazyLock<[PasswordHash; 2]> = LazyLock::new(|| {
    ["correct horse battery", "another good password"].map(|text| PasswordHash::make("p", text).expect("a password"))
});

fn account(name: &str, orgs: Option<&[&str]>) -> Operator {
    let orgs = orgs.map(|orgs| orgs.iter().map(|text| org(text)).collect());
    Operator::new(name, OperatorRole::Admin, orgs, NOW).expect("an account")
}

fn from() -> OrgId {
    OrgId::default_org()
}

on_both! {
    an_account_comes_back_as_it_was_made
    a_session_knows_whose_it_is
    a_new_password_or_a_removal_ends_what_is_open
    organizations_are_those_that_have_something
    two_admins_cannot_remove_each_other
}

async fn an_account_comes_back_as_it_was_made(home: Home) {
    let store = &home.store;
    assert!(!store.any_operators().await.unwrap() && store.operators().await.unwrap().is_empty());
    let (anna, bert) = (account("Änna ☂", None), account("bert", Some(&["org_b", "org_a"])));
    for one in [&bert, &anna] {
        store.create_operator(&from(), one, &HASHES[0], NOW).await.unwrap();
    }
    assert!(store.any_operators().await.unwrap());
    let (found, hash) = store.operator_named("änna ☂").await.unwrap().unwrap();
    assert_eq!((&found, hash.verify("correct horse battery")), (&anna, true));
    assert_eq!(store.operator_named("bert").await.unwrap().unwrap().0, bert);
    for nobody in ["Bert", "", "b\0ert", "nobody"] {
        assert_eq!(store.operator_named(nobody).await.unwrap().map(|(one, _)| one), None, "{nobody:?}");
    }
    let mut all = store.operators().await.unwrap();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(all, [bert, anna]);
    let again = store.create_operator(&from(), &account("BERT", None), &HASHES[0], NOW).await;
    assert!(matches!(&again, Err(StoreError::Taken(what)) if what.contains("bert")), "{again:?}");
}

async fn a_session_knows_whose_it_is(home: Home) {
    let store = &home.store;
    let bert = account("bert", Some(&["org_b", "org_a"]));
    store.create_operator(&from(), &bert, &HASHES[0], NOW).await.unwrap();
    assert!(
        !store.open_session(by_password(&bert, &HASHES[1]), new_session(&[1; 32], later(60)), NOW).await.unwrap(),
        "the password changed"
    );
    assert!(
        store.open_session(by_password(&bert, &HASHES[0]), new_session(&[1; 32], later(60)), later(5)).await.unwrap()
    );
    let session = store.session(&[1; 32], later(59)).await.unwrap().unwrap();
    assert_eq!(
        (session.org, session.operator),
        (org("org_b"), Some(Operator { seen_at: Some(later(5)), ..bert.clone() }))
    );
    assert_eq!(store.session(&[1; 32], later(60)).await.unwrap(), None);
    store.select_organization(&[1; 32], &org("org_a")).await.unwrap();
    assert_eq!(store.session(&[1; 32], NOW).await.unwrap().unwrap().org, org("org_a"));
    store.select_organization(&[1; 32], &org("org_c")).await.unwrap();
    assert_eq!(store.session(&[1; 32], NOW).await.unwrap(), None, "an account sees nothing but what it names");

    store.add_login_link(&[2; 32], &org("org_c"), later(60)).await.unwrap();
    store.redeem_login_link(&[2; 32], new_session(&[3; 32], later(60)), NOW).await.unwrap().unwrap();
    let session = store.session(&[3; 32], NOW).await.unwrap().unwrap();
    assert_eq!((session.org, session.operator), (org("org_c"), None), "by a link");
}

async fn a_new_password_or_a_removal_ends_what_is_open(home: Home) {
    let store = &home.store;
    let (anna, bert) = (account("anna", None), account("bert", None));
    for one in [&anna, &bert] {
        store.create_operator(&from(), one, &HASHES[0], NOW).await.unwrap();
    }
    for n in 1..=3 {
        assert!(
            store.open_session(by_password(&anna, &HASHES[0]), new_session(&[n; 32], later(60)), NOW).await.unwrap()
        );
    }
    assert!(store.open_session(by_password(&bert, &HASHES[0]), new_session(&[9; 32], later(60)), NOW).await.unwrap());
    let open = async |n: u8| store.session(&[n; 32], NOW).await.unwrap().is_some();
    let changed =
        store.change_password(own_change(&from(), &anna, &HASHES[1], &[2; 32]), &HASHES[1], NOW).await.unwrap();
    assert!(!changed && open(1).await, "the old one has to be right");
    assert!(store.change_password(own_change(&from(), &anna, &HASHES[0], &[2; 32]), &HASHES[1], NOW).await.unwrap());
    assert_eq!([open(1).await, open(2).await, open(3).await, open(9).await], [false, true, false, true]);
    assert!(store.operator_named("anna").await.unwrap().unwrap().1.verify("another good password"));

    let gone = store.remove_operator(&from(), OperatorId::new(NOW), NOW).await.unwrap();
    assert_eq!(gone, AccountChange::NotFound);
    assert_eq!(store.remove_operator(&from(), anna.id, NOW).await.unwrap(), AccountChange::Done);
    assert_eq!([open(2).await, open(9).await], [false, true]);
    assert_eq!(store.operator_named("anna").await.unwrap().map(|(one, _)| one), None);
    assert!(
        !store.open_session(by_password(&anna, &HASHES[1]), new_session(&[4; 32], later(60)), NOW).await.unwrap(),
        "gone meanwhile"
    );
    assert!(!store.change_password(own_change(&from(), &anna, &HASHES[1], &[2; 32]), &HASHES[0], NOW).await.unwrap());
}

async fn organizations_are_those_that_have_something(home: Home) {
    let store = &home.store;
    assert!(store.organizations(10).await.unwrap().is_empty());
    for name in ["one", "two", "three"] {
        application(store, name).await;
    }
    store.create_application(&stranger(), app_spec("a"), NOW).await.unwrap();
    let spec = KeySpec { name: "k".into(), scopes: KeyScopes::EVERYTHING, expires_at: None };
    let (made, text) = ApiKey::make(org("org_key"), spec, NOW).unwrap();
    store.add_api_key(&made, &api_key::hash(&text)).await.unwrap();
    home.execute(
        "INSERT INTO event_type (org, name, description, archived, deprecated, feature_flags, created_at, updated_at)
         VALUES ('org_catalog', 'a.b', '', FALSE, FALSE, '[]', 0, 0)",
    )
    .await;
    let texts = |orgs: Vec<OrgId>| orgs.iter().map(OrgId::to_string).collect::<Vec<_>>();
    assert_eq!(
        texts(store.organizations(10).await.unwrap()),
        ["org_catalog", "org_default", "org_key", "org_stranger"]
    );
    assert_eq!(store.organizations(2).await.unwrap().len(), 2);
    for (text, there) in [("org_catalog", true), ("org_key", true), ("org_default", true), ("org_none", false)] {
        assert_eq!(store.is_organization(&org(text)).await.unwrap(), there, "{text}");
    }
}

async fn two_admins_cannot_remove_each_other(home: Home) {
    let store = &home.store;
    let account = |name: &str| Operator::new(name, OperatorRole::Admin, None, NOW).unwrap();
    let (anna, bert) = (account("anna"), account("bert"));
    for one in [&anna, &bert] {
        store.create_operator(&from(), one, &HASHES[0], NOW).await.unwrap();
    }
    let from = from();
    let (one, other) =
        tokio::join!(store.remove_operator(&from, anna.id, NOW), store.remove_operator(&from, bert.id, NOW));
    let results = [one.unwrap(), other.unwrap()];
    assert!(results.contains(&AccountChange::Done) && results.contains(&AccountChange::LastAdmin), "{results:?}");
    let left = store.operators().await.unwrap();
    let [last] = left.as_slice() else { panic!("{left:?}") };
    for after in [
        Operator { role: OperatorRole::Operator, ..last.clone() },
        Operator { orgs: Some(vec![org("org_b")]), ..last.clone() },
    ] {
        assert_eq!(store.change_access(&from, last, &after, NOW).await.unwrap(), AccountChange::LastAdmin);
    }
    let viewer = Operator::new("carl", OperatorRole::Viewer, None, NOW).unwrap();
    store.create_operator(&from, &viewer, &HASHES[0], NOW).await.unwrap();
    let admin = Operator { role: OperatorRole::Admin, ..viewer.clone() };
    assert_eq!(store.change_access(&from, &admin, &viewer, NOW).await.unwrap(), AccountChange::Conflict);
    assert_eq!(store.change_access(&from, &viewer, &admin, NOW).await.unwrap(), AccountChange::Done);
    assert_eq!(store.operator(viewer.id).await.unwrap(), Some(admin));
    assert_eq!(store.remove_operator(&from, last.id, NOW).await.unwrap(), AccountChange::Done);
}
