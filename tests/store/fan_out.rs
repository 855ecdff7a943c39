//! Wide fan-out: a message to more endpoints than a store takes at once is accepted with its endpoints packed, and moved to the queue in steps.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, EndpointId};
use sendoff::store::Store;
use sendoff::store::ingest::fan_out::{FanOutStep, PACK, STEP};
use sendoff::store::ingest::fan_out_scheduler::FanOutScheduler;
use sendoff::store::queue::signals::Signal;

use crate::home::*;
use crate::support::on_both;
use crate::support::{SOON, eventually};
use sqlx::Executor;

/// An application with so many endpoints that want everything.
async fn wide(store: &Store, endpoints: usize) -> (AppId, Vec<Endpoint>) {
    let app = application(store, "acme").await.id;
    let mut made = Vec::new();
    for _ in 0..endpoints {
        made.push(endpoint(store, app, endpoint_spec()).await);
    }
    (app, made)
}

async fn fan_out(store: &Store) -> Option<FanOutStep> {
    store.fan_out(&mut FanOutScheduler::default(), NOW).await.expect("the store")
}

/// An id as SQL.
fn literal(home: &Home, id: uuid::Uuid) -> String {
    if home.is_sqlite() { format!("x'{}'", id.simple()) } else { format!("'{id}'") }
}

/// Has the store refuse rows of `table` of which `condition` is true.
async fn refuse_inserts(home: &Home, table: &str, condition: &str) {
    let sql = if home.is_sqlite() {
        format!(
            "CREATE TRIGGER refused BEFORE INSERT ON {table} WHEN {condition}
             BEGIN SELECT RAISE(ABORT, 'this test refuses it'); END"
        )
    } else {
        format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'this test refuses it'; END $$;
             CREATE TRIGGER refused BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()"
        )
    };
    home.execute(&sql).await;
}

async fn allow_inserts(home: &Home, table: &str) {
    home.execute(&home.either("DROP TRIGGER refused", "DROP TRIGGER refused ON {table}").replace("{table}", table))
        .await;
}

fn ids(endpoints: &[Endpoint]) -> BTreeSet<EndpointId> {
    endpoints.iter().map(|endpoint| endpoint.id).collect()
}

on_both! {
    a_wide_message_is_packed_and_another_process_can_move_it
    moved_deliveries_are_signaled_to_the_engine
    endpoint_changes_before_a_delivery_is_moved
    content_that_was_deleted_is_not_sent
    content_that_was_deleted_is_not_sent_even_if_a_step_fails_in_the_middle
    a_scheduled_message_waits_for_its_time_and_retention_for_what_is_packed
    steps_are_bounded_and_applications_take_turns
    an_application_whose_step_fails_holds_up_no_other_and_is_tried_again
    processes_that_move_at_the_same_time_move_each_delivery_once
}

async fn a_wide_message_is_packed_and_another_process_can_move_it(home: Home) {
    let packing = home.another_that_packs(3).await;
    let mut signals = packing.signals().listen().unwrap();
    let (app, mut endpoints) = wide(&packing, 4).await;
    let ordered = endpoint(&packing, app, EndpointSpec { ordered: true, ..endpoint_spec() }).await;
    while signals.try_recv().is_ok() {}
    let message = accept(&packing, app).await;
    assert!(packing.take_packed_flag() && !packing.take_packed_flag(), "it knows once of its own");
    assert!(!home.store.take_packed_flag(), "and of no other's");
    assert_eq!(home.number("SELECT CAST(deliveries AS BIGINT) FROM message").await, 5);
    assert_eq!(home.number("SELECT count(*) FROM due").await, 1, "numbers are drawn at once");
    let Ok(Signal::Accepted(admitted)) = signals.try_recv().map(Signal::from) else { panic!("nothing was told") };
    let told: Vec<EndpointId> = admitted[0].endpoints.iter().map(|live| live.endpoint.id).collect();
    assert_eq!(told, [ordered.id], "what is not in the queue must not be sent");
    // The process that accepted it has died.
    assert_eq!(fan_out(&home.store).await, Some(FanOutStep { app, due: 4, dead: 0 }));
    assert_eq!(fan_out(&home.store).await, None);
    endpoints.push(ordered);
    for endpoint in &endpoints {
        let one = delivery(&home.store, app, message.id, endpoint.id).await;
        assert_eq!((one.state, one.due_at, one.attempts), (DeliveryState::Fresh, NOW, 0));
    }
    // Not more endpoints than it takes at once.
    endpoint(&packing, app, EndpointSpec { disabled: true, ..endpoint_spec() }).await;
    home.another_that_packs(5).await.accept(item(app)).await.unwrap().unwrap();
    assert_eq!(fan_out(&home.store).await, None);
}

