//! Attempts that fail locally: the delivery returns to the store, and its endpoint pauses, or all endpoints if all are
//! affected.

use super::world::LanesWorld;
use super::*;
use crate::domain::deliveries::attempt::LocalFailure;
use crate::engine::core::event::UnsentAttempt;
use crate::store::queue::slots::Leases;

impl LanesWorld {
    /// Every request in flight fails for this reason. Returns their number.
    fn fail_all(&mut self, why: LocalFailure) -> usize {
        let failed = std::mem::take(&mut self.in_flight);
        for dispatch in &failed {
            let (endpoint, message) = (dispatch.live.endpoint.id, dispatch.delivery.message.id);
            self.lanes.failed_locally(UnsentAttempt { endpoint, message, why, jitter: 0.0 }, self.now);
        }
        failed.len()
    }

    /// Advances the time, with scans and reads as often as possible. Returns the number of attempts started.
    fn pass(&mut self, millis: u64) -> usize {
        let before = self.in_flight.len();
        for _ in 0..millis / 50 {
            self.advance(50);
            self.scan();
            self.begin_read();
            self.end_read();
            self.start();
        }
        self.in_flight.len() - before
    }
}

#[test]
fn a_local_failure_does_not_count_as_an_attempt() {
    let mut world = LanesWorld::started(1, 64, 16, 10);
    let first = world.fail_all(LocalFailure::Ports);
    assert!(first > 0);
    assert!(world.lanes.settled() && world.lanes.in_flight() == 0, "nothing is unrecorded");
    assert_eq!(world.pass(950), 0, "however often it is read");
    assert!(world.pass(100) > 0);
    // `LanesWorld::dispatch` compares the progress with that in the store.
    assert!(world.in_flight.iter().all(|dispatch| dispatch.delivery.progress == Progress::default()));
    world.fail_all(LocalFailure::Ports);
    assert_eq!(world.pass(1_900), 0, "twice in a row");
    assert!(world.pass(200) > 0);
    world.finish(0, true);
    world.fail_all(LocalFailure::Ports);
    assert!(world.pass(1_100) > 0, "an attempt that was made ends the row");
    world.settle();
    assert_eq!(world.delivered, 10);
}

#[test]
fn a_pause_after_a_local_failure_affects_no_other_endpoint() {
    let mut world = LanesWorld::started(2, 64, 16, 20);
    let resting = world.lives[0].endpoint.id;
    for _ in 0..40 {
        let mine = |dispatch: &Dispatch| dispatch.live.endpoint.id == resting;
        while let Some(at) = world.in_flight.iter().position(mine) {
            world.cannot_make_for(at, LocalFailure::Panic);
        }
        world.finish(0, true);
        world.record(usize::MAX);
        world.pass(50);
    }
    let left = world.pending.keys().filter(|(endpoint, _)| *endpoint != resting).count();
    assert_eq!(left, 0, "the other endpoint is served");
    world.settle();
    assert_eq!(world.delivered, 40);
}

#[test]
fn if_all_are_affected_all_pause_and_one_probes() {
    let mut world = LanesWorld::started(40, 64, 16, 3);
    let all = world.fail_all(LocalFailure::Descriptors);
    assert_eq!(all, 32, "half of the capacity, for unknown endpoints");
    let (mut begun, mut rounds) = (0, 0);
    // For a minute no request can be made.
    for _ in 0..1_200 {
        begun += world.pass(50);
        rounds += usize::from(world.fail_all(LocalFailure::Descriptors) > 0);
    }
    assert!((4..=8).contains(&rounds) && begun == rounds, "{begun} attempts in {rounds} rounds");
    world.settle();
    assert_eq!(world.delivered, 120);
}

#[test]
fn a_lease_that_ends_meanwhile_leaves_no_state() {
    let mut world = LanesWorld::started(1, 8, 8, 1);
    world.lanes.lease(&Leases::new(), world.now);
    world.fail_all(LocalFailure::Descriptors);
    assert!(world.lanes.busy_slots().is_empty(), "the slot can be returned");
    assert_eq!(world.pass(5_000), 0);
    world.lanes.lease(&super::world::all_slots(), world.now);
    world.settle();
    assert_eq!(world.delivered, 1);
}
