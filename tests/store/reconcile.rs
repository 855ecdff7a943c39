//! What a receiver misses, by the ids that it has or by a digest of them: found page by page, and sent again in steps.

use sendoff::domain::TimeRange;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::background::TaskStage;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, DeliveryStatus, Transition};
use sendoff::domain::deliveries::id_digest::{IdBucket, IdDigest, IdHash};
use sendoff::domain::{AppId, MessageId};
use sendoff::store::jobs::background::StartResult;
use sendoff::store::jobs::reconcile::{MissingPage, ReceivedMessageIds, ReconcileSpec};
use sendoff::store::{Store, Tenant};

use crate::background::{settle, work_off};
use crate::home::*;
use crate::support::on_both;

/// Messages a second apart, from the first second on, and what became of them at the endpoint: two delivered, dead, canceled, one that waits
/// for a retry, one that it was never given, and a fresh one.
async fn seven(store: &Store, app: AppId, to: &Endpoint) -> Vec<MessageId> {
    let mut ids = Vec::new();
    let send = async |n: u64| {
        let mut one = item(app);
        one.at = later(n);
        offer(store, one).await.unwrap().id
    };
    for n in 1..=5 {
        ids.push(send(n).await);
    }
    let nexts = [
        (200, Transition::Delivered),
        (200, Transition::Delivered),
        (500, Transition::Dead(DeadReason::Exhausted)),
        (500, Transition::Dead(DeadReason::Canceled)),
        (503, retry(900, 1)),
    ];
    let all = waiting(store, to.id).await;
    let of = |id: &MessageId| all.iter().find(|one| one.message_id == *id).unwrap();
    let ends = ids.iter().zip(nexts).map(|(id, (status, next))| finished(app, of(id), answered(status), next));
    store.record(ends.collect::<Vec<_>>()).await.unwrap();
    let disabled = updated(store, to, EndpointSpec { disabled: true, ..to.spec.clone() }, later(6)).await;
    ids.push(send(6).await);
    updated(store, &disabled, to.spec.clone(), later(7)).await;
    ids.push(send(7).await);
    ids
}

fn spec<'r>(to: &Endpoint, received: &'r ReceivedMessageIds) -> ReconcileSpec<'r> {
    let accepted = TimeRange { since: NOW.minus(std::time::Duration::from_secs(60)), until: later(100) };
    ReconcileSpec { app: to.app_id, endpoint: to.id, accepted, after: None, received, bounded: false }
}

async fn missed(store: &Store, spec: &ReconcileSpec<'_>, limit: usize) -> MissingPage {
    store.missing_messages(&tenant(), spec, limit).await.expect("the store")
}

fn ids_of(page: &MissingPage) -> Vec<MessageId> {
    page.data.iter().map(|one| one.message.id).collect()
}

on_both! {
    matching_messages_that_are_not_listed_are_missing
    messages_outside_the_filters_are_not_missing
    a_page_looks_at_so_many_messages_and_goes_on
    missing_messages_are_resent_once
    a_digest_tells_what_is_missed
    a_bucket_is_compared_as_a_whole
    a_bucket_of_too_many_messages_is_sent_again_as_a_whole
}

