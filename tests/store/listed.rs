//! What a list of deliveries shows, what is counted of it and what is sent again from it: one query.

use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{BackgroundId, EndpointId, MessageId, Time};
use sendoff::store::jobs::background::{BackgroundSpec, StartResult, TaskSelection};
use sendoff::store::jobs::job_lease::StepResult;
use sendoff::store::query::delivery_counts::DeliveryCounts;
use sendoff::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter, ListedDelivery};
use sendoff::store::{Store, Tenant};

use crate::background::{dead, literal, settle};
use crate::home::*;
use crate::lists::{Customers, all, two_customers, with};
use crate::support::on_both;

/// When pages are looked at here: what is retried is not due yet.
fn then() -> Time {
    later(30)
}

fn spec(scope: TaskScope, listed: &DeliveryFilter) -> BackgroundSpec {
    BackgroundSpec {
        kind: TaskKind::BulkReplay,
        scope,
        selection: TaskSelection::Listed(listed.clone()),
        by: "a test".into(),
        total: None,
    }
}

/// All rows of a list, page by page.
async fn rows(store: &Store, who: &Tenant, filter: &DeliveryFilter) -> Vec<ListedDelivery> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_deliveries(who, filter, after, 3).await.unwrap();
        let last = page.data.last().map(|row| (row.message_id, row.endpoint_id));
        found.extend(page.data);
        after = page.stopped.or(last.filter(|_| page.more));
        if after.is_none() {
            return found;
        }
    }
}

async fn counted(store: &Store, who: &Tenant, filter: &DeliveryFilter) -> DeliveryCounts {
    let (mut sum, mut from) = (DeliveryCounts::default(), None);
    loop {
        let (tally, next) = store.count_deliveries(who, filter, from, 10_000, then()).await.unwrap();
        sum.add(&tally);
        from = next;
        if from.is_none() {
            return sum;
        }
    }
}

type Key = (MessageId, EndpointId);

/// The keys of what can be sent again now.
fn sendable(rows: &[ListedDelivery]) -> Vec<Key> {
    let due = |row: &&ListedDelivery| row.state.pending() && row.due_at <= then();
    let can = |row: &&ListedDelivery| row.sendable && !row.endpoint_disabled;
    let mut keys: Vec<Key> =
        rows.iter().filter(can).filter(|row| !due(row)).map(|row| (row.message_id, row.endpoint_id)).collect();
    keys.sort_unstable();
    keys
}

/// Begins such work and takes its steps; how many those were.
async fn resend(store: &Store, who: &Tenant, scope: TaskScope, filter: &DeliveryFilter) -> (BackgroundId, usize) {
    let StartResult::Started(work) = store.start_background(who, spec(scope, filter), then()).await.unwrap() else {
        panic!("not begun")
    };
    let mut turn = store.lease_background(then()).await.unwrap().expect("a turn");
    for steps in 1.. {
        match store.step_background(turn, then()).await.unwrap() {
            StepResult::More(next) => turn = next,
            StepResult::Ended(TaskStage::Finished) => return (work.id, steps),
            other => panic!("{other:?}"),
        }
    }
    unreachable!()
}

fn filters(of: &Customers) -> Vec<DeliveryFilter> {
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut filters: Vec<DeliveryFilter> = DeliveryStatusFilter::ALL.into_iter().map(with).collect();
    filters.extend([
        all(),
        DeliveryFilter { app: Some(of.acme), ..all() },
        DeliveryFilter { endpoint: Some(of.two), ..all() },
        DeliveryFilter { endpoint: Some(of.two), ..with(DeliveryStatusFilter::Failed) },
        DeliveryFilter { endpoint: Some(of.two), ..with(DeliveryStatusFilter::Retrying) },
        DeliveryFilter { endpoint: Some(of.two), ..with(DeliveryStatusFilter::Dead) },
        DeliveryFilter { endpoint: Some(of.two), ..with(DeliveryStatusFilter::Canceled) },
        DeliveryFilter { event_types: strings(&["b", "c"]), ..with(DeliveryStatusFilter::Failed) },
        DeliveryFilter { class: Some(400), ..all() },
        DeliveryFilter { accepted: span(1, 3), ..all() },
        DeliveryFilter { messages: Some(vec![of.ids[0], of.ids[2]]), ..with(DeliveryStatusFilter::Dead) },
        DeliveryFilter { text: Some("\"n\": 2".into()), ..with(DeliveryStatusFilter::Dead) },
        DeliveryFilter { text: Some("no such".into()), ..all() },
    ]);
    filters
}

on_both! {
    counts_equal_the_list
    skipped_deliveries_are_counted_by_reason
    only_listed_deliveries_are_resent
    a_long_list_is_sent_step_by_step_the_oldest_first
}

