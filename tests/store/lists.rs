//! The lists of deliveries and messages: what each filter leaves, alone and with others; pages that show each row once; searches that
//! stop and go on; what is canceled.

use std::time::Duration;

use sendoff::domain::TimeRange;
use sendoff::domain::deliveries::attempt::{Failure, Outcome};
use sendoff::domain::deliveries::background::{TaskKind, TaskScope, TaskStage};
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::{AppId, AttemptId, EndpointId, MessageId};
use sendoff::store::query::delivery_list::{DeliveryFilter, DeliveryStatusFilter};
use sendoff::store::query::endpoint_messages::EndpointMessageFilter;
use sendoff::store::query::message_list::MessageSearch;
use sendoff::store::query::page::SCAN;
use sendoff::store::query::search_terms::SearchTarget;
use sendoff::store::queue::signals::Signal;
use sendoff::store::recording::record::{FinishedAttempt, RecordOutcome};
use sendoff::store::{EndpointRef, Store, Tenant};

use crate::background::{begin_at, settle, work_off};
use crate::endpoint_messages::many;
use crate::home::*;
use crate::support::on_both;

/// Two applications: `acme` with two endpoints, `globex` with one.
pub struct Customers {
    pub acme: AppId,
    globex: AppId,
    one: EndpointId,
    pub two: EndpointId,
    three: EndpointId,
    /// 0 to 3 are acme's, a second apart; 4 is globex's.
    pub ids: Vec<MessageId>,
}

/// At acme's first endpoint: delivered, retrying, dead, fresh. At its second: dead, canceled, delivered, retrying after no answer.
/// At globex's: fresh.
pub async fn two_customers(store: &Store) -> Customers {
    let (acme, one) = customer(store, "acme").await;
    let mut spec = endpoint_spec();
    spec.uid = Some(uid("second"));
    let two = endpoint(store, acme.id, spec).await;
    let (globex, three) = customer(store, "globex").await;
    let mut ids = Vec::new();
    for (n, event_type) in ["a", "b", "a", "c", "a"].into_iter().enumerate() {
        let mut message = item(if n < 4 { acme.id } else { globex.id });
        message.at = later(n as u64);
        message.spec.event_type = event_type.into();
        message.spec.event_id = Some(uid(&format!("evt-{n}")));
        message.spec.payload = format!("{{\"n\": {n}, \"word\": \"Zürich\"}}").into();
        ids.push(offer(store, message).await.unwrap().id);
    }
    let silent = Outcome::failed(Failure::Timeout, "", Duration::ZERO);
    let (first, second) = (waiting(store, one.id).await, waiting(store, two.id).await);
    let of = |all: &[sendoff::store::queue::pending_deliveries::PendingDelivery], n: usize| {
        *all.iter().find(|w| w.message_id == ids[n]).unwrap()
    };
    let dead = Transition::Dead(DeadReason::Exhausted);
    let done = vec![
        finished(acme.id, &of(&first, 0), answered(204), Transition::Delivered),
        finished(acme.id, &of(&first, 1), answered(503), retry(60, 1)),
        finished(acme.id, &of(&first, 2), answered(404), dead),
        finished(acme.id, &of(&second, 0), answered(500), dead),
        finished(acme.id, &of(&second, 2), answered(200), Transition::Delivered),
        finished(acme.id, &of(&second, 3), silent, retry(90, 1)),
    ];
    store.record(done).await.unwrap();
    assert!(store.cancel(&tenant(), acme.id, (ids[1], two.id), later(9)).await.unwrap());
    Customers { acme: acme.id, globex: globex.id, one: one.id, two: two.id, three: three.id, ids }
}

pub fn all() -> DeliveryFilter {
    DeliveryFilter::default()
}

pub fn with(status: DeliveryStatusFilter) -> DeliveryFilter {
    DeliveryFilter { status: Some(status), ..all() }
}

