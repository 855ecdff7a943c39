//! The numbers by which an ordered endpoint's deliveries are sent: what order they give, and that it is the order of the commits.

use std::time::Duration;

use futures_util::future::join_all;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::background::TaskKind;
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::{EndpointId, MessageId, Time};
use sendoff::store::Store;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::jobs::background::BackgroundSpec;
use sendoff::store::queue::ordered_heads::OrderedHead;
use sendoff::store::queue::pending_deliveries::PendingDelivery;
use sendoff::store::queue::signals::{Admission, QueuedSignal, Signal};
use sqlx::{AssertSqlSafe, Executor};
use tokio::sync::watch;

use crate::background::{failed, since, spec, work_off};
use crate::home::*;
use crate::support::on_both;
use crate::support::{SOON, eventually};

fn ordered() -> EndpointSpec {
    EndpointSpec { ordered: true, ..endpoint_spec() }
}

async fn read(store: &Store, endpoint: EndpointId, now: Time) -> OrderedHead {
    let mut found = store.ordered_heads(&[endpoint], 1_000, now).await.expect("the store");
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// The messages that wait there, in their order.
async fn line(store: &Store, endpoint: EndpointId) -> Vec<MessageId> {
    read(store, endpoint, NOW).await.waiting.iter().map(|one| one.message_id).collect()
}

async fn first_of(store: &Store, endpoint: EndpointId) -> PendingDelivery {
    read(store, endpoint, NOW).await.waiting.remove(0)
}

async fn accept_at(store: &Store, app: sendoff::domain::AppId, seconds: u64) -> MessageId {
    offer(store, AcceptItem { at: later(seconds), ..item(app) }).await.expect("accepted").id
}

async fn switch(store: &Store, endpoint: &Endpoint, ordered: bool, now: Time) -> Endpoint {
    updated(store, endpoint, EndpointSpec { ordered, ..endpoint.spec.clone() }, now).await
}

/// What the engine is told of the next accepted batch.
async fn admitted(signals: &mut tokio::sync::mpsc::Receiver<QueuedSignal>) -> Vec<Admission> {
    loop {
        if let Signal::Accepted(admissions) = Signal::from(signals.recv().await.expect("a signal")) {
            return admissions;
        }
    }
}

/// All of a batch's numbers are drawn in the order of the endpoints' ids: two batches never wait for each other in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_wait_for_the_first_endpoint_locks_no_other() {
    let home = Home::postgres().await;
    let app = application(&home.store, "acme").await;
    let mut endpoints = Vec::new();
    for _ in 0..9 {
        endpoints.push(endpoint(&home.store, app.id, ordered()).await.id);
    }
    let first = literal(&home, *endpoints.iter().min().unwrap());
    let Raw::Postgres(mut holder) = home.connect().await else { panic!("PostgreSQL") };
    let hold = format!("BEGIN; UPDATE ordering SET next_seq = next_seq WHERE endpoint_id = {first}");
    holder.execute(AssertSqlSafe(hold)).await.unwrap();
    let accepting = tokio::spawn({
        let store = home.store.clone();
        async move { accept(&store, app.id).await }
    });
    eventually("the batch waits", SOON, async || {
        const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        (home.number(WAITING).await == 1).then_some(())
    })
    .await;
    let free =
        "SELECT count(*) FROM (SELECT 1 FROM ordering WHERE endpoint_id <> '00000000-0000-0000-0000-000000000000'
         FOR UPDATE SKIP LOCKED) AS free";
    assert_eq!(home.number(free).await, 8);
    holder.execute("COMMIT").await.unwrap();
    accepting.await.unwrap();
}

/// An endpoint's id, as either database writes it.
fn literal(home: &Home, endpoint: EndpointId) -> String {
    let id = endpoint.0.simple();
    if home.is_sqlite() { format!("x'{id}'") } else { format!("'{id}'") }
}

on_both! {
    deliveries_are_numbered_in_the_order_of_acceptance
    scheduled_deliveries_go_to_the_end_when_they_become_due
    an_endpoint_that_becomes_ordered_sends_what_is_pending_by_age_and_first
    deliveries_accepted_before_the_order_was_known_are_numbered
    resent_pending_deliveries_keep_their_place_and_ended_ones_go_to_the_end
    many_callers_of_two_processes_agree_on_one_order
    rows_of_one_writer_keep_their_order
}

