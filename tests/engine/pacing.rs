//! Rates and caps: of each endpoint by itself, and of none at another's cost.

use std::time::{Duration, Instant, SystemTime};

use sendoff::domain::application::ApplicationSpec;
use sendoff::domain::endpoint::EndpointSpec;
use sendoff::domain::time::Clock;

use crate::house::{House, Kind, on_both, options};
use crate::support::{Answer, Receiver, SOON, eventually};

on_both! {
    a_throttle_holds_and_slows_nobody_else
    an_applications_throttle_holds_over_its_endpoints
    a_hanging_endpoint_holds_up_nobody
}

/// The most that arrived within any second.
fn most_in_a_second(times: &mut [SystemTime]) -> usize {
    times.sort();
    let within =
        |start: &SystemTime| times.iter().filter(|t| (*start..*start + Duration::from_secs(1)).contains(*t)).count();
    times.iter().map(within).max().unwrap_or(0)
}

async fn a_throttle_holds_and_slows_nobody_else(kind: Kind) {
    let mut house = House::quiet(kind).await;
    let (slow, quick) = (Receiver::ok(), Receiver::ok());
    house.endpoint_with(EndpointSpec { url: slow.url("/"), throttle_rate: Some(50), ..Default::default() }).await;
    house.endpoint(quick.url("/")).await;
    for n in 0..1_000 {
        house.send(&format!("{{\"n\":{n}}}")).await;
    }
    let began = Instant::now();
    house.start(options());
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
    let house = House::busy(kind).await;
    let spec = ApplicationSpec { name: "Acme".into(), throttle_rate: Some(20), ..Default::default() };
    house.store.update_application(&house.tenant, house.app.id, spec, Clock.now()).await.unwrap();
    let receiver = Receiver::ok();
    house.endpoint(receiver.url("/a")).await;
    house.endpoint(receiver.url("/b")).await;
    for n in 0..30 {
        house.send(&format!("{{\"n\":{n}}}")).await;
    }
    eventually("all arrive", SOON, async || (receiver.count() == 60).then_some(())).await;
    let mut times: Vec<SystemTime> = receiver.received().iter().map(|r| r.at).collect();
    let most = most_in_a_second(&mut times);
    assert!(most <= 23, "{most} in one second");
}

async fn a_hanging_endpoint_holds_up_nobody(kind: Kind) {
    let house = House::busy(kind).await;
    let hangs = Receiver::start(|_| Answer::never());
    let well = Receiver::ok();
    for _ in 0..40 {
        house.endpoint(hangs.url("/")).await;
    }
    for n in 0..20 {
        house.send(&format!("{{\"n\":{n}}}")).await;
    }
    eventually("many hang", SOON, async || (hangs.count() >= 40).then_some(())).await;
    house.endpoint(well.url("/")).await;
    let before = Instant::now();
    house.send("{\"last\":true}").await;
    eventually("the healthy one has it", SOON, async || (well.count() == 1).then_some(())).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}: the others hang for 2 s", before.elapsed());
    assert!(hangs.most_in_flight() < 256, "never all there is");
}