/// A list, as number of message and of endpoint; read by pages of two.
async fn listed(store: &Store, of: &Customers, who: &Tenant, filter: &DeliveryFilter) -> Vec<(usize, usize)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_deliveries(who, filter, after, 2).await.unwrap();
        for row in &page.data {
            let endpoint = [of.one, of.two, of.three].iter().position(|id| *id == row.endpoint_id).unwrap();
            found.push((of.ids.iter().position(|id| *id == row.message_id).unwrap(), endpoint + 1));
            after = Some((row.message_id, row.endpoint_id));
        }
        assert!(page.stopped.is_none());
        if !page.more {
            return found;
        }
    }
}

on_both! {
    each_filter_of_deliveries_leaves_its_own_and_they_combine
    a_row_says_how_it_stands
    lists_show_nothing_of_others
    each_filter_of_messages_leaves_its_own
    search_terms_match_every_name
    a_search_stops_and_goes_on
    a_search_for_a_text_stops_after_so_many_bytes
    canceled_deliveries_are_not_sent_and_can_be_resent
    the_newest_of_two_attempts_with_one_number_is_the_last
    the_newest_attempts_at_an_endpoint_are_its_tenants
    a_replayed_delivery_counts_as_failed_only_after_a_failure
}

async fn each_filter_of_deliveries_leaves_its_own_and_they_combine(home: Home) {
    use DeliveryStatusFilter::{Canceled, Dead, Delivered, Failed, Pending, Retrying};
    let (store, of) = (&home.store, two_customers(&home.store).await);
    let list = async |filter: DeliveryFilter| listed(store, &of, &tenant(), &filter).await;
    let everything = [(4, 3), (3, 2), (3, 1), (2, 2), (2, 1), (1, 2), (1, 1), (0, 2), (0, 1)];
    assert_eq!(list(all()).await, everything);
    for (status, wanted) in [
        (Pending, &[(4, 3), (3, 1)][..]),
        (Retrying, &[(3, 2), (1, 1)]),
        (Delivered, &[(2, 2), (0, 1)]),
        (Dead, &[(2, 1), (0, 2)]),
        (Failed, &[(3, 2), (2, 1), (1, 1), (0, 2)]),
        (Canceled, &[(1, 2)]),
    ] {
        assert_eq!(list(with(status)).await, wanted, "{status:?}");
        let acme = DeliveryFilter { app: Some(of.acme), ..with(status) };
        let wanted_of_acme: Vec<_> = wanted.iter().copied().filter(|(message, _)| *message < 4).collect();
        assert_eq!(list(acme).await, wanted_of_acme, "{status:?} of one application");
        let two = DeliveryFilter { endpoint: Some(of.two), ..with(status) };
        let wanted_of_two: Vec<_> = wanted.iter().copied().filter(|(_, endpoint)| *endpoint == 2).collect();
        assert_eq!(list(two).await, wanted_of_two, "{status:?} of one endpoint");
    }
    assert_eq!(list(DeliveryFilter { app: Some(of.globex), ..all() }).await, [(4, 3)]);
    assert_eq!(list(DeliveryFilter { endpoint: Some(of.two), ..all() }).await, [(3, 2), (2, 2), (1, 2), (0, 2)]);
    assert_eq!(list(DeliveryFilter { app: Some(of.globex), endpoint: Some(of.two), ..all() }).await, []);
    assert_eq!(
        list(DeliveryFilter { event_types: strings(&["b", "c"]), ..all() }).await,
        everything[1..3].iter().chain(&everything[5..7]).copied().collect::<Vec<_>>()
    );
    for (class, wanted) in
        [(200, &[(2, 2), (0, 1)][..]), (300, &[]), (400, &[(2, 1)]), (500, &[(1, 1), (0, 2)]), (0, &[(3, 2)])]
    {
        assert_eq!(list(DeliveryFilter { class: Some(class), ..all() }).await, wanted, "{class}");
    }
    assert_eq!(list(DeliveryFilter { accepted: span(1, 3), ..all() }).await, everything[3..7]);
    assert_eq!(
        list(DeliveryFilter { messages: Some(vec![of.ids[0], of.ids[4]]), ..all() }).await,
        [(4, 3), (0, 2), (0, 1)]
    );
    assert_eq!(list(DeliveryFilter { messages: Some(vec![]), ..all() }).await, []);
    let text = |text: &str| DeliveryFilter { text: Some(text.into()), ..all() };
    assert_eq!(list(text("\"n\": 2,")).await, [(2, 2), (2, 1)]);
    assert_eq!(list(text("zürich")).await, [], "byte by byte");
    assert_eq!(list(text("%")).await, []);
    let both =
        DeliveryFilter { status: Some(Failed), class: Some(500), event_types: strings(&["a"]), ..text("Zürich") };
    assert_eq!(list(both.clone()).await, [(0, 2)]);
    assert_eq!(
        list(DeliveryFilter { accepted: TimeRange { since: later(1), ..TimeRange::default() }, ..both }).await,
        []
    );
}