async fn matching_messages_that_are_not_listed_are_missing(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    // Before the endpoint was created: never meant for it.
    let mut early = item(app.id);
    early.at = NOW.minus(std::time::Duration::from_secs(5));
    offer(store, early).await.unwrap();
    let made = endpoint(store, app.id, endpoint_spec()).await;
    let ids = seven(store, app.id, &made).await;
    let none = ReceivedMessageIds::default();
    let page = missed(store, &spec(&made, &none), 250).await;
    let found: Vec<_> = page.data.iter().map(|one| (one.message.id, one.standing)).collect();
    let (delivered, dead, canceled) =
        (Some(DeliveryStatus::Delivered), Some(DeliveryStatus::Dead), Some(DeliveryStatus::Canceled));
    let wanted = [(ids[0], delivered), (ids[1], delivered), (ids[2], dead), (ids[3], canceled), (ids[5], None)];
    assert_eq!((found, page.last, page.done), (wanted.to_vec(), Some(ids[6]), true));
    assert!(page.data.iter().all(|one| one.message.payload.is_some()));

    let has = ReceivedMessageIds::new(vec![ids[1], ids[0], ids[5], ids[1]]);
    let all = spec(&made, &has);
    assert_eq!(ids_of(&missed(store, &all, 250).await), [ids[2], ids[3]]);
    let first = missed(store, &all, 1).await;
    assert_eq!((ids_of(&first), first.done), (vec![ids[2]], false));
    let rest = missed(store, &ReconcileSpec { after: first.last, ..all }, 1).await;
    assert_eq!((ids_of(&rest), rest.done), (vec![ids[3]], true));
    let between = ReconcileSpec { accepted: span(4, 6), ..all };
    assert_eq!(ids_of(&missed(store, &between, 250).await), [ids[3]]);
    // The ids are the first of more: what follows the last of them is not compared yet.
    let some = ReceivedMessageIds::new(vec![ids[0], ids[2]]);
    let bounded = missed(store, &ReconcileSpec { received: &some, bounded: true, ..all }, 250).await;
    assert_eq!((ids_of(&bounded), bounded.last, bounded.done), (vec![ids[1]], Some(ids[2]), true));

    assert!(store.delete_content(&tenant(), app.id, ids[2], later(8)).await.unwrap());
    assert_eq!(ids_of(&missed(store, &all, 250).await), [ids[3]], "there is nothing left to give");
    let (_, sister) = customer(store, "sister").await;
    let nobody = Tenant { only: Some(AppId::new(NOW)), ..tenant() };
    let foreign = ReconcileSpec { endpoint: sister.id, ..all };
    for (who, spec) in [(stranger(), all), (nobody, all), (tenant(), foreign)] {
        let page = store.missing_messages(&who, &spec, 250).await.unwrap();
        assert_eq!((page.data, page.last), (vec![], None));
    }
}

/// The endpoint's filters decide about what it was never given.
async fn messages_outside_the_filters_are_not_missing(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let of_eu = EndpointSpec { channels: Some(strings(&["eu"])), ..endpoint_spec() };
    let made = endpoint(store, app.id, EndpointSpec { disabled: true, ..of_eu.clone() }).await;
    let mut ids = Vec::new();
    for (n, channels) in [&["eu"][..], &[], &["us", "eu"], &["us"]].into_iter().enumerate() {
        let mut one = item(app.id);
        (one.at, one.spec.channels) = (later(n as u64), strings(channels));
        ids.push(offer(store, one).await.unwrap().id);
    }
    let none = ReceivedMessageIds::default();
    assert_eq!(ids_of(&missed(store, &spec(&made, &none), 250).await), [ids[0], ids[2]], "also while it is disabled");
    updated(store, &made, of_eu, later(9)).await;
    assert_eq!(ids_of(&missed(store, &spec(&made, &none), 250).await), [ids[0], ids[2]]);
}

/// Copies of the first message, a second after the start: as rows, since so many are slow to send.
async fn many_messages(home: &Home, count: usize) {
    let rows = home.either(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < COUNT)
         INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at, payload)
         SELECT unhex(printf('%012x70008%03x', BASE, 0) || printf('%012x', i)), app_id, org, 'a', accepted_at, AT, payload
         FROM n, message m WHERE m.id = (SELECT min(id) FROM message)",
        "INSERT INTO message (id, app_id, org, event_type, occurred_at, accepted_at, payload)
         SELECT CAST(lpad(to_hex(BASE), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0') AS UUID), app_id, org, 'a', accepted_at, AT, payload
         FROM generate_series(1, COUNT) AS i, (SELECT * FROM message ORDER BY id LIMIT 1) AS m",
    );
    let rows = rows.replace("COUNT", &count.to_string()).replace("BASE", &later(1).millis().to_string());
    home.execute(&rows.replace("AT,", &format!("{},", later(1).micros()))).await;
}

