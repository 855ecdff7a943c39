//! Operational events: what happens to endpoints and deliveries is told in the transaction in which it happens, once, to those who
//! listen; and the application that they travel by is nobody's to see.

use sendoff::domain::catalog::endpoint::{DisabledReason, Endpoint, EndpointSpec};
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::{AppId, EndpointId, MessageId};
use sendoff::store::ingest::accept::Rejection;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::query::delivery_list::DeliveryFilter;
use sendoff::store::recording::record::{FinishedAttempt, RecordOutcome};
use sendoff::store::{AppRef, EndpointRef, Store, StoreError, Tenant};
use serde_json::{Value, json};

use crate::home::*;
use crate::support::on_both;

/// An operational endpoint of the default organization.
pub async fn listener(store: &Store, spec: EndpointSpec) -> Endpoint {
    let house = store.ensure_operational_application(&tenant(), NOW).await.expect("the store");
    endpoint(store, house.id, spec).await
}

/// What waits to be told to `listener`, in the order in which it happened.
pub async fn told(store: &Store, listener: EndpointId) -> Vec<Message> {
    let ids: Vec<MessageId> = waiting(store, listener).await.iter().map(|one| one.message_id).collect();
    let mut messages = store.load_messages(&ids).await.expect("the store");
    messages.sort_by_key(|message| message.id);
    messages
}

pub async fn kinds(store: &Store, listener: EndpointId) -> Vec<String> {
    told(store, listener).await.into_iter().map(|message| message.event_type).collect()
}

pub fn payload(message: &Message) -> Value {
    serde_json::from_slice(message.payload.as_deref().expect("a payload")).expect("JSON")
}

async fn record(store: &Store, one: &FinishedAttempt) -> RecordOutcome {
    store.record(vec![one.clone()]).await.expect("the store")[0]
}

/// The next attempt of what waits for `endpoint`, failed; the last one of its schedule, if `last`.
async fn fail(store: &Store, app: AppId, endpoint: EndpointId, last: bool) -> FinishedAttempt {
    let one = only_waiting(store, endpoint).await;
    let next = if last { Transition::Dead(DeadReason::Exhausted) } else { retry(60, one.progress.step + 1) };
    let done = finished(app, &one, answered(503), next);
    assert_eq!(record(store, &done).await, RecordOutcome::Applied);
    done
}

async fn deliver(store: &Store, app: AppId, endpoint: EndpointId) -> FinishedAttempt {
    let done = finished(app, &only_waiting(store, endpoint).await, answered(200), Transition::Delivered);
    assert_eq!(record(store, &done).await, RecordOutcome::Applied);
    done
}

/// The next attempt of what waits for `endpoint`, answered with 410.
pub async fn gone(store: &Store, app: AppId, endpoint: EndpointId) -> FinishedAttempt {
    let one = waiting(store, endpoint).await.remove(0);
    let next = Transition::Dead(DeadReason::Gone);
    FinishedAttempt { disable: Some(DisabledReason::Gone), ..finished(app, &one, answered(410), next) }
}

/// Has the database refuse rows of `table` for which `condition` holds, until [`allow`].
pub async fn refuse(home: &crate::home::Home, table: &str, condition: &str) {
    let sqlite = format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN {} BEGIN SELECT RAISE(ABORT, 'refused'); END",
        condition.replace("{row}", "NEW")
    );
    let condition = condition.replace("{row}.", "");
    let postgres = format!("ALTER TABLE {table} ADD CONSTRAINT refuse CHECK (NOT ({condition})) NOT VALID");
    home.execute(home.either(&sqlite, &postgres)).await;
}

pub async fn allow(home: &crate::home::Home, table: &str) {
    let postgres = format!("ALTER TABLE {table} DROP CONSTRAINT refuse");
    home.execute(home.either("DROP TRIGGER refuse", &postgres)).await;
}

