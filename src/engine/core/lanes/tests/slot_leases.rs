//! Slots and leases: only leased slots are served, and nothing survives an ended lease.

use super::super::*;
use super::world::{LanesWorld, START, SignalTiming, live, message};
use crate::store::queue::slots::Leases;

#[test]
fn slots_of_other_processes_are_not_served() {
    let mut world = LanesWorld::new(2, 8, 8);
    world.lanes.lease(&Leases::from([(1, 7)]), world.now);
    world.accept(SignalTiming::AtOnce);
    world.start();
    let sent: Vec<_> = world.in_flight.iter().map(|dispatch| (dispatch.slot, dispatch.epoch)).collect();
    assert_eq!(sent, [(1, 7)]);
    world.lanes.release(&[1], world.now);
    assert!(world.lanes.busy_slots().contains(&1), "one is in flight");
    world.finish(0, true);
    world.record(1);
    assert!(world.lanes.busy_slots().is_empty());
    world.accept(SignalTiming::AtOnce);
    world.start();
    assert!(world.in_flight.is_empty());
}

/// Another process had the slot meanwhile and sent everything pending.
fn change_owners(world: &mut LanesWorld) {
    world.lanes.lease(&Leases::from([(1, 9)]), world.now);
    let in_flight: Vec<MessageId> = world.in_flight.iter().map(|dispatch| dispatch.delivery.message.id).collect();
    world.pending.retain(|(_, message), _| in_flight.contains(message));
}

#[test]
fn deliveries_queued_under_an_ended_lease_are_dropped() {
    let mut world = LanesWorld::started(1, 1, 1, 3);
    change_owners(&mut world);
    world.accept(SignalTiming::AtOnce);
    // `LanesWorld::dispatch` fails if it is sent although it is not pending.
    world.settle();
    assert_eq!(world.delivered, 2);
    assert_eq!(world.lanes.queued_bytes, 0);
}

#[test]
fn rows_read_under_an_ended_lease_are_dropped() {
    let mut world = LanesWorld::reading(1, 8, 8, 3);
    assert!(world.reading.is_some());
    change_owners(&mut world);
    world.end_read();
    world.start();
    assert!(world.in_flight.is_empty());
    world.accept(SignalTiming::Never);
    world.settle();
    assert_eq!(world.delivered, 1);
}

#[test]
fn a_new_lease_starts_with_an_empty_bucket() {
    let mut world = LanesWorld::new(1, 100, 100);
    world.lives = vec![live(1, |spec| spec.throttle_rate = Some(50))];
    (0..20).for_each(|_| world.accept(SignalTiming::AtOnce));
    world.start();
    assert_eq!(world.in_flight.len(), 2, "a twentieth of a second's worth");
    world.lanes.lease(&Leases::from([(1, 9)]), world.now);
    world.scan();
    world.advance(19);
    world.begin_read();
    world.end_read();
    world.start();
    assert_eq!(world.in_flight.len(), 2, "the previous owner may have sent a burst");
}

#[test]
fn other_processes_are_notified_of_their_deliveries() {
    let mut world = LanesWorld::new(2, 8, 8);
    world.lanes.lease(&Leases::from([(1, 7)]), world.now);
    let admission = Admission::new(message(1), world.lives.clone());
    let second = world.lives[1].endpoint.id;
    assert_eq!(world.lanes.admit_all(&admission, world.now), [second]);
    assert_eq!(world.lanes.note_due(second, START), Ownership::Others);
    assert_eq!(world.lanes.note_due(world.lives[0].endpoint.id, START), Ownership::Ours);
    assert_eq!(world.lanes.note_due(EndpointId(uuid::Uuid::from_u128(3)), START), Ownership::Unknown);
}
