//! What happens to endpoints and deliveries arrives at the organization's own receiver: signed, tried again, each event once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use sendoff::domain::catalog::endpoint::{DisabledReason, EndpointSpec};
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::notifications::chat::{ChatFormat, ChatHook};
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::time::Clock;
use sendoff::domain::{AppId, EndpointId};
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::{EndpointRef, Order, PageRequest};
use sqlx::{AssertSqlSafe, Connection};

use crate::signing::official;
use crate::support::{Answer, Received, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both};

on_both! {
    each_of_the_seven_arrives_once_though_its_receiver_fails_first
    an_operational_endpoint_that_responds_410_is_disabled_without_an_event
    a_dead_delivery_and_a_stuck_row_reach_a_channel
}

fn schedule(waits: usize) -> Option<RetrySchedule> {
    Some(RetrySchedule::new("retrySchedule", vec![Duration::from_millis(20); waits]).unwrap())
}

/// A receiver that refuses each message once.
fn hard_of_hearing() -> Receiver {
    let heard: Mutex<HashSet<String>> = Mutex::default();
    Receiver::start(move |request| {
        let id = request.header("webhook-id").unwrap_or_default().to_owned();
        let first = heard.lock().unwrap().insert(id);
        if first { Answer::status(503) } else { Answer::ok() }
    })
}

/// An operational endpoint at `receiver`.
async fn listener(world: &World, receiver: &Receiver) -> (AppId, EndpointId, Secret) {
    let app = world.store.ensure_operational_application(&world.tenant, Clock.now()).await.unwrap().id;
    let secret = Secret::generate(SignatureType::Hmac256);
    let spec = EndpointSpec { url: receiver.url("/ops"), ..Default::default() };
    let made = world.store.create_endpoint(&world.tenant, app, spec, &secret, Clock.now()).await.unwrap();
    (app, made.id, secret)
}

async fn each_of_the_seven_arrives_once_though_its_receiver_fails_first(kind: Kind) {
    let world = World::busy(kind).await;
    let ears = hard_of_hearing();
    let (.., secret) = listener(&world, &ears).await;
    let bad = |status| move |_: &_| Answer::status(status);
    let flaky = Receiver::script([500, 500, 500, 500, 200].map(Answer::status));
    let (dead, gone) = (Receiver::start(bad(500)), Receiver::start(bad(410)));
    let make = async |receiver: &Receiver, waits| {
        let spec = EndpointSpec { url: receiver.url("/"), retry_schedule: schedule(waits), ..Default::default() };
        world.endpoint_with(spec).await.0
    };
    let (flaky, dead, gone) = (make(&flaky, 9).await, make(&dead, 1).await, make(&gone, 1).await);
    let message = world.send("{\"amount\": 12.50}").await;
    eventually("every delivery has come to its end", SOON, async || {
        let deliveries = world.deliveries(message.id).await;
        (deliveries.len() == 3 && deliveries.iter().all(|one| !one.state.pending())).then_some(())
    })
    .await;
    world.update(flaky.id, EndpointSpec { description: "new".into(), ..flaky.spec.clone() }).await;
    assert!(world.store.delete_endpoint(&world.tenant, world.app.id, dead.id, Clock.now()).await.unwrap());

    let mut wanted = vec![
        ("endpoint.created", flaky.id),
        ("endpoint.created", dead.id),
        ("endpoint.created", gone.id),
        ("message.attempt.failing", flaky.id),
        ("message.attempt.recovered", flaky.id),
        ("message.attempt.exhausted", dead.id),
        ("message.attempt.exhausted", gone.id),
        ("endpoint.disabled", gone.id),
        ("endpoint.updated", flaky.id),
        ("endpoint.deleted", dead.id),
    ];
    let received = ears.wait_for(2 * wanted.len(), SOON).await;
    // Of each message two requests, the same but for the time of the attempt.
    let mut told: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    for request in &received {
        assert!(official(&secret, request), "{}", request.text());
        let body = serde_json::from_slice(&request.body).unwrap();
        told.entry(request.header("webhook-id").unwrap()).or_default().push(body);
    }
    let mut events = Vec::new();
    for bodies in told.into_values() {
        assert!(bodies.len() == 2 && bodies[0] == bodies[1], "{bodies:?}");
        let data = &bodies[0]["data"];
        assert_eq!(data["appId"], world.app.id.to_string());
        let about_message = bodies[0]["type"].as_str().unwrap().starts_with("message");
        assert_eq!(data.get("msgId").is_some(), about_message);
        events.push(format!("{} {}", bodies[0]["type"].as_str().unwrap(), data["endpointId"].as_str().unwrap()));
    }
    let mut wanted: Vec<String> = wanted.drain(..).map(|(kind, endpoint)| format!("{kind} {endpoint}")).collect();
    events.sort();
    wanted.sort();
    assert_eq!(events, wanted);
}

