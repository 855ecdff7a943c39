//! One endpoint that cannot be read takes nobody down with it.

use std::collections::BTreeMap;
use std::time::Duration;

use sendoff::domain::access::operator::{Operator, OperatorRole};
use sendoff::domain::access::password::PasswordHash;
use sendoff::domain::access::totp::TotpSecret;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::signing::master_key::MasterKey;
use sendoff::store::access::second_factors::NewSecondFactor;
use sendoff::store::maintenance::reseal::Reseal;

use crate::home::*;
use crate::support::on_both;

async fn with_headers(home: &crate::home::Home, app: sendoff::domain::AppId) -> Endpoint {
    let headers = BTreeMap::from([("x-token".to_owned(), "s3cret".to_owned())]);
    endpoint(&home.store, app, EndpointSpec { headers, ..endpoint_spec() }).await
}

/// SQL that names an endpoint on either database.
fn of(home: &crate::home::Home, sql: &str, id: sendoff::domain::EndpointId) -> String {
    let literal = match home.is_sqlite() {
        true => format!("x'{}'", id.0.simple()),
        false => format!("'{}'", id.0),
    };
    sql.replace("{id}", &literal)
}

on_both! {
    an_endpoint_that_cannot_be_read_fails_alone
    a_retired_secret_does_not_open_in_place_of_the_current_one
    rotation_reseals_data_of_the_old_key_and_counts_unreadable_data
    under_another_master_key_nothing_signs
}

async fn an_endpoint_that_cannot_be_read_fails_alone(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await;
    let well = endpoint(store, app.id, endpoint_spec()).await;
    let mut broken = Vec::new();
    for damage in [
        "DELETE FROM endpoint_secret WHERE endpoint_id = {id}",
        home.either(
            "UPDATE endpoint_secret SET sealed = x'0102' WHERE endpoint_id = {id}",
            "UPDATE endpoint_secret SET sealed = '\\x0102' WHERE endpoint_id = {id}",
        ),
        home.either(
            "UPDATE endpoint SET headers = x'01020304050607' WHERE id = {id}",
            "UPDATE endpoint SET headers = '\\x01020304050607' WHERE id = {id}",
        ),
        "UPDATE endpoint SET extra_signatures = 'nonsense' WHERE id = {id}",
        "UPDATE endpoint SET retry_schedule = '[-1, 1e300, null]' WHERE id = {id}",
        "UPDATE endpoint SET signature_type = 'rot13' WHERE id = {id}",
    ] {
        let made = with_headers(&home, app.id).await;
        home.execute(&of(&home, damage, made.id)).await;
        broken.push(made.id);
    }
    let store = home.another().await;
    accept(&store, app.id).await;
    assert_eq!(waiting(&store, well.id).await.len(), 1);
    let lives = store.live_endpoints(&[vec![well.id], broken.clone()].concat()).await.unwrap();
    assert_eq!(lives.len(), 7);
    for live in &lives {
        let fine = live.endpoint.id == well.id;
        assert_eq!(live.signing.is_ok(), fine, "{:?}", live.endpoint);
        if let Err(sentence) = &live.signing {
            assert!(sentence.contains("cannot be read"), "{sentence}");
        }
    }
    for id in &broken {
        assert_eq!(waiting(&store, *id).await.len(), 1, "nothing is lost: its attempts say what is wrong");
    }
    assert_eq!(store.endpoints(&tenant(), app.id, &first()).await.unwrap().data.len(), 7, "it is there to be repaired");

    // Repaired by a new secret, by being written anew, or deleted.
    let grace = Duration::from_secs(60);
    assert!(store.rotate_secret(&tenant(), app.id, broken[1], &secret(), grace, later(1)).await.unwrap());
    for id in &broken[2..] {
        let before = store.endpoint(&tenant(), app.id, &(*id).into()).await.unwrap().unwrap();
        updated(&store, &before, endpoint_spec(), NOW).await;
    }
    assert!(store.delete_endpoint(&tenant(), app.id, broken[0], NOW).await.unwrap());
    let lives = store.live_endpoints(&broken).await.unwrap();
    assert_eq!((lives.len(), lives.iter().filter(|live| live.signing.is_ok()).count()), (5, 5));
}

