//! The lane of an ordered endpoint against a small model of the store. For any order of events, only the **first
//! pending delivery by sequence number** is sent, nothing else is then in flight or unrecorded, and every delivery
//! ends. A failing seed is printed; put it into `seed` to run it again.

mod world;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::deliveries::attempt::{Failure, Outcome};
use crate::domain::deliveries::delivery::DeliveryState;
use crate::engine::core::lanes::tests::world::{START, live, scheduled};
use crate::store::queue::pending_deliveries::PendingDelivery;
use world::OrderedWorld;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_the_first_delivery_is_sent_for_any_order_of_events(
        seed in proptest::collection::vec(any::<u32>(), 1..400)
    ) {
        let mut world = OrderedWorld::new();
        seed.iter().for_each(|choice| world.step(*choice));
        world.settle();
    }
}

#[test]
fn deliveries_without_a_gap_need_no_read() {
    let mut world = OrderedWorld::with_read(1);
    for _ in 0..1_000 {
        world.accept(0, None);
        assert_eq!(world.lanes.begin_read(world.now).0, [], "it is in memory");
        world.deliver();
    }
    assert_eq!(world.sent.len(), 1_001);
}

#[test]
fn the_next_delivery_waits_for_the_record_of_the_previous_one() {
    let mut world = OrderedWorld::with_read(2);
    world.finish(true);
    world.start();
    assert_eq!(world.sent.len(), 1, "it is sent but not recorded");
    world.record();
    world.start();
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn a_failed_delivery_blocks_the_others_until_it_is_due_without_reads() {
    let mut world = OrderedWorld::with_read(3);
    world.finish(false);
    world.record();
    for _ in 0..10 {
        world.accept(0, None);
        world.read();
        assert_eq!(world.sent.len(), 1);
    }
    assert_eq!(world.lanes.begin_read(world.now).0, []);
    assert_eq!(world.lanes.queued_bytes, 0, "they wait in the store");
    world.advance(50);
    world.read();
    assert_eq!((world.sent.len(), world.sent[0]), (2, world.sent[1]));
    world.settle();
}

#[test]
fn canceling_a_queued_delivery_unblocks_the_others_at_once() {
    let mut world = OrderedWorld::with_read(2);
    world.finish(false);
    world.record();
    let (head, _) = world.head().unwrap();
    world.end(head);
    world.lanes.withdraw(&[(world.id(), head)]);
    world.read();
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn a_scheduled_delivery_is_sent_despite_constant_traffic() {
    let mut world = OrderedWorld::new();
    world.accept(0, None);
    let deliver_at = world.now.time.plus(Duration::from_millis(100));
    world.accept(0, Some(deliver_at));
    let scheduled = *world.pending.iter().find(|(_, row)| row.seq == 0).unwrap().0;
    for _ in 0..200 {
        world.advance(1);
        world.accept(0, None);
        world.read();
        world.number(true);
        world.deliver();
        world.accept(0, None);
        world.deliver();
    }
    assert!(world.sent.contains(&scheduled));
}

#[test]
fn a_delivery_without_payload_blocks_until_the_store_ends_it() {
    let mut world = OrderedWorld::new();
    (0..2).for_each(|_| world.accept(3, None));
    let (first, _) = world.head().unwrap();
    let content = world.messages.remove(&first);
    world.scan();
    world.read();
    assert!(world.sent.is_empty());
    world.end(first);
    world.advance(500);
    world.read();
    assert_eq!(world.sent.len(), 1);
    drop(content);
}

#[test]
fn becoming_ordered_waits_for_requests_in_flight_and_drops_the_queue() {
    let mut world = OrderedWorld::new();
    let free = live(1, |_| {});
    for number in 1..=20 {
        world.lanes.admit_all(&Admission::new(scheduled(number, None), vec![free.clone()]), world.now);
    }
    let mut flying = Vec::new();
    while let Some(dispatch) = world.lanes.next_dispatch(world.now) {
        flying.push(dispatch);
    }
    assert!(flying.len() > 1);
    world.lanes.update_endpoints(&[world.live.clone()], world.now);
    assert_eq!(world.lanes.queued_bytes, 0);
    world.accept(0, None);
    let outcome = Outcome { failure: None, ..Outcome::failed(Failure::Status, "", Duration::ZERO) };
    for dispatch in flying {
        assert_eq!(world.lanes.begin_read(world.now).0, [], "not before they are recorded");
        world.lanes.sent((world.id(), dispatch.delivery.message.id), &outcome, world.now);
        world.lanes.recorded(world.id(), dispatch.delivery.message.id, None);
    }
    world.read();
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn a_read_from_before_the_endpoint_became_ordered_is_dropped() {
    let mut world = OrderedWorld::new();
    let id = world.id();
    world.lanes.update_endpoints(&[live(1, |_| {})], world.now);
    let (wants, _) = world.lanes.begin_read(world.now);
    assert!(!wants[0].ordered);
    world.lanes.update_endpoints(&[world.live.clone()], world.now);
    let message = scheduled(7, None);
    let waiting = PendingDelivery {
        message_id: message.id,
        endpoint_id: id,
        state: DeliveryState::Fresh,
        due_at: START,
        progress: Progress::default(),
    };
    world.lanes.read(&wants, &[waiting], &HashMap::from([(message.id, message)]), world.now);
    assert!(world.lanes.next_dispatch(world.now).is_none());
    let (wants, _) = world.lanes.begin_read(world.now);
    assert!(wants[0].ordered, "it is read again");
}
