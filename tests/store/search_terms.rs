//! Objects found by a name, and copies of a message that was edited and sent again.

use std::sync::Arc;

use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::message::EDITED_FROM;
use sendoff::store::query::search_terms::NamedObjects;

use crate::home::*;
use crate::support::on_both;

on_both! {
    objects_are_found_by_id_name_and_url
    edited_copies_are_listed_newest_first
}

async fn objects_are_found_by_id_name_and_url(home: Home) {
    let store = &home.store;
    let acme = application(store, "acme").await;
    let url = "https://a.example/hook";
    let spec = EndpointSpec { url: url.into(), uid: Some(uid("desk")), ..endpoint_spec() };
    let desk = endpoint(store, acme.id, spec).await;
    let mut one = item(acme.id);
    one.spec.event_id = Some(uid("order-7"));
    let message = offer(store, one).await.unwrap();

    let found = async |text: &str| store.objects_named(&tenant(), text).await.unwrap();
    let nothing = NamedObjects::default();
    assert_eq!(found("acme").await, NamedObjects { application: Some(acme.id), ..nothing.clone() });
    assert_eq!(found("desk").await, NamedObjects { endpoints: vec![desk.id], ..nothing.clone() });
    assert_eq!(found(&desk.id.to_string()).await.endpoints, [desk.id]);
    assert_eq!(found("order-7").await, NamedObjects { messages: vec![message.id], ..nothing.clone() });
    assert_eq!(found(&message.id.to_string()).await.messages, [message.id]);
    assert_eq!(found("nobody").await, nothing);
    assert_eq!(store.endpoints_at(&tenant(), url).await.unwrap(), [desk.id]);
    assert_eq!(store.endpoints_at(&tenant(), "https://a.example/").await.unwrap(), [], "the whole URL");

    for text in ["acme", "desk", "order-7", &desk.id.to_string(), &message.id.to_string()] {
        assert_eq!(store.objects_named(&stranger(), text).await.unwrap(), nothing, "{text} of another organization");
    }
    assert_eq!(store.endpoints_at(&stranger(), url).await.unwrap(), []);
}

async fn edited_copies_are_listed_newest_first(home: Home) {
    let store = &home.store;
    let (acme, _) = customer(store, "acme").await;
    let (other, _) = customer(store, "other").await;
    let original = accept(store, acme.id).await;
    let mut copies = Vec::new();
    for seconds in 1..=2 {
        let mut copy = item(acme.id);
        copy.at = later(seconds);
        copy.spec.tags = vec![format!("{EDITED_FROM}{}", original.id)];
        copy.audit = Some(Arc::new(Actor::new(ActorKind::Operator, "ann")));
        copies.insert(0, offer(store, copy).await.unwrap().id);
    }
    let of = async |tenant, app| store.edited_copies(&tenant, app, original.id).await.unwrap();
    assert_eq!(of(tenant(), acme.id).await, copies);
    assert_eq!(of(tenant(), other.id).await, [], "of another application");
    assert_eq!(of(stranger(), acme.id).await, [], "of another organization");
}