async fn deliveries_are_numbered_in_the_order_of_acceptance(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let (first, second) = (endpoint(store, app.id, ordered()).await, endpoint(store, app.id, ordered()).await);
    let free = endpoint(store, app.id, endpoint_spec()).await;
    let mut signals = store.signals().listen().unwrap();
    // In an order that their times do not have.
    let mut sent = Vec::new();
    for seconds in [9, 3, 7, 1] {
        sent.push(accept_at(store, app.id, seconds).await);
        let admission = admitted(&mut signals).await.remove(0);
        let number = sent.len() as i64;
        assert_eq!((admission.seqs.get(&first.id), admission.seqs.get(&second.id)), (Some(&number), Some(&number)));
        assert_eq!(admission.seqs.get(&free.id), None);
    }
    for one in [&first, &second] {
        assert_eq!(line(store, one.id).await, sent);
    }
    let found = read(store, first.id, NOW).await;
    assert_eq!((found.up_to, found.more, found.unnumbered, found.scheduled), (4, false, false, None));
    let two = store.ordered_heads(&[free.id, first.id], 2, NOW).await.unwrap();
    assert_eq!((two[0].waiting.len(), two[0].up_to), (0, 0), "it has no order");
    assert_eq!((two[1].waiting.len(), two[1].up_to, two[1].more), (2, 2, true), "nothing is known of what is behind");
    assert_eq!(waiting(store, free.id).await.len(), 4);
    assert_eq!(
        home.number(&format!(
            "SELECT count(*) FROM delivery WHERE endpoint_id = {} AND seq IS NULL",
            literal(&home, free.id)
        ))
        .await,
        4
    );
    // What is delivered or dead leaves; what failed keeps its number.
    let head = first_of(store, first.id).await;
    store.record(vec![finished(app.id, &head, answered(500), retry(60, 1))]).await.unwrap();
    assert_eq!(line(store, first.id).await, sent);
    let head = first_of(store, first.id).await;
    assert_eq!((head.message_id, head.due_at), (sent[0], later(60)), "whenever it is due");
    store.record(vec![finished(app.id, &head, answered(500), Transition::Dead(DeadReason::Exhausted))]).await.unwrap();
    let head = first_of(store, first.id).await;
    store.record(vec![finished(app.id, &head, answered(200), Transition::Delivered)]).await.unwrap();
    assert_eq!(line(store, first.id).await, sent[2..]);
    assert_eq!(read(store, first.id, NOW).await.up_to, 4);
}

async fn scheduled_deliveries_go_to_the_end_when_they_become_due(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let made = endpoint(store, app.id, ordered()).await;
    let scheduled = async |seconds| {
        let mut one = item(app.id);
        one.spec.deliver_at = Some(later(seconds));
        offer(store, one).await.unwrap().id
    };
    let (late, soon) = (scheduled(20).await, scheduled(10).await);
    let first = accept_at(store, app.id, 0).await;
    assert_eq!(line(store, made.id).await, [first], "it holds up nobody before its time");
    let found = read(store, made.id, NOW).await;
    assert_eq!((found.unnumbered, found.scheduled, found.up_to), (false, Some(later(10)), 1));
    assert!(read(store, made.id, later(10)).await.unnumbered);
    store.number_pending(made.id, later(10)).await.unwrap();
    let second = accept_at(store, app.id, 11).await;
    assert_eq!(line(store, made.id).await, [first, soon, second]);
    store.number_pending(made.id, later(60)).await.unwrap();
    assert_eq!(line(store, made.id).await, [first, soon, second, late]);
    // One that is sent now instead of then.
    let early = scheduled(600).await;
    assert!(store.resend(&tenant(), app.id, (early, made.id), later(61)).await.unwrap());
    assert!(read(store, made.id, later(61)).await.unnumbered);
    store.number_pending(made.id, later(61)).await.unwrap();
    assert_eq!(line(store, made.id).await, [first, soon, second, late, early]);
}