async fn moved_deliveries_are_signaled_to_the_engine(home: Home) {
    let packing = home.another_that_packs(0).await;
    let mut signals = packing.signals().listen().unwrap();
    let (app, endpoints) = wide(&packing, 3).await;
    let message = accept(&packing, app).await;
    while signals.try_recv().is_ok() {}
    fan_out(&packing).await.unwrap();
    let Ok(Signal::Accepted(admitted)) = signals.try_recv().map(Signal::from) else {
        panic!("the endpoints are remembered")
    };
    assert_eq!(admitted[0].message, message);
    assert_eq!(admitted[0].endpoints.iter().map(|live| live.endpoint.id).collect::<BTreeSet<_>>(), ids(&endpoints));
    // Another process remembers none of them.
    accept(&packing, app).await;
    let another = home.another().await;
    let mut signals = another.signals().listen().unwrap();
    fan_out(&another).await.unwrap();
    let Ok(Signal::Look(where_to)) = signals.try_recv().map(Signal::from) else { panic!("nothing was told") };
    assert_eq!(where_to.into_iter().collect::<BTreeSet<_>>(), ids(&endpoints));
}

async fn endpoint_changes_before_a_delivery_is_moved(home: Home) {
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 5).await;
    let message = accept(&packing, app).await;
    let [deleted, disabled, filtered, becoming_ordered, sent] = &endpoints[..] else { panic!() };
    let store = &home.store;
    assert!(store.delete_endpoint(&tenant(), app, deleted.id, later(1)).await.unwrap());
    updated(store, disabled, EndpointSpec { disabled: true, ..endpoint_spec() }, later(1)).await;
    let others = EndpointSpec { channels: Some(strings(&["others"])), ..endpoint_spec() };
    updated(store, filtered, others, later(1)).await;
    updated(store, becoming_ordered, EndpointSpec { ordered: true, ..endpoint_spec() }, later(1)).await;
    // The numbers of what was pending were given out long ago.
    store.number_pending(becoming_ordered.id, later(2)).await.unwrap();
    home.execute("UPDATE ordering SET number_at = NULL").await;
    let created = endpoint(store, app, endpoint_spec()).await;
    // Somebody asked for it there, and it was delivered.
    home.execute(&format!(
        "INSERT INTO due SELECT id, {}, app_id, 0, 0, accepted_at, 0, 0, 0, 0, NULL FROM message",
        literal(&home, sent.id.0)
    ))
    .await;
    home.execute("UPDATE due SET slot = (SELECT slot FROM endpoint WHERE id = endpoint_id)").await;
    let one = only_waiting(store, sent.id).await;
    store.record(vec![finished(app, &one, answered(200), Transition::Delivered)]).await.unwrap();

    assert_eq!(fan_out(store).await, Some(FanOutStep { app, due: 3, dead: 1 }));
    let states = join_all(endpoints.iter().map(|endpoint| delivery(store, app, message.id, endpoint.id))).await;
    let states: Vec<DeliveryState> = states.into_iter().map(|one| one.state).collect();
    assert_eq!(
        states,
        [
            DeliveryState::Dead,
            DeliveryState::Fresh,
            DeliveryState::Fresh,
            DeliveryState::Fresh,
            DeliveryState::Delivered
        ]
    );
    let dead = delivery(store, app, message.id, deleted.id).await;
    assert_eq!(dead.reason, Some(DeadReason::EndpointDeleted));
    assert!(waiting(store, created.id).await.is_empty());
    store.number_pending(becoming_ordered.id, later(3)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM due WHERE seq > 0").await, 1, "it has its place in the order");
}

async fn content_that_was_deleted_is_not_sent(home: Home) {
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 3).await;
    let message = accept(&packing, app).await;
    assert!(home.store.delete_content(&tenant(), app, message.id, later(1)).await.unwrap());
    fan_out(&home.store).await.unwrap();
    for endpoint in &endpoints {
        let one = delivery(&home.store, app, message.id, endpoint.id).await;
        assert_eq!((one.state, one.reason), (DeliveryState::Dead, Some(DeadReason::ContentDeleted)));
    }
}

async fn content_that_was_deleted_is_not_sent_even_if_a_step_fails_in_the_middle(home: Home) {
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 3).await;
    let message = accept(&packing, app).await;
    assert!(home.store.delete_content(&tenant(), app, message.id, later(1)).await.unwrap());
    // As of a store that goes away between two statements.
    refuse_inserts(&home, "dead", "NEW.reason = 'content-deleted'").await;
    assert!(home.store.fan_out(&mut FanOutScheduler::default(), NOW).await.is_err());
    allow_inserts(&home, "dead").await;
    while fan_out(&home.store).await.is_some() {}
    for endpoint in &endpoints {
        let one = delivery(&home.store, app, message.id, endpoint.id).await;
        assert_eq!((one.state, one.reason), (DeliveryState::Dead, Some(DeadReason::ContentDeleted)));
    }
}

async fn a_scheduled_message_waits_for_its_time_and_retention_for_what_is_packed(home: Home) {
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 3).await;
    let mut one = item(app);
    one.spec.deliver_at = Some(later(600));
    offer(&packing, one).await.unwrap();
    let expired = home.store.expire(later(1_000), later(1_000)).await.unwrap();
    assert_eq!((expired.messages, home.number("SELECT count(*) FROM message").await), (0, 1));
    let long_after = later(400 * 86_400);
    home.store.retain(long_after, long_after).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM message").await, 1);
    fan_out(&home.store).await.unwrap();
    for endpoint in &endpoints {
        assert_eq!(only_waiting(&home.store, endpoint.id).await.due_at, later(600));
    }
}

