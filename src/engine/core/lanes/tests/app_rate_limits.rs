//! Rate limits of applications and their endpoints.

use super::super::*;
use super::world::{LanesWorld, SignalTiming, live};
use crate::store::ingest::message_routing::AppRate;
use crate::store::queue::slots::slot_of;

/// An application with a rate limit, whose first endpoints have one too; each has `messages` deliveries pending.
fn throttled(app_rate: u16, rates: [Option<u16>; 3], messages: usize) -> LanesWorld {
    let mut world = LanesWorld::new(3, 64, 64);
    let lives = rates.iter().zip(1..).map(|(rate, number)| {
        let live = live(number, |spec| spec.throttle_rate = *rate);
        let (org, endpoint, signing) = (live.org.clone(), live.endpoint.clone(), Err("nothing is signed here"));
        Arc::new(LiveEndpoint {
            org,
            version: 1,
            endpoint,
            slot: 1,
            app_rate: Some(AppRate { per_second: app_rate, slots: 1 }),
            url: None,
            signing,
        })
    });
    world.lives = lives.collect();
    let leases = world.lives.iter().map(|live| (slot_of(live), 1)).collect();
    world.lanes.lease(&leases, world.now);
    (0..messages).for_each(|_| world.accept(SignalTiming::AtOnce));
    world
}

/// The starts of the next `seconds`: endpoint and time.
fn departures(world: &mut LanesWorld, seconds: u64) -> Vec<(Duration, EndpointId)> {
    let mut sent = Vec::new();
    for _ in 0..seconds * 100 {
        world.advance(10);
        world.start();
        while let Some(dispatch) = world.in_flight.first() {
            sent.push((world.now.mono, dispatch.live.endpoint.id));
            world.finish(0, true);
        }
        world.record(usize::MAX);
    }
    sent
}

#[test]
fn an_application_rate_holds_for_any_rates_of_its_endpoints() {
    let mut world = throttled(5, [Some(1), Some(3), Some(10)], 60);
    let sent = departures(&mut world, 20);
    for (dispatch, _) in &sent {
        let within = sent.iter().filter(|(at, _)| (*dispatch..*dispatch + Duration::from_secs(1)).contains(at)).count();
        assert!(within <= 6, "{within} in a second at a rate of 5 and a burst of 1");
    }
    assert!(sent.len() >= 95, "and it is used: {} in 20 s", sent.len());
}

#[test]
fn the_endpoints_of_a_throttled_application_take_turns() {
    let mut world = throttled(10, [None; 3], 100);
    let sent = departures(&mut world, 9);
    for live in &world.lives {
        let mine = sent.iter().filter(|(_, id)| *id == live.endpoint.id).count();
        assert!(mine >= sent.len() / 3 - 1, "{mine} of {}", sent.len());
    }
}
