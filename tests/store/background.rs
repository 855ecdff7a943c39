//! Background work: what is sent again, what was missed; a turn at a time, nothing twice.

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::Trigger;
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus, Transition};
use sendoff::domain::{AppId, BackgroundId, EndpointId, MessageId};
use sendoff::store::jobs::background::{Background, BackgroundSpec, StartResult, TaskSelection};
use sendoff::store::jobs::job_lease::{StepResult, TaskLease};
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::queue::signals::Signal;
use sendoff::store::{Order, PageRequest, Store, Tenant};

use crate::home::*;
use crate::support::on_both;

/// `count` messages, a second apart, all of them dead at the endpoint.
pub async fn dead(store: &Store, app: AppId, endpoint: EndpointId, count: u64) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 0..count {
        let mut one = item(app);
        one.at = later(n);
        ids.push(offer(store, one).await.unwrap().id);
    }
    settle(store, app, endpoint, answered(500), Transition::Dead(DeadReason::Exhausted)).await;
    ids
}

/// Everything that waits at the endpoint comes to this.
pub async fn settle(
    store: &Store,
    app: AppId,
    endpoint: EndpointId,
    outcome: sendoff::domain::deliveries::attempt::Outcome,
    next: Transition,
) {
    let all = waiting(store, endpoint).await;
    let all: Vec<_> = all.iter().map(|one| finished(app, one, outcome.clone(), next)).collect();
    store.record(all).await.unwrap();
}

pub fn since(since: u64, until: u64) -> EndpointMessageFilter {
    EndpointMessageFilter { accepted: span(since, until), ..EndpointMessageFilter::default() }
}

pub fn failed(since_s: u64, until: u64) -> EndpointMessageFilter {
    EndpointMessageFilter { standings: vec![DeliveryStatus::Dead], ..since(since_s, until) }
}

pub fn spec(scope: TaskScope, kind: TaskKind, filter: EndpointMessageFilter) -> BackgroundSpec {
    BackgroundSpec { kind, scope, selection: TaskSelection::Messages(filter), by: "a test".into(), total: None }
}

async fn begin(
    store: &Store,
    app: AppId,
    endpoint: EndpointId,
    kind: TaskKind,
    filter: EndpointMessageFilter,
) -> Background {
    begin_at(store, TaskScope::Endpoint(app, endpoint), kind, filter).await
}

pub async fn begin_at(store: &Store, scope: TaskScope, kind: TaskKind, filter: EndpointMessageFilter) -> Background {
    match store.start_background(&tenant(), spec(scope, kind, filter), later(1_000)).await.unwrap() {
        StartResult::Started(work) => *work,
        other => panic!("{other:?}"),
    }
}

pub async fn turn(store: &Store) -> TaskLease {
    store.lease_background(later(1_000)).await.unwrap().expect("a turn")
}

/// Steps until it has ended; how many steps that took.
pub async fn work_off(store: &Store) -> (usize, TaskStage) {
    let mut turn = turn(store).await;
    for steps in 1.. {
        match store.step_background(turn, later(2_000)).await.unwrap() {
            StepResult::More(next) => turn = next,
            StepResult::Ended(stage) => return (steps, stage),
            StepResult::Lost => panic!("nobody else is there"),
        }
    }
    unreachable!()
}

pub async fn found(store: &Store, id: BackgroundId) -> Background {
    store.background(&tenant(), id).await.unwrap().expect("the work")
}

on_both! {
    dead_deliveries_are_resent_once
    a_step_is_bounded_and_what_was_left_is_gone_on_with
    long_work_lets_short_work_have_its_turn
    two_steps_of_one_turn_at_once_are_one
    missed_messages_are_sent_by_the_current_filters
    bulk_resends_follow_the_filter
    it_fails_with_its_endpoint_and_is_seen_by_whose_it_is
    an_application_may_have_only_so_much_of_it
}