async fn a_row_says_how_it_stands(home: Home) {
    let (store, of) = (&home.store, two_customers(&home.store).await);
    let page = store.list_deliveries(&tenant(), &all(), None, 50).await.unwrap();
    let row = &page.data[1];
    assert_eq!((row.state, row.attempts, row.due_at, row.accepted_at), (DeliveryState::Retry, 1, later(90), later(3)));
    let last = row.last.clone().unwrap();
    assert_eq!((last.status, last.failure), (None, Some(Failure::Timeout)));
    assert_eq!((&*row.event_type, &*row.app_name, row.sendable), ("c", "acme", true));
    assert_eq!((page.data[0].last.as_ref(), page.data[5].reason), (None, Some(DeadReason::Canceled)));
    store.delete_content(&tenant(), of.acme, of.ids[2], NOW).await.unwrap();
    let filter = DeliveryFilter { messages: Some(vec![of.ids[2]]), ..all() };
    assert!(!store.list_deliveries(&tenant(), &filter, None, 1).await.unwrap().data[0].sendable);
}

async fn lists_show_nothing_of_others(home: Home) {
    let (store, of) = (&home.store, two_customers(&home.store).await);
    let only = Tenant { only: Some(of.globex), ..tenant() };
    for filter in [all(), with(DeliveryStatusFilter::Pending), DeliveryFilter { text: Some("word".into()), ..all() }] {
        assert_eq!(listed(store, &of, &only, &filter).await, [(4, 3)]);
        assert_eq!(listed(store, &of, &stranger(), &filter).await, []);
        for hidden in [
            DeliveryFilter { app: Some(of.acme), ..filter.clone() },
            DeliveryFilter { endpoint: Some(of.one), ..filter.clone() },
            DeliveryFilter { messages: Some(vec![of.ids[0]]), ..filter.clone() },
        ] {
            assert_eq!(listed(store, &of, &only, &hidden).await, []);
        }
    }
    let search = MessageSearch::default();
    let ids = async |who: &Tenant| {
        let page = store.list_messages(who, &search, None, 50).await.unwrap();
        page.data.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&only).await, [of.ids[4]]);
    assert_eq!(ids(&stranger()).await, []);
    for text in ["evt-0", &of.ids[0].to_string(), "second", "acme", &of.one.to_string(), &of.acme.to_string()] {
        for who in [&only, &stranger()] {
            assert_eq!(
                store.resolve_search_term(who, None, text).await.unwrap(),
                SearchTarget::Text(text.into()),
                "{text}"
            );
        }
    }
    store.delete_application(&tenant(), of.acme, NOW).await.unwrap();
    assert_eq!(listed(store, &of, &tenant(), &all()).await, [(4, 3)]);
}

