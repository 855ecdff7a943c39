//! Applications: made, read, changed, deleted and listed, each only by their own organization.

use std::collections::BTreeMap;

use sendoff::domain::AppId;
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::store::{AppRef, Order, PageRequest, StoreError, Tenant};

use crate::home::*;
use crate::support::on_both;

on_both! {
    an_application_comes_back_as_it_was_made
    a_change_replaces_everything_but_the_birth
    a_uid_is_taken_in_its_own_organization_only_and_until_it_is_given_up
    data_of_another_tenant_is_neither_seen_nor_changed
    a_list_is_walked_both_ways_in_either_order
}

async fn an_application_comes_back_as_it_was_made(home: Home) {
    let spec = ApplicationSpec {
        uid: Some(uid("acme")),
        name: "Ácmé ☂ 'quoted' \"too\"".into(),
        throttle_rate: Some(65_535),
        metadata: BTreeMap::from([("plan".into(), "gold\u{1F600}".into()), (String::new(), "'; --".into())]),
        contact_email: Some("ops@acme.test".into()),
    };
    let made = home.store.create_application(&tenant(), spec, NOW).await.unwrap();
    for name in [AppRef::Id(made.id), named("acme")] {
        assert_eq!(home.store.application(&tenant(), &name).await.unwrap().as_ref(), Some(&made));
        assert_eq!(home.store.app_id(&tenant(), &name).await.unwrap(), Some(made.id));
    }
    assert_eq!(home.another().await.application(&tenant(), &named("acme")).await.unwrap(), Some(made));
}

async fn a_change_replaces_everything_but_the_birth(home: Home) {
    let made = application(&home.store, "acme").await;
    let spec = ApplicationSpec { name: "New".into(), throttle_rate: Some(7), ..ApplicationSpec::default() };
    let changed = changed_app(&home.store, &tenant(), made.id, spec.clone(), later(5)).await.unwrap().unwrap();
    assert_eq!((changed.created_at, changed.updated_at, &changed.uid), (NOW, later(5), &None));
    assert_eq!(home.store.application(&tenant(), &made.id.into()).await.unwrap(), Some(changed));
    assert_eq!(home.store.application(&tenant(), &named("acme")).await.unwrap(), None, "the name is given up");
    let nobody = AppId::new(NOW);
    assert_eq!(changed_app(&home.store, &tenant(), nobody, spec, NOW).await.unwrap(), None);
}

async fn a_uid_is_taken_in_its_own_organization_only_and_until_it_is_given_up(home: Home) {
    let store = &home.store;
    let made = application(store, "acme").await;
    let taken = store.create_application(&tenant(), app_spec("acme"), NOW).await;
    assert!(matches!(&taken, Err(StoreError::Taken(what)) if what.contains("acme")), "{taken:?}");
    let other = application(store, "other").await;
    let taken = changed_app(store, &tenant(), other.id, app_spec("acme"), NOW).await;
    assert!(matches!(taken, Err(StoreError::Taken(_))), "{taken:?}");
    assert!(store.create_application(&stranger(), app_spec("acme"), NOW).await.is_ok());

    assert!(store.delete_application(&tenant(), made.id, NOW).await.unwrap());
    assert!(!store.delete_application(&tenant(), made.id, NOW).await.unwrap(), "it is gone");
    assert_eq!(store.application(&tenant(), &made.id.into()).await.unwrap(), None);
    assert_eq!(changed_app(store, &tenant(), made.id, app_spec("x"), NOW).await.unwrap(), None);
    assert_ne!(application(store, "acme").await.id, made.id);
    let none = ApplicationSpec { uid: None, ..app_spec("z") };
    for _ in 0..2 {
        assert!(store.create_application(&tenant(), none.clone(), NOW).await.is_ok(), "no uid is never taken");
    }
}

async fn data_of_another_tenant_is_neither_seen_nor_changed(home: Home) {
    let store = &home.store;
    let (mine, sister) = (application(store, "mine").await, application(store, "sister").await);
    let only_sister = Tenant { only: Some(sister.id), ..tenant() };
    for who in [stranger(), only_sister.clone()] {
        assert_eq!(store.application(&who, &mine.id.into()).await.unwrap(), None);
        assert_eq!(store.application(&who, &named("mine")).await.unwrap(), None);
        assert_eq!(changed_app(store, &who, mine.id, app_spec("taken"), NOW).await.unwrap(), None);
        assert!(!store.delete_application(&who, mine.id, NOW).await.unwrap());
    }
    assert!(store.applications(&stranger(), &first()).await.unwrap().data.is_empty());
    assert_eq!(store.applications(&only_sister, &first()).await.unwrap().data, [sister]);
    assert_eq!(store.application(&tenant(), &named("mine")).await.unwrap(), Some(mine));
}

async fn a_list_is_walked_both_ways_in_either_order(home: Home) {
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(application(&home.store, &format!("app-{n}")).await.id);
    }
    for order in [Order::Ascending, Order::Descending] {
        if order == Order::Descending {
            ids.reverse();
        }
        let mut request = PageRequest { limit: 3, order, after: None, back: false };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = home.store.applications(&tenant(), &request).await.unwrap();
            seen.extend(page.data.iter().map(|app| app.id));
            request.after = seen.last().copied();
            pages += 1;
            if !page.more {
                break;
            }
        }
        assert_eq!((&seen, pages), (&ids, 3));
        let back = PageRequest { limit: 3, order, after: Some(ids[5]), back: true };
        let page = home.store.applications(&tenant(), &back).await.unwrap().map(|app| app.id);
        assert_eq!((page.data, page.more), (ids[2..5].to_vec(), true));
    }
}