async fn dead_deliveries_are_resent_once(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let other = endpoint(store, app.id, endpoint_spec()).await;
    let ids = dead(store, app.id, made.id, 6).await;
    settle(store, app.id, other.id, answered(500), Transition::Dead(DeadReason::Exhausted)).await;
    let mut later_one = item(app.id);
    later_one.at = later(2);
    let delivered = offer(store, later_one).await.unwrap().id;
    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    let fresh = accept(store, app.id).await.id;
    let hidden = format!("UPDATE delivery SET reason = 'canceled' WHERE message_id = {}", literal(&home, ids[2]));
    home.execute(&hidden).await;
    home.execute(&format!("UPDATE message SET payload = NULL WHERE id = {}", literal(&home, ids[3]))).await;

    assert!(store.lease_background(NOW).await.unwrap().is_none(), "nothing to do");
    let work = begin(store, app.id, made.id, TaskKind::Recover, failed(1, 5)).await;
    assert_eq!((work.stage, work.spec.kind, work.looked, work.sent), (TaskStage::Running, TaskKind::Recover, 0, 0));
    let mut signals = store.signals().listen().unwrap();
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    assert!(matches!(signals.try_recv().map(Signal::from), Ok(Signal::Look(endpoints)) if endpoints == [made.id]));
    let again: Vec<_> = waiting(store, made.id).await.into_iter().filter(|one| one.message_id != fresh).collect();
    let mut sent: Vec<_> = again.iter().map(|one| one.message_id).collect();
    sent.sort_unstable();
    assert_eq!(sent, [ids[1], ids[4]], "in the time, dead, not canceled, with something to send");
    for one in &again {
        // Among the retries, so that what is new does not wait behind them; numbered on, with a fresh schedule.
        assert_eq!(
            (one.state, one.due_at, one.progress),
            (DeliveryState::Retry, later(2_000), progress(1, 0, 1, Trigger::Manual))
        );
    }
    assert_eq!(delivery(store, app.id, delivered, made.id).await.state, DeliveryState::Delivered);
    assert_eq!(delivery(store, app.id, ids[1], other.id).await.state, DeliveryState::Dead, "no other endpoint's");
    let done = found(store, work.id).await;
    assert_eq!((done.stage, done.sent, done.updated_at), (TaskStage::Finished, 2, later(2_000)));
    assert!(store.lease_background(later(9_000)).await.unwrap().is_none(), "it is over");
}

async fn a_step_is_bounded_and_what_was_left_is_gone_on_with(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    let (app, made) = customer(store, "acme").await;
    dead(store, app.id, made.id, 450).await;
    let work = begin(store, app.id, made.id, TaskKind::Recover, failed(0, 900)).await;
    let first = turn(store).await;
    assert!(other.lease_background(later(1_000)).await.unwrap().is_none(), "one at a time");
    let StepResult::More(next) = store.step_background(first, later(2_000)).await.unwrap() else { panic!("no more") };
    assert_eq!(found(store, work.id).await.sent, 200);
    assert_eq!(store.step_background(first, later(2_000)).await.unwrap(), StepResult::Lost, "that turn is over");

    // Killed: its turn runs out, and another goes on from there.
    home.execute("UPDATE background SET leased_until = 0").await;
    let taken = turn(&other).await;
    assert_eq!(store.step_background(next, later(2_000)).await.unwrap(), StepResult::Lost, "risen from the dead");
    store.release_background(next, NOW).await.unwrap();
    assert!(store.lease_background(later(1_000)).await.unwrap().is_none(), "what is another's is not handed on");
    let StepResult::More(more) = other.step_background(taken, later(2_000)).await.unwrap() else { panic!("no more") };
    other.release_background(more, later(1_000)).await.unwrap();
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    let done = found(store, work.id).await;
    assert_eq!((done.looked, done.sent), (450, 450), "nothing is looked at twice");
    assert_eq!(home.number("SELECT count(*) FROM delivery WHERE generation = 1 AND state = 1").await, 450, "each once");
}

async fn long_work_lets_short_work_have_its_turn(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    dead(store, app.id, made.id, 300).await;
    let long = begin(store, app.id, made.id, TaskKind::Recover, failed(0, 900)).await;
    let at_long = turn(store).await;
    assert_eq!(at_long.id, long.id);
    let StepResult::More(at_long) = store.step_background(at_long, NOW).await.unwrap() else { panic!("no more") };
    let short = begin(store, app.id, made.id, TaskKind::Recover, failed(290, 900)).await;
    store.release_background(at_long, later(1_001)).await.unwrap();
    assert_eq!(turn(store).await.id, short.id);
}