async fn a_page_looks_at_so_many_messages_and_goes_on(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    // Delivered long ago.
    let last = offer(store, {
        let mut one = item(app.id);
        one.at = later(50);
        one
    })
    .await
    .unwrap()
    .id;
    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    many_messages(&home, sendoff::store::query::page::SCAN + 500).await;
    let none = ReceivedMessageIds::default();
    let of_type_b = EndpointSpec { event_types: None, channels: Some(strings(&["none"])), ..made.spec.clone() };
    updated(store, &made, of_type_b, later(60)).await;
    let first = missed(store, &spec(&made, &none), 250).await;
    assert_eq!((first.data.len(), first.done), (0, false), "a page that finds nothing ends as well");
    let rest = missed(store, &ReconcileSpec { after: first.last, ..spec(&made, &none) }, 250).await;
    assert_eq!((ids_of(&rest), rest.done), (vec![last], true));
}

async fn missing_messages_are_resent_once(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ids = seven(store, app.id, &made).await;
    let before = waiting(store, made.id).await.len();
    assert_eq!(before, 2, "the retry and the fresh one");
    let has = ReceivedMessageIds::new(vec![ids[0]]);
    let begun = store.start_reconciliation(&tenant(), &spec(&made, &has), "a test", later(1_000)).await.unwrap();
    let StartResult::Started(begun) = begun else { panic!("{begun:?}") };
    assert_eq!(home.number("SELECT count(*) FROM background_received").await, 1);
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    assert_eq!(home.number("SELECT count(*) FROM background_received").await, 0, "they are needed no more");
    let mut sent: Vec<MessageId> = waiting(store, made.id).await.iter().map(|one| one.message_id).collect();
    sent.sort_unstable();
    assert_eq!(sent, ids[1..], "these, and what was on its way");
    let done = store.background(&tenant(), begun.id).await.unwrap().unwrap();
    assert_eq!((done.looked, done.sent), (7, 4));
    assert_eq!(delivery(store, app.id, ids[0], made.id).await.state, DeliveryState::Delivered);
    // What was sent again is on its way: nothing is missing.
    assert!(missed(store, &spec(&made, &has), 250).await.data.is_empty());

    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    let some = ReceivedMessageIds::new(vec![ids[2]]);
    let from = ReconcileSpec { after: Some(ids[0]), bounded: true, ..spec(&made, &some) };
    store.start_reconciliation(&tenant(), &from, "a test", later(1_000)).await.unwrap();
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    let sent: Vec<MessageId> = waiting(store, made.id).await.iter().map(|one| one.message_id).collect();
    assert_eq!(sent, [ids[1]], "behind the one and up to the other");

    let foreign = store.start_reconciliation(&stranger(), &spec(&made, &has), "a test", later(1_000)).await.unwrap();
    assert_eq!(foreign, StartResult::NotFound);
    let StartResult::Started(third) =
        store.start_reconciliation(&tenant(), &spec(&made, &has), "a test", later(1_000)).await.unwrap()
    else {
        panic!("it is begun")
    };
    assert!(store.cancel_background(&tenant(), third.id, later(1_000)).await.unwrap());
    store.delete_old_background(NOW).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM background_received").await, 0, "of what was canceled");
}

/// A digest with one bucket: from the first to the last of `range`, with the ids `held`.
fn one_bucket(range: &[MessageId], held: &[MessageId]) -> ReceivedMessageIds {
    let (first, last) = (range[0], range[range.len() - 1]);
    let xor = IdHash::of_all(held.iter().copied());
    let bucket = IdBucket { first, last, count: held.len() as u32, xor };
    ReceivedMessageIds::Digest(IdDigest::new("digest", vec![bucket]).expect("a digest"))
}

