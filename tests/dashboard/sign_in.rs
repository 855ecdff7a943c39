//! Who gets in, and how often: links, cookies, tokens, Host and Origin.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use sendoff::domain::Time;
use sendoff::store::access::operator_sessions::{NewSession, SessionClient};
use sha2::{Digest, Sha256};

use crate::support::on_both;
use crate::world::{Browser, World, at, field, location, set_cookie};

on_both! {
    a_link_is_used_up_by_its_button_and_by_nothing_else
    expired_links_and_sessions_open_nothing
    a_session_is_asked_for_everywhere_and_ends_when_its_owner_says
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

async fn a_link_is_used_up_by_its_button_and_by_nothing_else(world: World) {
    let link = world.link().await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let response = world.request(method, &link).send().await.unwrap();
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::OK, String::new()));
    }
    let page = world.request(Method::GET, &link).send().await.unwrap().text().await.unwrap();
    crate::html::check(&page, &link);
    let form = [("token", field(&page, "token")), ("csrf", field(&page, "csrf"))];

    let wrong = [("token", form[0].1.clone()), ("csrf", "A".repeat(43))];
    assert_eq!(world.post("/login", &wrong).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    let response = world.post("/login", &form).send().await.unwrap();
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/"));
    let cookie = set_cookie(&response);
    let browser = Browser { world: &world, cookie: cookie.split(';').next().unwrap().to_owned() };
    assert!(browser.page("/").await.contains("In the last hour"));

    let again = world.post("/login", &form).send().await.unwrap();
    assert_eq!((again.status(), set_cookie(&again)), (StatusCode::UNAUTHORIZED, String::new()));
    assert!(again.text().await.unwrap().contains("This link is no longer valid"));
    assert_eq!(world.request(Method::GET, &link).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

async fn expired_links_and_sessions_open_nothing(world: World) {
    let old = world.ago(Duration::from_secs(16 * 60));
    let link = sendoff::dashboard::sign_in::login::new_link(&world.store, &world.org, &world.url, old).await.unwrap();
    let response = world.request(Method::GET, &link).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let page = response.text().await.unwrap();
    assert!(page.contains("sendoff login-link") && !page.contains("<form"), "{page}");

    // Old, but with a form that was right when it was made.
    let token = link.split("token=").nth(1).unwrap().to_owned();
    let fresh = world.link().await;
    let page = world.request(Method::GET, &fresh).send().await.unwrap().text().await.unwrap();
    let form = [("token", token), ("csrf", field(&page, "csrf"))];
    assert_eq!(world.post("/login", &form).send().await.unwrap().status(), StatusCode::FORBIDDEN);

    // A session that ended a moment ago.
    let ended = Time::from_micros(world.now.micros() - 1);
    world.store.add_login_link(&hash("l"), &world.org, world.now.plus(Duration::from_secs(60))).await.unwrap();
    let (link, session) = (hash("l"), hash("s"));
    let client = SessionClient::default();
    let new = NewSession { hash: &session, client: &client, until: ended };
    let opened = world.store.redeem_login_link(&link, new, world.ago(Duration::from_secs(9)));
    assert!(opened.await.unwrap().is_some());
    let browser = Browser { world: &world, cookie: "sendoff_session=s".into() };
    assert_eq!(browser.get("/").await.0, StatusCode::SEE_OTHER);
}

async fn a_session_is_asked_for_everywhere_and_ends_when_its_owner_says(world: World) {
    for path in ["/", "/deliveries", "/outbox", "/applications/a/messages/b"] {
        let response = world.request(Method::GET, path).send().await.unwrap();
        assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"), "{path}");
        for cookie in ["sendoff_session=", "sendoff_session=x", "__Host-sendoff_session=x"] {
            let response = world.request(Method::GET, path).header("cookie", cookie).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path} {cookie}");
        }
    }
    let path = "/applications/a/messages/b/resend";
    let form = [("csrf", String::new()), ("endpoint", String::new())];
    assert_eq!(world.post(path, &form).send().await.unwrap().status(), StatusCode::SEE_OTHER);
    let login = world.request(Method::GET, "/login").send().await.unwrap();
    assert_eq!(login.status(), StatusCode::UNAUTHORIZED);
    assert!(login.text().await.unwrap().contains("sendoff login-link"));

    let (one, two) = (world.sign_in().await, world.sign_in().await);
    assert_ne!(one.cookie, two.cookie);
    assert_eq!(one.get("/login").await.0, StatusCode::SEE_OTHER);
    let csrf = field(&one.page("/").await, "csrf");
    assert_ne!(csrf, field(&two.page("/").await, "csrf"), "each session has a token of its own");
    assert_eq!(two.post("/logout", &[("csrf", csrf.clone())]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(two.get("/").await.0, StatusCode::OK, "another session's token ends nothing");
    let response = one.post("/logout", &[("csrf", csrf)]).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"));
    assert!(set_cookie(&response).contains("Max-Age=0"), "{}", set_cookie(&response));
    assert_eq!(one.get("/").await.0, StatusCode::SEE_OTHER, "the session is over, whatever the browser keeps");
    assert_eq!(two.get("/").await.0, StatusCode::OK);
}

#[tokio::test]
async fn cookies_are_as_tight_as_the_address_allows() {
    for (public, host, origin, wanted) in [
        ("http://127.0.0.1:8071", "127.0.0.1:8071", "http://127.0.0.1:8071", "sendoff_session="),
        ("https://hooks.example.com", "hooks.example.com", "https://hooks.example.com", "__Host-sendoff_session="),
    ] {
        let world = at(public).await;
        let request = |method, path: &str| world.request(method, path).header("host", host);
        let page = request(Method::GET, &world.link().await).send().await.unwrap().text().await.unwrap();
        let body = format!("token={}&csrf={}", field(&page, "token"), field(&page, "csrf"));
        let response = request(Method::POST, "/login")
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .unwrap();
        let cookie = set_cookie(&response);
        assert!(cookie.starts_with(wanted), "{cookie}");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
            assert!(cookie.split("; ").any(|one| one == part), "{part}: {cookie}");
        }
        assert_eq!(cookie.contains("Secure"), public.starts_with("https"), "{cookie}");
        assert!(!cookie.contains("Domain"), "{cookie}");
        let value = cookie.split(';').next().unwrap().to_owned();
        let overview = request(Method::GET, "/").header("cookie", value).send().await.unwrap();
        assert_eq!(overview.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn other_hosts_and_other_sites_are_rejected() {
    let world = at("https://hooks.example.com").await;
    let link = world.link().await;
    for host in ["evil.example", "127.0.0.1", "hooks.example.com:8071", "hooks.example.com.evil.example"] {
        for path in ["/", &link, "/static/x/app.css"] {
            let response = world.request(Method::GET, path).header("host", host).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
            assert!(response.text().await.unwrap().contains("SENDOFF_PUBLIC_URL"));
        }
    }
    let page = world.request(Method::GET, &link).header("host", "hooks.example.com").send().await.unwrap();
    let page = page.text().await.unwrap();
    let body = format!("token={}&csrf={}", field(&page, "token"), field(&page, "csrf"));
    let post = |name: &'static str, value: &'static str| {
        world
            .request(Method::POST, "/login")
            .header("host", "hooks.example.com")
            .header("content-type", "application/x-www-form-urlencoded")
            .header(name, value)
            .body(body.clone())
            .send()
    };
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "http://hooks.example.com"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let response = post(name, value).await.unwrap();
        assert_eq!(
            (response.status(), set_cookie(&response)),
            (StatusCode::FORBIDDEN, String::new()),
            "{name} {value}"
        );
    }
    assert_eq!(post("origin", "https://hooks.example.com").await.unwrap().status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_link_is_made_for_the_public_address() {
    let world = at("https://hooks.example.com/").await;
    let public = "https://hooks.example.com/".parse().unwrap();
    let link =
        sendoff::dashboard::sign_in::login::new_link(&world.store, &world.org, &public, world.now).await.unwrap();
    let token = link.strip_prefix("https://hooks.example.com/login?token=").expect("an address of ours");
    assert_eq!(token.len(), 43);
    assert!(world.store.is_login_link_valid(&hash(token), world.now).await.unwrap(), "only its hash is kept");
}