async fn an_endpoint_that_becomes_ordered_sends_what_is_pending_by_age_and_first(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let free = endpoint(store, app.id, endpoint_spec()).await;
    let mut old = Vec::new();
    for seconds in 0..5 {
        old.push(accept_at(store, app.id, seconds).await);
    }
    let mut one = item(app.id);
    one.spec.deliver_at = Some(later(600));
    let scheduled = offer(store, one).await.unwrap().id;
    // The oldest has failed and waits: it is the first for all that.
    let head = waiting(store, free.id).await.into_iter().find(|one| one.message_id == old[0]).unwrap();
    store.record(vec![finished(app.id, &head, answered(500), retry(60, 1))]).await.unwrap();
    let made = switch(store, &free, true, later(9)).await;
    let new = accept_at(store, app.id, 10).await;
    assert!(read(store, made.id, later(10)).await.unnumbered, "nothing may be sent yet");
    store.number_pending(made.id, later(10)).await.unwrap();
    assert_eq!(line(store, made.id).await, [&old[..], &[new]].concat());
    let found = read(store, made.id, later(10)).await;
    assert_eq!((found.unnumbered, found.scheduled), (false, Some(later(600))));
    assert_eq!(found.waiting[0].due_at, later(60));
    let next = accept_at(store, app.id, 11).await;
    assert_eq!(read(store, made.id, NOW).await.up_to, found.up_to + 1, "without a gap");
    // Off, on again: what came meanwhile has no number, and stands behind what had one.
    let off = switch(store, &made, false, later(20)).await;
    let meanwhile = accept_at(store, app.id, 21).await;
    assert_eq!(waiting(store, made.id).await.len(), 9, "all of it is sent as it comes");
    switch(store, &off, true, later(22)).await;
    let last = accept_at(store, app.id, 23).await;
    store.number_pending(made.id, later(24)).await.unwrap();
    assert_eq!(line(store, made.id).await, [&old[..], &[new, next, meanwhile, last]].concat());
    store.number_pending(made.id, later(600)).await.unwrap();
    assert_eq!(line(store, made.id).await.last(), Some(&scheduled));
}

/// A transaction that began before the endpoint became ordered, and was committed after.
async fn deliveries_accepted_before_the_order_was_known_are_numbered(home: Home) {
    let store = &home.store;
    let (app, free) = customer(store, "acme").await;
    let made = switch(store, &free, true, later(0)).await;
    let first = accept_at(store, app.id, 1).await;
    store.number_pending(made.id, later(1)).await.unwrap();
    let unaware = accept_at(store, app.id, 2).await;
    home.execute("UPDATE delivery SET seq = NULL WHERE seq = (SELECT max(seq) FROM delivery)").await;
    assert_eq!(line(store, made.id).await, [first]);
    assert!(!read(store, made.id, later(10)).await.unnumbered && read(store, made.id, later(11)).await.unnumbered);
    store.number_pending(made.id, later(11)).await.unwrap();
    assert_eq!(line(store, made.id).await, [unaware, first], "as what was there before the endpoint became ordered");
    store.number_pending(made.id, later(121)).await.unwrap();
    assert!(!read(store, made.id, later(10_000)).await.unnumbered, "by then no such transaction is left");
}

async fn resent_pending_deliveries_keep_their_place_and_ended_ones_go_to_the_end(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let made = endpoint(store, app.id, ordered()).await;
    let mut sent = Vec::new();
    for seconds in 0..5 {
        sent.push(accept_at(store, app.id, seconds).await);
    }
    let again = async |message| assert!(store.resend(&tenant(), app.id, (message, made.id), later(9)).await.unwrap());
    again(sent[1]).await;
    assert_eq!(line(store, made.id).await, sent);
    let head = first_of(store, made.id).await;
    assert_eq!(store.head(&tenant(), app.id, made.id).await.unwrap(), Some(sent[0]));
    assert_eq!(store.head(&stranger(), app.id, made.id).await.unwrap(), None);
    store.record(vec![finished(app.id, &head, answered(200), Transition::Delivered)]).await.unwrap();
    assert_eq!(store.head(&tenant(), app.id, made.id).await.unwrap(), Some(sent[1]));
    assert!(store.cancel(&tenant(), app.id, (sent[2], made.id), later(9)).await.unwrap());
    assert_eq!(line(store, made.id).await, [sent[1], sent[3], sent[4]]);
    again(sent[0]).await;
    again(sent[2]).await;
    assert_eq!(line(store, made.id).await, [sent[1], sent[3], sent[4], sent[0], sent[2]]);
    // In bulk: those that had ended, by age.
    for message in [sent[3], sent[1]] {
        assert!(store.cancel(&tenant(), app.id, (message, made.id), later(9)).await.unwrap());
    }
    let scope = sendoff::domain::deliveries::background::TaskScope::Endpoint(app.id, made.id);
    let begin = async |of: BackgroundSpec| drop(store.start_background(&tenant(), of, later(1_000)).await.unwrap());
    begin(spec(scope, TaskKind::BulkReplay, since(0, 100))).await;
    work_off(store).await;
    assert_eq!(line(store, made.id).await, [sent[4], sent[0], sent[2], sent[1], sent[3]]);
    // What it has missed, by age as well.
    let disabled = updated(store, &made, EndpointSpec { disabled: true, ..ordered() }, later(10)).await;
    let missed = [accept_at(store, app.id, 11).await, accept_at(store, app.id, 12).await];
    updated(store, &disabled, ordered(), later(13)).await;
    let new = accept_at(store, app.id, 14).await;
    begin(spec(scope, TaskKind::ReplayMissing, since(0, 100))).await;
    work_off(store).await;
    assert_eq!(line(store, made.id).await[5..], [new, missed[0], missed[1]]);
    begin(spec(scope, TaskKind::Recover, failed(0, 100))).await;
    work_off(store).await;
    assert_eq!(line(store, made.id).await.len(), 8, "nothing was dead");
}

