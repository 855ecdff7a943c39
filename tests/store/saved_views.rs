//! Saved views: each account has its own, in each organization, and only so many.

use sendoff::domain::access::saved_view::{SavedView, ViewList};
use sendoff::domain::{OperatorId, OrgId, limits};
use sendoff::store::StoreError;

use crate::home::*;
use crate::support::on_both;

on_both! {
    views_belong_to_an_account_and_an_organization
}

async fn views_belong_to_an_account_and_an_organization(home: Home) {
    let store = &home.store;
    let (anna, bert, org, other) = (OperatorId::new(NOW), OperatorId::new(NOW), OrgId::default_org(), org("org_b"));
    let view = |name: &str, query: &str| SavedView::new(name, ViewList::Deliveries, query.to_owned()).unwrap();
    let names = async |org: &OrgId, who| -> Vec<String> {
        store.saved_views(org, who).await.unwrap().into_iter().map(|view| view.name).collect()
    };
    for name in ["b", "a"] {
        store.save_view(&org, anna, &view(name, "status=dead"), NOW).await.unwrap();
    }
    store.save_view(&org, anna, &view("a", "status=failed&since=1h"), NOW).await.unwrap();
    let saved = store.saved_views(&org, anna).await.unwrap();
    assert_eq!(saved, [view("a", "status=failed&since=1h"), view("b", "status=dead")], "by name, the newest of a name");
    assert!(names(&org, bert).await.is_empty() && names(&other, anna).await.is_empty());
    assert!(!store.delete_view(&org, bert, "a").await.unwrap() && !store.delete_view(&other, anna, "a").await.unwrap());
    assert!(store.delete_view(&org, anna, "a").await.unwrap());
    assert_eq!(names(&org, anna).await, ["b"]);

    for n in 1..limits::SAVED_VIEWS {
        store.save_view(&org, anna, &view(&format!("n{n}"), "a=b"), NOW).await.unwrap();
    }
    let full = store.save_view(&org, anna, &view("one more", "a=b"), NOW).await;
    assert!(matches!(full, Err(StoreError::Invalid(_))), "{full:?}");
    store.save_view(&org, anna, &view("b", "c=d"), NOW).await.unwrap();
    store.save_view(&other, anna, &view("one more", "a=b"), NOW).await.unwrap();
}