async fn each_filter_of_messages_leaves_its_own(home: Home) {
    let (store, of) = (&home.store, two_customers(&home.store).await);
    let list = async |search: MessageSearch| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list_messages(&tenant(), &search, after, 2).await.unwrap();
            found.extend(page.data.iter().map(|row| of.ids.iter().position(|id| *id == row.id).unwrap()));
            after = page.data.last().map(|row| row.id);
            if !page.more {
                return found;
            }
        }
    };
    let all = MessageSearch::default;
    assert_eq!(list(all()).await, [4, 3, 2, 1, 0]);
    assert_eq!(list(MessageSearch { app: Some(of.acme), ..all() }).await, [3, 2, 1, 0]);
    assert_eq!(list(MessageSearch { event_types: strings(&["b", "c"]), ..all() }).await, [3, 1]);
    assert_eq!(list(MessageSearch { accepted: span(1, 3), ..all() }).await, [2, 1]);
    assert_eq!(list(MessageSearch { messages: Some(vec![of.ids[1]]), ..all() }).await, [1]);
    assert_eq!(list(MessageSearch { text: Some("\"n\": 3".into()), ..all() }).await, [3]);
    assert_eq!(list(MessageSearch { text: Some("Zürich".into()), app: Some(of.globex), ..all() }).await, [4]);
    let row = store.list_messages(&tenant(), &all(), None, 5).await.unwrap().data.remove(3);
    assert_eq!((row.event_id.as_deref(), row.size, &*row.app_name), (Some("evt-1"), Some(27), "acme"));
    assert_eq!((row.standings.pending, row.standings.canceled, row.standings.delivered), (1, 1, 0));
}

async fn search_terms_match_every_name(home: Home) {
    let (store, of) = (&home.store, two_customers(&home.store).await);
    let sought = async |app, text: &str| store.resolve_search_term(&tenant(), app, text).await.unwrap();
    let message = SearchTarget::Messages(vec![of.ids[1]]);
    assert_eq!(sought(None, &of.ids[1].to_string()).await, message);
    assert_eq!(sought(None, "evt-1").await, message);
    assert_eq!(sought(Some(of.acme), "evt-1").await, message);
    assert_eq!(sought(Some(of.globex), "evt-1").await, SearchTarget::Text("evt-1".into()));
    assert_eq!(sought(None, "globex").await, SearchTarget::Application(of.globex));
    assert_eq!(sought(None, &of.two.to_string()).await, SearchTarget::Endpoint(of.two));
    assert_eq!(sought(None, "second").await, SearchTarget::Endpoint(of.two));
    let page = store.list_deliveries(&tenant(), &with(DeliveryStatusFilter::Dead), None, 1).await.unwrap();
    let attempt = page.data[0].last.clone().unwrap().id;
    assert_eq!(sought(None, &attempt.to_string()).await, SearchTarget::Messages(vec![of.ids[2]]));
    for text in ["nothing", "a b", "", "msg_", &AttemptId::new(NOW).to_string()] {
        assert_eq!(sought(None, text).await, SearchTarget::Text(text.into()));
    }
    let second = EndpointRef::parse("second").unwrap();
    assert_eq!(store.endpoints_named(&tenant(), &second).await.unwrap(), [of.two]);
    assert_eq!(store.endpoints_named(&stranger(), &second).await.unwrap(), []);
}

/// What a filter costs that nothing matches does not grow with the list; who goes on from where a page stopped misses nothing.
async fn a_search_stops_and_goes_on(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let rare = many(&home, app.id, made.id, SCAN + 2_500).await;
    let rare_only = DeliveryFilter { event_types: strings(&["rare"]), ..all() };
    for filter in [
        rare_only.clone(),
        DeliveryFilter { app: Some(app.id), ..rare_only.clone() },
        DeliveryFilter { endpoint: Some(made.id), ..rare_only.clone() },
        DeliveryFilter { status: Some(DeliveryStatusFilter::Delivered), ..rare_only },
    ] {
        let (mut after, mut stops) = (None, 0);
        let found = loop {
            let page = store.list_deliveries(&tenant(), &filter, after, 5).await.unwrap();
            match page.stopped {
                Some(stopped) if page.data.is_empty() => (after, stops) = (Some(stopped), stops + 1),
                _ => break page,
            }
        };
        assert_eq!((found.data.len(), found.data[0].message_id, found.more), (1, rare, false), "{filter:?}");
        assert!((1..=5).contains(&stops), "{stops} {filter:?}");
    }
    // What is few is found however old it is.
    let message = rare.0.simple();
    let row = home.either("unhex('ID')", "'ID'").replace("ID", &message.to_string());
    for (state, status) in
        [(0, DeliveryStatusFilter::Pending), (1, DeliveryStatusFilter::Retrying), (3, DeliveryStatusFilter::Dead)]
    {
        home.execute(&format!("UPDATE delivery SET state = {state}, attempts = 1 WHERE message_id = {row}")).await;
        for filter in [with(status), DeliveryFilter { app: Some(app.id), ..with(status) }] {
            let page = store.list_deliveries(&tenant(), &filter, None, 5).await.unwrap();
            assert_eq!((page.data.len(), page.more), (1, false), "{filter:?}");
        }
    }
    let rare_only = MessageSearch { event_types: strings(&["rare"]), ..MessageSearch::default() };
    let one = store.list_messages(&tenant(), &rare_only, None, 5).await.unwrap();
    assert!(one.data.is_empty() && one.more && one.stopped.is_some());
    let two = store.list_messages(&tenant(), &rare_only, one.stopped, 5).await.unwrap();
    assert_eq!((two.data.len(), two.data[0].id, two.more), (1, rare, false));
}

