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

use crate::house::{House, Kind, on_both, options};
use crate::support::{Answer, Received, Receiver, SOON, eventually};

on_both! {
    two_hundred_arrive_in_order_although_every_third_attempt_fails
    one_that_fails_holds_up_all_others_until_it_is_dead
    a_canceled_one_lets_the_others_go
    another_engine_goes_on_where_the_first_one_stopped
    what_was_pending_before_comes_first_and_by_age
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
    house: &House,
    numbers: std::ops::Range<usize>,
) -> Vec<std::sync::Arc<sendoff::domain::deliveries::message::Message>> {
    let mut sent = Vec::new();
    for n in numbers {
        sent.push(house.send(&format!("{{\"n\":{n}}}")).await);
    }
    sent
}

async fn two_hundred_arrive_in_order_although_every_third_attempt_fails(kind: Kind) {
    let house = House::busy(kind).await;
    let tries: Mutex<HashMap<usize, u64>> = Mutex::new(HashMap::new());
    let receiver = Receiver::start(move |request| {
        let mut tries = tries.try_lock().expect("one at a time");
        std::thread::sleep(Duration::from_millis(1));
        let tried = tries.entry(number(request)).or_default();
        *tried += 1;
        let fails = *tried <= 2 && (number(request) as u64 * 7 + *tried * 5).is_multiple_of(3);
        if fails { Answer::status(500) } else { Answer::ok() }
    });
    house.endpoint_with(ordered(receiver.url("/"), vec![SHORT; 3])).await;
    let sent = send(&house, 0..200).await;
    house.until(sent[199].id, DeliveryState::Delivered).await;
    assert_eq!(numbers(&receiver), (0..200).collect::<Vec<_>>());
    assert!(receiver.count() > 220, "{} attempts: some have failed", receiver.count());
}

async fn one_that_fails_holds_up_all_others_until_it_is_dead(kind: Kind) {
    let house = House::busy(kind).await;
    let receiver = Receiver::start(|request| if number(request) == 1 { Answer::status(500) } else { Answer::ok() });
    house.endpoint_with(ordered(receiver.url("/"), vec![Duration::from_millis(300), SHORT])).await;
    let sent = send(&house, 0..4).await;
    let dead = house.until(sent[1].id, DeliveryState::Dead).await;
    assert_eq!((dead.reason, dead.attempts), (Some(DeadReason::Exhausted), 3));
    house.until(sent[3].id, DeliveryState::Delivered).await;
    let all: Vec<usize> = receiver.received().iter().map(number).collect();
    assert_eq!(all, [0, 1, 1, 1, 2, 3]);
    // Resent, it comes after what waits.
    let next = send(&house, 4..5).await;
    house.store.resend(&house.tenant, house.app.id, sent[0].id, dead.endpoint_id, Clock.now()).await.unwrap();
    house.until(next[0].id, DeliveryState::Delivered).await;
    house.until(sent[0].id, DeliveryState::Delivered).await;
    eventually("the resent one", SOON, async || (receiver.count() == 8).then_some(())).await;
    assert_eq!(receiver.received().iter().map(number).collect::<Vec<_>>()[6..], [4, 0]);
}

async fn a_canceled_one_lets_the_others_go(kind: Kind) {
    let house = House::busy(kind).await;
    let receiver = Receiver::start(|request| if number(request) == 0 { Answer::status(500) } else { Answer::ok() });
    let (endpoint, _) = house.endpoint_with(ordered(receiver.url("/"), vec![Duration::from_secs(3_600)])).await;
    let sent = send(&house, 0..3).await;
    eventually("the first was tried", SOON, async || {
        let one = house.deliveries(sent[0].id).await.remove(0);
        (one.attempts == 1).then_some(())
    })
    .await;
    // Behind it others have been accepted, and nothing has been sent.
    send(&house, 3..5).await;
    assert_eq!(numbers(&receiver), [0]);
    assert!(house.store.cancel(&house.tenant, house.app.id, sent[0].id, endpoint.id, Clock.now()).await.unwrap());
    eventually("the others arrive", SOON, async || (receiver.count() == 5).then_some(())).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 3, 4]);
}

async fn another_engine_goes_on_where_the_first_one_stopped(kind: Kind) {
    let mut house = House::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(10)));
    house.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    send(&house, 0..60).await;
    eventually("some have arrived", SOON, async || (receiver.count() >= 5).then_some(())).await;
    house.stop().await;
    let before = receiver.count();
    assert!(before < 60, "all of them arrived too soon");
    // One store has one engine in a process.
    house.store = crate::house::open(&house.url, house.master.clone()).await;
    house.start(options());
    eventually("the others arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
    assert_eq!(numbers(&receiver), (0..60).collect::<Vec<_>>());
}

async fn what_was_pending_before_comes_first_and_by_age(kind: Kind) {
    let mut house = House::quiet(kind).await;
    let receiver = Receiver::ok();
    let free = EndpointSpec { ordered: false, ..ordered(receiver.url("/"), vec![SHORT]) };
    let (endpoint, _): (Endpoint, _) = house.endpoint_with(free.clone()).await;
    send(&house, 0..40).await;
    house.update(endpoint.id, EndpointSpec { ordered: true, ..free.clone() }).await;
    send(&house, 40..50).await;
    house.start(options());
    eventually("all arrive", SOON, async || (receiver.count() == 50).then_some(())).await;
    assert_eq!(numbers(&receiver), (0..50).collect::<Vec<_>>());
    house.update(endpoint.id, free).await;
    send(&house, 50..60).await;
    eventually("all arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
}

async fn one_that_is_scheduled_holds_up_nobody_and_comes_at_its_time(kind: Kind) {
    let house = House::busy(kind).await;
    let receiver = Receiver::ok();
    house.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    let now = Clock.now();
    let spec = MessageSpec {
        event_type: "invoice.paid".into(),
        payload: "{\"n\":9}".into(),
        deliver_at: Some(now.plus(Duration::from_millis(700))),
        ..MessageSpec::default()
    };
    let item = AcceptItem {
        tenant: Some(house.tenant.clone()),
        app: AppRef::Id(house.app.id),
        only_endpoint: None,
        spec,
        at: now,
        idempotency_key: None,
    };
    let scheduled = house.store.accept(item).await.unwrap().unwrap();
    send(&house, 0..3).await;
    eventually("the others arrive", SOON, async || (receiver.count() == 3).then_some(())).await;
    house.until(scheduled.id, DeliveryState::Delivered).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 9]);
    send(&house, 10..12).await;
    eventually("what comes then", SOON, async || (receiver.count() == 6).then_some(())).await;
    assert_eq!(numbers(&receiver), [0, 1, 2, 9, 10, 11]);
}

async fn many_ordered_endpoints_do_not_wait_for_each_other(kind: Kind) {
    let house = House::busy(kind).await;
    let hangs = Receiver::start(|_| Answer::never());
    for _ in 0..20 {
        house.endpoint_with(ordered(hangs.url("/"), vec![SHORT])).await;
    }
    let well: Vec<Receiver> = (0..10).map(|_| Receiver::ok()).collect();
    for receiver in &well {
        house.endpoint_with(ordered(receiver.url("/"), vec![SHORT])).await;
    }
    send(&house, 0..20).await;
    for receiver in &well {
        eventually("it has all", SOON, async || (receiver.count() == 20).then_some(())).await;
        assert_eq!(numbers(receiver), (0..20).collect::<Vec<_>>());
    }
    assert!(hangs.count() <= 20 * 3, "one at a time each");
}
