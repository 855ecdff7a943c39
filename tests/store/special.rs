//! Messages that carry more than most: tags, a raw payload, a time to be sent at, an end of their content.

use std::time::Duration;

use bytes::Bytes;
use sendoff::domain::deliveries::delivery::{DeliveryState, Transition};
use sendoff::domain::deliveries::message::{Message, SCHEDULE_LIMIT};
use sendoff::store::ingest::accept::{AcceptItem, Rejection};
use sendoff::store::query::attempts::AttemptFilter;
use sendoff::store::query::messages::MessageFilter;
use sendoff::store::queue::signals::Signal;
use sendoff::store::{Order, PageRequest, Store};

use crate::home::*;
use crate::support::on_both;

const DAY: Duration = Duration::from_secs(86_400);

fn tagged(app: sendoff::domain::AppId, tags: &[&str]) -> AcceptItem {
    let mut one = item(app);
    one.spec.tags = strings(tags);
    one
}

/// The message with everything that it was accepted with.
async fn read(store: &Store, made: &Message) -> Message {
    store.message(&tenant(), made.app_id, &made.id.into()).await.unwrap().unwrap()
}

on_both! {
    everything_that_a_message_carries_is_kept
    a_scheduled_delivery_is_due_at_its_time
    lists_are_filtered_by_tag
}

async fn everything_that_a_message_carries_is_kept(home: Home) {
    let (store, app) = (&home.store, application(&home.store, "acme").await);
    let mut raw = tagged(app.id, &["one", "two"]);
    (raw.spec.payload, raw.spec.raw_type) = (Bytes::from_static(b"a=1&\xff\0"), Some("text/plain".into()));
    (raw.spec.event_id, raw.spec.channels) = (Some(uid("ev")), strings(&["c"]));
    (raw.spec.deliver_at, raw.spec.keep_content) = (Some(later(60)), Some(5 * DAY));
    raw.spec.occurred_at = Some(later(1));
    let mut empty = item(app.id);
    (empty.spec.payload, empty.spec.raw_type) = (Bytes::new(), Some("text/plain".into()));
    // In one batch with the usual kind.
    let batch = [raw, item(app.id), empty].map(|one| store.accept(one));
    let made = futures_util::future::join_all(batch).await;
    let made: Vec<_> = made.into_iter().map(|verdict| verdict.unwrap().unwrap()).collect();
    for one in &made {
        assert_eq!(read(store, one).await, **one);
    }
    let raw = &made[0];
    assert_eq!((raw.payload.as_deref(), raw.raw_type.as_deref()), (Some(&b"a=1&\xff\0"[..]), Some("text/plain")));
    assert_eq!((&*raw.tags, raw.deliver_at), (&*strings(&["one", "two"]), Some(later(60))));
    assert_eq!(raw.content_until, Some(later(60).plus(5 * DAY)), "counted from when it is due");
    assert_eq!(made[2].payload.as_deref(), Some(&b""[..]), "no bytes are not no content");
    let again = AcceptItem { at: later(1), ..tagged(app.id, &["x"]) };
    let again = AcceptItem {
        spec: sendoff::domain::deliveries::message::MessageSpec { event_id: Some(uid("ev")), ..again.spec },
        ..again
    };
    assert!(matches!(offer(store, again).await, Err(Rejection::Duplicate(_))), "special or not");
}

async fn a_scheduled_delivery_is_due_at_its_time(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let mut signals = store.signals().listen().unwrap();
    let scheduled = |deliver_at| {
        let mut one = item(app.id);
        one.spec.deliver_at = Some(deliver_at);
        one
    };
    let past = offer(store, scheduled(NOW.minus(DAY))).await.unwrap();
    assert_eq!((past.deliver_at, past.first_due()), (Some(NOW.minus(DAY)), NOW), "as given, and at once");
    let ahead = offer(store, scheduled(NOW.plus(SCHEDULE_LIMIT))).await.unwrap();
    let fresh = |due| (DeliveryState::Fresh, due);
    assert_eq!(states(&waiting(store, made.id).await), [fresh(NOW), fresh(NOW.plus(SCHEDULE_LIMIT))]);
    let told = [signals.recv().await.unwrap(), signals.recv().await.unwrap()].map(|told| match Signal::from(told) {
        Signal::Accepted(due) => due.iter().map(|one| one.message.first_due()).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    });
    assert_eq!(told, [vec![NOW], vec![NOW.plus(SCHEDULE_LIMIT)]]);
    let too_far = scheduled(NOW.plus(SCHEDULE_LIMIT + Duration::from_secs(1)));
    let Err(Rejection::Invalid(wrong)) = offer(store, too_far).await else { panic!("let in") };
    assert_eq!(wrong[0].field, "deliverAt");
    // Whoever resends it before its time does not wait for it.
    assert!(store.resend(&tenant(), app.id, (ahead.id, made.id), later(5)).await.unwrap());
    assert_eq!(states(&waiting(store, made.id).await), [fresh(NOW), fresh(later(5))]);
}

async fn lists_are_filtered_by_tag(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    for n in 0..10 {
        let tags: &[&str] = [&["even", "x"][..], &["odd"], &[]][if n == 9 { 2 } else { n % 2 }];
        offer(store, tagged(app.id, tags)).await.unwrap();
    }
    for one in waiting(store, made.id).await {
        store.record(vec![finished(app.id, &one, answered(200), Transition::Delivered)]).await.unwrap();
    }
    let messages = async |tag: &str, request: &PageRequest<_>| {
        let filter = MessageFilter { topics: with_tag(tag), ..MessageFilter::default() };
        store.messages(&tenant(), app.id, &filter, request).await.unwrap()
    };
    let attempts = async |tag: &str, request: &PageRequest<_>| {
        let filter = AttemptFilter { endpoint: Some(made.id), topics: with_tag(tag), ..AttemptFilter::default() };
        store.attempts(&tenant(), app.id, &filter, request).await.unwrap()
    };
    for (tag, count) in [("even", 5), ("x", 5), ("odd", 4), ("eve", 0), ("EVEN", 0), ("even\",\"x", 0), ("\0", 0)] {
        assert_eq!(messages(tag, &first()).await.data.len(), count, "{tag:?}");
        assert_eq!(attempts(tag, &first()).await.data.len(), count, "{tag:?}");
    }
    let mut request = PageRequest::first(2, Order::Descending);
    let mut found = Vec::new();
    loop {
        let page = messages("odd", &request).await;
        found.extend(page.data.iter().map(|message| message.id));
        request.after = found.last().copied();
        if !page.more {
            break;
        }
    }
    assert!(found.len() == 4 && found.is_sorted_by(|a, b| a > b), "page by page: {found:?}");
    let page = attempts("odd", &PageRequest::first(3, Order::Descending)).await;
    assert!(page.data.len() == 3 && page.more);
}
