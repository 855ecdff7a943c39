//! Ordered endpoints: one at a time, in the order of acceptance, whatever becomes of each.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState};
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::time::Clock;
use sendoff::store::AppRef;
use sendoff::store::ingest::accept::AcceptItem;

use crate::support::{Answer, Received, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both, options};

on_both! {
    two_hundred_arrive_in_order_although_every_third_attempt_fails
    one_that_fails_holds_up_all_others_until_it_is_dead
    a_canceled_one_lets_the_others_go
    another_engine_goes_on_where_the_first_one_stopped
    deliveries_pending_before_come_first_and_by_age
    one_that_is_scheduled_holds_up_nobody_and_comes_at_its_time
    many_ordered_endpoints_do_not_wait_for_each_other
}

fn ordered(url: String, waits: Vec<Duration>) -> EndpointSpec {
    let retry_schedule = Some(RetrySchedule::new("retrySchedule", waits).unwrap());
    EndpointSpec { url, ordered: true, retry_schedule, ..EndpointSpec::default() }
}

const SHORT: Duration = Duration::from_millis(5);

fn number(request: &Received) -> usize {
    let value: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
    value["n"].as_u64().expect("a number") as usize
}

/// The numbers of what arrived, without repeats that follow directly.
fn numbers(receiver: &Receiver) -> Vec<usize> {
    let mut numbers: Vec<usize> = receiver.received().iter().map(number).collect();
    numbers.dedup();
    numbers
}

async fn send(
    world: &World,
    numbers: std::ops::Range<usize>,
) -> Vec<std::sync::Arc<sendoff::domain::deliveries::message::Message>> {
    let mut sent = Vec::new();
    for n in numbers {
        sent.push(world.send(&format!("{{\"n\":{n}}}")).await);
    }
    sent
}

async fn two_hundred_arrive_in_order_although_every_third_attempt_fails(kind: Kind) {
    let world = World::busy(kind).await;
    let tries: Mutex<HashMap<usize, u64>> = Mutex::new(HashMap::new());
    let receiver = Receiver::start(move |request| {
        let mut tries = tries.try_lock().expect("one at a time");
        std::thread::sleep(Duration::from_millis(1));
        let tried = tries.entry(number(request)).or_default();
        *tried += 1;
        let fails = *tried <= 2 && (number(request) as u64 * 7 + *tried * 5).is_multiple_of(3);
        if fails { Answer::status(500) } else { Answer::ok() }
    });
    world.endpoint_with(ordered(receiver.url("/"), vec![SHORT; 3])).await;
    let sent = send(&world, 0..200).await;
    world.until(sent[199].id, DeliveryState::Delivered).await;
    assert_eq!(numbers(&receiver), (0..200).collect::<Vec<_>>());
    assert!(receiver.count() > 220, "{} attempts: some have failed", receiver.count());
}

async fn one_that_fails_holds_up_all_others_until_it_is_dead(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|request| if number(request) == 1 { Answer::status(500) } else { Answer::ok() });
    world.endpoint_with(ordered(receiver.url("/"), vec![Duration::from_millis(300), SHORT])).await;
    let sent = send(&world, 0..4).await;
    let dead = world.until(sent[1].id, DeliveryState::Dead).await;
    assert_eq!((dead.reason, dead.attempts), (Some(DeadReason::Exhausted), 3));
    world.until(sent[3].id, DeliveryState::Delivered).await;
    let all: Vec<usize> = receiver.received().iter().map(number).collect();
    assert_eq!(all, [0, 1, 1, 1, 2, 3]);
    // Resent, it comes after what waits.
    let next = send(&world, 4..5).await;
    world.store.resend(&world.tenant, world.app.id, (sent[0].id, dead.endpoint_id), Clock.now()).await.unwrap();
    world.until(next[0].id, DeliveryState::Delivered).await;
    world.until(sent[0].id, DeliveryState::Delivered).await;
    eventually("the resent one", SOON, async || (receiver.count() == 8).then_some(())).await;
    assert_eq!(receiver.received().iter().map(number).collect::<Vec<_>>()[6..], [4, 0]);
}

