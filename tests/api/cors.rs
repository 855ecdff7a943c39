//! CORS: what a browser asks before a program of another origin may call, and what it lets the program read.

use reqwest::header::HeaderMap;
use sendoff::api::Origins;
use serde_json::json;

use crate::support::Kind;
use crate::support::kind::OnStore;
use crate::support::routes::routes;
use crate::world::{Settings, World};

async fn preflight(world: &World, path: &str, method: &str, origin: &str) -> (u16, HeaderMap) {
    let request = world.request("OPTIONS", &format!("/api/v1{path}")).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    let answer = request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

fn said<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_any_origin_may_call_each_route() {
    let world = World::on(Kind::Sqlite).await;
    for route in routes() {
        let path = route.path.replace(['{', '}'], "");
        let (status, headers) = preflight(&world, &path, route.method, "https://app.example.com").await;
        assert_eq!((status, said(&headers, "access-control-allow-origin")), (204, Some("*")), "{route:?}");
        let methods = said(&headers, "access-control-allow-methods").unwrap();
        assert!(methods.split(", ").any(|method| method == route.method), "{route:?}: {methods}");
        let sent = said(&headers, "access-control-allow-headers").unwrap();
        for name in ["authorization", "content-type", "idempotency-key", "svix-req-id", "svix-retry-count"] {
            assert!(sent.split(", ").any(|one| one == name), "{name}: {sent}");
        }
        assert!(!headers.contains_key("access-control-allow-credentials"), "cookies do not count");
    }
    // The answers themselves, good ones and bad ones.
    let ask = async |token: &str, path: &str, origin: Option<&str>| {
        let request = world.request("GET", &format!("/api/v1{path}")).bearer_auth(token);
        let answer = origin.into_iter().fold(request, |request, origin| request.header("origin", origin)).send().await;
        let answer = answer.unwrap();
        (answer.status().as_u16(), answer.headers().clone())
    };
    for (token, path, status) in [(&*world.token, "/app", 200), (&world.token, "/app/none", 404), ("none", "/app", 401)]
    {
        let (got, headers) = ask(token, path, Some("https://a.example")).await;
        assert_eq!((got, said(&headers, "access-control-allow-origin")), (status, Some("*")));
        assert!(said(&headers, "access-control-expose-headers").unwrap().contains("retry-after"));
        assert!(!ask(token, path, None).await.1.contains_key("access-control-allow-origin"), "nobody asks");
    }
    // Without the question of a browser it is a method like any other.
    let plain = world.request("OPTIONS", "/api/v1/app").send().await.unwrap();
    assert_eq!((plain.status().as_u16(), &plain.headers()["allow"]), (405, &"GET, POST, HEAD".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_origins_may_call_where_some_are_named() {
    let origins = Origins::These(vec!["https://app.example.com".into()]);
    let world = World::with(Kind::Sqlite, Settings { origins, ..Settings::default() }).await;
    for (origin, allowed) in [
        ("https://app.example.com", Some("https://app.example.com")),
        ("https://app.example.com.evil.example", None),
        ("http://app.example.com", None),
        ("null", None),
    ] {
        let (status, headers) = preflight(&world, "/app", "POST", origin).await;
        assert_eq!((status, said(&headers, "access-control-allow-origin")), (204, allowed), "{origin}");
        assert_eq!(said(&headers, "vary"), Some("origin"));
        let made = world.request("POST", "/api/v1/app").bearer_auth(&world.token).header("origin", origin);
        let made = made
            .header("content-type", "application/json")
            .body(json!({"name": "a"}).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(
            (made.status().as_u16(), said(made.headers(), "access-control-allow-origin")),
            (201, allowed),
            "{origin}"
        );
    }
}