on_both! {
    changes_of_an_endpoint_emit_events
    a_delivery_is_reported_as_failing_exhausted_and_recovered_once_each
    a_delivered_resend_is_reported_as_recovered
    a_410_is_reported_for_each_delivery_and_once_for_the_endpoint
    operational_endpoints_and_messages_emit_no_events
    both_are_stored_or_neither
    an_event_that_cannot_be_stored_costs_nothing_but_itself
    rolled_back_changes_are_not_cached
    operational_endpoints_choose_by_event_and_by_application
    organizations_without_subscription_cost_nothing_and_get_nothing
    the_operational_application_is_hidden
    two_who_begin_to_listen_at_once_share_one_application
    concurrent_changes_are_reported_once_each
    counts_and_lists_for_people_are_of_the_customers_deliveries
}

async fn changes_of_an_endpoint_emit_events(home: Home) {
    let store = &home.store;
    let ears = listener(store, endpoint_spec()).await;
    let app = application(store, "acme").await;
    let spec = EndpointSpec { uid: Some(uid("hook")), ..endpoint_spec() };
    let made = endpoint(store, app.id, spec.clone()).await;
    let made = updated(store, &made, spec.clone(), later(1)).await;
    let off = EndpointSpec { disabled: true, ..spec.clone() };
    let made = updated(store, &made, off.clone(), later(2)).await;
    let made = updated(store, &made, off, later(3)).await;
    assert!(store.delete_endpoint(&tenant(), app.id, made.id, later(4)).await.unwrap());
    assert!(!store.delete_endpoint(&tenant(), app.id, made.id, later(5)).await.unwrap());

    let told = told(store, ears.id).await;
    let data = json!({"appId": app.id.to_string(), "appUid": "acme", "endpointId": made.id.to_string(), "endpointUid": "hook"});
    let by_hand = [data.clone(), json!({"trigger": "manual"})];
    let by_hand: Value = by_hand.iter().flat_map(|part| part.as_object().unwrap().clone()).collect();
    let wanted = [
        ("endpoint.created", &data, NOW),
        ("endpoint.updated", &data, later(1)),
        ("endpoint.updated", &data, later(2)),
        ("endpoint.disabled", &by_hand, later(2)),
        ("endpoint.updated", &data, later(3)),
        ("endpoint.deleted", &data, later(4)),
    ];
    assert_eq!(told.len(), wanted.len(), "{told:?}");
    for (message, (kind, data, at)) in told.iter().zip(wanted) {
        assert_eq!((message.event_type.as_str(), message.accepted_at), (kind, at));
        assert_eq!(payload(message), json!({"type": kind, "data": data}));
    }
}

async fn a_delivery_is_reported_as_failing_exhausted_and_recovered_once_each(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    let mut item = item(app.id);
    item.spec.event_id = Some(uid("invoice-7"));
    let message = offer(store, item).await.unwrap().id;
    for _ in 0..3 {
        fail(store, app.id, made.id, false).await;
    }
    assert!(told(store, ears.id).await.is_empty(), "not before the fourth failure");
    let fourth = fail(store, app.id, made.id, false).await;
    assert_eq!(kinds(store, ears.id).await, ["message.attempt.failing"]);
    assert_eq!(record(store, &fourth).await, RecordOutcome::Superseded, "recorded before");
    fail(store, app.id, made.id, false).await;
    let recovery = deliver(store, app.id, made.id).await;
    assert_eq!(record(store, &recovery).await, RecordOutcome::Superseded);

    let other = accept(store, app.id).await.id;
    let mut last = fail(store, app.id, made.id, true).await;
    assert_eq!(record(store, &last).await, RecordOutcome::Superseded);
    last.attempt.id = sendoff::domain::AttemptId::new(NOW);
    assert_eq!(record(store, &FinishedAttempt { epoch: 7, ..last.clone() }).await, RecordOutcome::Fenced);

    let told = told(store, ears.id).await;
    let data = |of: &FinishedAttempt, message: MessageId, event_id: Value, status: u16| {
        json!({"appId": app.id.to_string(), "appUid": "acme", "endpointId": made.id.to_string(),
               "msgId": message.to_string(), "msgEventId": event_id,
               "lastAttempt": {"id": of.attempt.id.to_string(), "responseStatusCode": status,
                               "timestamp": of.attempt.at.to_string()}})
    };
    let payloads: Vec<Value> = told.iter().map(payload).collect();
    assert_eq!(payloads.len(), 3, "{payloads:?}");
    assert_eq!(payloads[0]["data"], data(&fourth, message, json!("invoice-7"), 503));
    assert_eq!(
        payloads[1],
        json!({"type": "message.attempt.recovered", "data": data(&recovery, message, json!("invoice-7"), 200)})
    );
    assert_eq!(payloads[2]["type"], "message.attempt.exhausted");
    assert_eq!(payloads[2]["data"]["msgId"], other.to_string());
    assert_eq!(payloads[2]["data"]["msgEventId"], Value::Null);
}

