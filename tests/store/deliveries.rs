//! Deliveries: what the lanes read, how they stand, and what people do to them.

use std::time::Duration;

use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::Trigger;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, EndpointId, MessageId};
use sendoff::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use sendoff::store::queue::pending_deliveries::PendingLane;
use sendoff::store::queue::signals::Signal;
use sendoff::store::{Order, PageRequest, Store, Tenant};

use crate::home::*;
use crate::support::on_both;

on_both! {
    a_lane_reads_a_few_of_each_kind_the_longest_due_first
    a_messages_deliveries_are_read_in_pages
    every_lane_with_something_pending_is_found
    a_resend_sends_a_delivery_in_any_state
    a_resend_needs_a_message_and_an_endpoint_of_the_tenants
    deliveries_of_deleted_endpoints_end_a_few_at_a_time
    people_see_how_things_stand
}

async fn a_lane_reads_a_few_of_each_kind_the_longest_due_first(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let (one, two) = (endpoint(store, app.id, endpoint_spec()).await, endpoint(store, app.id, endpoint_spec()).await);
    for n in 0..6 {
        let mut message = item(app.id);
        message.at = later(10 - n);
        offer(store, message).await.unwrap();
    }
    // Half of the first lane's have failed once; the one that came last is due again first.
    let fresh = waiting(store, one.id).await;
    let failed = |n: usize, due| finished(app.id, &fresh[n], answered(500), retry(due, 1));
    store.record(vec![failed(0, 300), failed(1, 200), failed(2, 100)]).await.unwrap();

    let wants = async |endpoint, fresh, retries| wants(store, endpoint, fresh, retries).await;
    let nobody = wants(EndpointId::new(NOW), 9, 9).await;
    let read = store.pending_deliveries(&[wants(one.id, 2, 2).await, wants(two.id, 1, 5).await, nobody]).await;
    let read = read.unwrap();
    let of = |id| read.iter().filter(|w| w.endpoint_id == id).copied().collect::<Vec<_>>();
    assert_eq!(
        states(&of(one.id)),
        [
            (DeliveryState::Fresh, later(8)),
            (DeliveryState::Fresh, later(9)),
            (DeliveryState::Retry, later(100)),
            (DeliveryState::Retry, later(200))
        ]
    );
    assert_eq!(of(one.id)[2].progress, progress(1, 1, 0, Trigger::Scheduled));
    assert_eq!(states(&of(two.id)), [(DeliveryState::Fresh, later(5))]);
    let read = store.pending_deliveries(&[wants(two.id, 3, 0).await, wants(one.id, 1, 3).await]).await.unwrap();
    let kinds = |id, state| read.iter().filter(|one| (one.endpoint_id, one.state) == (id, state)).count();
    assert_eq!(
        (kinds(two.id, DeliveryState::Fresh), kinds(one.id, DeliveryState::Fresh), kinds(one.id, DeliveryState::Retry)),
        (3, 1, 3)
    );
    assert!(store.pending_deliveries(&[]).await.unwrap().is_empty());
    assert!(store.pending_deliveries(&[wants(one.id, 0, 0).await]).await.unwrap().is_empty());
    let messages: Vec<MessageId> = of(one.id).iter().map(|one| one.message_id).collect();
    let mut loaded: Vec<MessageId> =
        store.load_messages(&messages).await.unwrap().iter().map(|message| message.id).collect();
    loaded.sort_unstable_by_key(|id| messages.iter().position(|one| one == id));
    assert_eq!(loaded, messages);
    assert!(store.load_messages(&[]).await.unwrap().is_empty());
    // Within a budget: the first ones in the order asked, one in any case, and never more bytes than that.
    let sizes: Vec<usize> = {
        let all = store.load_messages(&messages).await.unwrap();
        let size = |id| all.iter().find(|message| message.id == id).unwrap().size();
        messages.iter().map(|id| size(*id)).collect()
    };
    for (most, expected) in [(0, 1), (sizes[0] + sizes[1], 2), (sizes[0] + sizes[1] + sizes[2] - 1, 2), (1 << 20, 4)] {
        let some = store.load_messages_within(&messages, most).await.unwrap();
        let bytes: usize = some.iter().map(|message| message.size()).sum();
        assert_eq!(some.len(), expected, "within {most}");
        assert!(bytes <= most.max(sizes[0]), "{bytes} bytes within {most}");
        assert!(some.iter().all(|message| messages[..expected].contains(&message.id)));
    }
    assert!(store.load_messages_within(&[], 1).await.unwrap().is_empty());
}