async fn a_canceled_one_lets_the_others_go(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|request| if number(request) == 0 { Answer::status(500) } else { Answer::ok() });
    let (endpoint, _) = world.endpoint_with(ordered(receiver.url("/"), vec![Duration::from_secs(3_600)])).await;
    let sent = send(&world, 0..3).await;
    eventually("the first was tried", SOON, async || {
        let one = world.deliveries(sent[0].id).await.remove(0);
        (one.attempts == 1).then_some(())
    })
    .await;
    // Behind it others have been accepted, and nothing has been sent.
    send(&world, 3..5).await;
    assert_eq!(numbers(&receiver), [0]);
    assert!(world.store.cancel(&world.tenant, world.app.id, (sent[0].id, endpoint.id), Clock.now()).await.unwrap());
    eventually("the others arrive", SOON, async || (receiver.count() == 5).then_some(())).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 3, 4]);
}

async fn another_engine_goes_on_where_the_first_one_stopped(kind: Kind) {
    let mut world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(10)));
    world.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    send(&world, 0..60).await;
    eventually("some have arrived", SOON, async || (receiver.count() >= 5).then_some(())).await;
    world.stop().await;
    let before = receiver.count();
    assert!(before < 60, "all of them arrived too soon");
    // One store has one engine in a process.
    world.store = crate::world::open(&world.url, world.master.clone()).await;
    world.start(options());
    eventually("the others arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
    assert_eq!(numbers(&receiver), (0..60).collect::<Vec<_>>());
}

async fn deliveries_pending_before_come_first_and_by_age(kind: Kind) {
    let mut world = World::quiet(kind).await;
    let receiver = Receiver::ok();
    let free = EndpointSpec { ordered: false, ..ordered(receiver.url("/"), vec![SHORT]) };
    let (endpoint, _): (Endpoint, _) = world.endpoint_with(free.clone()).await;
    send(&world, 0..40).await;
    world.update(endpoint.id, EndpointSpec { ordered: true, ..free.clone() }).await;
    send(&world, 40..50).await;
    world.start(options());
    eventually("all arrive", SOON, async || (receiver.count() == 50).then_some(())).await;
    assert_eq!(numbers(&receiver), (0..50).collect::<Vec<_>>());
    world.update(endpoint.id, free).await;
    send(&world, 50..60).await;
    eventually("all arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
}

async fn one_that_is_scheduled_holds_up_nobody_and_comes_at_its_time(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    world.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    let now = Clock.now();
    let spec = MessageSpec {
        event_type: "invoice.paid".into(),
        payload: "{\"n\":9}".into(),
        deliver_at: Some(now.plus(Duration::from_millis(700))),
        ..MessageSpec::default()
    };
    let item = AcceptItem {
        tenant: Some(world.tenant.clone()),
        app: AppRef::Id(world.app.id),
        only_endpoint: None,
        spec,
        at: now,
        idempotency_key: None,
        audit: None,
    };
    let scheduled = world.store.accept(item).await.unwrap().unwrap();
    send(&world, 0..3).await;
    eventually("the others arrive", SOON, async || (receiver.count() == 3).then_some(())).await;
    world.until(scheduled.id, DeliveryState::Delivered).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 9]);
    send(&world, 10..12).await;
    eventually("what comes then", SOON, async || (receiver.count() == 6).then_some(())).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 9, 10, 11]);
}

async fn many_ordered_endpoints_do_not_wait_for_each_other(kind: Kind) {
    let world = World::busy(kind).await;
    let hangs = Receiver::start(|_| Answer::never());
    for _ in 0..20 {
        world.endpoint_with(ordered(hangs.url("/"), vec![SHORT])).await;
    }
    let well: Vec<Receiver> = (0..10).map(|_| Receiver::ok()).collect();
    for receiver in &well {
        world.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    }
    send(&world, 0..20).await;
    for receiver in &well {
        eventually("it has all", SOON, async || (receiver.count() == 20).then_some(())).await;
        assert_eq!(numbers(receiver), (0..20).collect::<Vec<_>>());
    }
    assert!(hangs.count() <= 20 * 3, "one at a time each");
}
