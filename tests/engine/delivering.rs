//! The way of an event: accepted or committed, fanned out, sent, recorded; and what stops and resumes it.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::time::Clock;

use crate::support::{Answer, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both, options};

on_both! {
    bytes_arrive_as_they_came
    filters_choose_who_gets_it
    disabling_pauses_and_enabling_goes_on
    gone_disables_the_endpoint
    deliveries_pending_at_shutdown_are_sent_after_the_start
    a_shutdown_finishes_what_is_in_flight
    nothing_is_sent_twice_under_load
    an_endpoint_that_changes_its_url_is_followed
    a_deleted_endpoint_ends_its_deliveries
}

async fn bytes_arrive_as_they_came(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    let endpoint = world.endpoint(receiver.url("/hook")).await;
    let payload = " {\"b\" : 1e400,\n\"a\":\"\\u00e9\\ud83d\\ude00\", \"n\":123456789012345678901234567890 } ";
    let message = world.send(payload).await;
    world.until(message.id, DeliveryState::Delivered).await;
    let got = receiver.received();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].text(), payload);
    assert_eq!(got[0].header("webhook-id"), Some(message.id.to_string().as_str()));
    assert_eq!(got[0].header("content-type"), Some("application/json"));
    assert_eq!(world.message(message.id).await.payload.as_deref(), Some(payload.as_bytes()));
    let attempts = world.attempts(message.id).await;
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].next_at), (1, 1, None));
    assert_eq!((attempts[0].endpoint_id, attempts[0].outcome.status), (endpoint.id, Some(200)));
}

async fn filters_choose_who_gets_it(kind: Kind) {
    let world = World::busy(kind).await;
    for name in ["invoice.paid", "invoice.sent"] {
        let spec = EventTypeSpec { name: name.into(), ..EventTypeSpec::default() };
        world.store.create_event_type(&world.tenant, spec, Clock.now()).await.unwrap();
    }
    let all = Receiver::ok();
    let paid = Receiver::ok();
    let eu = Receiver::ok();
    world.endpoint(all.url("/")).await;
    let list = |name: &str| Some(vec![name.to_owned()]);
    world
        .endpoint_with(EndpointSpec { url: paid.url("/"), event_types: list("invoice.paid"), ..Default::default() })
        .await;
    world.endpoint_with(EndpointSpec { url: eu.url("/"), channels: list("eu"), ..Default::default() }).await;
    world.send_as("invoice.paid", &[], "{}").await;
    world.send_as("invoice.sent", &["eu", "x"], "{}").await;
    world.send_as("unknown.type", &["us"], "{}").await;
    eventually("five requests", SOON, async || (all.count() + paid.count() + eu.count() == 5).then_some(())).await;
    assert_eq!((all.count(), paid.count(), eu.count()), (3, 1, 1));
}

async fn disabling_pauses_and_enabling_goes_on(kind: Kind) {
    let world = World::busy(kind).await;
    // Two endpoints that fail once and are due again at the same time: when the one has its retry, the other's time has passed.
    let (receiver, control) = (Receiver::script([Answer::status(500)]), Receiver::script([Answer::status(500)]));
    let schedule = Some(RetrySchedule::new("retrySchedule", vec![Duration::from_secs(1)]).unwrap());
    let spec = |url| EndpointSpec { url, retry_schedule: schedule.clone(), ..EndpointSpec::default() };
    let (endpoint, _) = world.endpoint_with(spec(receiver.url("/"))).await;
    world.endpoint_with(spec(control.url("/"))).await;
    let waits = world.send("{\"n\":1}").await;
    eventually("both first attempts are recorded", SOON, async || {
        (world.attempts(waits.id).await.len() == 2).then_some(())
    })
    .await;
    receiver.answer_with(|_| Answer::ok());
    control.answer_with(|_| Answer::ok());
    world.update(endpoint.id, EndpointSpec { disabled: true, ..endpoint.spec.clone() }).await;
    let passes = world.send("{\"n\":2}").await;
    let chosen: Vec<_> = world.deliveries(passes.id).await.iter().map(|one| one.endpoint_id).collect();
    assert!(chosen.len() == 1 && chosen[0] != endpoint.id, "what comes while it is disabled gets no delivery there");
    let state = async || {
        let deliveries = world.deliveries(waits.id).await;
        let of = |mine: bool| deliveries.iter().find(|one| (one.endpoint_id == endpoint.id) == mine).unwrap().state;
        (of(true), of(false))
    };
    let late = Duration::from_millis(500);
    let due = world.attempts(waits.id).await.iter().filter_map(|one| one.next_at).max().unwrap().plus(late);
    eventually("the other's retry is delivered and both were due", SOON, async || {
        (state().await.1 == DeliveryState::Delivered && Clock.now() > due).then_some(())
    })
    .await;
    assert_eq!((state().await.0, receiver.count()), (DeliveryState::Retry, 1), "nothing goes out while it is disabled");
    world.update(endpoint.id, endpoint.spec.clone()).await;
    eventually("it goes on", SOON, async || (state().await.0 == DeliveryState::Delivered).then_some(())).await;
}

