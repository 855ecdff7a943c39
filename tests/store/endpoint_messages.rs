//! What an endpoint was sent: lists by how it stands, bounded however little a filter finds; counts.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryStatus, Transition};
use sendoff::domain::{AppId, EndpointId, MessageId};
use sendoff::store::query::counts::AttemptCounts;
use sendoff::store::query::endpoint_messages::{DeliveryStatusCounts, EndpointMessageFilter};
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::query::page::SCAN;
use sendoff::store::{Order, PageRequest, Store, Tenant};

use crate::home::*;
use crate::support::on_both;

/// Messages 0 to 4, a second apart, and what became of them: delivered, waiting for a retry, dead, canceled, fresh.
async fn five(store: &Store, app: AppId, endpoint: EndpointId) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for (n, (event_type, channel)) in [("a", "x"), ("b", "x"), ("a", "y"), ("c", "y"), ("a", "x")].iter().enumerate() {
        let mut one = item(app);
        one.at = later(n as u64);
        (one.spec.event_type, one.spec.channels) = ((*event_type).into(), strings(&[channel]));
        ids.push(offer(store, one).await.unwrap().id);
    }
    let all = waiting(store, endpoint).await;
    let of = |n: usize| all.iter().find(|one| one.message_id == ids[n]).unwrap();
    let timeout = sendoff::domain::deliveries::attempt::Outcome::failed(Failure::Timeout, "", Duration::ZERO);
    let done = vec![
        finished(app, of(0), answered(200), Transition::Delivered),
        finished(app, of(1), answered(503), retry(60, 1)),
        finished(app, of(2), answered(404), Transition::Dead(DeadReason::Exhausted)),
        finished(app, of(3), timeout, Transition::Dead(DeadReason::Canceled)),
    ];
    store.record(done).await.unwrap();
    ids
}

fn newest(limit: usize) -> PageRequest<MessageId> {
    PageRequest::first(limit, Order::Descending)
}

on_both! {
    messages_sent_to_an_endpoint_are_listed_by_status
    counts_of_deliveries_and_of_attempts
    counts_of_more_than_one_statement_takes
    a_filtered_page_looks_at_so_much_and_no_more
}

async fn messages_sent_to_an_endpoint_are_listed_by_status(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let other = endpoint(store, app.id, EndpointSpec { channels: Some(strings(&["z"])), ..endpoint_spec() }).await;
    let ids = five(store, app.id, made.id).await;
    let list = async |filter: EndpointMessageFilter| {
        let page = store.endpoint_messages(&tenant(), app.id, made.id, &filter, &newest(100)).await.unwrap();
        assert!(!page.more && page.stopped.is_none());
        page.data.iter().map(|one| ids.iter().position(|id| *id == one.message.id).unwrap()).collect::<Vec<_>>()
    };
    let all = EndpointMessageFilter::default;
    assert_eq!(list(all()).await, [4, 3, 2, 1, 0]);
    for (standing, wanted) in [
        (DeliveryStatus::Delivered, &[0][..]),
        (DeliveryStatus::Pending, &[4, 1]),
        (DeliveryStatus::Dead, &[2]),
        (DeliveryStatus::Canceled, &[3]),
    ] {
        assert_eq!(list(EndpointMessageFilter { standings: vec![standing], ..all() }).await, wanted, "{standing:?}");
    }
    assert_eq!(
        list(EndpointMessageFilter { standings: vec![DeliveryStatus::Dead, DeliveryStatus::Canceled], ..all() }).await,
        [3, 2]
    );
    assert_eq!(list(EndpointMessageFilter { topics: of_types(&["b", "c"]), ..all() }).await, [3, 1]);
    assert_eq!(list(EndpointMessageFilter { topics: on_channel("y"), ..all() }).await, [3, 2]);
    assert_eq!(list(EndpointMessageFilter { topics: with_tag("y"), ..all() }).await, [] as [usize; 0]);
    assert_eq!(list(EndpointMessageFilter { accepted: span(1, 3), ..all() }).await, [2, 1]);
    assert_eq!(list(EndpointMessageFilter { status_class: Some(500), ..all() }).await, [1]);
    assert_eq!(
        list(EndpointMessageFilter { status_class: Some(0), ..all() }).await,
        [3],
        "the fresh one was not tried at all"
    );
    home.execute("UPDATE message SET tags = '[\"urgent\"]' WHERE event_type = 'b'").await;
    assert_eq!(list(EndpointMessageFilter { topics: with_tag("urgent"), ..all() }).await, [1]);

    let page = store.endpoint_messages(&tenant(), app.id, made.id, &all(), &newest(2)).await.unwrap();
    assert_eq!((page.data.len(), page.more, page.stopped), (2, true, None));
    assert_eq!((page.data[0].standing, page.data[0].next_at), (DeliveryStatus::Pending, Some(later(4))));
    assert_eq!((page.data[1].standing, page.data[1].next_at), (DeliveryStatus::Canceled, None));
    let next = PageRequest { after: Some(page.data[1].message.id), ..newest(2) };
    let page = store.endpoint_messages(&tenant(), app.id, made.id, &all(), &next).await.unwrap();
    assert_eq!(page.data[1].next_at, Some(later(60)));
    assert_eq!(page.data.iter().map(|one| one.message.id).collect::<Vec<_>>(), [ids[2], ids[1]]);

    let nobody = Tenant { only: Some(AppId::new(NOW)), ..tenant() };
    for (who, endpoint) in [(stranger(), made.id), (nobody, made.id), (tenant(), other.id)] {
        let page = store.endpoint_messages(&who, app.id, endpoint, &all(), &newest(9)).await.unwrap();
        assert!(page.data.is_empty() && !page.more);
    }
}

