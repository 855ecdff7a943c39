//! A case of the simulation: the number of processes, the endpoints and their receivers, and the world built from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::model_store::{ModelStore, SLOTS};
use super::process::{START, WallClock};
use super::receivers::{Behavior, SimReceiver};
use super::rng::SeededRng;
use super::scenario::schedule_scenario;
use super::world::World;
use crate::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use crate::domain::{AppId, EndpointId, OrgId};
use crate::engine::core::scanning::{PAGE, SCAN_OWN, SCAN_SHARED};
use crate::store::ingest::message_routing::{AppRate, LiveEndpoint};

/// The parameters of a case.
#[derive(Clone, Debug)]
pub struct Case {
    pub shared: bool,
    pub scan_every: Duration,
    /// Maximum lanes per page of a scan.
    pub page: usize,
    /// The concurrency limits of a process: all requests, and requests to one endpoint.
    pub caps: (usize, usize),
    pub waits: [Duration; 3],
    /// No faults are injected, and signals are neither lost nor late.
    pub calm: bool,
    /// The process cannot make most requests during this many of every 40 seconds, and a few of them otherwise. 0: no
    /// local failures.
    pub exhausted: u64,
    /// Processes only start and stop gracefully, so no delivery may be duplicated.
    pub gentle: bool,
    /// More lanes than one step examines, and enough deliveries for backlogs to yield.
    pub wide: bool,
}

/// A world at its start. `size` (0 to 100) scales the numbers of processes, endpoints and events.
pub fn world(seed: u64, size: u64) -> World {
    let mut rng = SeededRng::new(seed);
    let shared = rng.chance(70);
    let processes = if shared { 1 + rng.below(2 + size / 40) as usize } else { 1 };
    let kind = rng.below(10);
    let case = Case {
        shared,
        // Not drawn at random, so existing seeds keep their scenarios.
        page: if seed.is_multiple_of(8) { 1 } else { PAGE },
        scan_every: if shared && rng.chance(10) { SCAN_SHARED } else { SCAN_OWN },
        caps: (rng.pick(&[4, 8, 16, 64]), rng.pick(&[1, 2, 4, 16])),
        waits: [1, 3, 8].map(Duration::from_secs),
        calm: kind < 2,
        exhausted: if rng.chance(20) { 1 + rng.below(15) } else { 0 },
        gentle: kind < 4,
        wide: false,
    };
    let (lives, receivers) = endpoints(&mut rng, size, case.calm);
    let mut world = begin(case, rng, &lives, receivers);
    schedule_scenario(&mut world, processes, size);
    world
}

/// A world before any process joins.
pub fn begin(
    case: Case,
    mut rng: SeededRng,
    lives: &[Arc<LiveEndpoint>],
    receivers: BTreeMap<EndpointId, SimReceiver>,
) -> World {
    let wall_clocks =
        (0..4).map(|_| WallClock { skew: rng.below(900_000) as i64 - 450_000, ..WallClock::default() }).collect();
    let store = ModelStore::new(case.shared, lives);
    let mut world = World::new(case, rng, store, receivers, wall_clocks);
    let ordered = |live: &&Arc<LiveEndpoint>| live.endpoint.spec.ordered;
    world.checks.ordered = lives.iter().filter(ordered).map(|live| live.endpoint.id).collect();
    world
}

/// Endpoints of up to three applications, some with a rate limit, and their receivers.
fn endpoints(
    rng: &mut SeededRng,
    size: u64,
    calm: bool,
) -> (Vec<Arc<LiveEndpoint>>, BTreeMap<EndpointId, SimReceiver>) {
    let apps = 1 + rng.below(1 + size / 40);
    let throttles: Vec<Option<u16>> = (0..apps).map(|_| rng.chance(15).then(|| rng.pick(&[2, 5, 30]))).collect();
    let (mut lives, mut receivers) = (Vec::new(), BTreeMap::new());
    for number in 0..1 + rng.below(2 + size / 25) {
        let app = rng.below(apps);
        let live = endpoint(rng, number, app, throttles[app as usize]);
        let id = live.endpoint.id;
        lives.push(live);
        let behavior = if calm && rng.chance(50) { Behavior::Well } else { SimReceiver::any(rng) };
        receivers.insert(id, SimReceiver::new(behavior));
    }
    (lives, receivers)
}

/// Creates an endpoint of an application.
pub fn endpoint(rng: &mut SeededRng, number: u64, app: u64, app_throttle: Option<u16>) -> Arc<LiveEndpoint> {
    let spec = EndpointSpec {
        url: "http://127.0.0.1/".into(),
        throttle_rate: rng.chance(25).then(|| rng.pick(&[1, 3, 10, 40])),
        ordered: rng.chance(20),
        ..EndpointSpec::default()
    };
    let endpoint = Endpoint {
        id: EndpointId(uuid::Uuid::from_u128((1 << 65) | u128::from(number))),
        app_id: AppId(uuid::Uuid::from_u128((1 << 64) | u128::from(app))),
        spec,
        disabled_reason: None,
        created_at: START,
        updated_at: START,
    };
    // All endpoints of an application with a rate limit share one slot.
    let of = if app_throttle.is_some() { endpoint.app_id.0 } else { endpoint.id.0 };
    Arc::new(LiveEndpoint {
        org: OrgId::default_org(),
        version: 1,
        slot: of.as_bytes()[15] % SLOTS as u8,
        endpoint,
        app_rate: app_throttle.map(|per_second| AppRate { per_second, slots: 1 }),
        url: None,
        signing: Err("the simulation does not sign"),
    })
}