/// Payloads are looked at up to a number of bytes, whichever list asks.
async fn a_search_for_a_text_stops_after_so_many_bytes(home: Home) {
    let (store, (app, _)) = (&home.store, customer(&home.store, "acme").await);
    let mut ids = Vec::new();
    for n in 0..3u64 {
        let mut one = item(app.id);
        (one.at, one.spec.payload) = (later(n), "{\"word\": 1}".into());
        ids.push(offer(store, one).await.unwrap().id);
    }
    let large = home.either("zeroblob(17000000)", "decode(repeat('00', 17000000), 'hex')");
    home.execute(&format!("UPDATE message SET payload = {large} WHERE accepted_at > {}", NOW.micros())).await;
    let filter = DeliveryFilter { text: Some("word".into()), ..all() };
    let one = store.list_deliveries(&tenant(), &filter, None, 5).await.unwrap();
    assert_eq!((one.data.len(), one.stopped.map(|stopped| stopped.0)), (0, Some(ids[1])));
    let two = store.list_deliveries(&tenant(), &filter, one.stopped, 5).await.unwrap();
    assert_eq!((two.data.len(), two.more), (1, false));
    let search = MessageSearch { text: Some("word".into()), ..MessageSearch::default() };
    let one = store.list_messages(&tenant(), &search, None, 5).await.unwrap();
    assert_eq!((one.data.len(), one.stopped), (0, Some(ids[1])));
    assert_eq!(store.list_messages(&tenant(), &search, one.stopped, 5).await.unwrap().data.len(), 1);
}

async fn canceled_deliveries_are_not_sent_and_can_be_resent(home: Home) {
    let (store, (app, made)) = (&home.store, customer(&home.store, "acme").await);
    let message = accept(store, app.id).await.id;
    let in_flight = only_waiting(store, made.id).await;
    let mut signals = store.signals().listen().unwrap();
    for (who, of, message, to) in [
        (stranger(), app.id, message, made.id),
        (Tenant { only: Some(AppId::new(NOW)), ..tenant() }, app.id, message, made.id),
        (tenant(), AppId::new(NOW), message, made.id),
        (tenant(), app.id, MessageId::new(NOW), made.id),
        (tenant(), app.id, message, EndpointId::new(NOW)),
    ] {
        assert!(!store.cancel(&who, of, (message, to), NOW).await.unwrap());
    }
    assert_eq!(waiting(store, made.id).await.len(), 1);
    let cancel = async || store.cancel(&tenant(), app.id, (message, made.id), later(5)).await.unwrap();
    assert!(cancel().await);
    let Some(Signal::Withdrawn(ended)) = signals.recv().await.map(Signal::from) else { panic!("the engine is told") };
    assert_eq!(ended, [(made.id, message)]);
    let stands = async || {
        let view = delivery(store, app.id, message, made.id).await;
        (view.state, view.reason, view.due_at)
    };
    let canceled = (DeliveryState::Dead, Some(DeadReason::Canceled), later(5));
    assert_eq!(stands().await, canceled);
    assert!(!cancel().await, "it does not wait any more");

    // What was in flight is recorded and changes nothing.
    let done = store.record(vec![finished(app.id, &in_flight, answered(500), retry(60, 1))]).await.unwrap();
    assert_eq!((done, stands().await), (vec![RecordOutcome::Superseded], canceled));
    assert_eq!(home.number("SELECT count(*) FROM attempt").await, 1);

    assert!(store.resend(&tenant(), app.id, (message, made.id), later(9)).await.unwrap());
    let again = only_waiting(store, made.id).await;
    let failed = store.record(vec![finished(app.id, &again, answered(500), retry(60, 1))]).await.unwrap();
    assert!(failed.len() == 1 && cancel().await, "a retry is canceled just so");
    assert_eq!(stands().await, canceled);
}

