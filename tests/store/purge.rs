//! What was deleted goes for good: first what may be secret, then the row. Nothing grows for ever.

use std::time::Duration;

use sendoff::domain::access::api_key::{ApiKey, KeyScopes};
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::delivery::Transition;
use sendoff::domain::{KeyId, OrgId};

use crate::home::*;
use crate::support::on_both_alone;

const DAY: u64 = 86_400;

fn secretive() -> EndpointSpec {
    EndpointSpec {
        url: "https://user:geheim@example.com:8443/hook/geheim?token=geheim".into(),
        description: "geheim".into(),
        headers: [("x-key".to_owned(), "geheim".to_owned())].into(),
        metadata: [("note".to_owned(), "geheim".to_owned())].into(),
        ordered: true,
        ..endpoint_spec()
    }
}

/// Purges until there is no more to do.
async fn purge(home: &Home, deleted: u64, history: u64, now: u64) {
    let mut steps = 0;
    while home.store.purge_deleted(later(deleted), later(history), later(now)).await.unwrap() {
        steps += 1;
        assert!(steps < 100, "it ends");
    }
}

/// Has pending deliveries of what was deleted end, and the deletion be long enough ago for it.
async fn end_deleted(home: &Home, now: u64) {
    while home.store.cancel_pending_of_deleted(100, later(now)).await.unwrap() > 0 {}
}

on_both_alone! {
    secrets_are_purged_some_days_after_the_deletion
    the_row_goes_when_the_retention_has_removed_its_history
    nothing_is_accepted_for_an_endpoint_whose_row_is_gone
    a_deleted_application_goes_with_everything_of_it
    many_go_in_bounded_steps
    relays_take_turns_only_while_an_endpoint_is_ordered
    secrets_that_no_longer_sign_go
    keys_that_are_no_longer_good_go_long_after
}

async fn secrets_are_purged_some_days_after_the_deletion(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let (gone, kept) = (endpoint(store, app.id, secretive()).await, endpoint(store, app.id, secretive()).await);
    let message = accept(store, app.id).await;
    assert!(store.delete_endpoint(&tenant(), app.id, gone.id, later(10)).await.unwrap());

    purge(&home, DAY, 0, DAY).await;
    assert_eq!(
        home.number("SELECT count(*) FROM endpoint WHERE purged_at IS NOT NULL").await,
        0,
        "a delivery of it is pending"
    );
    end_deleted(&home, DAY).await;
    purge(&home, 10, 0, DAY).await;
    assert_eq!(
        home.number("SELECT count(*) FROM endpoint WHERE purged_at IS NOT NULL").await,
        0,
        "not long enough ago"
    );
    purge(&home, 11, 0, DAY).await;

    let secrets = "SELECT count(*) FROM endpoint_secret";
    assert_eq!(home.number(secrets).await, 1, "of the other one");
    assert_eq!(home.number("SELECT count(*) FROM endpoint WHERE headers IS NOT NULL").await, 1);
    assert_eq!(home.number("SELECT count(*) FROM ordering").await, 2, "of the other one, and the turns of relays");
    let text = home.either(
        "SELECT CAST(url || description || metadata AS BLOB) FROM endpoint WHERE purged_at IS NOT NULL",
        "SELECT convert_to(url || description || metadata, 'UTF8') FROM endpoint WHERE purged_at IS NOT NULL",
    );
    assert_eq!(String::from_utf8(home.bytes(text).await).unwrap(), "https://example.com:8443/{}");
    // Its history can still be told from others'.
    let deliveries = store.deliveries_of(&tenant(), app.id, message.id).await.unwrap().data;
    assert!(deliveries.iter().any(|one| one.endpoint_id == gone.id), "{deliveries:?}");
    let live = store.endpoint(&tenant(), app.id, &kept.id.into()).await.unwrap().unwrap();
    assert_eq!(live.spec, kept.spec, "nothing of the other one was touched");
}

async fn the_row_goes_when_the_retention_has_removed_its_history(home: Home) {
    let store = &home.store;
    let (app, gone) = customer(store, "acme").await;
    accept(store, app.id).await;
    let done = finished(app.id, &only_waiting(store, gone.id).await, answered(200), Transition::Delivered);
    store.record(vec![done]).await.unwrap();
    store.delete_endpoint(&tenant(), app.id, gone.id, later(10)).await.unwrap();
    end_deleted(&home, DAY).await;
    let endpoints = "SELECT count(*) FROM endpoint";
    purge(&home, 11, 11, DAY).await;
    assert_eq!(home.number(endpoints).await, 1, "an attempt tells of it");
    store.expire(later(11), later(DAY)).await.unwrap();
    purge(&home, 11, 10, DAY).await;
    assert_eq!(home.number(endpoints).await, 1, "within the retention something of it may still be recorded");
    purge(&home, 11, 11, DAY).await;
    assert_eq!(home.number(endpoints).await, 0);
    assert_eq!(home.number("SELECT count(*) FROM application").await, 1, "the application was not deleted");
}

