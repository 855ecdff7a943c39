//! Polling endpoints: what they are, where their consumers stand, and what opens them.

use std::time::Duration;

use sendoff::domain::access::api_key;
use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::domain::catalog::polling::{PollingEndpoint, PollingEndpointSpec, PollingToken, token_text};
use sendoff::domain::feed::{FeedFilter, FeedIterator, Position};
use sendoff::domain::{AppId, OrgId, Time, limits};
use sendoff::store::catalog::change::UpdateResult;
use sendoff::store::feed::consumers::ConsumerPosition;
use sendoff::store::{Order, PageRequest, PollingEndpointRef, Store, StoreError, Tenant};

use crate::home::*;
use crate::support::on_both;

async fn polled(store: &Store, app: AppId, name: &str) -> PollingEndpoint {
    let spec = PollingEndpointSpec { uid: Some(uid(name)), ..PollingEndpointSpec::default() };
    store.create_polling_endpoint(&tenant(), app, spec, NOW).await.expect("a polling endpoint")
}

async fn consume(
    store: &Store,
    endpoint: &PollingEndpoint,
    name: &str,
    asked: Option<FeedIterator>,
    now: Time,
) -> ConsumerPosition {
    store.consume(&tenant(), endpoint, name, asked, now).await.expect("the store")
}

fn named_poller(name: &str) -> PollingEndpointRef {
    PollingEndpointRef::parse(name).expect("a name")
}

async fn add_token(store: &Store, endpoint: &PollingEndpoint, seconds: u64, overlap: u64) -> (PollingToken, [u8; 32]) {
    let (token, text) = PollingToken::make(OrgId::default_org(), endpoint, None, later(seconds));
    let hash = api_key::hash(&text);
    let overlap = Duration::from_secs(overlap);
    assert!(store.rotate_polling_token(&tenant(), endpoint, &token, &hash, overlap).await.unwrap());
    (token, hash)
}

on_both! {
    a_polling_endpoint_is_made_read_changed_listed_and_deleted
    an_application_has_so_many_polling_endpoints_and_they_so_many_consumers
    a_consumer_goes_on_from_what_it_asked_from_last
    a_consumer_that_waits_writes_nothing
    a_token_opens_one_polling_endpoint_until_it_is_rotated
}