/// Only its past knows whether a resent delivery recovers from something that was told.
async fn a_delivered_resend_is_reported_as_recovered(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    let message = accept(store, app.id).await.id;
    let resend = async || assert!(store.resend(&tenant(), app.id, (message, made.id), NOW).await.unwrap());
    deliver(store, app.id, made.id).await;
    resend().await;
    fail(store, app.id, made.id, false).await;
    deliver(store, app.id, made.id).await;
    assert!(told(store, ears.id).await.is_empty(), "nothing was told of it");
    resend().await;
    fail(store, app.id, made.id, true).await;
    resend().await;
    fail(store, app.id, made.id, false).await;
    deliver(store, app.id, made.id).await;
    let both = ["message.attempt.exhausted", "message.attempt.recovered"];
    assert_eq!(kinds(store, ears.id).await, both);
    resend().await;
    deliver(store, app.id, made.id).await;
    assert_eq!(kinds(store, ears.id).await, both, "it had recovered");
}

async fn a_410_is_reported_for_each_delivery_and_once_for_the_endpoint(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    accept(store, app.id).await;
    accept(store, app.id).await;
    let (one, mut two) = (gone(store, app.id, made.id).await, gone(store, app.id, made.id).await);
    two.attempt.message_id = waiting(store, made.id).await[1].message_id;
    assert_eq!(store.record(vec![one, two]).await.unwrap(), [RecordOutcome::Applied; 2]);
    let told = told(store, ears.id).await;
    let exhausted = "message.attempt.exhausted";
    let kinds: Vec<&str> = told.iter().map(|message| message.event_type.as_str()).collect();
    assert_eq!(kinds, [exhausted, exhausted, "endpoint.disabled"]);
    assert_eq!(payload(&told[0])["data"]["lastAttempt"]["responseStatusCode"], 410);
    let data = &payload(&told[2])["data"];
    assert_eq!((&data["appUid"], &data["endpointId"]), (&json!("acme"), &json!(made.id.to_string())));
    assert_eq!((&data["trigger"], &data["failSince"]), (&json!("automatic"), &json!(NOW.to_string())));
}

async fn operational_endpoints_and_messages_emit_no_events(home: Home) {
    let store = &home.store;
    let ears = listener(store, endpoint_spec()).await;
    let house = store.operational_application(&tenant()).await.unwrap().unwrap().id;
    let other = endpoint(store, house, endpoint_spec()).await;
    updated(store, &other, endpoint_spec(), NOW).await;
    customer(store, "acme").await;
    assert_eq!(kinds(store, other.id).await, ["endpoint.created"]);
    for step in 1..=5 {
        let one = waiting(store, other.id).await.remove(0);
        record(store, &finished(house, &one, answered(500), retry(60, step))).await;
    }
    record(store, &finished(house, &waiting(store, other.id).await.remove(0), answered(200), Transition::Delivered))
        .await;
    let acme = store.application(&tenant(), &named("acme")).await.unwrap().unwrap().id;
    endpoint(store, acme, endpoint_spec()).await;
    let last = gone(store, house, other.id).await;
    assert_eq!(record(store, &last).await, RecordOutcome::Applied);
    let now = store.endpoint(&tenant(), house, &other.id.into()).await.unwrap().unwrap();
    assert_eq!(now.disabled_reason, Some(DisabledReason::Gone), "disabled as any");
    endpoint(store, acme, endpoint_spec()).await;
    assert!(waiting(store, other.id).await.is_empty());
    assert!(store.delete_endpoint(&tenant(), house, other.id, NOW).await.unwrap());
    assert_eq!(kinds(store, ears.id).await, ["endpoint.created"; 3]);
}

