//! Who is let in: API keys with their scopes and ends, tokens of other algorithms, logging out.

use std::time::{Duration, Instant};

use sendoff::api::authn::authenticator::MAX_AGE;
use sendoff::api::authn::jwt::Tokens;
use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::KeyScope;
use sendoff::domain::access::audit::{Actor, ActorKind};
use sendoff::domain::access::token_key::{Algorithm, PublicKey, TokenKey};
use sendoff::domain::{OrgId, Time};
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::{Order, PageRequest, Tenant};
use serde_json::json;
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::support::on_both;
use crate::support::{Durability, Postgres, SOON, eventually, sqlite_file};
use crate::world::{HOUR, Settings, World};

on_both! {
    a_key_is_as_good_as_a_token_of_its_organization
    a_key_does_what_its_scopes_say
    a_revoked_key_is_refused_within_seconds_of_another_process
    when_a_key_was_used_is_noted_behind_the_answer
    a_logged_out_token_is_refused
    changes_and_reveals_of_callers_are_audited
}

async fn a_key_is_as_good_as_a_token_of_its_organization(world: World) {
    let (_, text) = world.key(&[KeyScope::Write], None).await;
    let made = world.call_as(&text, "POST", "/app", Some(r#"{"name":"a","uid":"a"}"#)).await.expect(201);
    assert_eq!(world.get("/app/a").await.expect(200)["id"], made["id"], "the same organization's");
    let body = r#"{"eventType":"t","payload":{}}"#;
    for _ in 0..2 {
        world.call_as(&text, "POST", "/app/a/msg", Some(body)).await.expect(202);
    }
    let other: OrgId = "org_other".parse().unwrap();
    let other = world.tokens.mint_org(&other, world.now(), HOUR).unwrap();
    world.call_as(&other, "GET", "/app/a", None).await.expect(404);

    let (key, old) = world.key(&[KeyScope::Write], Some(world.now().minus(HOUR))).await;
    let (gone, revoked) = world.key(&[KeyScope::Write], None).await;
    world.store.revoke_api_key(&Tenant::org(world.org()), gone.id, world.now()).await.unwrap();
    let last = if text.ends_with('x') { 'y' } else { 'x' };
    let close = format!("{}{last}", &text[..text.len() - 1]);
    for (bad, why) in [(&old, "expired"), (&revoked, "revoked"), (&close, "unknown"), (&key.id.to_string(), "JWT")] {
        let refused = world.call_as(bad, "GET", "/app", None).await;
        assert!(refused.text.contains(why) && !refused.text.contains(&bad[3..]), "{why}: {}", refused.text);
        assert_eq!(refused.expect(401)["code"], "authentication_failed");
    }
}

async fn a_key_does_what_its_scopes_say(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let secret = format!("/app/a/endpoint/{endpoint}/secret");
    let message = Some(r#"{"eventType":"t","payload":{}}"#);
    let app = Some(r#"{"name":"b"}"#);
    let (_, read) = world.key(&[KeyScope::Read], None).await;
    let (_, send) = world.key(&[KeyScope::Send], None).await;
    let (_, both) = world.key(&[KeyScope::Read, KeyScope::Send], None).await;
    for (token, method, path, body, status) in [
        (&read, "GET", "/app/a/", None, 200),
        (&read, "POST", "/app/a/msg", message, 403),
        (&read, "POST", "/app/", app, 403),
        (&read, "GET", &*secret, None, 403),
        (&send, "POST", "/app/a/msg/", message, 202),
        (&send, "GET", "/app/a", None, 403),
        (&both, "POST", "/app/a/msg", message, 202),
        (&both, "GET", "/app/a/msg/", None, 200),
        (&both, "PATCH", "/app/a", app, 403),
    ] {
        let answer = world.call_as(token, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
    }
    let refused = world.call_as(&both, "DELETE", "/app/a", None).await.expect(403);
    assert_eq!(refused["code"], "permission_denied");
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("scope write") && detail.contains("read, send"), "{detail}");
}

async fn a_revoked_key_is_refused_within_seconds_of_another_process(world: World) {
    let (key, text) = world.key(&[KeyScope::Read], None).await;
    world.call_as(&text, "GET", "/app", None).await.expect(200);
    // Not through this server's own memory: as `sendoff key revoke` does.
    assert!(world.store.revoke_api_key(&Tenant::org(world.org()), key.id, world.now()).await.unwrap());
    let start = Instant::now();
    eventually("the end of a key that is used all the time", SOON, async || {
        let answer = world.call_as(&text, "GET", "/app", None).await;
        assert!([200, 401].contains(&answer.status), "{}", answer.text);
        (answer.status == 401).then_some(())
    })
    .await;
    assert!(start.elapsed() < MAX_AGE + Duration::from_secs(3), "{:?}", start.elapsed());
}

async fn when_a_key_was_used_is_noted_behind_the_answer(world: World) {
    let (_, text) = world.key(&[KeyScope::Read], None).await;
    let used = async || world.store.api_key_by_hash(&api_key::hash(&text)).await.unwrap().unwrap().last_used_at;
    assert_eq!(used().await, None);
    let before = world.now();
    world.call_as(&text, "GET", "/app", None).await.expect(200);
    let first: Time = eventually("the note of a key's use", SOON, used).await;
    assert!(first >= before && first <= world.now());
    world.call_as(&text, "GET", "/app", None).await.expect(200);
    world.authenticator.write_key_usage().await.unwrap();
    assert!(used().await > Some(first), "nothing is lost at the end of a process");
}

/// Somebody else holds what the note has to be written to: the answer does not wait, and the note is written later.
async fn a_note_does_not_keep_anybody_waiting(world: &World, lock: impl AsyncFnOnce(), let_go: impl AsyncFnOnce()) {
    let (_, text) = world.key(&[KeyScope::Read], None).await;
    lock().await;
    for _ in 0..10 {
        let answer = tokio::time::timeout(SOON, world.call_as(&text, "GET", "/app", None)).await;
        answer.expect("an answer at once").expect(200);
    }
    let used = async || world.store.api_key_by_hash(&api_key::hash(&text)).await.unwrap().unwrap().last_used_at;
    assert_eq!(used().await, None);
    let_go().await;
    eventually("the note of a key's use", SOON, used).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_waits_for_nobody_s_sake_on_sqlite() {
    let file = sqlite_file();
    let world = World::at(&file.url(), Settings::default()).await;
    let one = tokio::sync::Mutex::new(SqliteConnection::connect(&file.url()).await.expect("a connection"));
    let run = async |sql| {
        sqlx::raw_sql(sql).execute(&mut *one.lock().await).await.expect("the lock");
    };
    a_note_does_not_keep_anybody_waiting(&world, async || run("BEGIN IMMEDIATE").await, async || run("ROLLBACK").await)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_waits_for_nobody_s_sake_on_postgres() {
    let url = Postgres::shared().fresh_database();
    let world = World::at(&url, Settings::default()).await;
    let one = tokio::sync::Mutex::new(PgConnection::connect(&url).await.expect("a connection"));
    let run = async |sql| {
        sqlx::raw_sql(sql).execute(&mut *one.lock().await).await.expect("the lock");
    };
    let lock = async || run("BEGIN; LOCK TABLE sendoff.api_key IN EXCLUSIVE MODE").await;
    a_note_does_not_keep_anybody_waiting(&world, lock, async || run("ROLLBACK").await).await;
}

async fn a_logged_out_token_is_refused(world: World) {
    let mine = world.app("mine").await;
    let (org, now) = (world.org(), world.now());
    let tokens = [
        world.tokens.mint_org(&org, now, HOUR).unwrap(),
        world.tokens.mint_app(&org, mine.parse().unwrap(), now, HOUR).unwrap(),
    ];
    for token in &tokens {
        world.call_as(token, "GET", "/app/mine", None).await.expect(200);
        world.call_as(token, "POST", "/auth/logout", None).await.expect(204);
        let refused = world.call_as(token, "GET", "/app/mine", None).await;
        assert!(refused.text.contains("logged out"), "{}", refused.text);
        refused.expect(401);
        world.call_as(token, "POST", "/auth/logout/", None).await.expect(401);
    }
    world.get("/app/mine").await.expect(200);
    let (key, text) = world.key(&[KeyScope::Read], None).await;
    let refused = world.call_as(&text, "POST", "/auth/logout", None).await.expect(403);
    assert!(refused["detail"].as_str().unwrap().contains(&format!("sendoff key revoke {}", key.id)), "{refused}");
    world.call_as(&text, "GET", "/app", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_nobody_is_called_a_stranger() {
    let postgres = Postgres::start(Durability::On);
    let world = World::at(&postgres.fresh_database(), Settings::default()).await;
    let (_, text) = world.key(&[KeyScope::Write], None).await;
    postgres.crash();
    let fresh = world.tokens.mint_org(&world.org(), world.now(), HOUR).unwrap();
    for token in [&text, &fresh] {
        assert_eq!(world.call_as(token, "GET", "/app", None).await.expect(503)["code"], "unavailable");
    }
    assert_eq!(world.call_as("nonsense", "GET", "/app", None).await.status, 401, "what can be said without it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_public_key_others_sign_and_keys_go_on() {
    let public = PublicKey::parse(include_str!("../keys/rsa.public.pem")).unwrap();
    let file = sqlite_file();
    let tokens = Tokens::with_key(&TokenKey::Public(Algorithm::Rs256, public), None);
    let world = World::at(&file.url(), Settings { tokens, ..Settings::default() }).await;
    // By openssl: {"alg":"RS256","typ":"JWT"} . {"sub":"org_default"}
    let theirs = include_str!("../keys/rs256.jwt").trim();
    world.call_as(theirs, "GET", "/app", None).await.expect(200);
    let stranger = Tokens::new(include_bytes!("../keys/rsa.public.pem"));
    let forged = stranger.mint_org(&world.org(), world.now(), HOUR).unwrap();
    world.call_as(&forged, "GET", "/app", None).await.expect(401);

    let (_, text) = world.key(&[KeyScope::Write], None).await;
    let body = json!({"application": {"name": "a", "uid": "a"}}).to_string();
    let refused = world.call_as(&text, "POST", "/auth/app-portal-access/a", Some(&body)).await.expect(501);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("RS256") && detail.contains("private key"), "{detail}");
    world.call_as(&text, "GET", "/app/a", None).await.expect(404);
    world.call_as(theirs, "POST", "/auth/logout", None).await.expect(204);
    world.call_as(theirs, "GET", "/app", None).await.expect(401);
}

async fn changes_and_reveals_of_callers_are_audited(world: World) {
    let (key, text) = world.key(&[KeyScope::Write], None).await;
    world.call_as(&text, "POST", "/app", Some(r#"{"name":"Acme","uid":"a"}"#)).await.expect(201);
    let url = r#"{"url":"https://example.com/hook"}"#;
    let endpoint = world.call_as(&text, "POST", "/app/a/endpoint", Some(url)).await.expect(201);
    let endpoint = endpoint["id"].as_str().unwrap();
    let secret = format!("/app/a/endpoint/{endpoint}/secret");
    world.get(&secret).await.expect(200);
    world.get("/app/a/endpoint/nothing/secret").await.expect(404);
    let with_app = r#"{"eventType":"t","payload":{},"application":{"name":"Made on the way","uid":"b"}}"#;
    world.call_as(&text, "POST", "/app/b/msg", Some(with_app)).await.expect(202);
    world.call_as(&text, "POST", "/app/a/msg", Some(r#"{"eventType":"t","payload":{}}"#)).await.expect(202);
    let test = format!("/app/a/endpoint/{endpoint}/send-example");
    world.call_as(&text, "POST", &test, Some(r#"{"eventType":"sendoff.ping"}"#)).await.expect(202);
    let tenant = Tenant::org(world.org());
    let page = PageRequest::first(50, Order::Ascending);
    let log = world.store.audit_log(&tenant, &AuditFilter::default(), &page).await.unwrap().data;
    let (by_key, by_token) =
        (Actor::new(ActorKind::Key, key.label()), Actor::new(ActorKind::Token, world.org().as_str()));
    let told: Vec<_> = log.iter().map(|one| (one.actor.clone(), one.act.as_str(), one.detail.as_str())).collect();
    let to = format!("to {endpoint}");
    let wanted = [
        (by_key.clone(), "application created", "Acme"),
        (by_key.clone(), "endpoint created", "example.com"),
        (by_token, "secret revealed", ""),
        (by_key.clone(), "application created", "Made on the way"),
        (by_key, "test event sent", to.as_str()),
    ];
    assert_eq!(told, wanted);
    assert_eq!(log[2].target, endpoint);
}
