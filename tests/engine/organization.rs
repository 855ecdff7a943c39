//! An organization's own retry schedule.

use sendoff::domain::catalog::organization_spec::OrganizationSpec;
use sendoff::domain::deliveries::backoff::RetrySchedule;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::time::Clock;
use sendoff::store::catalog::organization_rows::OrganizationWrite;

use crate::support::{Answer, Receiver};
use crate::world::{Kind, World, on_both};

on_both! {
    an_organization_without_retries_gives_up_at_once
}

async fn an_organization_without_retries_gives_up_at_once(kind: Kind) {
    let world = World::busy(kind).await;
    let spec = OrganizationSpec {
        retry_schedule: Some(RetrySchedule::new("retrySchedule", Vec::new()).unwrap()),
        ..OrganizationSpec::default()
    };
    let written = world.store.put_organization(&world.tenant.org, &spec, None, Clock.now()).await.unwrap();
    assert_eq!(written, OrganizationWrite::Written);
    let receiver = Receiver::start(|_| Answer::status(500));
    world.endpoint(receiver.url("/")).await;
    let message = world.send("{}").await;
    world.until(message.id, DeliveryState::Dead).await;
    assert_eq!(world.attempts(message.id).await.len(), 1);
}
