//! An application with very many endpoints next to one with a single endpoint: applications take turns.

use super::world::{LanesWorld, SignalTiming, live};
use super::*;
use crate::domain::catalog::endpoint::Endpoint;

const WIDE: u128 = 2_000;

/// The only endpoint of the other application.
fn of_another_application() -> Arc<LiveEndpoint> {
    let live = live(WIDE + 1, |_| {});
    let endpoint = Endpoint { app_id: AppId(uuid::Uuid::from_u128(2)), ..live.endpoint.clone() };
    let signing = Err("nothing is signed here");
    let (org, slot) = (live.org.clone(), live.slot);
    Arc::new(LiveEndpoint { org, version: 1, endpoint, slot, app_rate: None, url: None, signing })
}

/// Accepts a message for the other application only.
fn accept_another(world: &mut LanesWorld, signal: SignalTiming) -> EndpointId {
    let another = of_another_application();
    let wide = std::mem::replace(&mut world.lives, vec![another.clone()]);
    world.accept(signal);
    world.lives = wide;
    another.endpoint.id
}

/// The number of attempts that end before a request to this endpoint is in flight.
fn ended_before(world: &mut LanesWorld, id: EndpointId) -> usize {
    let all = usize::try_from(WIDE).unwrap();
    let sent = |world: &LanesWorld| world.in_flight.iter().any(|dispatch| dispatch.live.endpoint.id == id);
    (0..all)
        .find(|_| {
            world.start();
            let sent = sent(world);
            world.finish(0, true);
            world.record(1);
            sent
        })
        .unwrap_or(all)
}

#[test]
fn another_application_waits_for_one_turn_and_not_for_all_endpoints() {
    let mut world = LanesWorld::started(WIDE, 64, 16, 1);
    let id = accept_another(&mut world, SignalTiming::AtOnce);
    let unknown = ended_before(&mut world, id);
    assert!(unknown <= 2, "{unknown} attempts had to end with unknown endpoints");
    world.settle();

    world.accept(SignalTiming::AtOnce);
    world.start();
    assert_eq!(world.in_flight.len(), 64, "all of them respond");
    let id = accept_another(&mut world, SignalTiming::AtOnce);
    let responsive = ended_before(&mut world, id);
    assert!(responsive <= 2, "{responsive} attempts had to end");
    world.settle();
    assert_eq!(world.delivered, 2 * (usize::try_from(WIDE).unwrap() + 1));
}

#[test]
fn another_application_is_part_of_the_next_read() {
    let mut world = LanesWorld::new(WIDE, 64, 16);
    world.accept(SignalTiming::Never);
    world.scan();
    world.begin_read();
    world.end_read();
    world.advance(10);
    let id = accept_another(&mut world, SignalTiming::Never);
    world.lanes.update_endpoints(&[of_another_application()], world.now);
    world.begin_read();
    let (wants, _) = world.reading.as_ref().expect("a reading");
    assert!(wants.iter().any(|want| want.endpoint == id), "thousands of others were due before");
    assert!(wants.len() > 1, "and the others are read too");
    world.end_read();
    world.settle();
}