async fn a_messages_deliveries_are_read_in_pages(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    for _ in 0..Store::DELIVERIES_SHOWN + 3 {
        endpoint(store, app.id, endpoint_spec()).await;
    }
    let message = accept(store, app.id).await.id;
    let shown = store.deliveries_of(&tenant(), app.id, message).await.unwrap();
    assert_eq!((shown.data.len(), shown.more), (Store::DELIVERIES_SHOWN, true));
    let after = shown.data.last().map(|view| view.endpoint_id);
    let next = PageRequest { after, ..PageRequest::first(10, Order::Ascending) };
    let rest = store.page_of_deliveries(&tenant(), app.id, message, &next).await.unwrap();
    assert_eq!((rest.data.len(), rest.more), (3, false));
    let back = PageRequest { after: Some(rest.data[0].endpoint_id), back: true, ..next };
    let before = store.page_of_deliveries(&tenant(), app.id, message, &back).await.unwrap();
    assert_eq!((before.data.len(), before.more), (10, true));
    assert_eq!(before.data, shown.data[Store::DELIVERIES_SHOWN - 10..]);
    assert!(store.deliveries_of(&stranger(), app.id, message).await.unwrap().data.is_empty());
}

async fn every_lane_with_something_pending_is_found(home: Home) {
    let store = &home.store;
    assert_eq!(pending_lanes(store).await, []);
    let app = application(store, "acme").await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(endpoint(store, app.id, endpoint_spec()).await.id);
    }
    for _ in 0..3 {
        accept(store, app.id).await;
    }
    assert_eq!(store.pending_count(1_000).await.unwrap(), 90);
    assert_eq!(store.pending_count(50).await.unwrap(), 50);
    // The first lane is through, the second has only a retry left.
    for (n, id) in ids[..2].iter().enumerate() {
        let next = |k| if n == 1 && k == 0 { retry(77, 1) } else { Transition::Delivered };
        let all = waiting(store, *id).await;
        let done = all.iter().enumerate().map(|(k, w)| finished(app.id, w, answered(200), next(k))).collect::<Vec<_>>();
        store.record(done).await.unwrap();
    }
    let lanes = pending_lanes(store).await;
    // The first 64 endpoints of an application share its first slot.
    let slot = app.id.0.as_bytes()[15];
    let lane = |endpoint, fresh_due, retry_due| PendingLane { endpoint, slot, fresh_due, retry_due };
    let fresh = |endpoint: &EndpointId| lane(*endpoint, Some(NOW), None);
    let mut expected: Vec<PendingLane> = ids[2..].iter().map(fresh).collect();
    expected.push(lane(ids[1], None, Some(later(77))));
    expected.sort_unstable_by_key(|lane| lane.endpoint);
    assert_eq!(lanes, expected);

    // In pages, going on after the last of each slot; and of no other slot.
    let mut after = EndpointId(uuid::Uuid::nil());
    let mut paged = Vec::new();
    while let [.., last] = store.pending_lanes(&[(slot, after)], 7).await.unwrap()[..] {
        paged.extend(store.pending_lanes(&[(slot, after)], 7).await.unwrap());
        after = last.endpoint;
    }
    assert_eq!(paged, expected);
    let others: Vec<(u8, EndpointId)> =
        (0..=255).filter(|other| *other != slot).map(|slot| (slot, EndpointId(uuid::Uuid::nil()))).collect();
    assert_eq!(store.pending_lanes(&others, 100).await.unwrap(), []);
}

