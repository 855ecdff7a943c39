//! Background work at several endpoints: from one to the next, canceled in between, counted beforehand.

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, EndpointId, MessageId};
use sendoff::store::jobs::background::{BackgroundSpec, ExpectedCount, StartResult};
use sendoff::store::jobs::job_lease::StepResult;
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::{Store, Tenant};

use crate::background::{begin_at, dead, failed, found, literal, settle, since, spec, turn, work_off};
use crate::home::*;
use crate::support::on_both;

/// All that the work would send, chunk by chunk.
pub async fn count(store: &Store, who: &Tenant, spec: &BackgroundSpec) -> i64 {
    let (mut found, mut from) = (0, None);
    loop {
        let tally = store.estimate(who, spec, from).await.unwrap();
        found += tally.found;
        match tally.next {
            Some(next) => from = Some(next),
            None => return found,
        }
    }
}

fn failing() -> EndpointMessageFilter {
    EndpointMessageFilter { failing: Some(true), ..since(0, 900) }
}

/// Two applications with three endpoints between them, one that is disabled, and a stranger's.
async fn town(store: &Store) -> (AppId, AppId, Vec<EndpointId>, EndpointId) {
    let (acme, first) = customer(store, "acme").await;
    let second = endpoint(store, acme.id, endpoint_spec()).await;
    let asleep = endpoint(store, acme.id, endpoint_spec()).await;
    for name in ["empty", "barren"] {
        application(store, name).await;
    }
    let (globex, third) = customer(store, "globex").await;
    for n in 0..150 {
        for app in [acme.id, globex.id] {
            let mut one = item(app);
            one.at = later(n);
            offer(store, one).await.unwrap();
        }
    }
    for (app, endpoint) in [(acme.id, first.id), (acme.id, second.id), (acme.id, asleep.id), (globex.id, third.id)] {
        settle(store, app, endpoint, answered(500), Transition::Dead(DeadReason::Exhausted)).await;
    }
    let spec = EndpointSpec { disabled: true, ..endpoint_spec() };
    store.update_endpoint(&tenant(), &asleep, spec, NOW).await.unwrap();
    (acme.id, globex.id, vec![first.id, second.id, third.id], asleep.id)
}

on_both! {
    work_goes_from_endpoint_to_endpoint_and_a_restart_loses_nothing
    an_application_s_work_stays_there_and_passes_what_is_deleted
    canceled_work_stops_and_what_it_did_stands
    failing_is_dead_or_waiting_for_the_schedule
    estimates_equal_the_deliveries_sent_at_any_length
    nobody_counts_or_begins_what_is_another_s
    operational_endpoints_are_left_out
}

async fn work_goes_from_endpoint_to_endpoint_and_a_restart_loses_nothing(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    let (acme, globex, endpoints, asleep) = town(store).await;
    let of = |scope| spec(scope, TaskKind::Recover, failed(0, 900));
    for (scope, wanted) in [
        (TaskScope::Organization, 450),
        (TaskScope::Application(acme), 300),
        (TaskScope::Application(globex), 150),
        (TaskScope::Endpoint(acme, endpoints[1]), 150),
    ] {
        assert_eq!(count(store, &tenant(), &of(scope)).await, wanted, "{scope:?}");
    }
    let work = begin_at(store, TaskScope::Organization, TaskKind::Recover, failed(0, 900)).await;
    let first = turn(store).await;
    let StepResult::More(_) = store.step_background(first, later(2_000)).await.unwrap() else { panic!("no more") };
    assert_eq!(found(store, work.id).await.sent, 200, "150 at one endpoint, 50 at the next");
    // Killed: another goes on from the middle of an endpoint.
    home.execute("UPDATE background SET leased_until = 0").await;
    assert_eq!(work_off(&other).await.1, TaskStage::Finished);
    let done = found(store, work.id).await;
    assert_eq!((done.stage, done.sent, done.looked), (TaskStage::Finished, 450, 450));
    assert_eq!(home.number("SELECT count(*) FROM delivery WHERE generation = 1 AND state = 1").await, 450, "each once");
    assert!(waiting(store, asleep).await.is_empty(), "a disabled one is left out");
    assert_eq!(count(store, &tenant(), &of(TaskScope::Organization)).await, 0);
}

async fn an_application_s_work_stays_there_and_passes_what_is_deleted(home: Home) {
    let store = &home.store;
    let (acme, globex, endpoints, _) = town(store).await;
    let work = begin_at(store, TaskScope::Application(acme), TaskKind::Recover, failed(0, 900)).await;
    let first = turn(store).await;
    let StepResult::More(next) = store.step_background(first, later(2_000)).await.unwrap() else { panic!("no more") };
    store.delete_endpoint(&tenant(), acme, endpoints[1], NOW).await.unwrap();
    assert_eq!(store.step_background(next, later(2_000)).await.unwrap(), StepResult::Ended(TaskStage::Finished));
    assert_eq!(found(store, work.id).await.sent, 200);
    assert_eq!(delivery_states(&home, globex).await, [(3, 150)]);
}

