//! Rate limits: each caller has a bucket, and nobody empties another's. Nothing here is about the store.

use std::num::NonZeroU32;
use std::time::Instant;

use sendoff::domain::access::api_key::KeyScope;
use sendoff::traffic::Traffic;
use sendoff::traffic::proxies::TrustedProxies;
use sendoff::traffic::rate_limits::{RateLimits, Rates};
use serde_json::json;

use crate::support::Kind;
use crate::world::{HOUR, Said, Settings, World, said};

const NONE: Rates = Rates { key: None, application: None, session: None, address: None };

async fn world(rates: Rates) -> World {
    let proxies = TrustedProxies::new(vec!["127.0.0.1/32".parse().unwrap()]);
    let traffic = Traffic { limits: RateLimits::new(rates), proxies, ..Traffic::default() };
    World::with(Kind::Sqlite, Settings { traffic, ..Settings::default() }).await
}

/// How many of 12 requests were accepted, and the first that was not. One a second may be added while they are made.
async fn twelve(call: impl AsyncFn() -> Said) -> (usize, Option<Said>) {
    let (mut accepted, mut first) = (0, None);
    for _ in 0..12 {
        match call().await {
            said if said.status == 429 => drop(first.get_or_insert(said)),
            _ => accepted += 1,
        }
    }
    (accepted, first)
}

/// Asserts that a bucket of one a second was emptied.
fn emptied((accepted, first): (usize, Option<Said>), since: Instant, policy: &str) {
    let most = 3 + since.elapsed().as_secs() as usize;
    assert!((2..=most).contains(&accepted), "{accepted} of 12");
    let refused = first.expect("one that was refused");
    let header = |name: &str| refused.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("retry-after"), "1");
    assert_eq!(header("ratelimit-policy"), format!("\"{policy}\";q=2;w=2"));
    assert_eq!(header("ratelimit"), format!("\"{policy}\";r=0;t=1"));
    assert_eq!(refused.expect(429)["code"], "too_many_requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_has_its_bucket() {
    let world = world(Rates { key: NonZeroU32::new(1), ..NONE }).await;
    let (one, other) = (world.key(&[KeyScope::Read], None).await.1, world.key(&[KeyScope::Read], None).await.1);
    let began = Instant::now();
    emptied(twelve(async || world.call_as(&one, "GET", "/app", None).await).await, began, "key");
    world.call_as(&other, "GET", "/app", None).await.expect(200);
    // Another token of the organization is no other caller.
    let began = Instant::now();
    let tokens: Vec<String> =
        (0..12).map(|n| world.tokens.mint_org(&world.org(), world.now().minus(n * HOUR / 24), HOUR).unwrap()).collect();
    let next = std::cell::Cell::new(0);
    let call = async || {
        let token = &tokens[next.replace(next.get() + 1)];
        world.call_as(token, "GET", "/app", None).await
    };
    emptied(twelve(call).await, began, "key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_s_tokens_share_a_bucket() {
    let world = world(Rates { application: NonZeroU32::new(1), ..NONE }).await;
    let (one, other) = (world.app("one").await, world.app("other").await);
    let token = |app: &str, n: u32| {
        let made = world.now().minus(HOUR / 24 * n);
        world.tokens.mint_app(&world.org(), app.parse().unwrap(), made, HOUR).unwrap()
    };
    let (began, next) = (Instant::now(), std::cell::Cell::new(0));
    let call = async || {
        let token = token(&one, next.replace(next.get() + 1));
        world.call_as(&token, "GET", "/app/one/msg", None).await
    };
    emptied(twelve(call).await, began, "application");
    world.call_as(&token(&other, 0), "GET", "/app/other/msg", None).await.expect(200);
    world.get("/app/one/msg").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_valid_credential_are_limited_by_address() {
    let world = world(Rates { address: NonZeroU32::new(1), ..NONE }).await;
    let expired = world.tokens.mint_org(&world.org(), world.now().minus(2 * HOUR), HOUR).unwrap();
    let unknown = format!("sk_{}", "a".repeat(43));
    let paths = [
        ("/api/v1/app", None),
        ("/api/v1/app", Some("nonsense")),
        ("/api/v1/app", Some(&*expired)),
        ("/api/v1/app", Some(&*unknown)),
        ("/api/v1/openapi.json", None),
    ];
    let ask = async |from: &str, path: &str, token: Option<&str>| {
        let request = world.request("GET", path).header("x-forwarded-for", from);
        said(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await
    };
    for (n, (path, token)) in paths.into_iter().enumerate() {
        let from = format!("192.0.2.{n}");
        emptied(twelve(async || ask(&from, path, token).await).await, Instant::now(), "address");
    }
    // Each of them empties the same bucket, and no caller with a good token is in it.
    let (from, next) = ("198.51.100.1", std::cell::Cell::new(0));
    let call = async || {
        let (path, token) = paths[next.replace(next.get() + 1) % paths.len()];
        ask(from, path, token).await
    };
    emptied(twelve(call).await, Instant::now(), "address");
    ask(from, "/api/v1/app", Some(&world.token)).await.expect(200);
    let metrics = world.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("sendoff_http_rate_limited_total{limit=\"address\"}"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_search_of_an_application_waits_and_is_refused() {
    let world = world(NONE).await;
    let (one, other) = (world.app("one").await, world.app("other").await);
    let token = |app: &str| world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let tenant = |app: &str| sendoff::store::Tenant { org: world.org(), only: Some(app.parse().unwrap()) };
    let held = [world.store.scan(&tenant(&one)).await.unwrap(), world.store.scan(&tenant(&one)).await.unwrap()];
    let search = async |app: &str, token: &str| {
        world.call_as(token, "GET", &format!("/app/{app}/msg?event_types=none"), None).await
    };
    let refused = search("one", &token(&one)).await;
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.expect(429)["code"], "too_many_requests");
    search("other", &token(&other)).await.expect(200);
    world.call_as(&token(&one), "GET", "/app/one/msg", None).await.expect(200);
    drop(held);
    assert_eq!(search("one", &token(&one)).await.expect(200)["data"], json!([]));
}