async fn a_resend_sends_a_delivery_in_any_state(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let mut signals = store.signals().listen().unwrap();
    let message = accept(store, app.id).await.id;
    assert!(matches!(signals.recv().await.map(Signal::from), Some(Signal::Accepted(_))));
    let resend = async |at| store.resend(&tenant(), app.id, (message, made.id), at).await.unwrap();
    let mut generation = 0;
    for (round, ended) in
        [Transition::Delivered, Transition::Dead(DeadReason::Exhausted), retry(500, 3)].into_iter().enumerate()
    {
        let one = only_waiting(store, made.id).await;
        let status = if ended == Transition::Delivered { 200 } else { 500 };
        store.record(vec![finished(app.id, &one, answered(status), ended)]).await.unwrap();
        assert!(resend(later(10)).await);
        assert!(matches!(signals.recv().await.map(Signal::from), Some(Signal::Look(ids)) if ids == [made.id]));
        generation += 1;
        let again = only_waiting(store, made.id).await;
        assert_eq!((again.state, again.due_at), (DeliveryState::Fresh, later(10)));
        assert_eq!(
            again.progress,
            progress(round as i32 + 1, 0, generation, Trigger::Manual),
            "numbered on, a fresh schedule"
        );
        assert_eq!(delivery(store, app.id, message, made.id).await.reason, None);
    }
    assert!(resend(later(20)).await, "also while it is pending");
    assert_eq!(only_waiting(store, made.id).await.progress.generation, generation + 1);

    let never = endpoint(store, app.id, EndpointSpec { channels: Some(strings(&["x"])), ..endpoint_spec() }).await;
    assert!(store.resend(&tenant(), app.id, (message, never.id), NOW).await.unwrap(), "also where it never went");
    assert_eq!(only_waiting(store, never.id).await.progress, progress(0, 0, 0, Trigger::Manual));
}

async fn a_resend_needs_a_message_and_an_endpoint_of_the_tenants(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let (sister, sisters) = customer(store, "sister").await;
    let message = accept(store, app.id).await.id;
    let only_sister = Tenant { only: Some(sister.id), ..tenant() };
    for (who, of, message, to) in [
        (stranger(), app.id, message, made.id),
        (only_sister, app.id, message, made.id),
        (tenant(), sister.id, message, made.id),
        (tenant(), sister.id, message, sisters.id),
        (tenant(), app.id, message, sisters.id),
        (tenant(), app.id, MessageId::new(NOW), made.id),
        (tenant(), AppId::new(NOW), message, made.id),
    ] {
        assert!(!store.resend(&who, of, (message, to), NOW).await.unwrap());
    }
    store.delete_endpoint(&tenant(), app.id, made.id, NOW).await.unwrap();
    assert!(!store.resend(&tenant(), app.id, (message, made.id), NOW).await.unwrap(), "nobody is there any more");
    assert_eq!(home.number("SELECT count(*) FROM delivery WHERE generation > 0").await, 0);
}

