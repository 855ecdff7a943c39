//! Attempts that could not be made: the delivery goes back, its endpoint rests, and so does everybody if all are affected.

use super::world::{Heard, World};
use super::*;
use crate::domain::deliveries::attempt::OwnFailure;
use crate::engine::core::event::NotMade;
use crate::store::queue::slots::Leases;

impl World {
    /// All that is in flight fails for this reason; gives back how much that is.
    fn fail_all(&mut self, why: OwnFailure) -> usize {
        let failed = std::mem::take(&mut self.in_flight);
        for start in &failed {
            let (endpoint, message) = (start.live.endpoint.id, start.work.message.id);
            self.lanes.not_made(NotMade { endpoint, message, why, jitter: 0.0 }, self.now);
        }
        failed.len()
    }

    /// So much time passes, with scans and readings as often as they may be; gives back how many attempts were begun.
    fn pass(&mut self, millis: u64) -> usize {
        let before = self.in_flight.len();
        for _ in 0..millis / 50 {
            self.advance(50);
            self.scan();
            self.begin_reading();
            self.end_reading();
            self.start();
        }
        self.in_flight.len() - before
    }
}

#[test]
fn what_was_not_made_is_still_the_first_attempt_and_comes_after_a_wait() {
    let mut world = World::new(1, 64, 16);
    (0..10).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    let first = world.fail_all(OwnFailure::Ports);
    assert!(first > 0);
    assert!(world.lanes.settled() && world.lanes.in_flight() == 0, "nothing waits to be recorded");
    assert_eq!(world.pass(950), 0, "however often it is read");
    assert!(world.pass(100) > 0);
    // `World::start` compares the progress with the store's.
    assert!(world.in_flight.iter().all(|start| start.work.progress == Progress::default()));
    world.fail_all(OwnFailure::Ports);
    assert_eq!(world.pass(1_900), 0, "twice in a row");
    assert!(world.pass(200) > 0);
    world.finish(0, true);
    world.fail_all(OwnFailure::Ports);
    assert!(world.pass(1_100) > 0, "one that was made ends the row");
    world.settle();
    assert_eq!(world.delivered, 10);
}

#[test]
fn an_endpoint_that_rests_holds_up_no_other_and_is_not_taken_for_a_failing_one() {
    let mut world = World::new(2, 64, 16);
    (0..20).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    let resting = world.lives[0].endpoint.id;
    for _ in 0..40 {
        let mine = |start: &Start| start.live.endpoint.id == resting;
        while let Some(at) = world.in_flight.iter().position(mine) {
            world.cannot_make_for(at, OwnFailure::Panic);
        }
        world.finish(0, true);
        world.record(usize::MAX);
        world.pass(50);
    }
    let left = world.pending.keys().filter(|(endpoint, _)| *endpoint != resting).count();
    assert_eq!(left, 0, "the other one is served");
    world.settle();
    assert_eq!(world.delivered, 40);
}

#[test]
fn where_all_are_affected_all_rest_and_one_is_the_first_to_try() {
    let mut world = World::new(40, 64, 16);
    (0..3).for_each(|_| world.accept(Heard::AtOnce));
    world.start();
    let all = world.fail_all(OwnFailure::Descriptors);
    assert_eq!(all, 32, "half of what may be in flight, as nothing is known of any of them");
    let (mut begun, mut rounds) = (0, 0);
    // For a minute nothing can be made.
    for _ in 0..1_200 {
        begun += world.pass(50);
        rounds += usize::from(world.fail_all(OwnFailure::Descriptors) > 0);
    }
    assert!((4..=8).contains(&rounds) && begun == rounds, "{begun} attempts in {rounds} rounds");
    world.settle();
    assert_eq!(world.delivered, 120);
}

#[test]
fn a_lease_that_ends_meanwhile_leaves_nothing_behind() {
    let mut world = World::new(1, 8, 8);
    world.accept(Heard::AtOnce);
    world.start();
    world.lanes.lease(&Leases::new(), world.now);
    world.fail_all(OwnFailure::Descriptors);
    assert!(world.lanes.busy_slots().is_empty(), "the slot can be handed over");
    assert_eq!(world.pass(5_000), 0);
    world.lanes.lease(&super::world::all_slots(), world.now);
    world.settle();
    assert_eq!(world.delivered, 1);
}
