//! The lanes against a small model of the store and its receivers, driven by a seed. For any order of events, no
//! delivery is lost or in flight twice, and limits hold. A failing seed is printed; put it into `seed` to run it
//! again.

mod app_rate_limits;
mod application_turns;
mod backlogs;
mod bounds;
mod indexes;
mod local_failures;
mod read_portions;
mod read_watermarks;
mod slot_leases;
pub mod world;

use proptest::prelude::*;

use super::*;
use crate::domain::deliveries::message::Message;
use crate::engine::core::concurrency::Responsiveness;
use world::{LanesWorld, START, SignalTiming, live, message};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_delivery_is_lost_or_in_flight_twice_for_any_order_of_events(
        seed in proptest::collection::vec(any::<u32>(), 1..300)
    ) {
        let mut world = LanesWorld::new(3, 8, 4);
        for choice in &seed {
            world.step(*choice);
            prop_assert!(world.lanes.in_flight() <= 8 && world.lanes.in_flight() == world.in_flight.len());
            for live in &world.lives {
                let mine = world.in_flight.iter().filter(|dispatch| dispatch.live.endpoint.id == live.endpoint.id).count();
                prop_assert!(mine <= 4, "{mine} in flight to one endpoint");
            }
        }
        let accepted = world.messages.len() * world.lives.len();
        world.settle();
        prop_assert_eq!(world.delivered, accepted);
    }
}

#[test]
fn deliveries_beyond_the_queue_wait_in_the_store() {
    let mut world = LanesWorld::started(1, 4, 4, 1_000);
    assert_eq!(world.in_flight.len(), 1, "a quarter of what is free");
    assert!(world.lanes.lanes.all().all(|(_, lane)| lane.queued() <= super::super::lane::QUEUE));
    world.settle();
    assert_eq!(world.delivered, 1_000);
}

#[test]
fn scheduled_deliveries_are_sent_on_time_and_block_nothing() {
    let mut world = LanesWorld::new(1, 8, 8);
    let at = START.plus(Duration::from_secs(60));
    (0..1_000).for_each(|_| world.schedule(SignalTiming::AtOnce, Some(at)));
    world.lanes.note_due(world.lives[0].endpoint.id, START);
    world.begin_read();
    assert!(world.reading.is_some());
    world.end_read();
    world.start();
    assert!(world.in_flight.is_empty());
    assert_eq!(world.lanes.begin_read(world.now).0, [], "scheduled rows are no reason to read on");
    assert_eq!(world.lanes.idle_for(world.now), Some(Duration::from_secs(60)));
    world.accept(SignalTiming::Never);
    world.scan();
    world.begin_read();
    world.end_read();
    world.start();
    assert_eq!(world.in_flight.len(), 1, "due deliveries go before scheduled ones");
    world.finish(0, true);
    world.record(1);
    world.advance(60_000);
    world.begin_read();
    world.end_read();
    world.start();
    assert!(!world.in_flight.is_empty(), "no signal was needed");
    world.settle();
    assert_eq!(world.delivered, 1_001);
}

#[test]
fn withdrawn_deliveries_are_not_sent_from_the_queue_nor_from_a_read() {
    let mut world = LanesWorld::started(1, 4, 1, 3);
    let queued = world.next;
    world.withdraw(MessageId(uuid::Uuid::from_u128(queued)));
    world.accept(SignalTiming::Never);
    world.scan();
    world.begin_read();
    assert!(world.reading.is_some());
    world.withdraw(MessageId(uuid::Uuid::from_u128(queued + 1)));
    world.end_read();
    assert_eq!(world.lanes.queued_bytes, 2, "of the remaining delivery");
    // `LanesWorld::dispatch` fails if it is sent although it is not pending.
    world.settle();
    assert_eq!(world.delivered, 2);
}

#[test]
fn a_single_lane_takes_a_share_of_the_free_capacity() {
    let world = LanesWorld::started(1, 100, 100, 100);
    // Each start leaves less: a quarter of the rest is reached at 20 of 100.
    assert_eq!(world.in_flight.len(), 20);
}

/// The first `good` endpoints respond at once; the others hang.
fn serve_the_good(world: &mut LanesWorld, good: usize) -> usize {
    let ids: Vec<EndpointId> = world.lives[..good].iter().map(|live| live.endpoint.id).collect();
    let mut served = 0;
    while let Some(at) = world.in_flight.iter().position(|dispatch| ids.contains(&dispatch.live.endpoint.id)) {
        world.finish(at, true);
        world.record(usize::MAX);
        world.start();
        served += 1;
    }
    served
}

#[test]
fn responsive_endpoints_are_unaffected_by_hanging_ones() {
    let (good, all) = (10, 110);
    let mut world = LanesWorld::started(all, 64, 16, 1);
    assert_eq!(serve_the_good(&mut world, good), good, "the first, while no endpoint is known to hang");
    let mut late = 0;
    for _ in 0..100 {
        world.accept(SignalTiming::AtOnce);
        world.start();
        late += good - serve_the_good(&mut world, good);
        world.advance(100);
    }
    let mut by = [0; 3];
    world.lanes.lanes.all().for_each(|(_, lane)| by[lane.kind as usize] += lane.in_flight);
    assert_eq!(world.lanes.shares.counts().0, by);
    assert_eq!(late, 0, "each is sent when it is accepted");
    assert!(world.in_flight.len() >= 32, "hanging endpoints get their half: {}", world.in_flight.len());
    let silent = world.lanes.lanes.all().filter(|(_, lane)| lane.kind == Responsiveness::Silent);
    let queued: Vec<usize> = silent.map(|(_, lane)| lane.queued()).collect();
    assert!(queued.len() >= 20 && queued.iter().all(|queued| *queued <= 8), "the rest waits in the store: {queued:?}");
}