async fn an_operational_endpoint_that_responds_410_is_disabled_without_an_event(kind: Kind) {
    let world = World::busy(kind).await;
    let (well, gone) = (Receiver::ok(), Receiver::start(|_| Answer::status(410)));
    listener(&world, &well).await;
    let (app, gone_id, _) = listener(&world, &gone).await;
    let customer = Receiver::ok();
    world.endpoint(customer.url("/")).await;
    eventually("it is disabled", SOON, async || {
        let found = world.store.endpoint(&world.tenant, app, &EndpointRef::Id(gone_id)).await.unwrap().unwrap();
        (found.disabled_reason == Some(DisabledReason::Gone)).then_some(())
    })
    .await;
    // Whatever had been told of it would have come before this.
    world.endpoint(customer.url("/second")).await;
    let message = world.send_as("invoice.paid", &[], "{}").await;
    eventually("both deliveries are made", SOON, async || {
        let deliveries = world.deliveries(message.id).await;
        deliveries.iter().all(|one| one.state == DeliveryState::Delivered).then_some(())
    })
    .await;
    let told: Vec<String> = well.wait_for(2, SOON).await.iter().map(|request| request.text()).collect();
    assert!(told.len() == 2 && told.iter().all(|text| text.contains("\"endpoint.created\"")), "{told:?}");
    assert_eq!(gone.count(), 1, "what comes later passes by it");
}

async fn a_dead_delivery_and_a_stuck_row_reach_a_channel(kind: Kind) {
    let world = World::busy(kind).await;
    let channel = Receiver::ok();
    let app = world.store.ensure_operational_application(&world.tenant, Clock.now()).await.unwrap().id;
    let mut spec = EndpointSpec {
        chat: Some(ChatHook::new(ChatFormat::Slack, String::new())),
        event_types: Some(vec!["message.attempt.exhausted".into(), "outbox.stuck".into()]),
        ..Default::default()
    };
    spec.set_url(channel.url("/services/geheim"));
    let secret = Secret::generate(SignatureType::Hmac256);
    world.store.create_endpoint(&world.tenant, app, spec, &secret, Clock.now()).await.unwrap();
    let dead = Receiver::start(|_| Answer::status(500));
    let spec = EndpointSpec { url: dead.url("/"), retry_schedule: schedule(1), ..Default::default() };
    world.endpoint_with(spec).await;
    let message = world.send("{}").await;
    insert(&world.url, "INSERT INTO outbox (application, event_type, payload) VALUES ('<nobody>', 'a.b', '{}')").await;

    let told = channel.wait_for(2, SOON).await;
    let text = |request: &Received| -> String {
        assert!(request.header("webhook-signature").is_none() && request.path == "/services/geheim");
        serde_json::from_slice::<serde_json::Value>(&request.body).unwrap()["text"].as_str().unwrap().to_owned()
    };
    let texts: Vec<String> = told.iter().map(text).collect();
    let link = format!("<https://hooks.example/applications/{}/messages/{}|", world.app.id, message.id);
    assert!(texts.iter().any(|text| text.contains(&link) && text.contains("Response: 500")), "{texts:?}");
    let stuck = |text: &String| text.contains("Written for: &lt;nobody&gt;") && text.contains("/outbox|");
    assert!(texts.iter().any(stuck), "{texts:?}");
    let attempts = eventually("the attempts are recorded", SOON, async || {
        let filter = AttemptFilter::default();
        let page = PageRequest::first(9, Order::Ascending);
        let found = world.store.attempts(&world.tenant, app, &filter, &page).await.unwrap().data;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert!(attempts.iter().all(|one| one.url.ends_with("/***")), "{attempts:?}");
}

async fn insert(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::query("SET search_path = sendoff").execute(&mut connection).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
}