async fn counts_of_deliveries_and_of_attempts(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    five(store, app.id, made.id).await;
    let counts = async |who: &Tenant, since, until| {
        store.delivery_status_counts(who, app.id, made.id, later(since), later(until)).await.unwrap()
    };
    let wanted = DeliveryStatusCounts { delivered: 1, pending: 2, dead: 1, canceled: 1, cut_off: None };
    // By the ids' own times, which may run ahead of what this test says: others make ids in this process too.
    assert_eq!(counts(&tenant(), 0, 7_000).await, wanted);
    assert_eq!(counts(&tenant(), 7_000, 7_001).await, DeliveryStatusCounts::default());
    assert_eq!(counts(&stranger(), 0, 7_000).await, DeliveryStatusCounts::default());

    let (_, sister) = customer(store, "sister").await;
    let other = endpoint(store, app.id, endpoint_spec()).await;
    store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap();
    let tried = async |who: &Tenant, endpoint, since, until| {
        store.attempt_counts(who, app.id, endpoint, later(since), later(until)).await.unwrap()
    };
    let all = AttemptCounts { delivered: 1, failed: 3 };
    assert_eq!(tried(&tenant(), None, 0, 1).await, all, "what was sent to a deleted endpoint was sent");
    assert_eq!(tried(&tenant(), Some(made.id), 0, 1).await, all);
    let none = AttemptCounts::default();
    assert_eq!(tried(&tenant(), Some(other.id), 0, 1).await, none);
    assert_eq!(tried(&tenant(), Some(sister.id), 0, 1).await, none);
    assert_eq!(tried(&tenant(), None, 60, 120).await, none);
    assert_eq!(tried(&stranger(), None, 0, 1).await, none);
}

async fn counts_of_more_than_one_statement_takes(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    many(&home, app.id, made.id, 60_000).await;
    let all = store.delivery_status_counts(&tenant(), app.id, made.id, later(1), later(2)).await.unwrap();
    assert_eq!(all, DeliveryStatusCounts { delivered: 60_000, ..DeliveryStatusCounts::default() });
}

