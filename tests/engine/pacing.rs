//! Rates and caps: of each endpoint by itself, and of none at another's cost.

use std::time::{Duration, Instant, SystemTime};

use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::time::Clock;

use crate::support::{Answer, Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both, options};

on_both! {
    a_throttle_holds_and_slows_nobody_else
    an_applications_throttle_holds_over_its_endpoints
    a_hanging_endpoint_holds_up_nobody
    a_recovering_receiver_is_not_flooded_and_new_deliveries_do_not_wait
}

/// The most that arrived within any second.
fn most_in_a_second(times: &mut [SystemTime]) -> usize {
    times.sort();
    let within =
        |start: &SystemTime| times.iter().filter(|t| (*start..*start + Duration::from_secs(1)).contains(*t)).count();
    times.iter().map(within).max().unwrap_or(0)
}

async fn a_throttle_holds_and_slows_nobody_else(kind: Kind) {
    let mut world = World::quiet(kind).await;
    let (slow, quick) = (Receiver::ok(), Receiver::ok());
    world.endpoint_with(EndpointSpec { url: slow.url("/"), throttle_rate: Some(50), ..Default::default() }).await;
    world.endpoint(quick.url("/")).await;
    for n in 0..1_000 {
        world.send(&format!("{{\"n\":{n}}}")).await;
    }
    let began = Instant::now();
    world.start(options());
    eventually("the other endpoint has all", SOON, async || (quick.count() == 1_000).then_some(())).await;
    let others = began.elapsed();
    eventually("three seconds' worth", SOON, async || (slow.count() >= 150).then_some(())).await;
    let mut times: Vec<SystemTime> = slow.received().iter().map(|r| r.at).collect();
    let most = most_in_a_second(&mut times);
    assert!(most <= 55, "{most} in one second");
    let took = times[times.len() - 1].duration_since(times[0]).unwrap();
    assert!(times.len() as f64 / took.as_secs_f64() > 40.0, "the rate is also used: {} in {took:?}", times.len());
    assert!(others < Duration::from_secs(15), "{others:?}: the other would have needed 20 s at 50/s");
}

async fn an_applications_throttle_holds_over_its_endpoints(kind: Kind) {
    let world = World::busy(kind).await;
    let spec = ApplicationSpec { name: "Acme".into(), throttle_rate: Some(20), ..Default::default() };
    let work = |_: &_| Ok::<_, ()>(spec.clone());
    world.store.update_application(&world.tenant, world.app.id, work, Clock.now()).await.unwrap();
    let receiver = Receiver::ok();
    world.endpoint(receiver.url("/a")).await;
    world.endpoint(receiver.url("/b")).await;
    for n in 0..30 {
        world.send(&format!("{{\"n\":{n}}}")).await;
    }
    eventually("all arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
    let mut times: Vec<SystemTime> = receiver.received().iter().map(|r| r.at).collect();
    let most = most_in_a_second(&mut times);
    assert!(most <= 23, "{most} in one second");
}

async fn a_hanging_endpoint_holds_up_nobody(kind: Kind) {
    let world = World::busy(kind).await;
    let hangs = Receiver::start(|_| Answer::never());
    let well = Receiver::ok();
    for _ in 0..40 {
        world.endpoint(hangs.url("/")).await;
    }
    for n in 0..20 {
        world.send(&format!("{{\"n\":{n}}}")).await;
    }
    eventually("many hang", SOON, async || (hangs.count() >= 40).then_some(())).await;
    world.endpoint(well.url("/")).await;
    let before = Instant::now();
    world.send("{\"last\":true}").await;
    eventually("the healthy one has it", SOON, async || (well.count() == 1).then_some(())).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}: the others hang for 2 s", before.elapsed());
    assert!(hangs.most_in_flight() < 256, "never all there is");
}

async fn a_recovering_receiver_is_not_flooded_and_new_deliveries_do_not_wait(kind: Kind) {
    let world = World::busy(kind).await;
    // Two hundred that have failed once, and are due again when it is away.
    let receiver = Receiver::start(|_| Answer::status(500));
    let retry_schedule = Some(RetrySchedule::new("retrySchedule", vec![Duration::from_secs(1); 10]).unwrap());
    world.endpoint_with(EndpointSpec { url: receiver.url("/"), retry_schedule, ..Default::default() }).await;
    for _ in 0..200 {
        world.send("{\"old\":true}").await;
    }
    eventually("all have failed once", SOON, async || (receiver.count() >= 200).then_some(())).await;
    receiver.answer_with(|_| Answer::hang_up());
    // Between two probes nothing comes for a quarter of a second at least.
    let quiet = Duration::from_millis(200);
    eventually("the lane rests", SOON, async || {
        let last = receiver.received().last().map(|one| one.instant.elapsed());
        (receiver.count() >= 216 && last > Some(quiet)).then_some(())
    })
    .await;
    let takes = Duration::from_millis(30);
    receiver.answer_with(move |_| Answer::ok().after(takes));
    let failed = receiver.count();
    for _ in 0..5 {
        world.send("{\"new\":true}").await;
    }
    eventually("all arrive", SOON * 2, async || (receiver.count() - failed >= 205).then_some(())).await;
    let received = receiver.received();
    let times: Vec<Instant> = received[failed..].iter().map(|one| one.instant).collect();
    for (n, at) in times.iter().enumerate() {
        let answered = times.iter().filter(|other| **other + takes <= *at).count();
        // One probe, and one more with each answer.
        assert!(n - answered <= answered + 1, "{} at once after {answered} answers", n - answered + 1);
    }
    let last = received[failed..].iter().rposition(|one| one.text().contains("new")).expect("they arrived");
    assert!(last < 60, "five new ones behind two hundred retries: the last came as number {last}");
}