#[test]
fn trimmed_deliveries_are_read_again_even_if_they_were_empty() {
    let mut world = LanesWorld::new(1, 4, 1);
    for number in 1..=30 {
        let message = Arc::new(Message { payload: Some("".into()), ..Message::clone(&message(number)) });
        world.lanes.admit_all(&Admission::new(message, world.lives.clone()), world.now);
    }
    assert!(world.lanes.next_dispatch(world.now).is_some(), "one hangs");
    assert_eq!(world.lanes.begin_read(world.now).0, [], "all others are queued");
    world.advance(1_000);
    world.lanes.begin_turn(world.now);
    assert!(world.lanes.next_dispatch(world.now).is_none());
    let lane = &world.lanes.lanes[&world.lives[0].endpoint.id];
    assert_eq!((lane.queued(), lane.read_due()), (8, Some(Time::ZERO)));
}

#[test]
fn an_endpoint_changes_its_kind_without_an_event() {
    let mut world = LanesWorld::new(1, 8, 8);
    let id = world.lives[0].endpoint.id;
    let kind = |world: &LanesWorld| world.lanes.lanes[&id].kind;
    world.accept(SignalTiming::AtOnce);
    world.start();
    world.advance(200);
    world.finish(0, true);
    world.record(1);
    world.accept(SignalTiming::AtOnce);
    world.start();
    world.advance(310);
    world.start();
    assert_eq!(kind(&world), Responsiveness::Responsive, "the first attempt got a response");
    world.advance(200);
    world.start();
    assert_eq!(kind(&world), Responsiveness::Silent, "the second did not");
    world.finish(0, true);
    world.record(1);
    // A delivery due in an hour keeps the lane from being dropped.
    world.lanes.note_due(id, world.now.time.plus(Duration::from_secs(3_600)));
    world.advance(59_900);
    world.start();
    assert_eq!(kind(&world), Responsiveness::Responsive);
    world.advance(200);
    world.start();
    assert_eq!(kind(&world), Responsiveness::Unknown);
}

#[test]
fn a_silent_lane_is_not_read_while_something_is_queued() {
    let mut world = LanesWorld::new(1, 4, 1);
    for _ in 0..3 {
        world.accept(SignalTiming::AtOnce);
    }
    world.start();
    world.advance(1_000);
    world.start();
    assert_eq!(world.in_flight.len(), 1, "one hangs, two are queued");
    world.scan();
    assert_eq!(world.lanes.begin_read(world.now).0, [], "otherwise every scan would cause a read");
    world.settle();
    assert_eq!(world.delivered, 3);
}

#[test]
fn full_queues_do_not_block_other_lanes() {
    let mut world = LanesWorld::new(2, 8, 8);
    world.lanes.queued_bytes = QUEUED_BYTES;
    world.accept(SignalTiming::AtOnce);
    world.accept(SignalTiming::AtOnce);
    world.start();
    assert_eq!(world.in_flight.len(), 2, "each lane may queue one");
    world.settle();
    assert_eq!(world.delivered, 4);
}

#[test]
fn a_paused_lane_sends_nothing_until_it_is_enabled() {
    let mut world = LanesWorld::new(1, 8, 8);
    (0..3).for_each(|_| world.accept(SignalTiming::AtOnce));
    let off = live(1, |spec| spec.disabled = true);
    world.lanes.update_endpoints(&[off], world.now);
    world.scan();
    world.begin_read();
    world.end_read();
    world.start();
    assert!(world.in_flight.is_empty());
    world.lanes.update_endpoints(&world.lives.clone(), world.now);
    world.settle();
    assert_eq!(world.delivered, 3);
}

#[test]
fn first_attempts_and_retries_take_turns() {
    let mut world = LanesWorld::new(1, 100, 100);
    let id = world.lives[0].endpoint.id;
    for number in 0..40 {
        let message = message(number);
        let (state, attempts) = if number < 20 { (DeliveryState::Retry, 1) } else { (DeliveryState::Fresh, 0) };
        let progress = Progress { attempts, step: attempts, ..Progress::default() };
        world.pending.insert((id, message.id), (state, START, progress));
        world.messages.insert(message.id, message);
    }
    world.scan();
    world.begin_read();
    world.end_read();
    world.start();
    let kinds: Vec<bool> = world.in_flight.iter().map(|dispatch| dispatch.delivery.progress.attempts > 0).collect();
    assert_eq!(kinds.iter().filter(|retry| **retry).count() * 2, kinds.len(), "{kinds:?}");
}

#[test]
fn the_read_index_does_not_grow_with_traffic() {
    let mut world = LanesWorld::new(1, 8, 8);
    let id = world.lives[0].endpoint.id;
    world.accept(SignalTiming::AtOnce);
    world.start();
    world.lanes.note_due(id, START.plus(Duration::from_secs(3_600)));
    for _ in 0..1_000 {
        world.accept(SignalTiming::AtOnce);
        world.start();
        world.finish(0, true);
        world.record(1);
    }
    assert!(world.lanes.reads_due.len() < 10, "{}", world.lanes.reads_due.len());
}
