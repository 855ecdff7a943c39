//! What fails is tried again by the schedule, then dead, and resendable.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::{Failure, Trigger};
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::time::Clock;

use crate::support::{Answer, Receiver, SOON, eventually, free_port};
use crate::world::{Kind, World, on_both};

on_both! {
    failures_walk_the_schedule_and_a_resend_begins_anew
    retry_after_is_honoured
    an_endpoint_has_a_schedule_of_its_own
    every_kind_of_failure_is_named
    a_resend_during_an_attempt_is_an_attempt_of_its_own
}

async fn failures_walk_the_schedule_and_a_resend_begins_anew(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::status(503).header("x-request-id", "r-1").body("no\0t n\u{f6}w"));
    let endpoint = world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    let dead = world.until(message.id, DeliveryState::Dead).await;
    assert_eq!(dead.reason.map(|reason| reason.word()), Some("exhausted"));
    let attempts = world.attempts(message.id).await;
    assert_eq!(
        attempts.iter().map(|a| a.number).collect::<Vec<_>>(),
        [1, 2, 3],
        "one more than the schedule has waits"
    );
    for (attempt, next) in attempts.iter().zip(&attempts[1..]) {
        let due = attempt.next_at.unwrap();
        assert!(next.at >= due, "not before it is due");
        assert!(next.at.since(due) < Duration::from_secs(1), "and not long after: {:?}", next.at.since(due));
    }
    let last = &attempts[2];
    assert_eq!((last.next_at, last.outcome.status), (None, Some(503)));
    assert_eq!(last.outcome.response_body, "no\0t n\u{f6}w".as_bytes());
    assert!(last.outcome.response_headers.contains(&("x-request-id".into(), "r-1".into())));

    receiver.answer_with(|_| Answer::ok());
    assert!(world.store.resend(&world.tenant, world.app.id, (message.id, endpoint.id), Clock.now()).await.unwrap());
    world.until(message.id, DeliveryState::Delivered).await;
    let attempts = world.attempts(message.id).await;
    let last = attempts.last().unwrap();
    assert_eq!((attempts.len(), last.number, last.trigger), (4, 4, Trigger::Manual));
    let ids: std::collections::HashSet<_> =
        receiver.received().iter().map(|r| r.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "the id stays the same over all attempts");
}

async fn retry_after_is_honoured(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::script([Answer::status(429).header("retry-after", "1"), Answer::ok()]);
    world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Delivered).await;
    let attempts = world.attempts(message.id).await;
    assert!(attempts[1].at.since(attempts[0].at) >= Duration::from_secs(1), "the schedule alone says 40 ms");
}

async fn an_endpoint_has_a_schedule_of_its_own(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::status(500));
    let once = RetrySchedule::new("retrySchedule", vec![]).unwrap();
    world
        .endpoint_with(EndpointSpec { url: receiver.url("/"), retry_schedule: Some(once), ..Default::default() })
        .await;
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Dead).await;
    assert_eq!(world.attempts(message.id).await.len(), 1);
}

async fn every_kind_of_failure_is_named(kind: Kind) {
    let world = World::busy(kind).await;
    let hangs = Receiver::start(|_| Answer::never());
    let closes = Receiver::start(|_| Answer::hang_up());
    let redirects = Receiver::start(|_| Answer::status(302).header("location", "http://127.0.0.1:1/"));
    let once = Some(RetrySchedule::new("retrySchedule", vec![]).unwrap());
    let spec = |url: String| EndpointSpec {
        url,
        retry_schedule: once.clone(),
        timeout: Some(Duration::from_secs(1)),
        ..Default::default()
    };
    let cases = [
        (hangs.url("/"), Failure::Timeout),
        (closes.url("/"), Failure::Closed),
        (redirects.url("/"), Failure::Status),
        (format!("http://127.0.0.1:{}/", free_port()), Failure::Refused),
        ("http://nosuch.invalid/".into(), Failure::Dns),
        ("http://10.1.2.3/".into(), Failure::Blocked),
        ("http://[::ffff:10.1.2.3]/".into(), Failure::Blocked),
        (closes.url("/").replace("http:", "https:"), Failure::Tls),
    ];
    let mut expected = std::collections::HashMap::new();
    for (url, failure) in &cases {
        expected.insert(world.endpoint_with(spec(url.clone())).await.0.id, (url.clone(), *failure));
    }
    let message = world.send("{}").await;
    let attempts = eventually("an attempt for each", SOON, async || {
        let attempts = world.attempts(message.id).await;
        (attempts.len() == cases.len()).then_some(attempts)
    })
    .await;
    for attempt in attempts {
        let (url, failure) = &expected[&attempt.endpoint_id];
        assert_eq!(attempt.outcome.failure, Some(*failure), "{url}: {}", attempt.outcome.detail);
        assert_eq!(&attempt.url, url);
    }
}

async fn a_resend_during_an_attempt_is_an_attempt_of_its_own(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(300)));
    let endpoint = world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    eventually("it is in flight", SOON, async || (receiver.count() == 1).then_some(())).await;
    world.store.resend(&world.tenant, world.app.id, (message.id, endpoint.id), Clock.now()).await.unwrap();
    eventually("the resend arrives as well", SOON, async || (receiver.count() == 2).then_some(())).await;
    let attempts = eventually("both are recorded", SOON, async || {
        let attempts = world.attempts(message.id).await;
        (attempts.len() == 2).then_some(attempts)
    })
    .await;
    assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
    world.until(message.id, DeliveryState::Delivered).await;
}
