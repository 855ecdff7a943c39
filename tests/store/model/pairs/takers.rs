//! What only one of two may get: an event id, a key, a uid, a turn, a slot, a row; and what is accepted while endpoints change.

use std::sync::atomic::{AtomicBool, Ordering};

use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope};
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::{AppId, EndpointId, Uid};
use sendoff::store::catalog::endpoint_update::OptimisticUpdate;
use sendoff::store::ingest::accept::Rejection;
use sendoff::store::ingest::fan_out_scheduler::FanOutScheduler;
use sendoff::store::ingest::idempotency::IdempotencyKey;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::jobs::background::BackgroundSpec;
use sendoff::store::jobs::background::TaskSelection;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::{Store, StoreError};

use super::{ROUNDS, furnish, hold, item, two};
use crate::model::run::{Checked, World, process, said};
use crate::support::on_both_alone;

on_both_alone! {
    one_of_two_concurrent_objects_gets_a_name
    a_turn_a_row_and_a_slot_have_one_taker
    messages_accepted_after_a_change_of_endpoints_follow_it
}

fn spec(url: &str) -> EndpointSpec {
    EndpointSpec { url: format!("https://example.com/{url}"), ..EndpointSpec::default() }
}

fn check(holds: bool, what: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(what.into()) }
}

async fn one_of_two_concurrent_objects_gets_a_name(world: World) {
    hold(world, async |world| {
        for round in 0..ROUNDS * 4 {
            let (tenant, app, endpoint, now) = furnish(world).await?;
            let (first, second) = two(world);
            let same = item(&tenant, app, Some("e1"), now);
            let two = futures_util::join!(first.accept(same.clone()), second.accept(same.clone()));
            let two = [said(two.0)?, said(two.1)?];
            let refused = two.iter().filter(|one| matches!(one, Err(Rejection::Duplicate(_)))).count();
            check(two.iter().flatten().count() == 1 && refused == 1, format!("an event id: {two:?}"))?;

            let once = IdempotencyKey { hash: [round as u8; 32], body: [1; 32], at: now };
            let (a, b) = (first.with_idempotency_key(once.clone()), second.with_idempotency_key(once));
            let same = item(&tenant, app, None, now);
            let two = futures_util::join!(a.accept(same.clone()), b.accept(same));
            let two = [said(two.0)?, said(two.1)?];
            let refused = two.iter().filter(|one| matches!(one, Err(Rejection::Repeated))).count();
            check(two.iter().flatten().count() == 1 && refused == 1, format!("an idempotency key: {two:?}"))?;

            let uid = Some(Uid::parse("uid", "acme", "app_").expect("a uid"));
            let acme = ApplicationSpec { uid, name: "Acme".into(), ..ApplicationSpec::default() };
            let made = |store: Store| {
                let (tenant, acme) = (tenant.clone(), acme.clone());
                async move { store.create_application(&tenant, acme, now).await }
            };
            let two = futures_util::join!(made(first.clone()), made(second.clone()));
            let two = [two.0, two.1];
            let refused = two.iter().filter(|one| matches!(one, Err(StoreError::Taken(_)))).count();
            check(two.iter().flatten().count() == 1 && refused == 1, format!("a uid: {two:?}"))?;

            let before = world.model.ends[&endpoint].endpoint.clone();
            let changed = futures_util::join!(
                first.update_endpoint(&tenant, &before, spec("a"), now),
                second.update_endpoint(&tenant, &before, spec("b"), now)
            );
            let two = [said(changed.0)?, said(changed.1)?];
            let done = two.iter().filter(|one| matches!(one, OptimisticUpdate::Updated(_))).count();
            check(done == 1 && two.contains(&OptimisticUpdate::Stale), format!("an endpoint as it was: {two:?}"))?;
        }
        Ok(())
    })
    .await;
}

