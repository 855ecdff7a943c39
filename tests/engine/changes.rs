//! What becomes of deliveries that wait when their endpoint or application changes: docs/reliability.md has the table. Sixty wait behind a
//! rate of 30/s, and the change is made while they leave.

use std::collections::HashMap;
use std::time::Duration;

use sendoff::domain::MessageId;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::time::Clock;

use crate::signing::official;
use crate::support::{Receiver, SOON, eventually};
use crate::world::{Kind, World, on_both};

on_both! {
    a_deleted_endpoint_gets_no_more_and_what_waited_is_dead
    a_deleted_application_gets_no_more
    a_disabled_endpoint_keeps_what_waits_and_gets_it_once_when_it_is_enabled
    a_new_url_gets_what_waits
    a_new_secret_signs_what_waits
}

const WAITING: usize = 60;
/// Some have left by then, and most wait.
const LEFT: usize = 5;
/// So many may be on their way when the change is made.
const ON_THEIR_WAY: usize = 3;

struct Scene {
    world: World,
    receiver: Receiver,
    endpoint: Endpoint,
    secret: Secret,
    messages: Vec<MessageId>,
}

impl Scene {
    /// With a few that have arrived.
    async fn of(kind: Kind) -> Scene {
        let world = World::busy(kind).await;
        let receiver = Receiver::ok();
        let spec = EndpointSpec { url: receiver.url("/"), throttle_rate: Some(30), ..EndpointSpec::default() };
        let (endpoint, secret) = world.endpoint_with(spec).await;
        let mut messages = Vec::new();
        for n in 0..WAITING {
            messages.push(world.send(&format!("{{\"n\":{n}}}")).await.id);
        }
        let scene = Scene { world, receiver, endpoint, secret, messages };
        scene.arrived(LEFT).await;
        scene
    }

    async fn arrived(&self, count: usize) {
        eventually("some arrive", SOON, async || (self.receiver.count() >= count).then_some(())).await;
    }

    /// How many are in each state, once none waits.
    async fn ended(&self) -> HashMap<DeliveryState, usize> {
        eventually("none waits any more", SOON, async || {
            let mut states: HashMap<DeliveryState, usize> = HashMap::new();
            for message in &self.messages {
                for one in self.world.deliveries(*message).await {
                    *states.entry(one.state).or_default() += 1;
                }
            }
            let waits = states.contains_key(&DeliveryState::Fresh) || states.contains_key(&DeliveryState::Retry);
            (!waits).then_some(states)
        })
        .await
    }

    async fn update(&self, change: impl FnOnce(&mut EndpointSpec)) {
        let mut spec = self.endpoint.spec.clone();
        change(&mut spec);
        self.world.update(self.endpoint.id, spec).await;
    }
}

async fn a_deleted_endpoint_gets_no_more_and_what_waited_is_dead(kind: Kind) {
    let scene = Scene::of(kind).await;
    let (tenant, app) = (&scene.world.tenant, scene.world.app.id);
    scene.world.store.delete_endpoint(tenant, app, scene.endpoint.id, Clock.now()).await.unwrap();
    let before = scene.receiver.count();
    let states = scene.ended().await;
    let got = scene.receiver.count();
    assert!(got <= before + ON_THEIR_WAY, "{before} before, {got} in the end");
    // One whose POST was under way was received and is dead nevertheless: its owner had ended it.
    let (delivered, dead) = (states.get(&DeliveryState::Delivered).copied().unwrap_or(0), states[&DeliveryState::Dead]);
    assert!(delivered <= got && dead <= WAITING - delivered && delivered + dead == WAITING, "{states:?}");
    let last = scene.world.deliveries(scene.messages[WAITING - 1]).await;
    assert_eq!(last[0].reason.map(|reason| reason.word()), Some("endpoint-deleted"));
}

async fn a_deleted_application_gets_no_more(kind: Kind) {
    let scene = Scene::of(kind).await;
    let (tenant, app) = (&scene.world.tenant, scene.world.app.id);
    scene.world.store.delete_application(tenant, app, Clock.now()).await.unwrap();
    let before = scene.receiver.count();
    let store = &scene.world.store;
    eventually("nothing waits any more", SOON, async || (store.pending_count(1).await.unwrap() == 0).then_some(()))
        .await;
    let got = scene.receiver.count();
    assert!(got <= before + ON_THEIR_WAY, "{before} before, {got} in the end");
    assert!(scene.world.deliveries(scene.messages[0]).await.is_empty(), "nobody sees any of it");
}

async fn a_disabled_endpoint_keeps_what_waits_and_gets_it_once_when_it_is_enabled(kind: Kind) {
    let scene = Scene::of(kind).await;
    // Another endpoint with the same rate says when these would have come.
    let other = Receiver::ok();
    let spec = EndpointSpec { url: other.url("/"), throttle_rate: Some(30), ..EndpointSpec::default() };
    scene.world.endpoint_with(spec).await;
    scene.update(|spec| spec.disabled = true).await;
    let before = scene.receiver.count();
    for n in 0..30 {
        scene.world.send(&format!("{{\"meanwhile\":{n}}}")).await;
    }
    eventually("the other gets its own", SOON, async || (other.count() == 30).then_some(())).await;
    let got = scene.receiver.count();
    assert!(got <= before + ON_THEIR_WAY, "{before} before, {got} while it was disabled");
    scene.update(|_| {}).await;
    assert_eq!(scene.ended().await, HashMap::from([(DeliveryState::Delivered, WAITING)]));
    assert_eq!(scene.receiver.count(), WAITING, "each once, and nothing of what came meanwhile");
}

async fn a_new_url_gets_what_waits(kind: Kind) {
    let scene = Scene::of(kind).await;
    let new = Receiver::ok();
    scene.update(|spec| spec.url = new.url("/")).await;
    let before = scene.receiver.count();
    assert_eq!(scene.ended().await, HashMap::from([(DeliveryState::Delivered, WAITING)]));
    let got = scene.receiver.count();
    assert!(got <= before + ON_THEIR_WAY, "{before} before, {got} at the old one");
    assert_eq!(got + new.count(), WAITING, "each once");
}

async fn a_new_secret_signs_what_waits(kind: Kind) {
    let scene = Scene::of(kind).await;
    let second = Secret::generate(SignatureType::Hmac256);
    let (tenant, app, id) = (&scene.world.tenant, scene.world.app.id, scene.endpoint.id);
    let rotated = scene.world.store.rotate_secret(tenant, app, id, &second, Duration::ZERO, Clock.now()).await.unwrap();
    assert!(rotated);
    let before = scene.receiver.count();
    assert_eq!(scene.ended().await, HashMap::from([(DeliveryState::Delivered, WAITING)]));
    let got = scene.receiver.received();
    let (old, new) = (
        got.iter().filter(|one| official(&scene.secret, one)).count(),
        got.iter().filter(|one| official(&second, one)).count(),
    );
    assert!(
        old >= LEFT && old <= before + ON_THEIR_WAY && old + new == WAITING,
        "{old} with the old one, {new} with the new"
    );
}
