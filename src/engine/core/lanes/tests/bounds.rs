//! The cost of the lanes: lookups per event, and bytes held.

use super::super::*;
use super::world::{LanesWorld, SignalTiming, accepted, live};

#[test]
fn lanes_waiting_for_a_share_cost_nothing() {
    let mut world = LanesWorld::started(2_000, 64, 16, 1);
    assert_eq!(world.in_flight.len(), 32, "half is for unknown endpoints");
    for round in 0..100 {
        let before = world.lanes.lookups();
        world.finish(round, true);
        world.record(1);
        world.start();
        let (visited, looked_up) = (world.lanes.visits, world.lanes.lookups() - before);
        assert!(visited <= 4, "{visited} lanes visited because one attempt ended");
        assert!(looked_up <= 64, "{looked_up} look-ups because one attempt ended");
    }
    assert_eq!(world.in_flight.len(), 32);
    world.settle();
    assert_eq!(world.delivered, 2_000);
}

#[test]
fn payloads_in_flight_count_as_memory() {
    let mut world = LanesWorld::started(1, 64, 64, 3);
    let bytes: usize = world.in_flight.iter().map(|dispatch| dispatch.delivery.message.size()).sum();
    assert!(bytes > 0);
    assert_eq!((world.lanes.in_flight_bytes, world.lanes.read_budget()), (bytes, READ_BYTES));
    world.lanes.in_flight_bytes = QUEUED_BYTES - 10;
    assert_eq!(world.lanes.read_budget(), 10);
    world.lanes.in_flight_bytes = bytes;
    world.settle();
    assert_eq!(world.lanes.in_flight_bytes, 0);
}

#[test]
fn messages_beyond_the_byte_budget_are_read_again_later() {
    let mut world = LanesWorld::reading(1, 8, 8, 3);
    let all = world.messages.clone();
    let first = *all.keys().min().unwrap();
    world.messages.retain(|id, _| *id == first);
    world.end_read();
    world.messages = all;
    world.start();
    assert_eq!(world.in_flight.len(), 1);
    assert_eq!(world.lanes.begin_read(world.now).0, [], "not in a hot loop");
    world.settle();
    assert_eq!(world.delivered, 3);
}

#[test]
fn a_read_requests_a_bounded_number_of_rows() {
    for (endpoints, lanes, of_each) in [(2_000, 512, 16), (10, 10, 128)] {
        let mut world = LanesWorld::new(endpoints, 64, 16);
        let lives = world.lives.clone();
        world.lanes.update_endpoints(&lives, world.now);
        let mut read = std::collections::HashSet::new();
        let (wants, _) = world.lanes.begin_read(world.now);
        assert_eq!(wants.len(), lanes);
        assert!(
            wants.iter().all(|want| (want.fresh, want.retries) == (of_each, of_each) && read.insert(want.endpoint))
        );
        assert!(wants.iter().map(|want| want.fresh + want.retries).sum::<i64>() <= 16_384);
    }
}

#[test]
fn an_application_with_many_unrecorded_results_leaves_room_for_the_others() {
    let mut world = LanesWorld::new(5_000, 512, 16);
    world.accept(SignalTiming::AtOnce);
    let fill = |world: &mut LanesWorld| loop {
        world.start();
        if world.in_flight.is_empty() {
            break;
        }
        (0..world.in_flight.len()).for_each(|pick| world.finish(pick, true));
    };
    fill(&mut world);
    let unrecorded = world.unrecorded.len();
    assert!((3_000..4_096).contains(&unrecorded), "{unrecorded} results of one application wait for the store");

    let (app, id) = (AppId(uuid::Uuid::from_u128(2)), EndpointId(uuid::Uuid::from_u128(9_999)));
    let mut other = live(9_999, |_| {});
    Arc::get_mut(&mut other).unwrap().endpoint.app_id = app;
    let message = Arc::new(accepted(MessageId(uuid::Uuid::from_u128(77)), app, world.now.time, None));
    world.pending.insert((id, message.id), (DeliveryState::Fresh, world.now.time, Progress::default()));
    world.lanes.admit_all(&Admission::new(message, vec![other]), world.now);
    world.start();
    let sent: Vec<EndpointId> = world.in_flight.iter().map(|dispatch| dispatch.live.endpoint.id).collect();
    assert_eq!(sent, [id], "the other application's delivery is sent, and nothing else");

    world.finish(0, true);
    while !world.unrecorded.is_empty() {
        world.record(500);
        fill(&mut world);
    }
    assert_eq!(world.delivered, 5_001, "records make room for the rest");
    assert!(world.lanes.settled());
}

#[test]
fn backlogged_lanes_keep_their_turns_while_there_is_little_room() {
    let mut world = LanesWorld::new(1, 64, 16);
    let [wide, quiet, backlogged] = [1, 2, 3].map(|number| AppId(uuid::Uuid::from_u128(number)));
    let id = |number| EndpointId(uuid::Uuid::from_u128(number));
    while !world.lanes.record_room.is_scarce() {
        world.lanes.record_room.take(wide);
    }
    for number in 1..=3 {
        world.lanes.lines[0].push(quiet, id(number));
        world.lanes.lines[1].push(wide, id(10 + number));
    }
    world.lanes.lines[1].push(backlogged, id(9));
    let mut next = |backlogged_next| {
        world.lanes.backlogged_next = backlogged_next;
        world.lanes.next_queued(world.now)
    };
    let taken = [false, true, true, false, false].map(&mut next);
    assert_eq!(taken, [Some(id(1)), Some(id(9)), Some(id(2)), Some(id(3)), None], "the wide application waits");
}