/// What a process remembers may be older than the deletion, and there is no row left to tell it.
async fn nothing_is_accepted_for_an_endpoint_whose_row_is_gone(home: Home) {
    let store = &home.store;
    let (app, gone) = customer(store, "acme").await;
    let kept = endpoint(store, app.id, endpoint_spec()).await;
    let there = home.another().await;
    accept(&there, app.id).await;
    store.delete_endpoint(&tenant(), app.id, gone.id, later(10)).await.unwrap();
    end_deleted(&home, DAY).await;
    purge(&home, 11, 11, DAY).await;
    store.expire(later(11), later(DAY)).await.unwrap();
    purge(&home, 11, 11, DAY).await;
    assert_eq!(home.number("SELECT count(*) FROM endpoint").await, 1);
    let message = accept(&there, app.id).await;
    let to = there.deliveries_of(&tenant(), app.id, message.id).await.unwrap().data;
    assert_eq!(to.into_iter().map(|one| one.endpoint_id).collect::<Vec<_>>(), [kept.id]);
}

async fn a_deleted_application_goes_with_everything_of_it(home: Home) {
    let store = &home.store;
    let spec = ApplicationSpec {
        metadata: [("note".to_owned(), "geheim".to_owned())].into(),
        contact_email: Some("ops@example.com".into()),
        ..app_spec("acme")
    };
    let app = store.create_application(&tenant(), spec, NOW).await.unwrap();
    for _ in 0..3 {
        endpoint(store, app.id, secretive()).await;
    }
    accept(store, app.id).await;
    application(store, "other").await;
    store.delete_application(&tenant(), app.id, later(10)).await.unwrap();
    end_deleted(&home, DAY).await;
    purge(&home, 11, 11, DAY).await;
    let personal = "SELECT count(*) FROM application WHERE contact_email IS NOT NULL OR metadata <> '{}'";
    assert_eq!(home.number(personal).await, 0);
    assert_eq!(home.number("SELECT count(*) FROM endpoint_secret").await, 0);
    assert_eq!(home.number("SELECT count(*) FROM application").await, 2, "a message of it is there");
    store.expire(later(11), later(DAY)).await.unwrap();
    purge(&home, 11, 11, DAY).await;
    for table in ["endpoint", "endpoint_secret", "ordering", "message", "message_key", "delivery", "attempt"] {
        assert_eq!(home.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(home.number("SELECT count(*) FROM application").await, 1);
}

async fn many_go_in_bounded_steps(home: Home) {
    let store = &home.store;
    let (app, _) = customer(store, "acme").await;
    let many = home.either(
        "INSERT INTO endpoint (id, app_id, slot, url, description, disabled, signature_type, extra_signatures, metadata, created_at, updated_at, deleted_at)
         WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 450)
         SELECT randomblob(16), zeroblob(16), 0, 'https://example.com/', '', 0, 'hmac256', '[]', '{}', 0, 0, n FROM count",
        "INSERT INTO endpoint (id, app_id, slot, url, description, disabled, signature_type, extra_signatures, metadata, created_at, updated_at, deleted_at)
         SELECT gen_random_uuid(), gen_random_uuid(), 0, 'https://example.com/', '', false, 'hmac256', '[]', '{}', 0, 0, n
         FROM generate_series(1, 450) AS n",
    );
    home.execute(many).await;
    let purged = "SELECT count(*) FROM endpoint WHERE purged_at IS NOT NULL";
    assert!(store.purge_deleted(NOW, sendoff::domain::Time::ZERO, NOW).await.unwrap(), "there is more");
    assert_eq!(home.number(purged).await, 200);
    purge(&home, 0, 0, 0).await;
    assert_eq!(home.number("SELECT count(*) FROM endpoint").await, 1, "what was not deleted");
    assert!(store.endpoint(&tenant(), app.id, &app_endpoint(store, app.id).await.into()).await.unwrap().is_some());
}

async fn relays_take_turns_only_while_an_endpoint_is_ordered(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let spec = EndpointSpec { ordered: true, ..endpoint_spec() };
    let (one, two) = (endpoint(store, app.id, spec.clone()).await, endpoint(store, app.id, spec).await);
    let nil = home.either(
        "SELECT count(*) FROM ordering WHERE endpoint_id = zeroblob(16)",
        "SELECT count(*) FROM ordering WHERE endpoint_id = '00000000-0000-0000-0000-000000000000'",
    );
    store.delete_endpoint(&tenant(), app.id, one.id, later(1)).await.unwrap();
    purge(&home, 0, 0, 10).await;
    assert_eq!(home.number(nil).await, 1, "one is still ordered");
    updated(store, &two, endpoint_spec(), later(2)).await;
    purge(&home, 0, 0, 10).await;
    assert_eq!(home.number(nil).await, 0);
    let spec = EndpointSpec { ordered: true, ..endpoint_spec() };
    endpoint(store, app.id, spec).await;
    assert_eq!(home.number(nil).await, 1, "and again");
}

async fn secrets_that_no_longer_sign_go(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    let hour = Duration::from_secs(3_600);
    assert!(store.rotate_secret(&tenant(), app.id, made.id, &secret(), hour, later(10)).await.unwrap());
    let secrets = "SELECT count(*) FROM endpoint_secret";
    assert_eq!(store.delete_expired_secrets(later(3_609), 10).await.unwrap(), 0);
    assert_eq!(home.number(secrets).await, 2);
    assert_eq!(store.delete_expired_secrets(later(3_610), 10).await.unwrap(), 1);
    assert_eq!(home.number(secrets).await, 1, "the current one stays");
}

async fn keys_that_are_no_longer_good_go_long_after(home: Home) {
    let store = &home.store;
    let key = |n: u8, expires_at| ApiKey {
        id: KeyId::new(NOW),
        org: OrgId::default_org(),
        name: format!("key {n}"),
        hint: "1234".into(),
        scopes: KeyScopes::EVERYTHING,
        created_at: NOW,
        expires_at,
        last_used_at: None,
        revoked_at: None,
    };
    let all = [key(1, None), key(2, Some(later(50))), key(3, None), key(4, Some(later(500)))];
    for (n, key) in all.iter().enumerate() {
        store.add_api_key(key, &[n as u8; 32]).await.unwrap();
    }
    store.revoke_api_key(&tenant(), all[2].id, later(20)).await.unwrap();
    assert_eq!(store.delete_old_api_keys(later(20), 10).await.unwrap(), 0);
    assert_eq!(store.delete_old_api_keys(later(60), 1).await.unwrap(), 1, "no more than asked for");
    assert_eq!(store.delete_old_api_keys(later(60), 10).await.unwrap(), 1);
    let left = store.api_keys(&tenant(), &first()).await.unwrap().data;
    assert_eq!(left.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["key 1", "key 4"]);
}

async fn app_endpoint(store: &sendoff::store::Store, app: sendoff::domain::AppId) -> sendoff::domain::EndpointId {
    store.endpoints(&tenant(), app, &first()).await.unwrap().data.remove(0).id
}

#[tokio::test]
async fn an_endpoint_that_is_just_becoming_ordered_keeps_the_turns() {
    let home = Home::postgres().await;
    let store = &home.store;
    let app = application(store, "acme").await;
    let spec = EndpointSpec { ordered: true, ..endpoint_spec() };
    let before = endpoint(store, app.id, spec).await;
    updated(store, &before, endpoint_spec(), later(2)).await;
    // Somebody else's transaction, as far as a new ordered endpoint's has come: it has found the row.
    let Raw::Postgres(mut other) = home.connect().await else { panic!("PostgreSQL") };
    use sqlx::Executor;
    other
        .execute(
            "BEGIN;
             UPDATE endpoint SET ordered = true;
             INSERT INTO ordering (endpoint_id, next_seq, early_seq, ordered_at)
             VALUES ('00000000-0000-0000-0000-000000000000', 1, 1, 1) ON CONFLICT DO NOTHING",
        )
        .await
        .unwrap();
    purge(&home, 0, 0, 10).await;
    other.execute("COMMIT").await.unwrap();
    purge(&home, 0, 0, 10).await;
    let nil = "SELECT count(*) FROM ordering WHERE endpoint_id = '00000000-0000-0000-0000-000000000000'";
    assert_eq!(home.number(nil).await, 1);
}
