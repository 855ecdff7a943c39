//! The catalog of event types.

use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::store::catalog::applications::Upserted;
use sendoff::store::{Order, PageRequest, StoreError};
use serde_json::json;

use crate::home::*;
use crate::support::on_both;

fn spec(name: &str) -> EventTypeSpec {
    EventTypeSpec { name: name.into(), ..EventTypeSpec::default() }
}

on_both! {
    a_page_ends_before_it_takes_too_much_memory
    an_event_type_comes_back_as_it_was_made
    a_name_is_taken_until_it_is_archived
    a_put_makes_or_replaces
    the_list_is_sorted_by_bytes
    names_hidden_by_flags_are_distinguished_from_visible_ones
}

async fn a_page_ends_before_it_takes_too_much_memory(home: Home) {
    let store = &home.store;
    let long = serde_json::json!({"1": {"description": "a".repeat(200 * 1024)}});
    for n in 0..30 {
        let schemas = long.as_object().cloned();
        let one = EventTypeSpec { name: format!("type.{n:02}"), schemas, ..EventTypeSpec::default() };
        store.put_event_type(&tenant(), one, NOW).await.unwrap();
    }
    let all = PageRequest::first(250, Order::Ascending);
    let page = store.event_types(&tenant(), false, &all).await.unwrap();
    assert_eq!((page.data.len(), page.more), (21, true), "4 MiB and the one that goes beyond");
    let after = page.data.last().map(|last| last.spec.name.clone());
    let rest = store.event_types(&tenant(), false, &PageRequest { after, ..all }).await.unwrap();
    assert_eq!((rest.data.len(), rest.more), (9, false));
}

async fn an_event_type_comes_back_as_it_was_made(home: Home) {
    let spec = EventTypeSpec {
        description: "An invoice was paid. ☂".into(),
        deprecated: true,
        feature_flags: strings(&["beta", "gamma"]),
        group_name: Some("billing".into()),
        schemas: json!({"1": {"type": "object", "title": "\u{0}"}}).as_object().cloned(),
        ..spec("invoice.paid")
    };
    let made = home.store.create_event_type(&tenant(), spec.clone(), NOW).await.unwrap();
    assert_eq!((&made.spec, made.created_at), (&spec, NOW));
    assert_eq!(home.store.event_type(&tenant(), "invoice.paid").await.unwrap(), Some(made));
    assert_eq!(home.store.event_type(&tenant(), "Invoice.Paid").await.unwrap(), None, "a name is its bytes");
    assert_eq!(home.store.event_type(&stranger(), "invoice.paid").await.unwrap(), None);
}

async fn a_name_is_taken_until_it_is_archived(home: Home) {
    let store = &home.store;
    store.create_event_type(&tenant(), spec("a"), NOW).await.unwrap();
    assert!(matches!(store.create_event_type(&tenant(), spec("a"), NOW).await, Err(StoreError::Taken(_))));
    assert!(store.create_event_type(&stranger(), spec("a"), NOW).await.is_ok());
    assert!(!store.delete_event_type(&tenant(), "b", false, NOW).await.unwrap());
    assert!(store.delete_event_type(&tenant(), "a", false, later(1)).await.unwrap());
    let archived = store.event_type(&tenant(), "a").await.unwrap().unwrap();
    assert!(archived.spec.archived && archived.updated_at == later(1));
    let again = store.create_event_type(&tenant(), spec("a"), later(2)).await.unwrap();
    assert_eq!((again.created_at, again.updated_at, again.spec.archived), (NOW, later(2), false));
    assert!(store.delete_event_type(&tenant(), "a", true, NOW).await.unwrap());
    assert_eq!(store.event_type(&tenant(), "a").await.unwrap(), None);
    assert!(store.event_type(&stranger(), "a").await.unwrap().is_some(), "another organization's is its own");
}

async fn a_put_makes_or_replaces(home: Home) {
    let store = &home.store;
    let made = store.put_event_type(&tenant(), spec("a"), NOW).await.unwrap();
    assert!(matches!(made, Upserted::Created(_)), "{made:?}");
    let described = EventTypeSpec { description: "new".into(), ..spec("a") };
    let Upserted::Replaced(replaced) = store.put_event_type(&tenant(), described, later(1)).await.unwrap() else {
        panic!("it was there")
    };
    assert_eq!((replaced.created_at, replaced.updated_at), (NOW, later(1)));
    assert_eq!(store.event_type(&tenant(), "a").await.unwrap(), Some(replaced));
    let puts = (0..8).map(|n| async move { store.put_event_type(&tenant(), spec("raced"), later(n)).await });
    let puts = futures_util::future::join_all(puts).await;
    let created = puts.iter().filter(|put| matches!(put, Ok(Upserted::Created(_)))).count();
    assert!(puts.iter().all(Result::is_ok) && created == 1, "{puts:?}");
}

async fn the_list_is_sorted_by_bytes(home: Home) {
    let names = ["B", "a.a", "Z_", "a-b", "a", "b", "9", "_"];
    for name in names {
        home.store.create_event_type(&tenant(), spec(name), NOW).await.unwrap();
    }
    home.store.delete_event_type(&tenant(), "a-b", false, NOW).await.unwrap();
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let list = async |archived, request: PageRequest<String>| {
        let page = home.store.event_types(&tenant(), archived, &request).await.unwrap();
        (page.data.into_iter().map(|one| one.spec.name).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(list(true, first()).await, (strings(&sorted), false));
    let after = PageRequest { limit: 2, order: Order::Ascending, after: Some("B".into()), back: false };
    assert_eq!(list(true, after.clone()).await, (strings(&["Z_", "_"]), true));
    assert_eq!(list(true, PageRequest { back: true, ..after }).await, (strings(&["9"]), false));
    sorted.retain(|name| *name != "a-b");
    sorted.reverse();
    assert_eq!(list(false, PageRequest::first(100, Order::Descending)).await, (strings(&sorted), false));
    assert!(home.store.event_types(&stranger(), true, &first()).await.unwrap().data.is_empty());
}

async fn names_hidden_by_flags_are_distinguished_from_visible_ones(home: Home) {
    let store = &home.store;
    let flagged = |name: &str, flags: &[&str]| EventTypeSpec { feature_flags: strings(flags), ..spec(name) };
    for one in [flagged("open", &[]), flagged("beta", &["beta"]), flagged("both", &["beta", "gamma"])] {
        store.create_event_type(&tenant(), one, NOW).await.unwrap();
    }
    store.create_event_type(&tenant(), EventTypeSpec { archived: true, ..spec("old") }, NOW).await.unwrap();
    let names = strings(&["open", "unknown", "beta", "both", "old"]);
    for (flags, hidden) in [
        (&[][..], &["unknown", "beta", "both", "old"][..]),
        (&["beta"], &["unknown", "both", "old"]),
        (&["gamma", "beta"], &["unknown", "old"]),
    ] {
        let found = store.event_types_not_offered(&tenant(), &names, &strings(flags)).await.unwrap();
        assert_eq!(found, hidden, "{flags:?}");
    }
    assert_eq!(store.event_types_not_offered(&stranger(), &names, &[]).await.unwrap(), names, "another organization");
}