async fn a_digest_tells_what_is_missed(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ids = seven(store, app.id, &made).await;
    let missed_of = async |range: &[MessageId], held: &[MessageId]| {
        let has = one_bucket(range, held);
        let page = missed(store, &spec(&made, &has), 250).await;
        assert_eq!((page.last, page.done), (Some(ids[6]), true));
        ids_of(&page)
    };
    assert_eq!(missed_of(&ids, &[ids[0], ids[2]]).await, [ids[1], ids[3], ids[5]]);
    // Fetched by an earlier reconciliation, without a delivery.
    assert_eq!(missed_of(&ids, &[ids[5], ids[0]]).await, [ids[1], ids[2], ids[3]]);
    // The last and the fifth are pending: the receiver may have them.
    assert_eq!(missed_of(&ids, &ids).await, []);
    assert_eq!(missed_of(&ids, &[ids[0], ids[1], ids[2], ids[3], ids[5], ids[6]]).await, []);
    assert_eq!(missed_of(&ids[1..3], &ids[1..3]).await, [ids[0], ids[3], ids[5]], "ids in no bucket are not there");
    assert!(store.delete_content(&tenant(), app.id, ids[2], later(8)).await.unwrap());
    assert_eq!(missed_of(&ids, &[ids[0], ids[2], ids[3]]).await, [ids[1], ids[5]], "it has what was deleted here");
    assert_eq!(missed_of(&ids, &[ids[0], ids[3]]).await, [ids[1], ids[5]]);

    let has = one_bucket(&ids, &[ids[0]]);
    let nobody = Tenant { only: Some(AppId::new(NOW)), ..tenant() };
    for who in [stranger(), nobody] {
        let page = store.missing_messages(&who, &spec(&made, &has), 250).await.unwrap();
        assert_eq!((page.data, page.last), (vec![], None));
        let task = store.start_reconciliation(&who, &spec(&made, &has), "a test", later(1_000)).await.unwrap();
        assert_eq!(task, StartResult::NotFound);
    }
}

/// A page or a period that begins or ends inside a bucket compares all of the bucket, and returns its own part.
async fn a_bucket_is_compared_as_a_whole(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let ids = seven(store, app.id, &made).await;
    let has = one_bucket(&ids, &[ids[1], ids[3]]);
    let (mut page, mut found) = (MissingPage::default(), Vec::new());
    while !page.done {
        page = missed(store, &ReconcileSpec { after: page.last, ..spec(&made, &has) }, 1).await;
        assert!(page.data.len() == 1, "{page:?}");
        found.extend(ids_of(&page));
    }
    assert_eq!(found, [ids[0], ids[2], ids[5]]);
    let of = async |since: u64, until: u64| {
        let accepted = TimeRange { since: later(since), until: later(until) };
        let part = ReconcileSpec { accepted, ..spec(&made, &has) };
        ids_of(&missed(store, &part, 250).await)
    };
    // The messages are a second apart, from the first second on.
    assert_eq!(of(2, 4).await, [ids[2]]);
    assert_eq!(of(1, 2).await, [ids[0]]);
    assert_eq!(of(5, 99).await, [ids[5]]);
    assert_eq!(of(50, 99).await, []);

    // More than a step sends again at once.
    let mut all = ids.clone();
    for n in 0..250 {
        let mut one = item(app.id);
        one.at = later(20 + n % 7);
        all.push(offer(store, one).await.unwrap().id);
    }
    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    all.sort_unstable();
    let has = one_bucket(&all, &all[..1]);
    store.start_reconciliation(&tenant(), &spec(&made, &has), "a test", later(1_000)).await.unwrap();
    assert_eq!(work_off(store).await, (2, TaskStage::Finished));
    let mut sent: Vec<MessageId> = waiting(store, made.id).await.iter().map(|one| one.message_id).collect();
    sent.sort_unstable();
    assert_eq!(sent, all, "too many to tell which one it has");
}

async fn a_bucket_of_too_many_messages_is_sent_again_as_a_whole(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let mut last = item(app.id);
    last.at = later(50);
    let last = offer(store, last).await.unwrap().id;
    settle(store, app.id, made.id, answered(200), Transition::Delivered).await;
    many_messages(&home, sendoff::store::query::page::SCAN + 500).await;
    let none = EndpointSpec { channels: Some(strings(&["none"])), ..made.spec.clone() };
    updated(store, &made, none, later(60)).await;
    let first = MessageId::floor(later(1));
    // It has all of the bucket, but there are more messages of other channels in it than a page reads.
    let has = one_bucket(&[first, last], &[last]);
    let (mut page, mut found, mut pages) = (MissingPage::default(), Vec::new(), 0);
    while !page.done {
        page = missed(store, &ReconcileSpec { after: page.last, ..spec(&made, &has) }, 1).await;
        found.extend(ids_of(&page));
        pages += 1;
        assert!(pages < 5, "it goes on");
    }
    assert_eq!((found, pages), (vec![last], 2));
}