/// What a filter costs that nothing matches does not grow with the list; who goes on from where a page stopped misses nothing.
async fn a_filtered_page_looks_at_so_much_and_no_more(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let rare = many(&home, app.id, made.id, SCAN + 2_500).await;
    let (second, millisecond) = (later(1), Duration::from_millis(1));
    let count =
        async |since, until| store.delivery_status_counts(&tenant(), app.id, made.id, since, until).await.unwrap();
    let all = DeliveryStatusCounts { delivered: 12_500, ..DeliveryStatusCounts::default() };
    assert_eq!(count(second, second.plus(millisecond)).await, all);
    assert_eq!(count(NOW, second).await, DeliveryStatusCounts::default());
    assert_eq!(count(second.plus(millisecond), later(2)).await, DeliveryStatusCounts::default());

    let rare_only = EndpointMessageFilter { topics: of_types(&["rare"]), ..EndpointMessageFilter::default() };
    let one = store.endpoint_messages(&tenant(), app.id, made.id, &rare_only, &newest(5)).await.unwrap();
    assert!(one.data.is_empty() && one.more);
    let next = PageRequest { after: one.stopped, ..newest(5) };
    let two = store.endpoint_messages(&tenant(), app.id, made.id, &rare_only, &next).await.unwrap();
    assert_eq!((two.data.len(), two.data[0].message.id, two.more), (1, rare, false));
    let back = PageRequest { back: true, after: Some(rare), ..newest(5) };
    let three = store.endpoint_messages(&tenant(), app.id, made.id, &rare_only, &back).await.unwrap();
    assert!(three.data.is_empty() && three.more && three.stopped.is_some_and(|stopped| stopped > rare));

    let rare_only = MessageFilter { topics: of_types(&["rare"]), ..MessageFilter::default() };
    let one = store.messages(&tenant(), app.id, &rare_only, &newest(5)).await.unwrap();
    assert!(one.data.is_empty() && one.more && one.stopped.is_some());
    let next = PageRequest { after: one.stopped, ..newest(5) };
    let two = store.messages(&tenant(), app.id, &rare_only, &next).await.unwrap();
    assert_eq!((two.data.len(), two.data[0].id, two.more), (1, rare, false));
    let early = MessageFilter { before: Some(NOW), ..rare_only.clone() };
    let page = store.messages(&tenant(), app.id, &early, &newest(5)).await.unwrap();
    assert!(page.data.is_empty() && page.more, "ids may run ahead of times, so these are looked at as well");
    let long_ago = MessageFilter { before: Some(NOW.minus(Duration::from_secs(9_000))), ..rare_only.clone() };
    let page = store.messages(&tenant(), app.id, &long_ago, &newest(5)).await.unwrap();
    assert!(page.data.is_empty() && !page.more, "nothing was that early, and this is known without looking");
    let ascending = PageRequest::first(5, Order::Ascending);
    let page = store.messages(&tenant(), app.id, &rare_only, &ascending).await.unwrap();
    assert_eq!((page.data.len(), page.more), (1, true), "found at once, and there may be more");
    let usual = store.messages(&tenant(), app.id, &MessageFilter::default(), &newest(5)).await.unwrap();
    assert_eq!((usual.data.len(), usual.more, usual.stopped), (5, true, None));
}

/// So many messages and deliveries, put there by hand, delivered all of them, and of a usual event type all but the first one, whose
/// id is given back.
pub async fn many(home: &Home, app: AppId, endpoint: EndpointId, count: usize) -> MessageId {
    let first = MessageId::floor(later(1)).0.as_u128() >> 16;
    let (app, endpoint, now) = (app.0.simple(), endpoint.0.simple(), later(1).micros());
    home.execute(home.either(
        &format!(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             INSERT INTO message (id, app_id, org, event_type, payload, occurred_at, accepted_at)
             SELECT unhex('{first:028x}' || printf('%04x', n)), unhex('{app}'), 'org_default', 'usual', x'7b7d', {now}, {now} FROM n"
        ),
        &format!(
            "INSERT INTO message (id, app_id, org, event_type, payload, occurred_at, accepted_at)
             SELECT CAST('{first:028x}' || lpad(to_hex(n), 4, '0') AS uuid), '{app}', 'org_default', 'usual', '\\x7b7d', {now}, {now}
             FROM generate_series(1, {count}) AS n"
        ),
    ))
    .await;
    let delivered = |endpoint: String, nothing: &str| {
        format!(
            "INSERT INTO attempt (id, message_id, endpoint_id, app_id, org, number, generation, settles, trigger, at, url,
                 request_headers, detail, status, duration_us, response_headers, response_body)
             SELECT id, id, {endpoint}, app_id, org, 1, 0, 1, 0, accepted_at, '', '', '', 200, 1000, '', {nothing}
             FROM message WHERE event_type = 'usual'"
        )
    };
    let (sqlite, postgres) =
        (delivered(format!("unhex('{endpoint}')"), "x''"), delivered(format!("CAST('{endpoint}' AS uuid)"), "''"));
    home.execute(home.either(&sqlite, &postgres)).await;
    let rare = MessageId(uuid::Uuid::from_u128(first << 16 | 1));
    let id = home.either(&format!("unhex('{}')", rare.0.simple()), &format!("'{}'", rare.0)).to_owned();
    home.execute(&format!("UPDATE message SET event_type = 'rare' WHERE id = {id}")).await;
    rare
}