async fn a_polling_endpoint_is_made_read_changed_listed_and_deleted(home: Home) {
    let store = &home.store.by(Actor::new(ActorKind::Command, "test"));
    let (app, other) = (application(store, "acme").await.id, application(store, "other").await.id);
    let filter = FeedFilter { event_types: None, channels: Some(strings(&["eu"])) };
    let spec = PollingEndpointSpec {
        uid: Some(uid("pull")),
        disabled: true,
        filter,
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    };
    let made = store.create_polling_endpoint(&tenant(), app, spec.clone(), NOW).await.unwrap();
    assert_eq!((&made.spec, made.app_id, made.created_at), (&spec, app, NOW));
    for name in ["pull", &made.id.to_string()] {
        let named = named_poller(name);
        assert_eq!(store.polling_endpoint(&tenant(), app, &named).await.unwrap().as_ref(), Some(&made));
        assert_eq!(store.polling_endpoint(&tenant(), other, &named).await.unwrap(), None);
        assert_eq!(store.polling_endpoint(&stranger(), app, &named).await.unwrap(), None);
    }
    let taken = store.create_polling_endpoint(&tenant(), app, spec.clone(), NOW).await;
    assert!(matches!(taken, Err(StoreError::Taken(_))), "{taken:?}");
    let foreign = store.create_polling_endpoint(&stranger(), app, PollingEndpointSpec::default(), NOW).await;
    assert!(matches!(foreign, Err(StoreError::Invalid(_))), "{foreign:?}");
    let unknown = FeedFilter { event_types: Some(strings(&["not.there"])), channels: None };
    let unknown = PollingEndpointSpec { filter: unknown, ..PollingEndpointSpec::default() };
    let refused = store.create_polling_endpoint(&tenant(), app, unknown, NOW).await;
    assert!(matches!(&refused, Err(StoreError::Invalid(wrong)) if wrong[0].field == "eventTypes"), "{refused:?}");

    let work = |before: &PollingEndpoint| Ok::<_, ()>(PollingEndpointSpec { disabled: false, ..before.spec.clone() });
    let change = async |whose: Tenant| store.update_polling_endpoint(&whose, app, made.id, work, later(1)).await;
    assert_eq!(change(stranger()).await.unwrap(), UpdateResult::NotFound);
    let UpdateResult::Updated(changed) = change(tenant()).await.unwrap() else { panic!("changed") };
    assert_eq!((changed.spec.disabled, changed.created_at, changed.updated_at), (false, NOW, later(1)));
    let refused = store.update_polling_endpoint(&tenant(), app, made.id, |_| Err("no"), NOW).await.unwrap();
    assert_eq!(refused, UpdateResult::Aborted("no"));

    let second = polled(store, app, "second").await;
    polled(store, other, "pull").await;
    let page = store.polling_endpoints(&tenant(), app, &first()).await.unwrap();
    assert_eq!((page.data, page.more), (vec![changed.clone(), second.clone()], false));
    assert!(store.polling_endpoints(&stranger(), app, &first()).await.unwrap().data.is_empty());

    consume(store, &second, "c", None, NOW).await;
    let (_, hash) = add_token(store, &second, 0, 0).await;
    assert!(!store.delete_polling_endpoint(&stranger(), &second, NOW).await.unwrap());
    assert!(store.delete_polling_endpoint(&tenant(), &second, NOW).await.unwrap());
    assert!(!store.delete_polling_endpoint(&tenant(), &second, NOW).await.unwrap());
    assert_eq!(store.polling_token_by_hash(&hash).await.unwrap(), None);
    assert_eq!(consume(store, &second, "c", None, NOW).await, ConsumerPosition::NotFound);
    let (_, hash) = add_token(store, &changed, 0, 0).await;
    assert!(store.delete_application(&tenant(), app, NOW).await.unwrap());
    assert_eq!(store.polling_token_by_hash(&hash).await.unwrap(), None, "nothing is opened by it any more");
    for table in ["polling_consumer", "polling_token"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(home.number("SELECT count(*) FROM polling_endpoint").await, 1, "the other application's");
    let acts =
        store.audit_log(&tenant(), &Default::default(), &PageRequest::first(50, Order::Descending)).await.unwrap();
    let acts: Vec<&str> =
        acts.data.iter().map(|entry| entry.act.as_str()).filter(|act| act.starts_with("polling")).collect();
    assert_eq!(acts.len(), 7, "{acts:?}");
}

async fn an_application_has_so_many_polling_endpoints_and_they_so_many_consumers(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let mut made = Vec::new();
    for number in 0..limits::POLLING_ENDPOINTS {
        made.push(polled(store, app, &format!("pull-{number}")).await);
    }
    let refused = store.create_polling_endpoint(&tenant(), app, PollingEndpointSpec::default(), NOW).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    for number in 0..limits::CONSUMERS {
        let consumed = consume(store, &made[0], &format!("c-{number:03}"), None, NOW).await;
        assert_eq!(consumed, ConsumerPosition::From(made[0].beginning()));
    }
    assert_eq!(consume(store, &made[0], "one-more", None, NOW).await, ConsumerPosition::TooMany);
    let moved = store.reset_consumer(&tenant(), &made[0], "one-more", made[0].beginning(), NOW).await.unwrap();
    assert_eq!(moved, ConsumerPosition::TooMany);
    let consumers = store.consumers(&tenant(), &made[0]).await.unwrap();
    assert_eq!((consumers.len(), &*consumers[99].name), (limits::CONSUMERS, "c-099"));
    assert!(store.consumers(&stranger(), &made[0]).await.unwrap().is_empty());
    assert_eq!(consume(store, &made[0], "c-000", None, NOW).await, ConsumerPosition::From(made[0].beginning()));
    assert_eq!(consume(store, &made[1], "one-more", None, NOW).await, ConsumerPosition::From(made[1].beginning()));
}

async fn a_consumer_goes_on_from_what_it_asked_from_last(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app, "pull").await;
    let at = |seconds| FeedIterator::since(later(seconds));
    let ask = async |asked| consume(store, &endpoint, "c", asked, later(1)).await;
    assert_eq!(store.consumer(&tenant(), &endpoint, "c").await.unwrap(), None);
    assert_eq!(ask(None).await, ConsumerPosition::From(endpoint.beginning()));
    assert_eq!(ask(None).await, ConsumerPosition::From(endpoint.beginning()), "until it asks from elsewhere");
    assert_eq!(ask(Some(at(10))).await, ConsumerPosition::From(at(10)));
    assert_eq!(ask(None).await, ConsumerPosition::From(at(10)));
    assert_eq!(ask(Some(at(10))).await, ConsumerPosition::From(at(10)));
    // Another program that reads as the same consumer, and is behind.
    assert_eq!(ask(Some(at(9))).await, ConsumerPosition::Behind);
    assert_eq!(ask(None).await, ConsumerPosition::From(at(10)));

    let moved = store.reset_consumer(&tenant(), &endpoint, "c", at(5), later(2)).await.unwrap();
    let back = FeedIterator { moves: 1, ..at(5) };
    assert_eq!(moved, ConsumerPosition::From(back));
    assert_eq!(ask(None).await, ConsumerPosition::From(back));
    assert_eq!(ask(Some(at(20))).await, ConsumerPosition::Behind, "what it was given before it was moved");
    let on = FeedIterator { moves: 1, ..at(6) };
    assert_eq!(ask(Some(on)).await, ConsumerPosition::From(on));
    assert_eq!(consume(store, &endpoint, "d", Some(on), NOW).await, ConsumerPosition::Behind, "another consumer's");
    let begun = store.reset_consumer(&tenant(), &endpoint, "e", at(7), NOW).await.unwrap();
    assert_eq!(begun, ConsumerPosition::From(at(7)));
    assert_eq!(consume(store, &endpoint, "e", None, NOW).await, ConsumerPosition::From(at(7)));
    let foreign = store.reset_consumer(&stranger(), &endpoint, "c", at(7), NOW).await.unwrap();
    assert_eq!(foreign, ConsumerPosition::NotFound);
    assert_eq!(store.consume(&stranger(), &endpoint, "c", None, NOW).await.unwrap(), ConsumerPosition::NotFound);
    let found = store.consumer(&tenant(), &endpoint, "c").await.unwrap().unwrap();
    assert_eq!((found.iterator, found.polled_at), (on, later(1)));
}

