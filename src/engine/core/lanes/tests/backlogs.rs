//! Backlogged lanes beside lanes without a backlog.

use super::world::{LanesWorld, SignalTiming, live};

/// Advances by milliseconds. The second endpoint gets a message every other millisecond, signalled `late`
/// milliseconds later. Returns the deliveries to the first and to the second.
fn beside(world: &mut LanesWorld, millis: u64, late: u64) -> (usize, usize) {
    let all = world.lives.clone();
    let mut left = (0, 0);
    for at in 0..millis {
        world.advance(1);
        if at % 2 == 0 {
            world.lives = vec![all[1].clone()];
            world.accept(SignalTiming::Late);
        }
        if at % (late + 1) == 0 {
            world.hear_late();
        }
        world.begin_read();
        world.end_read();
        world.start();
        while let Some(dispatch) = world.in_flight.first() {
            if dispatch.live.endpoint.id == all[0].endpoint.id {
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
fn a_backlogged_lane_yields_until_it_has_caught_up() {
    let mut world = LanesWorld::new(2, 64, 64);
    assert_eq!(beside(&mut world, 1_000, 0), (0, 500));
    let (first, all) = (world.lives[0].endpoint.id, world.lives.clone());
    world.lives.truncate(1);
    (0..2_500).for_each(|_| world.accept(SignalTiming::AtOnce));
    world.lives = all;
    assert!(world.lanes.lanes[&first].backlogged_until.is_some(), "more deliveries than the lane may hold");
    let (behind, others) = beside(&mut world, 1_000, 5);
    assert!(others >= 495, "others are sent when signalled: {others}");
    assert!((500..700).contains(&behind), "the rate of the others, plus those before the latency rose: {behind}");
    assert!(world.lanes.backlog_rate().is_some_and(|rate| rate <= 550.0));
    let (behind, _) = beside(&mut world, 1_000, 0);
    assert!((700..1_000).contains(&behind), "slowly more while the latency is normal: {behind}");
    world.settle();
    world.advance(5_000);
    world.scan();
    beside(&mut world, 1_000, 0);
    assert_eq!(world.lanes.lanes[&first].backlogged_until, None, "it has caught up");
    assert_eq!(world.lanes.backlog_rate(), None);
}

#[test]
fn an_ordered_endpoint_is_never_backlogged() {
    let mut world = LanesWorld::new(1, 64, 64);
    (0..200).for_each(|_| world.accept(SignalTiming::AtOnce));
    let lane = |world: &LanesWorld| world.lanes.lanes[&world.lives[0].endpoint.id].backlogged_until;
    assert!(lane(&world).is_some());
    let ordered = live(1, |spec| spec.ordered = true);
    world.lanes.update_endpoints(&[ordered], world.now);
    assert_eq!(lane(&world), None);
}