async fn counts_equal_the_list(home: Home) {
    let store = &home.store;
    let of = two_customers(store).await;
    for filter in filters(&of) {
        let (rows, tally) = (rows(store, &tenant(), &filter).await, counted(store, &tenant(), &filter).await);
        let of_state = |state| rows.iter().filter(|row| row.state == state).count() as i64;
        let stand = [tally.pending, tally.retrying, tally.delivered, tally.dead + tally.canceled];
        let wanted =
            [DeliveryState::Fresh, DeliveryState::Retry, DeliveryState::Delivered, DeliveryState::Dead].map(of_state);
        assert_eq!((stand, tally.found()), (wanted, rows.len() as i64), "{filter:?}");
        assert_eq!(tally.resendable(), sendable(&rows).len() as i64, "{filter:?}");
        assert_eq!(counted(store, &stranger(), &filter).await, DeliveryCounts::default());
    }
    let (cut, next) = store.count_deliveries(&tenant(), &all(), None, 4, then()).await.unwrap();
    assert!(cut.more && next.is_none() && cut.found() == 5, "one more than was asked for says so: {cut:?}");
}

async fn skipped_deliveries_are_counted_by_reason(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let gone = endpoint(store, app.id, endpoint_spec()).await;
    let ids = dead(store, app.id, made.id, 3).await;
    settle(store, app.id, gone.id, answered(500), Transition::Dead(DeadReason::Exhausted)).await;
    home.execute(&format!("UPDATE message SET payload = NULL WHERE id = {}", literal(&home, ids[0]))).await;
    accept(store, app.id).await;
    let tally = counted(store, &tenant(), &all()).await;
    assert_eq!((tally.found(), tally.gone, tally.due, tally.resendable()), (8, 2, 2, 4));
    store.delete_endpoint(&tenant(), app.id, gone.id, NOW).await.unwrap();
    let mut spec = made.spec.clone();
    spec.disabled = true;
    updated(store, &made, spec, NOW).await;
    let tally = counted(store, &tenant(), &all()).await;
    assert_eq!((tally.found(), tally.gone, tally.disabled, tally.due, tally.resendable()), (8, 5, 3, 0, 0));
    let before = home.number("SELECT sum(generation) FROM delivery").await;
    resend(store, &tenant(), TaskScope::Application(app.id), &DeliveryFilter { app: Some(app.id), ..all() }).await;
    assert_eq!(home.number("SELECT sum(generation) FROM delivery").await, before, "nothing of that is sent");
}

async fn only_listed_deliveries_are_resent(home: Home) {
    let store = &home.store;
    let of = two_customers(store).await;
    for filter in filters(&of) {
        let wanted = sendable(&rows(store, &tenant(), &filter).await);
        let before = home.number("SELECT sum(generation) FROM delivery").await;
        let scope = filter.app.map_or(TaskScope::Organization, TaskScope::Application);
        let (work, _) = resend(store, &tenant(), scope, &filter).await;
        let after = home.number("SELECT sum(generation) FROM delivery").await;
        assert_eq!(after - before, wanted.len() as i64, "{filter:?}");
        let done = store.background(&tenant(), work).await.unwrap().unwrap();
        assert_eq!((done.sent, done.spec.selection.listed()), (wanted.len() as i64, Some(&filter)));
        let resent = rows(store, &tenant(), &DeliveryFilter { resent: Some(work), ..all() }).await;
        assert!(resent.iter().all(|row| row.state == DeliveryState::Retry), "{filter:?}");
        let mut keys: Vec<Key> = resent.iter().map(|row| (row.message_id, row.endpoint_id)).collect();
        keys.sort_unstable();
        assert_eq!(keys, wanted, "{filter:?}");
        assert!(rows(store, &stranger(), &DeliveryFilter { resent: Some(work), ..all() }).await.is_empty());
        // As it was, for the next filter.
        for (message, endpoint) in keys {
            let endpoint = literal(&home, MessageId(endpoint.0));
            let sql =
                format!("DELETE FROM due WHERE message_id = {} AND endpoint_id = {endpoint}", literal(&home, message));
            home.execute(&sql).await;
        }
    }
}

async fn a_long_list_is_sent_step_by_step_the_oldest_first(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ids = dead(store, app.id, made.id, 450).await;
    let filter = DeliveryFilter { app: Some(app.id), ..with(DeliveryStatusFilter::Dead) };
    let StartResult::Started(work) =
        store.start_background(&tenant(), spec(TaskScope::Application(app.id), &filter), then()).await.unwrap()
    else {
        panic!()
    };
    let turn = store.lease_background(then()).await.unwrap().unwrap();
    let StepResult::More(next) = store.step_background(turn, then()).await.unwrap() else { panic!() };
    let mut sent: Vec<MessageId> = waiting(store, made.id).await.iter().map(|one| one.message_id).collect();
    sent.sort_unstable();
    assert_eq!(sent, ids[..200]);
    let StepResult::More(next) = store.step_background(next, then()).await.unwrap() else { panic!() };
    assert_eq!(store.step_background(next, then()).await.unwrap(), StepResult::Ended(TaskStage::Finished));
    assert_eq!(store.background(&tenant(), work.id).await.unwrap().unwrap().sent, 450);
    assert_eq!(waiting(store, made.id).await.len(), 450);
    assert_eq!(home.number("SELECT count(*) FROM resent").await, 450);
    store.delete_old_background(later(2_000)).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM resent").await, 0, "what was noted goes with its work");
}