/// Somebody who may write to the database brings back a secret that was rotated away.
async fn a_retired_secret_does_not_open_in_place_of_the_current_one(home: Home) {
    let store = &home.store;
    let (app, made) = customer(store, "acme").await;
    assert!(
        store.rotate_secret(&tenant(), app.id, made.id, &secret(), Duration::from_secs(60), later(1)).await.unwrap()
    );
    assert!(store.endpoint_secret(&tenant(), app.id, made.id).await.unwrap().is_some());
    const BACK: &str = "UPDATE endpoint_secret SET sealed =
             (SELECT o.sealed FROM endpoint_secret o WHERE o.endpoint_id = endpoint_secret.endpoint_id AND o.expires_at IS NOT NULL)
         WHERE expires_at IS NULL";
    assert_eq!(home.execute(BACK).await, 1);
    assert!(store.endpoint_secret(&tenant(), app.id, made.id).await.is_err());
    let there = home.another().await;
    assert!(there.live_endpoints(&[made.id]).await.unwrap()[0].signing.is_err());
}

async fn rotation_reseals_data_of_the_old_key_and_counts_unreadable_data(home: Home) {
    let app = application(&home.store, "acme").await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(with_headers(&home, app.id).await.id);
    }
    let broken = "UPDATE endpoint_secret SET sealed = (SELECT value FROM meta WHERE name = 'master-key-check')
         WHERE endpoint_id = {id}";
    home.execute(&of(&home, broken, made[2])).await;
    let password = PasswordHash::make("p", "correct horse battery").unwrap();
    let (org, anna) = (tenant().org, Operator::new("anna", OperatorRole::Admin, None, NOW).unwrap());
    home.store.create_operator(&org, &anna, &password, NOW).await.unwrap();
    let secret = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
    let second = NewSecondFactor { secret, used: 1, recovery_codes: Vec::new() };
    assert!(home.store.add_second_factor(own_change(&org, &anna, &password, &[0; 32]), &second, NOW).await.unwrap());
    let new = MasterKey::generate();
    let both = open(&home.location, &new.clone().with_other(&home.master)).await;
    for rows in [6, 0] {
        let (mut resealed, mut unreadable, mut next) = (0, 0, Reseal::default());
        while next != Reseal::Done {
            let done = both.reseal(next).await.unwrap();
            (resealed, unreadable, next) = (resealed + done.rows, unreadable + done.unreadable, done.next);
        }
        assert_eq!((resealed, unreadable), (rows, 1));
    }
    let there = open(&home.location, &new).await;
    there.migrate().await.unwrap();
    assert_eq!(there.second_factor(anna.id).await.unwrap().map(|one| one.secret), Some(second.secret));
    let signs = async |store: &sendoff::store::Store| {
        let lives = store.live_endpoints(&made).await.unwrap();
        lives.iter().filter(|live| live.signing.is_ok()).count()
    };
    assert_eq!((signs(&there).await, signs(&home.another().await).await), (2, 0));
}

/// A backup with another key: nothing is sent unsigned, nothing falls over.
async fn under_another_master_key_nothing_signs(home: Home) {
    let (app, made) = customer(&home.store, "acme").await;
    let other = open(&home.location, &MasterKey::generate()).await;
    let live = other.live_endpoints(&[made.id]).await.unwrap().remove(0);
    assert!(live.signing.is_err());
    assert!(other.endpoint_secret(&tenant(), app.id, made.id).await.is_err());
    accept(&other, app.id).await;
    assert_eq!(waiting(&other, made.id).await.len(), 1);
}