async fn deliveries_of_deleted_endpoints_end_a_few_at_a_time(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let (gone, kept) = (endpoint(store, app.id, endpoint_spec()).await, endpoint(store, app.id, endpoint_spec()).await);
    for _ in 0..10 {
        accept(store, app.id).await;
    }
    let done = waiting(store, gone.id).await[0];
    store.record(vec![finished(app.id, &done, answered(200), Transition::Delivered)]).await.unwrap();
    assert_eq!(store.cancel_pending_of_deleted(4, NOW).await.unwrap(), 0);
    store.delete_endpoint(&tenant(), app.id, gone.id, NOW).await.unwrap();
    let mut steps = Vec::new();
    while steps.last() != Some(&0) {
        steps.push(store.cancel_pending_of_deleted(4, later(1)).await.unwrap());
    }
    assert_eq!(steps, [4, 4, 1, 0]);
    assert!(waiting(store, gone.id).await.is_empty());
    assert_eq!(waiting(store, kept.id).await.len(), 10);
    let filter = DeliveryFilter { status: Some(DeliveryStatusFilter::Dead), ..DeliveryFilter::default() };
    let dead = store.list_deliveries(&tenant(), &filter, None, 100).await.unwrap().data;
    assert!(dead.len() == 9 && dead.iter().all(|one| one.reason == Some(DeadReason::EndpointDeleted)));
    let view = delivery(store, app.id, done.message_id, gone.id).await;
    assert_eq!((view.state, view.endpoint_deleted), (DeliveryState::Delivered, true), "what was delivered stays so");

    // A transaction that had begun before the deletion brings one more.
    let message = dead[0].message_id.0.simple();
    home.execute(
        &home
            .either(
                &format!("UPDATE delivery SET state = 0 WHERE message_id = unhex('{message}')"),
                &format!("UPDATE delivery SET state = 0 WHERE message_id = '{message}'"),
            )
            .replace(';', ""),
    )
    .await;
    let late = store.cancel_pending_of_deleted(4, later(2)).await.unwrap();
    assert_eq!(late, 1);
    assert_eq!(store.cancel_pending_of_deleted(4, later(600)).await.unwrap(), 0);
    assert_eq!(home.number("SELECT count(*) FROM endpoint WHERE pending_cleanup = 1").await, 0, "no longer looked at");
}

async fn people_see_how_things_stand(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let spec = EndpointSpec { description: "main".into(), disabled: false, ..endpoint_spec() };
    let made = endpoint(store, app.id, spec).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(accept(store, app.id).await.id);
    }
    let all = waiting(store, made.id).await;
    let of = |n: usize| all.iter().find(|one| one.message_id == ids[n]).unwrap();
    let dead = |n, reason| finished(app.id, of(n), answered(500), Transition::Dead(reason));
    store
        .record(vec![
            dead(0, DeadReason::Exhausted),
            dead(1, DeadReason::Gone),
            finished(app.id, of(2), answered(500), retry(60, 1)),
            finished(app.id, of(3), answered(500), retry(30, 1)),
        ])
        .await
        .unwrap();
    let view = delivery(store, app.id, ids[1], made.id).await;
    assert_eq!((view.state, view.attempts, view.reason), (DeliveryState::Dead, 1, Some(DeadReason::Gone)));
    assert_eq!((view.url.as_str(), view.endpoint_description.as_str()), ("https://example.com/hook", "main"));
    assert!(!view.endpoint_disabled && !view.endpoint_deleted);

    let oldest = store.oldest_due(&tenant(), later(60)).await.unwrap().unwrap();
    assert_eq!(oldest.message_id, ids[4], "the fresh one has been due since it was accepted");
    let before = oldest.due_at.minus(Duration::from_micros(1));
    assert_eq!(store.oldest_due(&tenant(), before).await.unwrap(), None, "nothing is due yet");
    assert_eq!(store.oldest_due(&stranger(), later(60)).await.unwrap(), None);
    assert_eq!(store.count_in_state(&tenant(), DeliveryState::Dead, 100).await.unwrap(), 2);
    assert_eq!(store.count_in_state(&tenant(), DeliveryState::Retry, 1).await.unwrap(), 1);

    let only_other = Tenant { only: Some(AppId::new(NOW)), ..tenant() };
    assert!(store.deliveries_of(&only_other, app.id, ids[1]).await.unwrap().data.is_empty());
    assert!(store.deliveries_of(&stranger(), app.id, ids[1]).await.unwrap().data.is_empty());
    assert_eq!(store.count_in_state(&stranger(), DeliveryState::Dead, 9).await.unwrap(), 0);
    store.delete_application(&tenant(), app.id, later(90)).await.unwrap();
    assert_eq!(
        store.count_in_state(&tenant(), DeliveryState::Dead, 9).await.unwrap(),
        0,
        "what no list shows does not count"
    );
    assert_eq!(store.count_in_state(&tenant(), DeliveryState::Retry, 9).await.unwrap(), 0);
}
