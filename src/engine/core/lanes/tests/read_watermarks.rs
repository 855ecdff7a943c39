//! The start of a lane's reads.

use super::super::super::lane::QUEUE;
use super::*;
use crate::store::queue::pending_deliveries::LaneRequest;

/// A one-second-old backlog of a lane, with a millisecond between deliveries.
fn backlog(count: usize) -> LanesWorld {
    let mut world = LanesWorld::new(1, 1_000, 1_000);
    for _ in 0..count {
        world.accept(SignalTiming::Never);
        world.advance(1);
    }
    world.advance(60_000);
    // The first scan creates the lane, the second makes it due to be read.
    world.scan();
    world.scan();
    world
}

/// The request of the read that follows a scan.
fn read(world: &mut LanesWorld) -> LaneRequest {
    world.scan();
    world.begin_read();
    let want = world.reading.as_ref().expect("a reading").0[0];
    world.end_read();
    want
}

/// Delivers and records this many queued deliveries, one per millisecond.
fn serve(world: &mut LanesWorld, count: usize) {
    let wanted = world.delivered + count;
    while world.delivered < wanted {
        world.start();
        world.finish(0, true);
        world.record(1);
        world.advance(1);
        assert!(world.now.time < at(120_000), "{} of {wanted}", world.delivered);
    }
}

fn at(millis: usize) -> Time {
    START.plus(Duration::from_millis(millis as u64))
}

#[test]
fn a_backlog_is_read_from_the_end_of_the_last_read() {
    let mut world = backlog(1_000);
    let first = read(&mut world);
    assert_eq!((first.fresh_from, first.fresh), (Time::ZERO, QUEUE as i64));
    serve(&mut world, QUEUE);
    let second = read(&mut world);
    assert_eq!((second.fresh_from, second.fresh), (at(QUEUE - 1), QUEUE as i64));
    serve(&mut world, QUEUE / 2);
    let room = QUEUE - world.lanes.queued(world.lives[0].endpoint.id).0;
    let third = read(&mut world);
    assert_eq!(third.fresh_from, at(2 * QUEUE - 1));
    assert_eq!(third.fresh as usize, room + 1, "only the last held row is returned again");
    assert_eq!(third.retries_from, Time::ZERO, "there were no retries");
    world.settle();
    assert_eq!(world.delivered, 1_000);
}

#[test]
fn late_commits_are_above_the_watermark_or_read_within_two_seconds() {
    let mut world = backlog(QUEUE);
    read(&mut world);
    serve(&mut world, QUEUE);
    world.accept_behind(9_000);
    assert!(read(&mut world).fresh_from > Time::ZERO);
    serve(&mut world, 1);

    world.accept_behind(61_200);
    assert!(read(&mut world).fresh_from > Time::ZERO);
    world.start();
    assert!(world.in_flight.is_empty(), "it is below the watermark");
    world.advance(2_000);
    assert_eq!(read(&mut world).fresh_from, Time::ZERO);
    serve(&mut world, 1);
}

/// A read past many deleted rows takes long.
#[test]
fn slow_full_reads_are_rarer() {
    let mut world = backlog(1_000);
    world.begin_read();
    world.advance(500);
    world.end_read();
    serve(&mut world, QUEUE);
    for _ in 0..2 {
        world.advance(4_500);
        assert!(read(&mut world).fresh_from > Time::ZERO);
        serve(&mut world, QUEUE);
    }
    world.advance(1_100);
    assert_eq!(read(&mut world).fresh_from, Time::ZERO, "twenty times as long has passed");
}

#[test]
fn deliveries_returned_to_the_store_are_read_again() {
    let mut world = backlog(1_000);
    read(&mut world);
    serve(&mut world, QUEUE - 1);
    world.start();
    world.cannot_make_for(0, crate::domain::deliveries::attempt::LocalFailure::Ports);
    world.advance(1_500);
    assert_eq!(read(&mut world).fresh_from, Time::ZERO);
    // A new lease also starts from the beginning.
    world.lanes.lease(&Default::default(), world.now);
    world.lanes.lease(&world::all_slots(), world.now);
    assert_eq!(read(&mut world).fresh_from, Time::ZERO);
}
