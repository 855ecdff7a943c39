//! Calls that come twice and take effect once.

use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::store::StoreError;
use sendoff::store::ingest::accept::Rejection;
use sendoff::store::ingest::idempotency::{IDEMPOTENCY_TTL, IdempotencyKey, PriorRequest};

use crate::home::*;
use crate::support::on_both;

fn once(n: u8) -> IdempotencyKey {
    IdempotencyKey { hash: [n; 32], body: [n + 100; 32], at: NOW }
}

fn made(text: &str) -> Option<PriorRequest> {
    Some(PriorRequest::SameBody(text.to_owned()))
}

/// How many keys and messages there are.
async fn counts(home: &Home) -> (i64, i64) {
    (home.number("SELECT count(*) FROM once").await, home.number("SELECT count(*) FROM message").await)
}

on_both! {
    a_message_comes_twice_and_is_there_once
    one_of_many_concurrent_calls_in_several_processes_is_the_first
    rejected_calls_leave_no_key_behind
    everything_that_a_post_makes_is_made_once
    a_key_is_forgotten_after_its_life
    one_at_a_time_is_under_way
}

async fn a_message_comes_twice_and_is_there_once(home: Home) {
    let (app, _) = customer(&home.store, "acme").await;
    let (first, second) = (home.store.with_idempotency_key(once(1)), home.another().await);
    let message = offer(&first, item(app.id)).await.expect("accepted");
    for store in [first, second.with_idempotency_key(once(1))] {
        assert_eq!(offer(&store, item(app.id)).await, Err(Rejection::Repeated));
    }
    assert_eq!(counts(&home).await, (1, 1), "one extra row, and no more");
    assert_eq!(second.prior_request(&once(1)).await.unwrap(), made(&message.id.to_string()));
    assert_eq!(
        second.prior_request(&IdempotencyKey { body: [0; 32], ..once(1) }).await.unwrap(),
        Some(PriorRequest::OtherBody)
    );
    assert_eq!(second.prior_request(&once(2)).await.unwrap(), None);
    accept(&second, app.id).await;
    assert_eq!(counts(&home).await, (1, 2), "without a key there is none");
}

async fn one_of_many_concurrent_calls_in_several_processes_is_the_first(home: Home) {
    let (app, _) = customer(&home.store, "acme").await;
    // SQLite has one process; its handles queue all the same.
    let stores = [home.another().await, home.another().await];
    let tries = (0..40u8).map(|n| {
        let store = stores[usize::from(n % 2)].with_idempotency_key(once(n / 4));
        async move { offer(&store, item(app.id)).await }
    });
    let verdicts = futures_util::future::join_all(tries).await;
    for key in 0..10 {
        let of_key = &verdicts[key * 4..key * 4 + 4];
        let accepted: Vec<_> = of_key.iter().flatten().collect();
        assert_eq!(accepted.len(), 1, "{of_key:?}");
        let before = home.store.prior_request(&once(key as u8)).await.unwrap();
        assert_eq!(before, made(&accepted[0].id.to_string()));
        assert_eq!(of_key.iter().filter(|one| **one == Err(Rejection::Repeated)).count(), 3);
    }
    assert_eq!(counts(&home).await, (10, 10));
}

async fn rejected_calls_leave_no_key_behind(home: Home) {
    let (app, _) = customer(&home.store, "acme").await;
    let mut twice = item(app.id);
    twice.spec.event_id = Some(uid("order-1"));
    offer(&home.store, twice.clone()).await.expect("accepted");
    assert_eq!(
        offer(&home.store.with_idempotency_key(once(1)), twice.clone()).await,
        Err(Rejection::Duplicate("order-1".into()))
    );
    assert!(offer(&home.store.with_idempotency_key(once(2)), item(named("nobody"))).await.is_err());
    let taken = home.store.with_idempotency_key(once(3)).create_application(&tenant(), app_spec("acme"), NOW).await;
    assert!(matches!(taken, Err(StoreError::Taken(_))), "{taken:?}");
    assert_eq!(counts(&home).await, (0, 1));
    // Under its key a repeat is told what it was, and not that its own event id is taken.
    twice.spec.event_id = Some(uid("order-2"));
    offer(&home.store.with_idempotency_key(once(4)), twice.clone()).await.expect("accepted");
    assert_eq!(offer(&home.store.with_idempotency_key(once(4)), twice).await, Err(Rejection::Repeated));
}

