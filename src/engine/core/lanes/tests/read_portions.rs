//! The rows of a read are applied in portions, so no step handles too many.

use std::collections::BTreeMap;

use super::super::reading::{ROWS_PER_STEP, ReadRows};
use super::super::*;
use super::world::{LanesWorld, lane_request};
use crate::engine::core::event::ReadResult;
use crate::store::queue::ordered_heads::OrderedHead;
use crate::store::queue::pending_deliveries::PendingDelivery;

fn row(endpoint: EndpointId, number: u128) -> PendingDelivery {
    PendingDelivery {
        message_id: MessageId(uuid::Uuid::from_u128(number)),
        endpoint_id: endpoint,
        state: DeliveryState::Fresh,
        due_at: Time::ZERO,
        progress: Progress::default(),
    }
}

fn id(number: usize) -> EndpointId {
    EndpointId(uuid::Uuid::from_u128(number as u128 + 1))
}

#[test]
fn a_large_read_is_applied_in_portions_of_whole_lanes() {
    let lanes = 64;
    let want = |n: usize, ordered| lane_request(id(n), 128, ordered);
    let order = |n: usize| OrderedHead {
        endpoint: id(n),
        waiting: (0..128).map(|number| row(id(n), number)).collect(),
        up_to: 128,
        more: true,
        unnumbered: false,
        scheduled: None,
    };
    let mut arrived = ReadRows::new(ReadResult {
        wants: (0..lanes).map(|n| want(n, false)).chain((lanes..2 * lanes).map(|n| want(n, true))).collect(),
        waiting: (0..lanes).flat_map(|n| (0..256).map(move |number| row(id(n), number))).collect(),
        in_order: (lanes..2 * lanes).map(order).collect(),
        messages: HashMap::new(),
    });
    let (mut parts, mut rows): (usize, BTreeMap<EndpointId, usize>) = (0, BTreeMap::new());
    while !arrived.is_empty() {
        let part = arrived.next_portion();
        let ordered: usize = part.in_order.iter().map(|order| order.waiting.len()).sum();
        assert!(part.waiting.len() + ordered <= ROWS_PER_STEP);
        assert_eq!(part.waiting.len(), part.wants.len() * 256, "lanes are whole");
        let taken = part.waiting.iter().chain(part.in_order.iter().flat_map(|order| &order.waiting));
        taken.for_each(|one| *rows.entry(one.endpoint_id).or_default() += 1);
        parts += 1;
    }
    assert_eq!(parts, lanes * (256 + 128) / ROWS_PER_STEP);
    assert!(rows.len() == 2 * lanes && rows.values().sum::<usize>() == lanes * (256 + 128));
}

#[test]
fn a_lane_beyond_the_step_budget_comes_alone_and_empty_lanes_count() {
    let want = |n: usize| lane_request(id(n), 1, false);
    let mut arrived = ReadRows::new(ReadResult {
        wants: (0..2 * ROWS_PER_STEP).map(want).collect(),
        waiting: (0..ROWS_PER_STEP as u128 + 1).map(|number| row(id(0), number)).collect(),
        in_order: Vec::new(),
        messages: HashMap::new(),
    });
    let mut parts = Vec::new();
    while !arrived.is_empty() {
        parts.push(arrived.next_portion().wants.len());
    }
    assert_eq!(parts, [1, ROWS_PER_STEP, ROWS_PER_STEP - 1]);
}

#[test]
fn deliveries_recorded_between_portions_are_not_sent_again() {
    let mut world = LanesWorld::started(2, 8, 8, 1);
    assert_eq!(world.in_flight.len(), 2);
    // Both are in flight while their lanes are read.
    for live in world.lives.clone() {
        world.lanes.note_due(live.endpoint.id, Time::ZERO);
    }
    world.begin_read();
    let (wants, waiting) = world.reading.take().unwrap();
    for want in wants.chunks(1) {
        world.finish(0, true);
        world.record(1);
        let rows: Vec<PendingDelivery> =
            waiting.iter().filter(|one| one.endpoint_id == want[0].endpoint).copied().collect();
        world.lanes.read(want, &rows, &world.messages, world.now);
        // `LanesWorld::dispatch` fails if it is sent although it is not pending.
        world.start();
    }
    world.settle();
    assert_eq!(world.delivered, 2);
}
