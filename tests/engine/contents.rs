//! What a message carries besides: when it is to be sent, what its bytes are, and how long there is anything to send.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState};
use sendoff::domain::deliveries::message::{Message, MessageSpec};
use sendoff::domain::time::Clock;
use sendoff::domain::{MessageId, Time};
use sendoff::store::AppRef;
use sendoff::store::ingest::accept::AcceptItem;

use crate::background::number;
use crate::support::{Answer, Database, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both, options};

on_both! {
    scheduled_messages_are_sent_on_time_and_delay_no_others
    scheduled_messages_survive_a_restart
    a_raw_payload_arrives_as_it_was_written
    pending_deliveries_without_content_are_never_sent
    pending_without_content_holds_up_nobody
    a_content_that_is_kept_no_longer_goes_by_itself
}

/// So far ahead that what should wait is seen to wait, and a test does not.
const AHEAD: Duration = Duration::from_secs(2);

async fn accept(world: &World, change: impl FnOnce(&mut MessageSpec)) -> std::sync::Arc<Message> {
    let mut spec = MessageSpec { event_type: "a".into(), payload: "{}".into(), ..MessageSpec::default() };
    change(&mut spec);
    let item = AcceptItem {
        tenant: Some(world.tenant.clone()),
        app: AppRef::Id(world.app.id),
        only_endpoint: None,
        spec,
        at: Clock.now(),
        idempotency_key: None,
        audit: None,
    };
    world.store.accept(item).await.unwrap().unwrap()
}

async fn in_time(world: &World, message: MessageId, due: Time) {
    world.until(message, DeliveryState::Delivered).await;
    let sent = world.attempts(message).await.remove(0).at;
    assert!(sent >= due, "{:?} early", due.since(sent));
    assert!(sent.since(due) < Duration::from_secs(2), "{:?} late", sent.since(due));
}

async fn scheduled_messages_are_sent_on_time_and_delay_no_others(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/")).await;
    let far = Clock.now().plus(Duration::from_secs(3_600));
    // More than a lane reads at a time, to be sent long after.
    for _ in 0..300 {
        accept(&world, |spec| spec.deliver_at = Some(far)).await;
    }
    let due = Clock.now().plus(AHEAD);
    let scheduled = accept(&world, |spec| spec.deliver_at = Some(due)).await;
    let usual = accept(&world, |_| {}).await;
    world.until(usual.id, DeliveryState::Delivered).await;
    assert!(Clock.now() < due, "nothing waited for what is scheduled");
    in_time(&world, scheduled.id, due).await;
    assert_eq!(receiver.count(), 2);
}

async fn scheduled_messages_survive_a_restart(kind: Kind) {
    let mut world = World::quiet(kind).await;
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/")).await;
    let due = Clock.now().plus(AHEAD);
    // Nobody hears of it: no engine runs yet.
    let scheduled = accept(&world, |spec| spec.deliver_at = Some(due)).await;
    world.start(options());
    in_time(&world, scheduled.id, due).await;
    assert_eq!(receiver.count(), 1);
}

async fn a_raw_payload_arrives_as_it_was_written(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    let (_, secret) = world.endpoint_with(EndpointSpec { url: receiver.url("/"), ..Default::default() }).await;
    let raw = accept(&world, |spec| {
        (spec.payload, spec.raw_type) = ("a=1&b=\u{fc} \n".into(), Some("text/plain; charset=utf-8".into()));
    })
    .await;
    world.until(raw.id, DeliveryState::Delivered).await;
    let got = receiver.received().remove(0);
    assert_eq!(got.body, "a=1&b=\u{fc} \n".as_bytes());
    assert_eq!(got.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(crate::signing::official(&secret, &got));
    let recorded = world.attempts(raw.id).await.remove(0).request_headers;
    assert!(recorded.contains(&("content-type".into(), "text/plain; charset=utf-8".into())), "{recorded:?}");
}

async fn pending_deliveries_without_content_are_never_sent(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(500)));
    let one_a_second = EndpointSpec { url: receiver.url("/"), throttle_rate: Some(1), ..Default::default() };
    let (endpoint, _) = world.endpoint_with(one_a_second).await;
    // One of two is in flight, the other in the lane's queue, the third in the store. Nothing says which of the two goes first.
    let two = [accept(&world, |_| {}).await, accept(&world, |_| {}).await];
    let third = accept(&world, |spec| spec.deliver_at = Some(Clock.now().plus(AHEAD))).await;
    eventually("one is in flight", SOON, async || (receiver.count() == 1).then_some(())).await;
    let in_flight = receiver.received()[0].header("webhook-id").unwrap().to_owned();
    let (first, second) = if in_flight == two[0].id.to_string() { (&two[0], &two[1]) } else { (&two[1], &two[0]) };
    for message in [first, second, &third] {
        assert!(world.store.delete_content(&world.tenant, world.app.id, message.id, Clock.now()).await.unwrap());
    }
    let last = accept(&world, |spec| spec.deliver_at = third.deliver_at).await;
    world.until(last.id, DeliveryState::Delivered).await;
    let ids: Vec<_> = receiver.received().iter().map(|got| got.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids, [first.id.to_string(), last.id.to_string()]);
    for message in [first, second, &third] {
        let view = world.until(message.id, DeliveryState::Dead).await;
        assert_eq!(view.reason, Some(DeadReason::ContentDeleted));
    }
    assert_eq!(world.attempts(first.id).await.len(), 1, "what was in flight is recorded all the same");
    assert!(!world.store.resend(&world.tenant, world.app.id, (first.id, endpoint.id), Clock.now()).await.unwrap());
}

/// What only two processes bring about: more than a lane reads at a time is pending, and has nothing to send.
async fn pending_without_content_holds_up_nobody(kind: Kind) {
    let Database { url, file } = Database::on(kind);
    let mut world = World::at(&url, file).await;
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/")).await;
    let mut without = Vec::new();
    for _ in 0..200 {
        without.push(accept(&world, |_| {}).await.id);
    }
    number(&url, "UPDATE message SET payload = NULL RETURNING CAST(1 AS BIGINT)").await;
    let last = accept(&world, |_| {}).await;
    world.start(options());
    world.until(last.id, DeliveryState::Delivered).await;
    for message in without {
        assert_eq!(world.until(message, DeliveryState::Dead).await.reason, Some(DeadReason::ContentDeleted));
    }
    assert_eq!(receiver.count(), 1);
}

async fn a_content_that_is_kept_no_longer_goes_by_itself(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::status(500));
    world.endpoint(receiver.url("/")).await;
    let short = accept(&world, |spec| spec.keep_content = Some(Duration::from_millis(1))).await;
    eventually("the sweep has come by", SOON, async || world.message(short.id).await.payload.is_none().then_some(()))
        .await;
    world.until(short.id, DeliveryState::Dead).await;
}