/// Nothing is written for a consumer that asks again and again for what comes next, but once a minute that it was there.
async fn a_consumer_that_waits_writes_nothing(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let endpoint = polled(store, app, "pull").await;
    let at = FeedIterator { position: Position::at(NOW), complete_at: NOW, moves: 0 };
    let idle = |seconds| FeedIterator { complete_at: later(seconds), ..at };
    consume(store, &endpoint, "c", Some(at), NOW).await;
    let noted = async || store.consumer(&tenant(), &endpoint, "c").await.unwrap().unwrap();
    assert_eq!(consume(store, &endpoint, "c", Some(idle(30)), later(30)).await, ConsumerPosition::From(idle(30)));
    assert_eq!((noted().await.iterator, noted().await.polled_at), (at, NOW));
    assert_eq!(consume(store, &endpoint, "c", Some(idle(60)), later(60)).await, ConsumerPosition::From(idle(60)));
    assert_eq!(
        (noted().await.iterator, noted().await.polled_at),
        (idle(60), later(60)),
        "and that it has missed nothing"
    );
}

async fn a_token_opens_one_polling_endpoint_until_it_is_rotated(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let (endpoint, other) = (polled(store, app, "pull").await, polled(store, app, "other").await);
    assert_eq!(store.polling_token(&tenant(), &endpoint).await.unwrap(), None);
    let (text, spec) = (token_text("secret"), PollingEndpointSpec::default());
    let made = store.create_polling_endpoint_with(&tenant(), app, spec, Some(&text), NOW).await.unwrap();
    let token = store.polling_token_by_hash(&api_key::hash(&text)).await.unwrap().expect("made with it");
    assert_eq!((token.polling_endpoint_id, token.expires_at), (made.id, None));
    assert!(store.delete_polling_endpoint(&tenant(), &made, NOW).await.unwrap());
    let (first, first_hash) = add_token(store, &endpoint, 0, 300).await;
    assert_eq!(store.polling_token_by_hash(&first_hash).await.unwrap(), Some(first.clone()));
    assert_eq!(store.polling_token(&tenant(), &endpoint).await.unwrap(), Some(first.clone()));
    assert_eq!(store.polling_token(&stranger(), &endpoint).await.unwrap(), None);
    assert_eq!(store.polling_token(&tenant(), &other).await.unwrap(), None);
    let (second, _) = add_token(store, &endpoint, 10, 300).await;
    assert_eq!(store.polling_token(&tenant(), &endpoint).await.unwrap(), Some(second));
    let old = store.polling_token_by_hash(&first_hash).await.unwrap().expect("it is kept for a while");
    assert!(old.is_valid_at(later(309)) && !old.is_valid_at(later(310)));
    // A longer overlap makes nothing good again.
    add_token(store, &endpoint, 20, 86_400).await;
    assert_eq!(store.polling_token_by_hash(&first_hash).await.unwrap(), Some(old));
    let (_, last) = add_token(store, &endpoint, 30, 0).await;
    assert_eq!(store.polling_token_by_hash(&first_hash).await.unwrap(), None, "gone with the overlap");
    for seconds in 31..50 {
        add_token(store, &endpoint, seconds, 300).await;
    }
    assert_eq!(store.polling_token_by_hash(&last).await.unwrap(), None, "the oldest of too many");
    assert_eq!(home.number("SELECT count(*) FROM polling_token").await, 10);
    let (token, text) = PollingToken::make(OrgId::default_org(), &endpoint, None, NOW);
    let foreign =
        store.rotate_polling_token(&stranger(), &endpoint, &token, &api_key::hash(&text), Duration::ZERO).await;
    assert!(!foreign.unwrap());
}