async fn everything_that_a_post_makes_is_made_once(home: Home) {
    let (app, endpoint) = customer(&home.store, "acme").await;
    let message = accept(&home.store, app.id).await;
    let kind = EventTypeSpec { name: "a.b".into(), ..EventTypeSpec::default() };
    let store = |n| home.store.with_idempotency_key(once(n));
    for round in 0..2 {
        let results = [
            store(1).create_application(&tenant(), app_spec("new"), NOW).await.map(drop),
            store(2).create_endpoint(&tenant(), app.id, endpoint_spec(), &secret(), NOW).await.map(drop),
            store(3).create_event_type(&tenant(), kind.clone(), NOW).await.map(drop),
            store(4)
                .rotate_secret(&tenant(), app.id, endpoint.id, &secret(), IDEMPOTENCY_TTL, later(1))
                .await
                .map(drop),
            store(5).resend(&tenant(), app.id, (message.id, endpoint.id), later(2)).await.map(drop),
        ];
        for (n, result) in results.iter().enumerate() {
            let as_expected = match round {
                0 => result.is_ok(),
                _ => matches!(result, Err(StoreError::Repeated)),
            };
            assert!(as_expected, "round {round}, call {}: {result:?}", n + 1);
        }
    }
    for (sql, wanted) in [
        ("SELECT count(*) FROM application", 2),
        ("SELECT count(*) FROM endpoint", 2),
        ("SELECT count(*) FROM event_type", 1),
        ("SELECT count(*) FROM endpoint_secret", 3),
        ("SELECT CAST(generation AS BIGINT) FROM delivery", 1),
        ("SELECT count(*) FROM once", 5),
    ] {
        assert_eq!(home.number(sql).await, wanted, "{sql}");
    }
    // What a key made is found again by what is kept.
    let Some(PriorRequest::SameBody(at)) = home.store.prior_request(&once(4)).await.unwrap() else {
        panic!("no reference")
    };
    let made_at = sendoff::domain::Time::from_micros(at.parse().expect("a time"));
    let secret_of = async |of| home.store.endpoint_secret_of(&of, app.id, endpoint.id, made_at).await.unwrap();
    let current = home.store.endpoint_secret(&tenant(), app.id, endpoint.id).await.unwrap().expect("a secret");
    assert_eq!(secret_of(tenant()).await.map(|secret| secret.text().to_owned()), Some(current.text().to_owned()));
    assert!(secret_of(stranger()).await.is_none());
}

async fn a_key_is_forgotten_after_its_life(home: Home) {
    let (app, _) = customer(&home.store, "acme").await;
    let at = |n: u8, seconds: u64| IdempotencyKey { at: later(seconds), ..once(n) };
    for n in 1..=3 {
        offer(&home.store.with_idempotency_key(at(n, u64::from(n))), item(app.id)).await.expect("accepted");
    }
    let end = IDEMPOTENCY_TTL.as_secs() + 1;
    assert!(home.store.prior_request(&at(1, end - 1)).await.unwrap().is_some());
    assert_eq!(home.store.prior_request(&at(1, end)).await.unwrap(), None);
    // Taken anew although nobody has tidied up yet, by a message and by anything else.
    offer(&home.store.with_idempotency_key(at(1, end)), item(app.id)).await.expect("accepted");
    home.store
        .with_idempotency_key(at(2, end + 1))
        .create_application(&tenant(), app_spec("new"), NOW)
        .await
        .expect("made");
    assert_eq!(offer(&home.store.with_idempotency_key(at(3, end + 1)), item(app.id)).await, Err(Rejection::Repeated));
    assert_eq!(home.store.delete_expired_idempotency_keys(later(end + 1), 10).await.unwrap(), 0);
    assert_eq!(home.store.delete_expired_idempotency_keys(later(2 * end + 10), 2).await.unwrap(), 2, "in steps");
    assert_eq!(home.store.delete_expired_idempotency_keys(later(2 * end + 10), 2).await.unwrap(), 1);
}

async fn one_at_a_time_is_under_way(home: Home) {
    let first = home.store.mark_in_flight(&once(1)).expect("nobody else");
    assert!(home.store.mark_in_flight(&once(1)).is_none() && home.store.mark_in_flight(&once(2)).is_some());
    drop(first);
    assert!(home.store.mark_in_flight(&once(1)).is_some());
}