async fn canceled_work_stops_and_what_it_did_stands(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    let (acme, _, endpoints, _) = town(store).await;
    let (mine, strange) = (Tenant { only: Some(acme), ..tenant() }, stranger());
    let work = begin_at(store, TaskScope::Organization, TaskKind::Recover, failed(0, 900)).await;
    let at = turn(store).await;
    let StepResult::More(next) = store.step_background(at, later(2_000)).await.unwrap() else { panic!("no more") };
    for who in [&mine, &strange] {
        assert!(!other.cancel_background(who, work.id, later(2_001)).await.unwrap(), "not theirs");
        assert_eq!(store.background(who, work.id).await.unwrap(), None);
    }
    assert!(other.cancel_background(&tenant(), work.id, later(2_001)).await.unwrap());
    assert!(!other.cancel_background(&tenant(), work.id, later(2_002)).await.unwrap(), "once");
    assert_eq!(store.step_background(next, later(2_003)).await.unwrap(), StepResult::Ended(TaskStage::Canceled));
    let done = found(store, work.id).await;
    assert_eq!((done.stage, done.reason.as_deref(), done.sent), (TaskStage::Canceled, Some("canceled"), 200));
    assert_eq!((waiting(store, endpoints[0]).await.len(), waiting(store, endpoints[1]).await.len()), (150, 50));
    home.execute("UPDATE background SET leased_until = 0").await;
    assert!(store.lease_background(later(9_000)).await.unwrap().is_none());
    let theirs = begin_at(store, TaskScope::Application(acme), TaskKind::Recover, failed(0, 900)).await;
    assert!(
        store.cancel_background(&mine, theirs.id, NOW).await.unwrap(),
        "an application's own can be canceled with its token"
    );
    store.delete_old_background(later(9_000)).await.unwrap();
    assert_eq!(store.background(&tenant(), work.id).await.unwrap(), None);
}

async fn failing_is_dead_or_waiting_for_the_schedule(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    dead(store, app.id, made.id, 3).await;
    for next in [retry(60, 1), Transition::Delivered] {
        let mut one = item(app.id);
        one.at = later(10);
        offer(store, one).await.unwrap();
        let outcome = answered(if next == Transition::Delivered { 200 } else { 503 });
        let fresh = waiting(store, made.id).await.into_iter().filter(|one| one.state == DeliveryState::Fresh);
        let all: Vec<_> = fresh.map(|one| finished(app.id, &one, outcome.clone(), next)).collect();
        store.record(all).await.unwrap();
    }
    accept(store, app.id).await;
    let scope = TaskScope::Endpoint(app.id, made.id);
    let asked = spec(scope, TaskKind::BulkReplay, failing());
    assert_eq!(count(store, &tenant(), &asked).await, 4);
    let of_500 = spec(scope, TaskKind::BulkReplay, EndpointMessageFilter { status_class: Some(500), ..failing() });
    assert_eq!(count(store, &tenant(), &of_500).await, 4);
    let of_400 = spec(scope, TaskKind::BulkReplay, EndpointMessageFilter { status_class: Some(400), ..failing() });
    assert_eq!(count(store, &tenant(), &of_400).await, 0);
    let with_total = BackgroundSpec { total: Some(ExpectedCount { count: 4, more: false }), ..asked.clone() };
    let StartResult::Started(work) = store.start_background(&tenant(), with_total.clone(), NOW).await.unwrap() else {
        panic!()
    };
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    let done = found(store, work.id).await;
    assert_eq!((done.sent, &done.spec), (4, &with_total), "what is asked for is kept");
    let now: Vec<_> = waiting(store, made.id).await.into_iter().filter(|one| one.due_at == later(2_000)).collect();
    assert_eq!(now.len(), 4, "also what was to be retried later goes now");
    assert!(now.iter().all(|one| one.progress.step == 0));
    assert_eq!(count(store, &tenant(), &asked).await, 0, "what is sent again already is not sent a third time");
}