/// Who lost the slot and who got it have both sent it, and counted alike.
async fn the_newest_of_two_attempts_with_one_number_is_the_last(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let message = accept(store, app.id).await.id;
    let one = only_waiting(store, made.id).await;
    let lost = FinishedAttempt { epoch: -1, ..finished(app.id, &one, answered(500), retry(60, 1)) };
    let got = finished(app.id, &one, answered(200), Transition::Delivered);
    let newest = got.attempt.id;
    assert_eq!(store.record(vec![got]).await.unwrap(), [RecordOutcome::Applied]);
    assert_eq!(store.record(vec![lost]).await.unwrap(), [RecordOutcome::Fenced]);
    let of_class = async |class| {
        let filter = DeliveryFilter { class: Some(class), ..DeliveryFilter::default() };
        let listed = store.list_deliveries(&tenant(), &filter, None, 9).await.unwrap().data;
        listed.into_iter().map(|one| (one.message_id, one.last.map(|last| last.id))).collect::<Vec<_>>()
    };
    assert_eq!(of_class(500).await, []);
    assert_eq!(of_class(200).await, [(message, Some(newest))]);
    let filter = EndpointMessageFilter { status_class: Some(500), ..EndpointMessageFilter::default() };
    let sent = store.endpoint_messages(&tenant(), app.id, made.id, &filter, &first()).await.unwrap();
    assert!(sent.data.is_empty(), "{sent:?}");
}

async fn the_newest_attempts_at_an_endpoint_are_its_tenants(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let (other, _) = customer(store, "other").await;
    for (status, next) in [(500, Transition::Dead(DeadReason::Exhausted)), (200, Transition::Delivered)] {
        accept(store, app.id).await;
        settle(store, app.id, made.id, answered(status), next).await;
    }
    let newest = async |who: &Tenant, app, limit| {
        let lines = store.newest_attempts_to(who, app, made.id, false, limit).await.unwrap();
        lines.into_iter().map(|line| line.status).collect::<Vec<_>>()
    };
    assert_eq!(newest(&tenant(), app.id, 9).await, [Some(200), Some(500)]);
    assert_eq!(newest(&tenant(), app.id, 1).await, [Some(200)]);
    assert_eq!(newest(&stranger(), app.id, 9).await, []);
    assert_eq!(newest(&tenant(), other.id, 9).await, []);
}

async fn a_replayed_delivery_counts_as_failed_only_after_a_failure(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    for next in [Transition::Delivered, Transition::Dead(DeadReason::Exhausted)] {
        accept(store, app.id).await;
        settle(store, app.id, made.id, answered(if next == Transition::Delivered { 200 } else { 500 }), next).await;
    }
    let scope = TaskScope::Endpoint(app.id, made.id);
    begin_at(store, scope, TaskKind::BulkReplay, EndpointMessageFilter::default()).await;
    assert_eq!(work_off(store).await, (1, TaskStage::Finished));
    let listed = async |status| {
        let filter = DeliveryFilter { status: Some(status), ..DeliveryFilter::default() };
        let listed = store.list_deliveries(&tenant(), &filter, None, 9).await.unwrap().data;
        listed.into_iter().map(|one| one.last.and_then(|last| last.status)).collect::<Vec<_>>()
    };
    assert_eq!(listed(DeliveryStatusFilter::Retrying).await, [Some(500), Some(200)]);
    assert_eq!(listed(DeliveryStatusFilter::Failed).await, [Some(500)]);
}