async fn two_steps_of_one_turn_at_once_are_one(home: Home) {
    let (store, other) = (&home.store, home.another().await);
    let (app, made) = customer(store, "acme").await;
    dead(store, app.id, made.id, 250).await;
    begin(store, app.id, made.id, TaskKind::Recover, failed(0, 900)).await;
    let turn = turn(store).await;
    let (one, two) = tokio::join!(store.step_background(turn, NOW), other.step_background(turn, NOW));
    let lost = [one.unwrap(), two.unwrap()].into_iter().filter(|stepped| *stepped == StepResult::Lost).count();
    assert_eq!((lost, home.number("SELECT count(*) FROM delivery WHERE generation = 1").await), (1, 200));
}

async fn missed_messages_are_sent_by_the_current_filters(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let spec = EndpointSpec { channels: Some(strings(&["x"])), ..endpoint_spec() };
    let mut ids = Vec::new();
    for (n, channels) in [&["x"][..], &[], &["y", "x"], &["x"], &["x"], &["x"]].into_iter().enumerate() {
        let mut one = item(app.id);
        (one.at, one.spec.channels) = (later(n as u64), strings(channels));
        ids.push(offer(store, one).await.unwrap().id);
    }
    let made = endpoint(store, app.id, spec).await;
    store.resend(&tenant(), app.id, (ids[3], made.id), NOW).await.unwrap();
    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    home.execute(&format!(
        "UPDATE message SET deliver_at = {} WHERE id = {}",
        later(9_000).micros(),
        literal(&home, ids[4])
    ))
    .await;
    let sister = application(store, "sister").await;
    accept(store, sister.id).await;

    let work = begin(store, app.id, made.id, TaskKind::ReplayMissing, since(0, 5)).await;
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    let sent = waiting(store, made.id).await;
    let of: Vec<_> = sent.iter().map(|one| (one.message_id, one.due_at)).collect();
    assert_eq!(of, [(ids[0], later(2_000)), (ids[2], later(2_000)), (ids[4], later(9_000))]);
    assert!(sent.iter().all(|one| one.progress == progress(0, 0, 0, Trigger::Manual)));
    let done = found(store, work.id).await;
    assert_eq!((done.looked, done.sent), (6, 3), "the sixth is looked at and too late");
    assert_eq!(delivery(store, app.id, ids[3], made.id).await.state, DeliveryState::Delivered, "what it had it has");

    begin(store, app.id, made.id, TaskKind::ReplayMissing, since(0, 5)).await;
    work_off(store).await;
    assert_eq!(waiting(store, made.id).await.len(), 3, "nothing is missing any more");
}

async fn bulk_resends_follow_the_filter(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let of = async |event_type: &str, outcome, next| {
        let mut one = item(app.id);
        one.spec.event_type = event_type.into();
        let id = offer(store, one).await.unwrap().id;
        if let Some(next) = next {
            let waits = waiting(store, made.id).await.into_iter().find(|one| one.message_id == id).unwrap();
            store.record(vec![finished(app.id, &waits, answered(outcome), next)]).await.unwrap();
        }
        id
    };
    let delivered = of("a", 200, Some(Transition::Delivered)).await;
    let gone = of("a", 404, Some(Transition::Dead(DeadReason::Exhausted))).await;
    let error = of("b", 503, Some(Transition::Dead(DeadReason::Exhausted))).await;
    let retried = of("a", 503, Some(retry(60, 1))).await;
    let again = async |filter: EndpointMessageFilter| {
        let before = home.number("SELECT sum(generation) FROM delivery").await;
        begin(store, app.id, made.id, TaskKind::BulkReplay, filter).await;
        assert_eq!(work_off(store).await.1, TaskStage::Finished);
        let now: Vec<_> = waiting(store, made.id).await.into_iter().filter(|w| w.due_at == later(2_000)).collect();
        assert_eq!(home.number("SELECT sum(generation) FROM delivery").await - before, now.len() as i64);
        home.execute("UPDATE delivery SET state = 2, due_at = 0 WHERE attempts = 1").await;
        for (id, state, due) in [(gone, 3, 0), (error, 3, 0), (retried, 1, later(60).micros())] {
            let id = literal(&home, id);
            home.execute(&format!("UPDATE delivery SET state = {state}, due_at = {due} WHERE message_id = {id}")).await;
        }
        let mut ids: Vec<_> = now.into_iter().map(|one| one.message_id).collect();
        ids.sort_unstable();
        ids
    };
    let settled =
        || EndpointMessageFilter { standings: vec![DeliveryStatus::Delivered, DeliveryStatus::Dead], ..since(0, 900) };
    assert_eq!(again(settled()).await, [delivered, gone, error]);
    assert_eq!(again(EndpointMessageFilter { topics: of_types(&["a"]), ..settled() }).await, [delivered, gone]);
    assert_eq!(again(EndpointMessageFilter { status_class: Some(500), ..settled() }).await, [error]);
    assert_eq!(
        again(EndpointMessageFilter { standings: vec![DeliveryStatus::Delivered], ..settled() }).await,
        [delivered]
    );
    assert_eq!(again(EndpointMessageFilter { standings: vec![DeliveryStatus::Pending], ..settled() }).await, [retried]);
    assert_eq!(again(EndpointMessageFilter { topics: on_channel("x"), ..settled() }).await, []);
}