async fn estimates_equal_the_deliveries_sent_at_any_length(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let second = endpoint(store, app.id, EndpointSpec { channels: Some(strings(&["b"])), ..endpoint_spec() }).await;
    let sends = (0..5_300u64).map(|n| {
        let mut one = item(app.id);
        one.at = later(n / 10);
        one.spec.event_type = if n % 3 == 0 { "b".into() } else { "a".into() };
        one.spec.channels = vec![one.spec.event_type.clone()];
        one.only_endpoint = Some(made.id);
        store.accept(one)
    });
    futures_util::future::join_all(sends).await.into_iter().for_each(|sent| drop(sent.unwrap().unwrap()));
    home.execute("UPDATE delivery SET state = 3, reason = 'exhausted', attempts = 1").await;
    let of_a = EndpointMessageFilter { topics: of_types(&["a"]), ..failed(0, 900) };
    for (kind, filter, wanted) in [
        (TaskKind::ReplayMissing, since(0, 900), 1_767),
        (TaskKind::BulkReplay, of_a, 3_533),
        (TaskKind::BulkReplay, failed(100, 200), 1_000),
    ] {
        home.execute("UPDATE delivery SET state = 3, reason = 'exhausted', attempts = 1, generation = 0").await;
        let asked = spec(TaskScope::Application(app.id), kind, filter.clone());
        let counted = count(store, &tenant(), &asked).await;
        assert_eq!(counted, wanted, "{asked:?}");
        let work = begin_at(store, asked.scope, kind, filter).await;
        assert_eq!(work_off(store).await.1, TaskStage::Finished);
        assert_eq!(found(store, work.id).await.sent, counted);
        home.execute(&format!("DELETE FROM delivery WHERE endpoint_id = {}", literal(&home, MessageId(second.id.0))))
            .await;
    }
}

async fn nobody_counts_or_begins_what_is_another_s(home: Home) {
    let store = &home.store;
    let (acme, globex, endpoints, _) = town(store).await;
    let mine = Tenant { only: Some(acme), ..tenant() };
    let owner = async |who: &Tenant, endpoint| store.application_of(who, endpoint).await.unwrap();
    assert_eq!((owner(&mine, endpoints[0]).await, owner(&mine, endpoints[2]).await), (Some(acme), None));
    assert_eq!((owner(&tenant(), endpoints[2]).await, owner(&stranger(), endpoints[2]).await), (Some(globex), None));
    let of = |scope| spec(scope, TaskKind::Recover, failed(0, 900));
    for (who, scope) in [
        (&stranger(), TaskScope::Application(acme)),
        (&stranger(), TaskScope::Endpoint(acme, endpoints[0])),
        (&mine, TaskScope::Application(globex)),
        (&mine, TaskScope::Organization),
        (&tenant(), TaskScope::Endpoint(globex, endpoints[0])),
    ] {
        assert_eq!(count(store, who, &of(scope)).await, 0, "{who:?} {scope:?}");
        let begun = store.start_background(who, of(scope), NOW).await.unwrap();
        assert_eq!(begun, StartResult::NotFound, "{who:?} {scope:?}");
    }
    assert_eq!(count(store, &stranger(), &of(TaskScope::Organization)).await, 0, "they have nothing");
    assert!(matches!(
        store.start_background(&stranger(), of(TaskScope::Organization), NOW).await,
        Ok(StartResult::Started(_))
    ));
    assert_eq!(work_off(store).await.1, TaskStage::Finished);
    assert_eq!(home.number("SELECT count(*) FROM delivery WHERE generation > 0").await, 0);
    assert_eq!(count(store, &mine, &of(TaskScope::Application(acme))).await, 300);
}

async fn operational_endpoints_are_left_out(home: Home) {
    let store = &home.store;
    let (house, told) = customer(store, "house").await;
    dead(store, house.id, told.id, 2).await;
    make_operational(&home, house.id).await;
    let of = |scope| spec(scope, TaskKind::Recover, failed(0, 900));
    assert_eq!(count(store, &tenant(), &of(TaskScope::Organization)).await, 0);
    assert_eq!(count(store, &tenant(), &of(TaskScope::Application(house.id))).await, 0);
    let begun = store.start_background(&tenant(), of(TaskScope::Application(house.id)), NOW).await.unwrap();
    assert_eq!(begun, StartResult::NotFound);
}

/// How many of an application's deliveries are in which state.
async fn delivery_states(home: &Home, app: AppId) -> Vec<(i64, i64)> {
    let mut states = Vec::new();
    for state in 0..4 {
        let id = literal(home, MessageId(app.0));
        let sql = format!("SELECT count(*) FROM delivery WHERE app_id = {id} AND state = {state}");
        match home.number(&sql).await {
            0 => {}
            count => states.push((state, count)),
        }
    }
    states
}

/// Makes an application with its history the operational one, which takes no messages from callers.
pub async fn make_operational(home: &Home, app: AppId) {
    let id = literal(home, MessageId(app.0));
    home.execute(&format!("UPDATE application SET operational = TRUE WHERE id = {id}")).await;
}
