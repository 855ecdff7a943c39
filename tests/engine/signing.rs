//! What arrives is signed so that independent libraries accept it.

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::signing::signature::{ExtraSignature, KeyForm};
use sendoff::domain::time::Clock;
use std::time::Duration;

use crate::support::{Received, Receiver};
use crate::world::{Kind, World, on_both};

on_both! {
    the_official_library_accepts_it_through_a_rotation
    extras_and_own_headers_go_along_and_secrets_do_not_stay
}

pub fn official(secret: &Secret, request: &Received) -> bool {
    let headers: http::HeaderMap = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .into_iter()
        .map(|name| (name.parse::<http::HeaderName>().unwrap(), request.header(name).unwrap().parse().unwrap()))
        .collect();
    standardwebhooks::Webhook::new(&secret.shown()).unwrap().verify(&request.body, &headers).is_ok()
}

async fn the_official_library_accepts_it_through_a_rotation(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    let spec = EndpointSpec { url: receiver.url("/"), ..Default::default() };
    let (endpoint, first) = world.endpoint_with(spec).await;
    let message = world.send("{\"test\": 2432232314}").await;
    world.until(message.id, DeliveryState::Delivered).await;
    let second = Secret::generate(SignatureType::Hmac256);
    let grace = Duration::from_secs(3600);
    assert!(
        world.store.rotate_secret(&world.tenant, world.app.id, endpoint.id, &second, grace, Clock.now()).await.unwrap()
    );
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Delivered).await;
    let third = Secret::generate(SignatureType::Hmac256);
    world
        .store
        .rotate_secret(&world.tenant, world.app.id, endpoint.id, &third, Duration::ZERO, Clock.now())
        .await
        .unwrap();
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Delivered).await;
    let got = receiver.received();
    let accepts = |secret| got.iter().map(|request| official(secret, request)).collect::<Vec<_>>();
    assert_eq!(accepts(&first), [true, true, true], "an hour of grace");
    assert_eq!(accepts(&second), [false, true, false], "no grace");
    assert_eq!(accepts(&third), [false, false, true]);
}

async fn extras_and_own_headers_go_along_and_secrets_do_not_stay(kind: Kind) {
    let world = World::busy(kind).await;
    let receiver = Receiver::ok();
    let spec = EndpointSpec {
        url: receiver.url("/"),
        extra_signatures: vec![
            ExtraSignature::Svix,
            ExtraSignature::GitHub { header: "X-Hub-Signature-256".into(), key: KeyForm::Text },
        ],
        headers: [("authorization".to_owned(), "Bearer s3cret".to_owned())].into(),
        ..Default::default()
    };
    world.endpoint_with(spec).await;
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Delivered).await;
    let got = receiver.received().remove(0);
    assert_eq!(got.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(got.header("svix-signature"), got.header("webhook-signature"));
    assert!(got.header("x-hub-signature-256").unwrap().starts_with("sha256="));
    let attempt = world.attempts(message.id).await.remove(0);
    let recorded =
        |name: &str| attempt.request_headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(recorded("authorization"), Some("***"), "the record is shown to people");
    assert_eq!(recorded("webhook-signature"), got.header("webhook-signature"), "as sent");
}