async fn both_are_stored_or_neither(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    let message = accept(store, app.id).await.id;
    let one = only_waiting(store, made.id).await;
    let last = finished(app.id, &one, answered(503), Transition::Dead(DeadReason::Exhausted));
    // The counts come last in the transaction.
    refuse(&home, "rollup", "{row}.failed > 0").await;
    assert!(matches!(store.record(vec![last.clone()]).await, Err(StoreError::Refused(_))));
    let stored = "SELECT (SELECT count(*) FROM attempt) + (SELECT count(*) FROM message)";
    assert_eq!((home.number(stored).await, waiting(store, ears.id).await.len()), (1, 0));
    allow(&home, "rollup").await;
    assert_eq!(record(store, &last).await, RecordOutcome::Applied);
    assert_eq!(kinds(store, ears.id).await, ["message.attempt.exhausted"]);
    assert_eq!(delivery(store, app.id, message, made.id).await.reason, Some(DeadReason::Exhausted));

    let taken = EndpointSpec { uid: Some(uid("hook")), ..endpoint_spec() };
    endpoint(store, app.id, taken.clone()).await;
    let again = store.create_endpoint(&tenant(), app.id, taken, &secret(), NOW).await;
    assert!(matches!(again, Err(StoreError::Taken(_))));
    assert_eq!(kinds(store, ears.id).await.len(), 2, "what was not done is not told");
}

async fn an_event_that_cannot_be_stored_costs_nothing_but_itself(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    refuse(&home, "message", "{row}.event_type LIKE 'message.attempt.%' OR {row}.event_type LIKE 'endpoint.%'").await;
    accept(store, app.id).await;
    fail(store, app.id, made.id, true).await;
    assert!(store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap());
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 1);
    assert!(waiting(store, ears.id).await.is_empty());
    allow(&home, "message").await;
    endpoint(store, app.id, endpoint_spec()).await;
    assert_eq!(kinds(store, ears.id).await, ["endpoint.created"]);
}

/// A transaction that changes the operational application and then fails leaves nothing behind in this process's memory either.
async fn rolled_back_changes_are_not_cached(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    let house = ears.app_id;
    endpoint(store, app.id, endpoint_spec()).await;
    accept(store, app.id).await;
    let last =
        finished(app.id, &only_waiting(store, made.id).await, answered(503), Transition::Dead(DeadReason::Exhausted));
    let batch = vec![gone(store, house, ears.id).await, last];
    refuse(&home, "rollup", "{row}.failed > 0").await;
    assert!(store.record(batch).await.is_err());
    allow(&home, "rollup").await;
    assert!(!store.endpoint(&tenant(), house, &ears.id.into()).await.unwrap().unwrap().spec.disabled);
    let new = listener(store, endpoint_spec()).await;
    endpoint(store, app.id, endpoint_spec()).await;
    assert_eq!(kinds(store, new.id).await, ["endpoint.created"], "it was made under the version that was rolled back");
    assert_eq!(kinds(store, ears.id).await, ["endpoint.created"; 2]);
}