async fn it_fails_with_its_endpoint_and_is_seen_by_whose_it_is(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let (sister, sisters) = customer(store, "sister").await;
    dead(store, app.id, made.id, 3).await;
    let work = begin(store, app.id, made.id, TaskKind::Recover, failed(0, 900)).await;
    let theirs = begin(store, sister.id, sisters.id, TaskKind::BulkReplay, since(0, 900)).await;
    let (mine, other) = (Tenant { only: Some(app.id), ..tenant() }, Tenant { only: Some(sister.id), ..tenant() });
    let list = async |who: &Tenant, stage: Option<TaskStage>, kind| {
        let page = PageRequest::first(9, Order::Descending);
        let page = store.backgrounds(who, stage.as_slice(), kind, &page).await.unwrap();
        page.data.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&tenant(), None, None).await, [theirs.id, work.id]);
    assert_eq!(list(&mine, None, None).await, [work.id]);
    assert_eq!(list(&other, None, None).await, [theirs.id]);
    assert_eq!(list(&stranger(), None, None).await, []);
    assert_eq!(list(&tenant(), None, Some(TaskKind::Recover)).await, [work.id]);
    for who in [stranger(), other.clone()] {
        assert_eq!(store.background(&who, work.id).await.unwrap(), None);
        let refused = store
            .start_background(&who, spec(TaskScope::Endpoint(app.id, made.id), TaskKind::Recover, since(0, 9)), NOW)
            .await
            .unwrap();
        assert_eq!(refused, StartResult::NotFound);
    }
    let refused = store
        .start_background(&tenant(), spec(TaskScope::Endpoint(app.id, sisters.id), TaskKind::Recover, since(0, 9)), NOW)
        .await;
    assert_eq!(refused.unwrap(), StartResult::NotFound, "another application's");

    store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap();
    assert_eq!(work_off(store).await, (1, TaskStage::Failed));
    let failed = found(store, work.id).await;
    assert_eq!((failed.stage, failed.reason.as_deref()), (TaskStage::Failed, Some("the endpoint was deleted")));
    assert_eq!(list(&tenant(), Some(TaskStage::Failed), None).await, [work.id]);
    assert_eq!(list(&tenant(), Some(TaskStage::Running), None).await, [theirs.id]);
    assert_eq!(home.number("SELECT count(*) FROM delivery WHERE generation > 0").await, 0);

    store.delete_old_background(later(2_000)).await.unwrap();
    assert_eq!(list(&tenant(), None, None).await, [theirs.id, work.id], "not older than that");
    store.delete_old_background(later(2_001)).await.unwrap();
    assert_eq!(list(&tenant(), None, None).await, [theirs.id], "what is running is not forgotten");
}

async fn an_application_may_have_only_so_much_of_it(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for _ in 0..5 {
        begin(store, app.id, made.id, TaskKind::Recover, failed(0, 9)).await;
    }
    let one_more = store
        .start_background(&tenant(), spec(TaskScope::Endpoint(app.id, made.id), TaskKind::Recover, failed(0, 9)), NOW)
        .await;
    assert_eq!(one_more.unwrap(), StartResult::TooMany(5));
    let (sister, sisters) = customer(store, "sister").await;
    begin(store, sister.id, sisters.id, TaskKind::Recover, failed(0, 9)).await;
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    begin(store, app.id, made.id, TaskKind::Recover, failed(0, 9)).await;
}

/// An id in SQL.
pub fn literal(home: &Home, id: MessageId) -> String {
    home.either(&format!("unhex('{}')", id.0.simple()), &format!("'{}'", id.0)).to_owned()
}