/// Two processes, batches of their own, endpoints in common: each caller waits for its answer before it sends the next.
async fn many_callers_of_two_processes_agree_on_one_order(home: Home) {
    let (here, there) = (home.store.clone(), home.another().await);
    let mut apps = Vec::new();
    let mut endpoints = Vec::new();
    for name in ["one", "two", "three"] {
        let app = application(&here, name).await;
        for _ in 0..3 {
            endpoints.push(endpoint(&here, app.id, ordered()).await.id);
        }
        apps.push(app.id);
    }
    let (stop, stopped) = watch::channel(false);
    let gaps: Vec<String> = endpoints
        .iter()
        .map(|id| {
            format!(
                "SELECT CAST(coalesce(max(seq), 0) - count(*) AS bigint) FROM delivery WHERE endpoint_id = {}",
                literal(&home, *id)
            )
        })
        .collect();
    let watched = gaps.clone();
    let watching = async {
        while !*stopped.borrow() {
            for sql in &watched {
                assert_eq!(home.number(sql).await, 0, "what is seen of it is seen from the first on");
            }
        }
    };
    let caller = |number: usize| {
        let (store, apps) = (if number.is_multiple_of(2) { here.clone() } else { there.clone() }, apps.clone());
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for round in 0..20 {
                let app = apps[(number + round) % apps.len()];
                sent.push((app, accept(&store, app).await.id));
            }
            sent
        })
    };
    let calling = async {
        let sent = join_all((0..24).map(caller)).await;
        stop.send_replace(true);
        sent
    };
    let (sent, ()) = tokio::join!(calling, watching);
    for (at, id) in endpoints.iter().enumerate() {
        let order = line(&here, *id).await;
        assert_eq!((order.len(), home.number(&gaps[at]).await), (160, 0));
        let place = |message: &MessageId| order.iter().position(|one| one == message);
        for mine in &sent {
            let places: Vec<_> = mine
                .as_ref()
                .unwrap()
                .iter()
                .filter(|one| one.0 == apps[at / 3])
                .map(|one| place(&one.1).unwrap())
                .collect();
            assert!(places.is_sorted(), "{places:?}");
        }
    }
}

/// One writer commits row after row; two processes relay.
async fn rows_of_one_writer_keep_their_order(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let made = endpoint(store, app.id, ordered()).await;
    let (stop, stopped) = watch::channel(false);
    let relays = [store.clone(), home.another().await].map(|store| {
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            loop {
                let last = *stopped.borrow_and_update();
                if store.relay(RelayRequest { limit: 3, now: NOW }).await.unwrap().rows() == 0 {
                    if last {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
    });
    for row in 0..40 {
        let rows: Vec<String> = (0..10).map(|n| format!("('acme', 'a', '{{\"n\": {}}}')", row * 10 + n)).collect();
        home.execute(&format!("INSERT INTO outbox (application, event_type, payload) VALUES {}", rows.join(", ")))
            .await;
    }
    stop.send_replace(true);
    join_all(relays).await.into_iter().for_each(|done| done.unwrap());
    let order = line(store, made.id).await;
    let messages = store.load_messages(&order).await.unwrap();
    let number = |id: &MessageId| {
        let message = messages.iter().find(|message| message.id == *id).unwrap();
        let value: serde_json::Value = serde_json::from_slice(message.payload.as_deref().unwrap()).unwrap();
        value["n"].as_i64().unwrap()
    };
    assert_eq!(order.iter().map(number).collect::<Vec<_>>(), (0..400).collect::<Vec<_>>());
}