async fn operational_endpoints_choose_by_event_and_by_application(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let beta = application(store, "beta").await;
    let typed = EndpointSpec { event_types: Some(strings(&["endpoint.deleted"])), ..endpoint_spec() };
    let deletions = listener(store, typed).await;
    let of = |channel: String| EndpointSpec { channels: Some(vec![channel]), ..endpoint_spec() };
    let (by_uid, by_id) = (listener(store, of("acme".into())).await, listener(store, of(beta.id.to_string())).await);
    let paused = listener(store, EndpointSpec { disabled: true, ..endpoint_spec() }).await;
    for id in [app.id, beta.id, beta.id] {
        let made = endpoint(store, id, endpoint_spec()).await;
        store.delete_endpoint(&tenant(), id, made.id, NOW).await.unwrap();
    }
    assert_eq!(kinds(store, deletions.id).await, ["endpoint.deleted"; 3]);
    assert_eq!((waiting(store, by_uid.id).await.len(), waiting(store, by_id.id).await.len()), (2, 4));
    assert!(waiting(store, paused.id).await.is_empty());

    let unknown =
        EndpointSpec { event_types: Some(strings(&["endpoint.deleted", "invoice.paid", "x"])), ..endpoint_spec() };
    let house = store.operational_application(&tenant()).await.unwrap().unwrap().id;
    let said = store.create_endpoint(&tenant(), house, unknown.clone(), &secret(), NOW).await.unwrap_err().to_string();
    assert!(said.ends_with("invoice.paid, x"), "{said}");
    assert!(store.update_endpoint(&tenant(), &paused, unknown, NOW).await.is_err());
    let typed = EndpointSpec { event_types: Some(strings(&["endpoint.deleted"])), ..endpoint_spec() };
    assert!(store.create_endpoint(&tenant(), app.id, typed, &secret(), NOW).await.is_err(), "not in the catalog");
}

async fn organizations_without_subscription_cost_nothing_and_get_nothing(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    accept(store, app.id).await;
    fail(store, app.id, made.id, true).await;
    assert_eq!(home.number("SELECT count(*) FROM message").await, 1);
    let house = store.ensure_operational_application(&stranger(), NOW).await.unwrap();
    let theirs = store.create_endpoint(&stranger(), house.id, endpoint_spec(), &secret(), NOW).await.unwrap();
    endpoint(store, app.id, endpoint_spec()).await;
    assert!(waiting(store, theirs.id).await.is_empty(), "another organization's");
    store.delete_endpoint(&stranger(), house.id, theirs.id, NOW).await.unwrap();
    let before = home.number("SELECT count(*) FROM message").await;
    let theirs = store.create_application(&stranger(), app_spec("other"), NOW).await.unwrap().id;
    store.create_endpoint(&stranger(), theirs, endpoint_spec(), &secret(), NOW).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM message").await, before, "nobody listens any more");
}