async fn steps_are_bounded_and_applications_take_turns(home: Home) {
    const PACKS: usize = STEP / PACK;
    let store = &home.store;
    let (first, second) = (application(store, "a").await.id, application(store, "b").await.id);
    let id = |id: uuid::Uuid| literal(&home, id);
    // Of endpoints that are gone for good: they are taken, and nothing comes of them.
    let endpoints = "00".repeat(16 * PACK);
    let endpoints = if home.is_sqlite() { format!("x'{endpoints}'") } else { format!("'\\x{endpoints}'") };
    for (app, packs) in [(first, 2 * PACKS + 1), (second, 1)] {
        for pack in 0..packs {
            let row = format!("({}, {}, {pack}, {endpoints})", id(app.0), id(uuid::Uuid::from_u128(7)));
            home.execute(&format!("INSERT INTO fan_out (app_id, message_id, pack, endpoints) VALUES {row}")).await;
        }
    }
    let (mut turns, mut left) = (Vec::new(), vec![home.number("SELECT count(*) FROM fan_out").await]);
    // However slow the machine is, no step becomes smaller.
    let mut remembered = FanOutScheduler::new(Duration::MAX);
    while let Some(step) = store.fan_out(&mut remembered, NOW).await.unwrap() {
        turns.push(step.app);
        left.push(home.number("SELECT count(*) FROM fan_out").await);
    }
    assert_eq!(turns, [first, second, first, first]);
    let taken: Vec<i64> = left.windows(2).map(|two| two[0] - two[1]).collect();
    assert_eq!(taken, [PACKS as i64, 1, PACKS as i64, 1]);
}

async fn an_application_whose_step_fails_holds_up_no_other_and_is_tried_again(home: Home) {
    let packing = home.another_that_packs(1).await;
    let mut apps = Vec::new();
    for name in ["a", "b", "c"] {
        let app = application(&packing, name).await.id;
        for _ in 0..2 {
            endpoint(&packing, app, endpoint_spec()).await;
        }
        accept(&packing, app).await;
        apps.push(app);
    }
    let broken = apps[0];
    refuse_inserts(&home, "due", &format!("NEW.app_id = {}", literal(&home, broken.0))).await;
    let (mut turns, mut moved, mut failures) = (FanOutScheduler::default(), Vec::new(), 0);
    for _ in 0..10 {
        match home.store.fan_out(&mut turns, NOW).await {
            Ok(step) => moved.extend(step.map(|step| step.app)),
            Err(_) => failures += 1,
        }
    }
    assert_eq!((moved, failures), (apps[1..].to_vec(), 1));
    assert!(home.store.fan_out(&mut turns, later(1)).await.is_err(), "it is tried again after a while");
    allow_inserts(&home, "due").await;
    assert_eq!(home.store.fan_out(&mut turns, later(2)).await.unwrap(), None, "and later each time");
    let step = home.store.fan_out(&mut turns, later(3)).await.unwrap();
    assert_eq!(step, Some(FanOutStep { app: broken, due: 2, dead: 0 }));
}

async fn processes_that_move_at_the_same_time_move_each_delivery_once(home: Home) {
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 2 * PACK + 10).await;
    let messages = 10;
    join_all((0..messages).map(|_| accept(&packing, app))).await;
    let mut moved = 0;
    while home.number("SELECT count(*) FROM fan_out").await > 0 {
        let mut turns = [FanOutScheduler::default(), FanOutScheduler::default()];
        let [of_one, of_other] = &mut turns;
        let both = futures_util::join!(packing.fan_out(of_one, NOW), home.store.fan_out(of_other, NOW));
        moved += [both.0, both.1].into_iter().filter_map(|step| step.unwrap()).map(|step| step.due).sum::<usize>();
    }
    let pending = home.number("SELECT count(*) FROM due").await as usize;
    assert_eq!((moved, pending), (messages * endpoints.len(), messages * endpoints.len()));
}

/// PostgreSQL: the deletion of a content, and the step that moves its deliveries, at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_waits_for_a_deletion_of_the_content_that_is_not_committed() {
    let home = Home::postgres().await;
    let packing = home.another_that_packs(1).await;
    let (app, endpoints) = wide(&packing, 3).await;
    accept(&packing, app).await;
    let Raw::Postgres(mut deleting) = home.connect().await else { panic!("PostgreSQL") };
    deleting.execute("BEGIN; UPDATE message SET payload = NULL").await.unwrap();
    let step = tokio::spawn({
        let store = home.store.clone();
        async move { fan_out(&store).await }
    });
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
         AND wait_event_type = 'Lock' AND query LIKE '%FOR SHARE%'";
    eventually("the step waits", SOON, async || (home.number(WAITING).await > 0).then_some(())).await;
    deleting.execute("COMMIT").await.unwrap();
    assert_eq!(step.await.unwrap(), Some(FanOutStep { app, due: 0, dead: endpoints.len() }));
    assert_eq!(home.number("SELECT count(*) FROM due").await, 0);
}
