//! Endpoints that rest: what the circuit breaker of the process that sends says of them is seen by every process.

use std::time::Duration;

use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::domain::deliveries::delivery::Transition;
use sendoff::domain::{AppId, EndpointId, Time};
use sendoff::store::Tenant;
use sendoff::store::catalog::endpoint_list::BreakerPause;
use sendoff::store::recording::record::FinishedAttempt;

use crate::home::*;
use crate::support::on_both;

async fn rest(home: &Home, app: AppId, id: EndpointId, now: Time) -> Option<BreakerPause> {
    home.another().await.listed_endpoint(&tenant(), app, id).await.unwrap().unwrap().rest(now)
}

async fn listed(home: &Home, who: &Tenant, now: Time) -> Vec<EndpointId> {
    home.store.paused_endpoints(who, now, 9).await.unwrap().iter().map(|one| one.endpoint_id).collect()
}

on_both! {
    a_rest_lasts_until_its_end_and_through_the_probe
}

async fn a_rest_lasts_until_its_end_and_through_the_probe(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let (other, well) = customer(store, "other").await;
    let refused = || Outcome::failed(Failure::Refused, "", Duration::ZERO);
    let fail = async |rests_until: Option<Time>| {
        let message = accept(store, app.id).await;
        let one = *waiting(store, made.id).await.iter().find(|one| one.message_id == message.id).unwrap();
        let next = retry(9_000, 1);
        store.record(vec![FinishedAttempt { rests_until, ..finished(app.id, &one, refused(), next) }]).await.unwrap();
    };
    fail(None).await;
    assert_eq!(rest(&home, app.id, made.id, NOW).await, None, "one failure is no outage");
    fail(Some(later(10))).await;
    let failing_since = |line: sendoff::store::catalog::endpoint_list::ListedEndpoint| line.failing_since;
    let since = store.listed_endpoint(&tenant(), app.id, made.id).await.unwrap().map(failing_since).unwrap();
    assert_eq!(since, Some(NOW), "the streak goes on");
    assert_eq!(rest(&home, app.id, made.id, NOW).await, Some(BreakerPause::Until(later(10))));
    // Attempts that were on their way together end in any order.
    fail(Some(later(5))).await;
    fail(None).await;
    assert_eq!(rest(&home, app.id, made.id, NOW).await, Some(BreakerPause::Until(later(10))));
    assert_eq!(rest(&home, app.id, made.id, later(11)).await, Some(BreakerPause::Probing));
    assert_eq!(rest(&home, app.id, made.id, later(60)).await, None, "nobody probes for so long");
    assert_eq!(listed(&home, &tenant(), NOW).await, [made.id]);
    assert_eq!(listed(&home, &Tenant { only: Some(app.id), ..tenant() }, NOW).await, [made.id]);
    assert!(listed(&home, &Tenant { only: Some(other.id), ..tenant() }, NOW).await.is_empty());
    assert!(listed(&home, &stranger(), NOW).await.is_empty() && listed(&home, &tenant(), later(60)).await.is_empty());
    assert_eq!(rest(&home, other.id, well.id, NOW).await, None);

    let message = accept(store, app.id).await;
    let one = *waiting(store, made.id).await.iter().find(|one| one.message_id == message.id).unwrap();
    store.record(vec![finished(app.id, &one, answered(200), Transition::Delivered)]).await.unwrap();
    assert_eq!(rest(&home, app.id, made.id, NOW).await, None, "it answered");
    assert!(listed(&home, &tenant(), NOW).await.is_empty());

    fail(Some(later(10))).await;
    let mut spec = made.spec.clone();
    spec.disabled = true;
    let made = updated(store, &made, spec.clone(), NOW).await;
    assert_eq!(rest(&home, app.id, made.id, NOW).await, None, "a disabled one does not rest");
    spec.disabled = false;
    updated(store, &made, spec, NOW).await;
    assert_eq!(rest(&home, app.id, made.id, NOW).await, None, "and it begins anew");
}