async fn the_operational_application_is_hidden(home: Home) {
    let store = &home.store;
    application(store, "acme").await;
    assert!(store.operational_application(&tenant()).await.unwrap().is_none());
    let ears = listener(store, endpoint_spec()).await;
    let house = ears.app_id;
    assert!(store.application(&tenant(), &AppRef::Id(house)).await.unwrap().is_none());
    let listed = store.applications(&tenant(), &first()).await.unwrap().data;
    assert_eq!(listed.iter().map(|app| app.name.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert!(changed_app(store, &tenant(), house, app_spec("mine"), NOW).await.unwrap().is_none());
    assert!(!store.delete_application(&tenant(), house, NOW).await.unwrap());
    let only = Tenant { only: Some(house), ..tenant() };
    assert!(store.applications(&only, &first()).await.unwrap().data.is_empty());
    assert!(store.operational_application(&only).await.unwrap().is_none());
    assert!(store.ensure_operational_application(&only, NOW).await.is_err());

    assert!(matches!(offer(store, item(house)).await, Err(Rejection::UnknownApplication(_))));
    home.execute(&format!(
        "INSERT INTO outbox (application, event_type, payload) VALUES ('{house}', 'endpoint.created', '{{}}')"
    ))
    .await;
    let relayed = store.relay(RelayRequest { limit: 10, now: NOW }).await.unwrap();
    assert_eq!((relayed.accepted, relayed.stuck.len()), (0, 1), "{relayed:?}");
    assert!(waiting(store, ears.id).await.is_empty());
    assert_eq!(store.live_endpoints(&[ears.id]).await.unwrap().len(), 1, "but the engine sends there");
}

async fn two_who_begin_to_listen_at_once_share_one_application(home: Home) {
    let (other, mine) = (home.another().await, tenant());
    let (one, two) = tokio::join!(
        home.store.ensure_operational_application(&mine, NOW),
        other.ensure_operational_application(&mine, NOW),
    );
    assert_eq!(one.unwrap().id, two.unwrap().id);
    assert_eq!(home.number("SELECT count(*) FROM application").await, 1);
}

/// Everybody at once, in two processes: nobody waits in a circle, and nothing is told twice or left out.
async fn concurrent_changes_are_reported_once_each(home: Home) {
    let (one, two) = (home.store.clone(), home.another().await);
    let (acme, made) = customer(&one, "acme").await;
    let beta = application(&one, "beta").await;
    let ears = listener(&one, endpoint_spec()).await;
    for _ in 0..20 {
        accept(&one, acme.id).await;
    }
    let dying = waiting(&one, made.id).await;
    let records = async {
        for some in dying.chunks(5) {
            let last = |one| finished(acme.id, one, answered(503), Transition::Dead(DeadReason::Exhausted));
            let batch: Vec<FinishedAttempt> = some.iter().map(last).collect();
            assert_eq!(two.record(batch).await.unwrap(), [RecordOutcome::Applied; 5]);
        }
    };
    let make = async |store: &Store, app| {
        for _ in 0..10 {
            endpoint(store, app, endpoint_spec()).await;
        }
    };
    let change = async {
        let mut now = ears.clone();
        for _ in 0..10 {
            now = updated(&one, &now, endpoint_spec(), NOW).await;
        }
    };
    tokio::join!(records, make(&one, acme.id), make(&two, beta.id), make(&two, acme.id), change);
    let told = kinds(&one, ears.id).await;
    let count = |kind| told.iter().filter(|one| *one == kind).count();
    let counts = (count("endpoint.created"), count("message.attempt.exhausted"), told.len());
    assert_eq!(counts, (30, 20, 50));
}

async fn counts_and_lists_for_people_are_of_the_customers_deliveries(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ears = listener(store, endpoint_spec()).await;
    accept(store, app.id).await;
    fail(store, app.id, made.id, true).await;
    use sendoff::store::query::counts::{ChartRange, CountScope};
    use sendoff::store::recording::rollups::total;
    let counted = async |who: &_, scope| total(&store.buckets(who, scope, ChartRange::Hour, later(60)).await.unwrap());
    let before = counted(&tenant(), CountScope::Organization).await;
    assert_eq!(before.failed, 1);
    fail(store, ears.app_id, ears.id, false).await;
    assert_eq!(counted(&tenant(), CountScope::Organization).await, before);
    assert_eq!(counted(&tenant(), CountScope::Operational).await.failed, 1);
    assert_eq!(counted(&stranger(), CountScope::Operational).await.failed, 0);
    assert_eq!(counted(&tenant(), CountScope::Endpoint(ears.id)).await.failed, 1, "counted all the same");
    let worst = store.top_failing(&tenant(), ChartRange::Hour, later(60), 9).await.unwrap();
    assert_eq!(worst.iter().map(|one| one.endpoint_id).collect::<Vec<_>>(), [made.id]);
    assert_eq!(store.newest_attempts(&tenant(), false, None, 9).await.unwrap().len(), 1);
    let list = async |filter| store.list_deliveries(&tenant(), &filter, None, 9).await.unwrap().data.len();
    let hidden = DeliveryFilter { app: Some(ears.app_id), ..DeliveryFilter::default() };
    let customers = list(DeliveryFilter::default()).await;
    let count = async |state| store.count_in_state(&tenant(), state, 9).await.unwrap();
    use sendoff::domain::deliveries::delivery::DeliveryState;
    assert_eq!((count(DeliveryState::Retry).await, count(DeliveryState::Dead).await), (0, 1));
    assert!(store.oldest_due(&tenant(), later(1_000)).await.unwrap().is_none());
    fail(store, ears.app_id, ears.id, true).await;
    assert_eq!(list(DeliveryFilter::default()).await, customers);
    assert!(list(hidden).await > 0, "seen by who asks for it");
    assert!(store.endpoint(&tenant(), ears.app_id, &EndpointRef::Id(ears.id)).await.unwrap().is_some());
}