async fn gone_disables_the_endpoint(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::status(410));
    let endpoint = world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    let dead = world.until(message.id, DeliveryState::Dead).await;
    assert_eq!(dead.reason.map(|reason| reason.word()), Some("gone"));
    let reference = sendoff::store::EndpointRef::Id(endpoint.id);
    let found = world.store.endpoint(&world.tenant, world.app.id, &reference).await.unwrap().unwrap();
    assert!(found.spec.disabled);
    assert_eq!(found.disabled_reason.map(|reason| reason.word()), Some("gone"));
    assert_eq!(receiver.count(), 1, "410 is for good: no retry");
}

async fn deliveries_pending_at_shutdown_are_sent_after_the_start(kind: Kind) {
    let mut world = World::quiet(kind).await;
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/")).await;
    let mut messages = Vec::new();
    for n in 0..300 {
        messages.push(world.send(&format!("{{\"n\":{n}}}")).await.id);
    }
    assert_eq!(receiver.count(), 0);
    world.start(options());
    eventually("all are received", SOON, async || (receiver.count() >= 300).then_some(())).await;
    for id in messages {
        world.until(id, DeliveryState::Delivered).await;
    }
    assert_eq!(receiver.count(), 300, "each once");
}

async fn a_shutdown_finishes_what_is_in_flight(kind: Kind) {
    let mut world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(300)));
    world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    eventually("it is in flight", SOON, async || (receiver.count() == 1).then_some(())).await;
    world.stop().await;
    assert_eq!(
        world.deliveries(message.id).await[0].state,
        DeliveryState::Delivered,
        "recorded before the engine was gone"
    );
    assert_eq!(receiver.count(), 1);
}

async fn nothing_is_sent_twice_under_load(kind: Kind) {
    let world = std::sync::Arc::new(World::busy(kind).await);
    let receivers: Vec<Receiver> = (0..3).map(|_| Receiver::ok()).collect();
    for receiver in &receivers {
        world.endpoint(receiver.url("/")).await;
    }
    let mut senders = Vec::new();
    for sender in 0..16 {
        let world = world.clone();
        senders.push(tokio::spawn(async move {
            for n in 0..50 {
                world.send(&format!("{{\"sender\":{sender},\"n\":{n}}}")).await;
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    for receiver in &receivers {
        eventually("800 requests", SOON, async || (receiver.count() >= 800).then_some(())).await;
    }
    eventually("nothing is pending", SOON, async || (world.store.pending_count(10).await.unwrap() == 0).then_some(()))
        .await;
    for receiver in &receivers {
        let got = receiver.received();
        let ids: std::collections::HashSet<_> =
            got.iter().map(|r| r.header("webhook-id").unwrap().to_owned()).collect();
        assert_eq!((got.len(), ids.len()), (800, 800), "each message once");
    }
}

async fn an_endpoint_that_changes_its_url_is_followed(kind: Kind) {
    let world = World::busy(kind).await;
    let (old, new) = (Receiver::start(|_| Answer::status(500)), Receiver::ok());
    let endpoint = world.endpoint(old.url("/")).await;
    let message = world.send("{}").await;
    eventually("the old one is tried", SOON, async || (old.count() > 0).then_some(())).await;
    world.update(endpoint.id, EndpointSpec { url: new.url("/"), ..endpoint.spec.clone() }).await;
    world.until(message.id, DeliveryState::Delivered).await;
    assert_eq!(new.count(), 1);
}

async fn a_deleted_endpoint_ends_its_deliveries(kind: Kind) {
    let mut world = World::quiet(kind).await;
    let receiver = Receiver::ok();
    let endpoint = world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    world.store.delete_endpoint(&world.tenant, world.app.id, endpoint.id, Clock.now()).await.unwrap();
    world.start(options());
    let dead = world.until(message.id, DeliveryState::Dead).await;
    assert_eq!(dead.reason.map(|reason| reason.word()), Some("endpoint-deleted"));
    assert_eq!(receiver.count(), 0);
}
