//! A fleet with very many endpoints, where iterating over all of them would be noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::case::{Case, begin, endpoint};
use super::receivers::{Behavior, SimReceiver};
use super::rng::SeededRng;
use super::scenario::{ScenarioEvent, fault};
use super::world::{SimEvent, World};
use crate::engine::core::scanning::{PAGE, SCAN_OWN};

const APPS: u64 = 10;
/// The end of all faults, in milliseconds.
const FAULTS_END_MS: u64 = 20_000;

/// A world of few messages and very many endpoints. Most endpoints work.
pub fn world(seed: u64, endpoints: u64) -> World {
    let mut rng = SeededRng::new(seed);
    let case = Case {
        shared: true,
        scan_every: 5 * SCAN_OWN,
        page: PAGE,
        wide: true,
        caps: (512, 16),
        waits: [1, 3, 8].map(Duration::from_secs),
        calm: false,
        exhausted: 0,
        gentle: false,
    };
    let (mut lives, mut receivers) = (Vec::new(), BTreeMap::new());
    for number in 0..endpoints {
        let live = endpoint(&mut rng, number, number % APPS, None);
        let behavior = if rng.chance(95) { Behavior::Well } else { SimReceiver::any(&mut rng) };
        receivers.insert(live.endpoint.id, SimReceiver::new(behavior));
        lives.push(live);
    }
    let mut world = begin(case, rng, &lives, receivers);
    for machine in 0..3 {
        let at = world.rng.millis(0, FAULTS_END_MS / 2);
        world.after(if machine == 0 { Duration::ZERO } else { at }, SimEvent::Scenario(ScenarioEvent::Join(machine)));
    }
    for _ in 0..APPS {
        let at = world.rng.millis(100, FAULTS_END_MS / 2);
        world.after(at, SimEvent::Scenario(ScenarioEvent::Accept));
    }
    for _ in 0..3 {
        let (at, event) = (world.rng.millis(0, FAULTS_END_MS), fault(&mut world));
        world.after(at, SimEvent::Scenario(event));
    }
    world.after(Duration::from_millis(FAULTS_END_MS), SimEvent::Scenario(ScenarioEvent::EndFaults));
    world
}
