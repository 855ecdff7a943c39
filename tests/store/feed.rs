//! The feed: an application's messages in the order in which they were committed, with positions that skip nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendoff::domain::deliveries::delivery::{DeadReason, Transition};
use sendoff::domain::deliveries::message::Message;
use sendoff::domain::feed::{FeedFilter, Position};
use sendoff::domain::limits::PAGE_BYTES;
use sendoff::domain::{AppId, MessageId, Time};
use sendoff::store::feed::feed_page::{FeedPage, FeedRequest, MAX_SCANNED};
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::ingest::outbox::RelayRequest;
use sendoff::store::{Store, Tenant};
use sqlx::{AssertSqlSafe, Executor};
use tokio::sync::watch;

use crate::home::*;
use crate::support::on_both;
use crate::support::{SOON, eventually};

async fn read(store: &Store, app: AppId, after: Position, limit: usize, now: Time) -> FeedPage {
    let request = FeedRequest { after, filters: &[], delivered: None, limit, now };
    store.feed(&tenant(), app, request).await.expect("the store")
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

fn ids_of_positions(messages: &[Message], all: &[MessageId]) -> Vec<usize> {
    messages.iter().map(|one| all.iter().position(|id| *id == one.id).expect("one of them")).collect()
}

async fn accept_at(store: &Store, app: AppId, at: Time) -> MessageId {
    offer(store, AcceptItem { at, ..item(app) }).await.expect("accepted").id
}

/// A message of `event_type` on `channels`.
async fn accept_of(store: &Store, app: AppId, event_type: &str, channels: &[&str]) -> MessageId {
    let mut one = item(app);
    (one.spec.event_type, one.spec.channels) = (event_type.to_owned(), strings(channels));
    offer(store, one).await.expect("accepted").id
}

fn names(list: &[&str]) -> Option<Vec<String>> {
    Some(strings(list))
}

on_both! {
    messages_come_in_the_order_of_acceptance_regardless_of_their_times
    a_page_that_ends_on_a_filter_moves_on
    messages_delivered_everywhere_are_distinguished_from_others
    messages_without_content_are_skipped_and_a_page_has_a_byte_limit
    ids_stay_near_the_clock
    a_reader_sees_all_that_is_committed_once_and_in_order
    a_page_looks_at_so_many_messages
}

async fn messages_come_in_the_order_of_acceptance_regardless_of_their_times(home: Home) {
    let store = &home.store;
    let (app, other) = (application(store, "acme").await.id, application(store, "other").await.id);
    let another = home.another().await;
    let mut sent = Vec::new();
    for (number, seconds) in [90, 30, 60, 30, 3_600, 0].into_iter().enumerate() {
        let process = if number % 2 == 0 { store } else { &another };
        sent.push(accept_at(process, app, later(seconds)).await);
        accept_at(process, other, later(7)).await;
    }
    assert!(sent.is_sorted(), "{sent:?}");
    let now = later(3_600);
    let whole = read(store, app, Position::START, 100, now).await;
    assert_eq!((ids(&whole.messages), whole.done), (sent.clone(), true));
    let mut found = Vec::new();
    let mut page = read(store, app, Position::START, 4, now).await;
    assert_eq!((page.messages.len(), page.done), (4, false));
    found.append(&mut page.messages);
    page = read(store, app, page.position, 4, now).await;
    assert_eq!((page.messages.len(), page.done), (2, true));
    found.append(&mut page.messages);
    assert_eq!(ids(&found), sent);
    let end = read(store, app, page.position, 4, now).await;
    assert_eq!(end, FeedPage { messages: vec![], position: page.position, done: true });
    // A page that ends with the feed says so.
    assert!(read(store, app, Position::START, 6, now).await.done);
    let behind = async |who: &Tenant, position| store.feed_lag(who, app, position, now).await.unwrap();
    assert_eq!(behind(&tenant(), Position::START).await, 6);
    assert_eq!(behind(&tenant(), Position::of(sent[3])).await, 2);
    assert_eq!((behind(&tenant(), page.position).await, behind(&stranger(), Position::START).await), (0, 0));
    let foreign = FeedRequest { after: Position::START, filters: &[], delivered: None, limit: 9, now };
    assert!(store.feed(&stranger(), app, foreign).await.unwrap().messages.is_empty());
}

async fn a_page_that_ends_on_a_filter_moves_on(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let wanted = accept_of(store, app, "a", &["x"]).await;
    accept_of(store, app, "a", &["y"]).await;
    accept_of(store, app, "a", &[]).await;
    let last = accept_of(store, app, "b", &["x"]).await;
    let ask = async |filters: &[FeedFilter], after, limit| {
        store.feed(&tenant(), app, FeedRequest { after, filters, delivered: None, limit, now: NOW }).await.unwrap()
    };
    let of_x = FeedFilter { event_types: names(&["a", "c"]), channels: names(&["x", "z"]) };
    let page = ask(std::slice::from_ref(&of_x), Position::START, 10).await;
    assert_eq!((ids(&page.messages), page.position, page.done), (vec![wanted], Position::of(last), true));
    let page = ask(std::slice::from_ref(&of_x), Position::START, 1).await;
    assert_eq!((ids(&page.messages), page.position, page.done), (vec![wanted], Position::of(wanted), false));
    let page = ask(&[of_x], page.position, 1).await;
    assert_eq!((page.messages.len(), page.position, page.done), (0, Position::of(last), true));
    // Each of several filters has to let it through.
    let both = [
        FeedFilter { event_types: names(&["a", "b"]), channels: None },
        FeedFilter { event_types: names(&["b"]), channels: None },
    ];
    assert_eq!(ids(&ask(&both, Position::START, 10).await.messages), [last]);
}

async fn messages_delivered_everywhere_are_distinguished_from_others(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let deleted = endpoint(store, app.id, endpoint_spec()).await;
    let mut ids = Vec::new();
    for seconds in 0..4 {
        ids.push(accept_at(store, app.id, later(seconds)).await);
    }
    store.delete_endpoint(&tenant(), app.id, deleted.id, later(5)).await.unwrap();
    store.cancel_pending_of_deleted(1_000, later(5)).await.unwrap();
    let all = waiting(store, made.id).await;
    let ends = [Transition::Delivered, Transition::Dead(DeadReason::Exhausted), retry(60, 1)].into_iter().zip(&all);
    let ends = ends.map(|(next, one)| {
        finished(app.id, one, answered(if next == Transition::Delivered { 200 } else { 500 }), next)
    });
    store.record(ends.collect::<Vec<_>>()).await.unwrap();
    let ask = async |delivered| {
        let request = FeedRequest { after: Position::START, filters: &[], delivered, limit: 9, now: later(9) };
        let page = store.feed(&tenant(), app.id, request).await.unwrap();
        assert!(page.done && page.position == Position::of(ids[3]), "it moves on all the same");
        ids_of_positions(&page.messages, &ids)
    };
    assert_eq!(ask(None).await, [0, 1, 2, 3]);
    assert_eq!(ask(Some(true)).await, [0]);
    assert_eq!(ask(Some(false)).await, [1, 2, 3]);
    // What is packed still waits.
    let wide = home.another_that_packs(0).await;
    let packed = accept_at(&wide, app.id, later(6)).await;
    let request =
        FeedRequest { after: Position::of(ids[3]), filters: &[], delivered: Some(true), limit: 9, now: later(9) };
    assert_eq!(store.feed(&tenant(), app.id, request).await.unwrap().messages, []);
    assert_eq!(read(store, app.id, Position::of(ids[3]), 9, later(9)).await.messages[0].id, packed);
}

async fn messages_without_content_are_skipped_and_a_page_has_a_byte_limit(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let gone = accept_at(store, app, NOW).await;
    assert!(store.delete_content(&tenant(), app, gone, NOW).await.unwrap());
    let page = read(store, app, Position::START, 10, NOW).await;
    assert_eq!(page, FeedPage { messages: vec![], position: Position::of(gone), done: true });
    let payload = Bytes::from(format!("{{\"text\": \"{}\"}}", "x".repeat(MAX_PAYLOAD - 20)));
    let mut sent = Vec::new();
    for _ in 0..PAGE_BYTES / payload.len() + 2 {
        let mut one = item(app);
        one.spec.payload = payload.clone();
        sent.push(offer(store, one).await.expect("accepted").id);
    }
    let first = read(store, app, Position::START, 250, NOW).await;
    assert!(!first.done && first.messages.len() * payload.len() <= PAGE_BYTES, "{}", first.messages.len());
    assert_eq!(first.messages[0].payload.as_ref(), Some(&payload), "byte for byte");
    let rest = read(store, app, first.position, 250, NOW).await;
    assert_eq!([ids(&first.messages), ids(&rest.messages)].concat(), sent);
    assert!(rest.done);
}

/// A clock that is set back is followed for two hours. One that was further ahead does not take all later messages with it.
async fn ids_stay_near_the_clock(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let minutes = |minutes: u64| later(minutes * 60);
    let ahead = accept_at(store, app, minutes(110)).await;
    let after = accept_at(store, app, NOW).await;
    assert!(after > ahead, "the reader who has seen the first sees the second");
    assert_eq!(Position::of(after), Position::of(ahead).next());
    let far = accept_at(store, app, minutes(1_000)).await;
    let back = accept_at(store, app, minutes(1)).await;
    assert!(after < back && back < far);
    let found = read(store, app, Position::START, 10, minutes(60)).await;
    assert_eq!((ids(&found.messages), found.done), (vec![ahead, after, back], true), "what is far ahead has to wait");
    assert_eq!(read(store, app, found.position, 10, minutes(1_000)).await.messages.len(), 1);
}

/// Writers and relays of two processes, whose clocks differ by minutes, and a reader that looks all the while.
async fn a_reader_sees_all_that_is_committed_once_and_in_order(home: Home) {
    const WRITERS: usize = 6;
    const EACH: usize = 40;
    let app = application(&home.store, "acme").await.id;
    let stores = [home.store.clone(), home.another().await];
    let now = later(3_000);
    let (stop, stopped) = watch::channel(false);
    let reader = tokio::spawn({
        let store = home.another().await;
        async move {
            let (mut seen, mut after) = (Vec::new(), Position::START);
            loop {
                let last = *stopped.borrow();
                let page = read(&store, app, after, 7, now).await;
                after = page.position;
                seen.extend(ids(&page.messages));
                if last && page.done {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = stores[writer % 2].clone();
        writers.push(tokio::spawn(async move {
            let mut sent = Vec::new();
            for number in 0..EACH {
                sent.push(accept_at(&store, app, later((writer * 400 + number * 7 % 60) as u64)).await);
            }
            sent
        }));
    }
    for (number, store) in stores.into_iter().enumerate() {
        let insert = format!(
            "INSERT INTO outbox (application, event_type, payload) VALUES {}",
            vec!["('acme', 'a', '{}')"; EACH].join(", ")
        );
        home.execute(&insert).await;
        writers.push(tokio::spawn(async move {
            while store.relay(RelayRequest { limit: 5, now: later(number as u64 * 1_000) }).await.unwrap().rows() > 0 {}
            Vec::new()
        }));
    }
    let mut sent = HashSet::new();
    for writer in writers {
        let mine = writer.await.unwrap();
        assert!(mine.is_sorted(), "what one writer sent later comes later");
        sent.extend(mine);
    }
    stop.send_replace(true);
    let seen = reader.await.unwrap();
    assert!(seen.is_sorted_by(|one, next| one < next), "in order, and each once");
    assert_eq!(seen.len(), (WRITERS + 2) * EACH, "and all of them");
    assert!(sent.is_subset(&seen.into_iter().collect()));
}

async fn a_page_looks_at_so_many_messages(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let mut sending = Vec::new();
    for _ in 0..MAX_SCANNED + 5 {
        sending.push(store.accept(item(app)));
    }
    for sent in futures_util::future::join_all(sending).await {
        sent.unwrap().unwrap();
    }
    let filters = [FeedFilter { event_types: names(&["nothing"]), channels: None }];
    let ask = async |after| {
        store
            .feed(&tenant(), app, FeedRequest { after, filters: &filters, delivered: None, limit: 50, now: NOW })
            .await
            .unwrap()
    };
    let first = ask(Position::START).await;
    assert!(first.messages.is_empty() && !first.done);
    let left = read(store, app, first.position, 250, NOW).await;
    assert_eq!((left.messages.len(), left.done), (5, true), "it has moved on over the others");
    assert!(ask(first.position).await.done);
}

/// Two transactions that accept for one application, of two processes: the second is not committed before the first has been, so nobody
/// sees its message and misses the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_commits_late_is_not_skipped() {
    let home = Home::postgres().await;
    let (app, other) = (application(&home.store, "acme").await.id, application(&home.store, "other").await.id);
    let another = home.another().await;
    accept_at(&another, app, NOW).await;
    // The first has drawn its id, and waits for somebody else who enters the same event id.
    let Raw::Postgres(mut holder) = home.connect().await else { panic!("PostgreSQL") };
    let key = format!("BEGIN; INSERT INTO message_key VALUES ('{}', 'evt', '{}')", app.0, app.0);
    holder.execute(AssertSqlSafe(key)).await.unwrap();
    let (first_store, second_store) = (home.store.clone(), another.clone());
    let first = tokio::spawn(async move {
        let mut one = item(app);
        one.spec.event_id = Some(uid("evt"));
        offer(&first_store, AcceptItem { at: later(1), ..one }).await.expect("accepted").id
    });
    let waiting = async || {
        const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'";
        home.number(WAITING).await
    };
    eventually("the first waits", SOON, async || (waiting().await == 1).then_some(())).await;
    let second = tokio::spawn(async move { accept_at(&second_store, app, later(2)).await });
    eventually("the second is done, or waits", SOON, async || {
        (second.is_finished() || waiting().await == 2).then_some(())
    })
    .await;
    let early = read(&home.store, app, Position::START, 10, later(3)).await;
    // Of another application, nobody waits.
    tokio::time::timeout(SOON, accept_at(&home.another().await, other, later(2))).await.expect("at once");
    holder.execute("ROLLBACK").await.unwrap();
    let sent = [first.await.unwrap(), second.await.unwrap()];
    let late = read(&home.store, app, early.position, 10, later(3)).await;
    assert_eq!([ids(&early.messages), ids(&late.messages)].concat()[1..], sent, "both, once, in order");
    assert!(sent.is_sorted());
}

/// All locks of a batch are taken in one order: two batches never wait for each other in a circle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_batches_of_many_applications_do_not_wait_in_a_circle() {
    let home = Home::postgres().await;
    let mut apps = Vec::new();
    for number in 0..12 {
        apps.push(application(&home.store, &format!("app-{number}")).await.id);
    }
    let apps = Arc::new(apps);
    let mut writers = Vec::new();
    for (number, store) in [home.another().await, home.another().await, home.another().await].into_iter().enumerate() {
        let apps = apps.clone();
        writers.push(tokio::spawn(async move {
            for round in 0..15 {
                let order = |place: usize| apps[(place * (2 * number + 1) * 5 + round) % apps.len()];
                let batch = (0..apps.len()).map(|place| accept_at(&store, order(place), NOW));
                tokio::time::timeout(Duration::from_secs(20), futures_util::future::join_all(batch)).await.unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    const DEADLOCKS: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(home.number(DEADLOCKS).await, 0);
}
