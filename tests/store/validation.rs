//! Validation of payloads at intake, by event type: over REST and from the outbox.

use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::payload_schema::PayloadValidation;
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::store::Store;
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::ingest::outbox::RelayRequest;
use serde_json::json;

use crate::home::*;
use crate::support::on_both;

on_both! {
    payloads_that_do_not_match_are_marked_or_refused
    an_outbox_row_that_does_not_match_is_stuck_with_the_paths
}

fn spec(name: &str, validation: PayloadValidation) -> EventTypeSpec {
    let schema = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}});
    EventTypeSpec {
        name: name.into(),
        validation,
        schemas: Some([("1".to_owned(), json!({})), ("2".to_owned(), schema)].into_iter().collect()),
        ..EventTypeSpec::default()
    }
}

async fn send(store: &Store, event_type: &str, payload: &str) -> Result<std::sync::Arc<Message>, Vec<String>> {
    let spec =
        MessageSpec { event_type: event_type.into(), payload: payload.to_owned().into(), ..MessageSpec::default() };
    let item = AcceptItem {
        tenant: Some(tenant()),
        app: sendoff::store::AppRef::parse("acme").unwrap(),
        only_endpoint: None,
        spec,
        at: NOW,
        idempotency_key: None,
        audit: None,
    };
    match store.accept(item).await.unwrap() {
        Ok(message) => Ok(message),
        Err(Rejection::Invalid(wrong)) => Err(wrong.into_iter().map(|one| one.field).collect()),
        Err(other) => panic!("{other}"),
    }
}

async fn payloads_that_do_not_match_are_marked_or_refused(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    assert!(send(store, "strict", "{}").await.is_ok(), "it is in no catalog yet");
    for (name, validation) in
        [("off", PayloadValidation::Off), ("soft", PayloadValidation::Warn), ("strict", PayloadValidation::Reject)]
    {
        store.create_event_type(&tenant(), spec(name, validation), NOW).await.unwrap();
    }
    let warning = async |message: &Message| store.payload_warning(&tenant(), app.id, message.id).await.unwrap();
    for name in ["off", "soft", "strict", "another"] {
        let fine = send(store, name, r#"{"id": "in_1"}"#).await.unwrap();
        assert_eq!(warning(&fine).await, None, "{name}");
    }
    assert_eq!(warning(&send(store, "off", "{}").await.unwrap()).await, None);
    let marked = send(store, "soft", r#"{"id": 7}"#).await.unwrap();
    let said = warning(&marked).await.unwrap();
    assert!(said.starts_with("payload.id: ") && !said.contains('7'), "{said}");
    let stranger = sendoff::store::Tenant::org("org_other".parse().unwrap());
    assert_eq!(store.payload_warning(&stranger, app.id, marked.id).await.unwrap(), None);
    assert_eq!(send(store, "strict", r#"{"id": 7}"#).await.unwrap_err(), ["payload.id"]);
    assert_eq!(send(store, "strict", "{}").await.unwrap_err(), ["payload"]);
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(20_000));
    assert_eq!(send(store, "strict", &large).await.unwrap_err(), ["payload"]);

    // A change holds at once in the process that makes it.
    store.put_event_type(&tenant(), spec("strict", PayloadValidation::Off), later(1)).await.unwrap();
    assert!(send(store, "strict", "{}").await.is_ok());
    store.put_event_type(&tenant(), spec("off", PayloadValidation::Reject), later(2)).await.unwrap();
    assert!(send(store, "off", "{}").await.is_err());
    store.delete_event_type(&tenant(), "off", true, later(3)).await.unwrap();
    assert!(send(store, "off", "{}").await.is_ok());
}

async fn an_outbox_row_that_does_not_match_is_stuck_with_the_paths(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    store.create_event_type(&tenant(), spec("strict", PayloadValidation::Reject), NOW).await.unwrap();
    store.create_event_type(&tenant(), spec("soft", PayloadValidation::Warn), NOW).await.unwrap();
    for (event_type, payload) in
        [("strict", r#"{"id": 7}"#), ("strict", r#"{"id": "a"}"#), ("soft", "{}"), ("free", "{}")]
    {
        home.execute(&format!(
            "INSERT INTO outbox (application, event_type, payload) VALUES ('acme', '{event_type}', '{payload}')"
        ))
        .await;
    }
    let relayed = store.relay(RelayRequest { limit: 10, now: NOW }).await.unwrap();
    assert_eq!((relayed.accepted, relayed.stuck.len()), (3, 1));
    assert!(relayed.stuck[0].1.starts_with("payload.id: "), "{:?}", relayed.stuck);
    assert_eq!(home.number("SELECT count(*) FROM payload_warning").await, 1);
    store.put_event_type(&tenant(), spec("strict", PayloadValidation::Off), later(1)).await.unwrap();
    store.outbox_retry_all().await.unwrap();
    assert_eq!(store.relay(RelayRequest { limit: 10, now: later(2) }).await.unwrap().accepted, 1);
}