async fn a_turn_a_row_and_a_slot_have_one_taker(world: World) {
    hold(world, async |world| {
        for _ in 0..ROUNDS * 2 {
            let (tenant, app, endpoint, now) = furnish(world).await?;
            let (first, second) = two(world);
            let scope = TaskScope::Endpoint(app, endpoint);
            let selection = TaskSelection::Messages(EndpointMessageFilter::default());
            let work = BackgroundSpec { kind: TaskKind::Recover, scope, selection, by: String::new(), total: None };
            said(first.start_background(&tenant, work, now).await)?;
            let two = futures_util::join!(first.lease_background(now), second.lease_background(now));
            let two = [said(two.0)?, said(two.1)?];
            check(two.iter().flatten().count() == 1, format!("a turn: {two:?}"))?;

            let items = rows(app);
            for row in &items {
                world.home.execute(row).await;
            }
            let request = RelayRequest { limit: 4, now };
            let mut relayed = 0;
            while said(first.outbox_has_work(now).await)? {
                let two = futures_util::join!(first.relay(request), second.relay(request));
                relayed += said(two.0)?.accepted + said(two.1)?.accepted;
            }
            while said(first.fan_out(&mut FanOutScheduler::default(), now).await)?.is_some() {}
            let count = said(first.count_in_state(&tenant, DeliveryState::Fresh, 100).await)?;
            check((relayed, count) == (items.len(), items.len() as i64), format!("rows: {relayed}, {count}"))?;

            if first.shared() {
                let (one, other) = (process(0), process(1));
                let two = futures_util::join!(first.heartbeat(&one, now), second.heartbeat(&other, now));
                let (one, other) = (said(two.0)?.leases, said(two.1)?.leases);
                check(one.keys().all(|slot| !other.contains_key(slot)), "a slot of two owners")?;
            }
        }
        Ok(())
    })
    .await;
}

fn rows(app: AppId) -> Vec<String> {
    let row = |n: usize| {
        format!(
            "INSERT INTO outbox (application, event_type, payload, event_id) VALUES ('{app}', 'invoice.paid', '{{}}', 'r{n}')"
        )
    };
    (0..10).map(row).collect()
}

/// What is accepted after an endpoint was created goes there, and nothing that is accepted after it was disabled or deleted.
async fn messages_accepted_after_a_change_of_endpoints_follow_it(world: World) {
    hold(world, async |world| {
        for round in 0..ROUNDS * 3 {
            let (tenant, app, endpoint, now) = furnish(world).await?;
            let (first, second) = two(world);
            let (changed, before) = (AtomicBool::new(false), world.model.ends[&endpoint].endpoint.clone());
            let change = async {
                let changes = match round % 3 {
                    0 => {
                        let secret = Secret::generate(SignatureType::Hmac256);
                        said(first.create_endpoint(&tenant, app, spec("new"), &secret, now).await)?.id
                    }
                    1 => {
                        let disabled = EndpointSpec { disabled: true, ..before.spec.clone() };
                        said(first.update_endpoint(&tenant, &before, disabled, now).await)?;
                        endpoint
                    }
                    _ => {
                        said(first.delete_endpoint(&tenant, app, endpoint, now).await)?;
                        endpoint
                    }
                };
                changed.store(true, Ordering::SeqCst);
                Ok::<EndpointId, String>(changes)
            };
            let accept = async {
                let mut accepted = Vec::new();
                while accepted.len() < 30 && accepted.iter().filter(|(_, after)| *after).count() < 3 {
                    let after = changed.load(Ordering::SeqCst);
                    let message = said(second.accept(item(&tenant, app, None, now)).await)?;
                    accepted.push((message.map_err(|refusal| refusal.to_string())?.id, after));
                }
                Ok::<_, String>(accepted)
            };
            let (changed, accepted) = futures_util::join!(change, accept);
            let (changed, created) = (changed?, round % 3 == 0);
            // The second handle packs.
            while said(first.fan_out(&mut FanOutScheduler::default(), now).await)?.is_some() {}
            for (message, after) in accepted? {
                let deliveries = said(first.deliveries_of(&tenant, app, message).await)?.data;
                let goes = deliveries.iter().any(|one| one.endpoint_id == changed);
                check(!after || goes == created, format!("{} change {round}: {deliveries:?}", world.name))?;
            }
            while said(first.cancel_pending_of_deleted(100, now).await)? > 0 {}
            let pending = crate::home::pending_lanes(&first).await;
            let left = pending.iter().any(|lane| lane.endpoint == endpoint);
            check(round % 3 != 2 || !left, "something is pending at a deleted endpoint")?;
        }
        Ok(())
    })
    .await;
}
