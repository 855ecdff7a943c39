//! The simulation: whole fleets of engine cores in virtual time, with faults drawn from a seed.
//!
//! * [`world`]: the event queue and the effect of each event. Cores, lease policy, lanes, breakers, rate limits,
//!   steady clock and delivery transitions are the real code; everything they talk to is modelled.
//! * [`process`]: a process: a core, its clocks, its recorder. [`store_calls`]: its calls to the store and their
//!   replies.
//! * [`receivers`]: the receivers. [`model_store`]: the store: deliveries, slots, fencing.
//! * [`case`]: the case drawn from a seed: size, endpoints, receivers. [`scenario`]: its events: crashes, pauses,
//!   shutdowns, outages, clock jumps, …
//! * [`wide`]: the same with 50,000 endpoints, for a few seeds.
//! * [`checks`]: the properties that must hold at every step and at the end.
//!
//! A failing seed prints its trace and the command to run it again. `SENDOFF_TEST_SEEDS` sets the number of seeds
//! (10,000), `SENDOFF_TEST_SEED` runs a single one.
//!
//! Invariant: nothing here uses real time, threads or unseeded randomness, so a seed always gives the same trace.

mod case;
mod checks;
mod model_store;
mod process;
mod receivers;
mod rng;
mod scenario;
mod store_calls;
mod wide;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use world::World;

/// The number of tests that share the seeds and run in parallel.
const TESTS: u64 = 4;
/// The time after the last fault within which every delivery ends, plus 4 s per delivery for rate limits.
const SETTLE_TIME: Duration = Duration::from_secs(150);

/// The time after that within which the slots are distributed evenly: the lease of a dead process, and a few
/// heartbeats.
const DISTRIBUTION_TIME: Duration = Duration::from_secs(60);

/// Runs a world to its end.
fn run(world: &mut World) -> Result<(), String> {
    while !world.over() {
        if !world.step()? {
            return Err("no events are left, but some deliveries have not ended".to_owned());
        }
        let rows = world.store.rows.len() as u32;
        if let Some(healed_at) =
            world.healed_at.filter(|healed_at| world.now > *healed_at + SETTLE_TIME + Duration::from_secs(4) * rows)
        {
            let left = world.store.rows.values().filter(|row| row.state.pending()).count();
            for (key, row) in world.store.rows.iter().filter(|(_, row)| row.state.pending()) {
                let line = format!("still pending: {} to {}: {row:?}", world::short(key.1), world::short_of(key.0));
                world.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
            }
            return Err(format!("every delivery ends: {left} have not, long after the last fault at {healed_at:?}"));
        }
    }
    world.checks.end(&world.store, &world.receivers, world.schedule.waits().len())?;
    let ended = world.now;
    while !world.store.evenly_distributed(world.now) {
        if world.now > ended + DISTRIBUTION_TIME || !world.step()? {
            return Err(format!("shares: the slots are not distributed evenly: {:?}", world.store.slots));
        }
    }
    Ok(())
}

/// Runs a seed. Returns its result and its trace.
fn trace(seed: u64) -> (Result<(), String>, Vec<String>) {
    let mut world = case::world(seed, size(seed));
    world.trace = Some(vec![format!("{:?}", world.case)]);
    for (id, receiver) in &world.receivers {
        let spec = &world.store.lives[id].endpoint;
        let line = format!("{}: {:?}, rate {:?}", world::short_of(*id), receiver.behavior, spec.spec.throttle_rate);
        world.trace.iter_mut().for_each(|trace| trace.push(line.clone()));
    }
    let ended = run_guarded(&mut world);
    (ended, world.trace.unwrap_or_default())
}

/// Runs a world and turns a panic into a failure.
fn run_guarded(world: &mut World) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run(world))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

fn seeds() -> u64 {
    std::env::var("SENDOFF_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Small cases come first.
fn size(seed: u64) -> u64 {
    (seed / TESTS) * 100 / (10_000 / TESTS) % 101
}

fn run_share(parts: u64) {
    if let Some(seed) = std::env::var("SENDOFF_TEST_SEED").ok().and_then(|text| text.parse::<u64>().ok()) {
        if seed % TESTS == parts {
            let (ended, trace) = trace(seed);
            println!("{}", trace.join("\n"));
            ended.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        }
        return;
    }
    let (mut starts, mut duplicates) = (0, 0);
    for seed in (parts..seeds()).step_by(TESTS as usize) {
        let mut world = case::world(seed, size(seed));
        if let Err(wrong) = run_guarded(&mut world) {
            let (_, trace) = trace(seed);
            println!("{}", trace.join("\n"));
            panic!(
                "seed {seed}: {wrong}\nthe trace is above; run it again: \
                 SENDOFF_TEST_SEED={seed} cargo test --locked --lib simulation -- --nocapture"
            );
        }
        starts += world.checks.starts;
        duplicates += world.checks.duplicates;
    }
    println!("{} seeds: {starts} attempts, {duplicates} duplicates, all explained by faults", seeds() / TESTS);
}

#[test]
fn fleets_with_faults_first_quarter() {
    run_share(0);
}

#[test]
fn fleets_with_faults_second_quarter() {
    run_share(1);
}

#[test]
fn fleets_with_faults_third_quarter() {
    run_share(2);
}

#[test]
fn fleets_with_faults_last_quarter() {
    run_share(3);
}

/// One seed has tens of thousands of deliveries and takes about ten seconds. `SENDOFF_TEST_WIDE_SEEDS` runs more.
#[test]
fn a_fleet_with_faults_and_50_000_endpoints() {
    let seeds = std::env::var("SENDOFF_TEST_WIDE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in 0..seeds {
        let mut world = wide::world(seed, 50_000);
        run_guarded(&mut world).unwrap_or_else(|wrong| panic!("wide seed {seed}: {wrong}"));
        println!("wide seed {seed}: {} attempts in {:?}", world.checks.starts, world.now);
        assert!(world.store.rows.len() >= 25_000, "{} deliveries", world.store.rows.len());
    }
}

#[test]
fn a_seed_always_gives_the_same_trace() {
    for seed in [3, 4_001, 9_998] {
        assert_eq!(trace(seed), trace(seed));
    }
}