/// A reader that waits is woken by what this process commits, and by what another one does.
mod waiting_for_the_next_message {
    use tokio::time::Instant;

    use super::*;
    use crate::support::SOON;

    async fn is_woken_by(home: &Home, by: &Store) {
        let app = application(&home.store, "acme").await.id;
        let other = application(&home.store, "other").await.id;
        let mut listener = home.store.listen_to_feed(app).expect("room");
        let at = Position::at(NOW);
        accept(by, other).await;
        assert!(!listener.wait(at, Instant::now() + Duration::from_millis(150)).await, "that was another's");
        let waiting = tokio::spawn(async move { (listener.wait(at, Instant::now() + SOON).await, listener) });
        let mut one = item(app);
        one.at = later(1);
        offer(by, one).await.expect("accepted");
        let (woken, mut listener) = waiting.await.unwrap();
        assert!(woken);
        home.store.close_feed_listeners();
        assert!(!listener.wait(at, Instant::now() + SOON).await, "the process ends");
        assert!(home.store.listen_to_feed(app).is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        let home = Home::sqlite().await;
        is_woken_by(&home, &home.store).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        let home = Home::postgres().await;
        is_woken_by(&home, &home.store).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_another_process() {
        let home = Home::postgres().await;
        is_woken_by(&home, &home.another().await).await;
    }
}
