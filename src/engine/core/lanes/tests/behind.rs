//! Lanes for which more waits in the store than they hold, beside others that keep up.

use super::world::{Heard, World, live};

/// Milliseconds pass, in which the second endpoint is sent something every other one, which is heard of `late` milliseconds later. Gives back
/// how many left for the first and for the second.
fn beside(world: &mut World, millis: u64, late: u64) -> (usize, usize) {
    let all = world.lives.clone();
    let mut left = (0, 0);
    for at in 0..millis {
        world.advance(1);
        if at % 2 == 0 {
            world.lives = vec![all[1].clone()];
            world.accept(Heard::Late);
        }
        if at % (late + 1) == 0 {
            world.hear_late();
        }
        world.begin_reading();
        world.end_reading();
        world.start();
        while let Some(start) = world.in_flight.first() {
            if start.live.endpoint.id == all[0].endpoint.id {
                left.0 += 1
            } else {
                left.1 += 1
            }
            world.finish(0, true);
            world.start();
        }
        world.record(usize::MAX);
    }
    world.lives = all;
    left
}

#[test]
fn a_lane_that_is_behind_gives_way_until_it_has_caught_up() {
    let mut world = World::new(2, 64, 64);
    assert_eq!(beside(&mut world, 1_000, 0), (0, 500));
    let (first, all) = (world.lives[0].endpoint.id, world.lives.clone());
    world.lives.truncate(1);
    (0..2_500).for_each(|_| world.accept(Heard::AtOnce));
    world.lives = all;
    assert!(world.lanes.lanes[&first].behind_until.is_some(), "more waits than the lane may hold");
    let (behind, others) = beside(&mut world, 1_000, 5);
    assert!(others >= 495, "others are sent at once what is heard of: {others}");
    assert!((500..700).contains(&behind), "as many as the others, and what left before they noticed: {behind}");
    assert!(world.lanes.pace_of_those_behind().is_some_and(|pace| pace <= 550.0));
    let (behind, _) = beside(&mut world, 1_000, 0);
    assert!((700..1_000).contains(&behind), "slowly more when they do not notice: {behind}");
    world.settle();
    world.advance(5_000);
    world.scan();
    beside(&mut world, 1_000, 0);
    assert_eq!(world.lanes.lanes[&first].behind_until, None, "it keeps up again");
    assert_eq!(world.lanes.pace_of_those_behind(), None);
}

#[test]
fn an_endpoint_whose_order_counts_is_never_behind() {
    let mut world = World::new(1, 64, 64);
    (0..200).for_each(|_| world.accept(Heard::AtOnce));
    let lane = |world: &World| world.lanes.lanes[&world.lives[0].endpoint.id].behind_until;
    assert!(lane(&world).is_some());
    let ordered = live(1, |spec| spec.ordered = true);
    world.lanes.know(&[ordered], world.now);
    assert_eq!(lane(&world), None);
}
