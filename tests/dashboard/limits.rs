//! How often somebody may ask for pages, and how many lists at a time.

use std::num::NonZeroU32;

use reqwest::{Method, Response, StatusCode};
use sendoff::domain::limits;
use sendoff::store::Tenant;
use sendoff::traffic::Traffic;
use sendoff::traffic::rate_limits::{RateLimits, Rates};

use crate::support::on_both;
use crate::world::{Browser, World, with_traffic};

on_both! {
    a_customer_s_third_search_is_refused_with_a_page
    the_longest_texts_fit_their_forms
}

async fn get(world: &World, path: &str, cookie: &str) -> Response {
    world.request(Method::GET, path).header("cookie", cookie).send().await.unwrap()
}

/// Asks until it is refused, and gives the refusal.
async fn emptied(world: &World, path: &str, cookie: &str) -> Response {
    for _ in 0..200 {
        let response = get(world, path, cookie).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return response;
        }
    }
    panic!("{path} was never refused");
}

fn rates(session: Option<u32>, address: Option<u32>) -> Traffic {
    let rate = |rate: Option<u32>| rate.and_then(NonZeroU32::new);
    let rates = Rates { key: None, application: None, session: rate(session), address: rate(address) };
    Traffic { limits: RateLimits::new(rates), ..Traffic::default() }
}

#[tokio::test]
async fn a_session_that_asks_too_often_is_refused_and_no_other() {
    let world = with_traffic(rates(Some(2), None)).await;
    let (one, other) = (world.sign_in().await, world.sign_in().await);
    let refused = emptied(&world, "/audit", &one.cookie).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["ratelimit-policy"], "\"session\";q=4;w=2");
    assert_eq!(refused.headers()["ratelimit"], "\"session\";r=0;t=1");
    assert!(refused.text().await.unwrap().contains("too many requests"));
    assert_eq!(get(&world, "/audit", &other.cookie).await.status(), StatusCode::OK);
    assert_eq!(get(&world, "/login", "").await.status(), StatusCode::UNAUTHORIZED, "nobody is limited by address here");
}

#[tokio::test]
async fn without_a_session_the_address_is_limited_and_invented_sessions_are_none() {
    let world = with_traffic(rates(None, Some(5))).await;
    let browser: Browser<'_> = world.sign_in().await;
    assert_eq!(get(&world, "/audit", &browser.cookie).await.status(), StatusCode::OK);
    for (n, path) in ["/login", "/audit", "/portal/enter/nothing"].into_iter().enumerate() {
        emptied(&world, path, &format!("sendoff_session=invented{n}")).await;
    }
    for _ in 0..30 {
        assert_eq!(
            get(&world, "/audit", &browser.cookie).await.status(),
            StatusCode::OK,
            "who is known is not limited"
        );
        assert_ne!(get(&world, "/static/0/app.css", "").await.status(), StatusCode::TOO_MANY_REQUESTS, "pages need it");
    }
}

async fn a_customer_s_third_search_is_refused_with_a_page(world: World) {
    let acme = world.app("Acme").await;
    let visit = world.portal_session(&acme, None, &[]).await;
    let tenant = Tenant { only: Some(acme.id), ..world.tenant() };
    let held = [world.store.scan(&tenant).await.unwrap(), world.store.scan(&tenant).await.unwrap()];
    let refused = get(&world, "/portal/messages?type=none", &visit.cookie).await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    let page = refused.text().await.unwrap();
    crate::html::check(&page, "/portal/messages");
    assert!(page.contains("Too many searches"), "{page}");
    drop(held);
    assert_eq!(get(&world, "/portal/messages?type=none", &visit.cookie).await.status(), StatusCode::OK);
}

/// A payload of the most bytes, and schemas of the most bytes: mostly of characters that a browser encodes with three.
async fn the_longest_texts_fit_their_forms(world: World) {
    let browser = world.sign_in().await;
    let list = |bytes: usize| format!("[{}]", vec!["\"\""; (bytes - 32) / 3].join(","));
    let schemas = format!("{{\"1\":{{\"examples\":{}}}}}", list(limits::SCHEMAS_BYTES - 64));
    let typed = [("name", "long.one"), ("description", ""), ("schemas", &*schemas)];
    let saved = browser.submit("/event-types/new", "/event-types/new", &typed).await;
    assert_eq!(saved.status(), StatusCode::SEE_OTHER, "{}", saved.text().await.unwrap());
    let acme = world.app("Acme").await;
    let send = format!("/applications/{}/send", acme.id);
    let payload = format!("{{\"a\":{}}}", list(world.store.max_payload() - 16));
    let typed = [("eventType", "long.one"), ("payload", &*payload)];
    let sent = browser.submit(&send, &send, &typed).await;
    assert_eq!(sent.status(), StatusCode::SEE_OTHER, "{}", sent.text().await.unwrap());
}
