//! A fleet with very many endpoints, where iterating over all of them would be noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::receivers::{Behavior, SimReceiver};
use super::rng::SeededRng;
use super::scenario::{Case, ScenarioEvent, begin, endpoint, fault};
use super::world::{SimEvent, World};
use crate::engine::core::scanning::{PAGE, SCAN_OWN};

/// The number of applications.
const APPS: u64 = 10;
/// When all faults end, in milliseconds.
const LASTS: u64 = 20_000;

/// A world of few messages and very many endpoints, most of which work.
pub fn world(seed: u64, endpoints: u64) -> World {
    let mut dice = SeededRng::new(seed);
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
        let live = endpoint(&mut dice, number, number % APPS, None);
        let temper = if dice.chance(95) { Behavior::Well } else { SimReceiver::any(&mut dice) };
        receivers.insert(live.endpoint.id, SimReceiver::new(temper));
        lives.push(live);
    }
    let mut world = begin(case, dice, &lives, receivers);
    for seat in 0..3 {
        let at = world.dice.millis(0, LASTS / 2);
        world.after(if seat == 0 { Duration::ZERO } else { at }, SimEvent::Scenario(ScenarioEvent::Join(seat)));
    }
    for _ in 0..APPS {
        let at = world.dice.millis(100, LASTS / 2);
        world.after(at, SimEvent::Scenario(ScenarioEvent::Accept));
    }
    for _ in 0..3 {
        let (at, scene) = (world.dice.millis(0, LASTS), fault(&mut world));
        world.after(at, SimEvent::Scenario(scene));
    }
    world.after(Duration::from_millis(LASTS), SimEvent::Scenario(ScenarioEvent::Heal));
    world
}
