//! Every line of the route table, as it stands in the source, against everybody who may not call it: without a good token, with an
//! application's own, with a key whose scopes are too few. A line that is added is tested without anybody thinking of it.

use sendoff::api::authn::jwt::Tokens;
use sendoff::domain::access::api_key::KeyScope;
use sendoff::store::Tenant;

use crate::support::on_both;
use crate::support::routes::{Route, routes};
use crate::world::{HOUR, Said, World, said};

on_both! {
    no_webhook_calls_the_api
    nobody_without_a_good_token
    an_application_s_token_reaches_its_own
    keys_reach_what_their_scopes_say
}

/// A path with its parts filled in: what `parts` says, else something that there is not.
fn filled(path: &str, parts: &[(&str, &str)]) -> String {
    let segments =
        path.split('/').map(|segment| match segment.strip_prefix('{').and_then(|one| one.strip_suffix('}')) {
            Some(part) => parts.iter().find(|(name, _)| *name == part).map_or("nothing", |(_, value)| value),
            None => segment,
        });
    segments.collect::<Vec<_>>().join("/")
}

/// With a body that most operations would take.
async fn call(world: &World, token: &str, method: &str, path: &str) -> Said {
    const BODY: &str = r#"{"name":"n","url":"http://127.0.0.1/","eventType":"t","payload":{},"description":"","headers":{},
        "since":"2026-01-01T00:00:00Z"}"#;
    world.call_as(token, method, path, (method != "GET").then_some(BODY)).await
}

async fn nobody_without_a_good_token(world: World) {
    let org = world.org();
    let (_, expired) = world.key(&[KeyScope::Write], Some(world.now())).await;
    let (key, revoked) = world.key(&[KeyScope::Write], None).await;
    world.store.revoke_api_key(&Tenant::org(org.clone()), key.id, world.now()).await.unwrap();
    let shown = [
        None,
        Some("nonsense".to_owned()),
        Some(Tokens::new(b"another secret").mint_org(&org, world.now(), HOUR).unwrap()),
        Some(world.tokens.mint_org(&org, world.now().minus(2 * HOUR), HOUR).unwrap()),
        Some(format!("sk_{}", "a".repeat(43))),
        Some(format!("sk_poll_{}", "a".repeat(43))),
        Some(expired),
        Some(revoked),
    ];
    for Route { method, path, .. } in routes() {
        for shown in &shown {
            let mut request = world.request(method, &format!("/api/v1{}", filled(&path, &[])));
            if let Some(token) = shown {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let status = said(request).await.status;
            let wanted = match &*path {
                "/openapi.json" => 200,
                path if path.starts_with("/health") => 204,
                _ => 401,
            };
            assert_eq!(status, wanted, "{method} {path} with {shown:?}");
        }
    }
}

/// Endpoints whose URLs are operations of the API must not keep each other going, whatever token their own headers carry.
async fn no_webhook_calls_the_api(world: World) {
    let call = |method: &str, path: &str, headers: [(&'static str, &str); 2]| {
        let request = world.request(method, &format!("/api/v1{}", filled(path, &[]))).bearer_auth(&world.token);
        said(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
    };
    let agent = ("user-agent", "Sendoff/9.9.9");
    for Route { method, path, .. } in routes() {
        for id in ["webhook-id", "svix-id"] {
            let answer = call(method, &path, [agent, (id, "msg_1")]).await;
            assert_eq!(answer.expect(508)["code"], "loop_detected", "{method} {path} with {id}");
        }
        for headers in [[agent, ("x-id", "msg_1")], [("user-agent", "curl/8"), ("webhook-id", "msg_1")]] {
            assert_ne!(call(method, &path, headers).await.status, 508, "{method} {path} with {headers:?}");
        }
    }
}

/// Whether anybody may call it.
fn is_open(path: &str) -> bool {
    path.starts_with("/health") || path == "/openapi.json"
}

/// What an application's token may do: look at its own, manage its endpoints, have messages sent again.
fn is_for_customers(method: &str, path: &str) -> bool {
    let own = path.starts_with("/app/{app}") || path.starts_with("/auth/app/{app}/poller");
    match method {
        "GET" => own || path.starts_with("/event-type") || path.starts_with("/background-task"),
        "POST" if path.contains("/development-endpoint/") => own,
        "POST" if ["/resend", "/token/rotate", "/seek", "/commit"].iter().any(|end| path.ends_with(end)) => own,
        _ => [
            "/app/{app}/endpoint",
            "/app/{app}/destination",
            "/app/{app}/autoconfig",
            "/app/{app}/development-endpoint",
        ]
        .iter()
        .any(|begin| path.starts_with(begin)),
    }
}

async fn an_application_s_token_reaches_its_own(world: World) {
    let (mine, other) = (world.app("mine").await, world.app("other").await);
    world.call("POST", "/event-type", serde_json::json!({"name": "t", "description": "d"})).await.expect(201);
    let (endpoint, message) = (world.endpoint("other").await, world.message("other", "t").await);
    let attempt = world.attempt(&other, &message, &endpoint, 1, Some(200)).await.to_string();
    let token = world.tokens.mint_app(&world.org(), mine.parse().unwrap(), world.now(), HOUR).unwrap();
    let foreign = [("endpoint", &*endpoint), ("msg", &message), ("attempt", &attempt), ("event_type", "t")];
    for Route { method, path, .. } in routes() {
        if is_open(&path) || path == "/auth/logout" {
            continue;
        }
        // Not answered yet by anybody: said to whoever has a token.
        let refused = |status| [403, 404, 501].contains(&status);
        if path.contains("{app}") {
            for app in [&*other, "other"] {
                let parts = [&[("app", app)], &foreign[..]].concat();
                let answer = call(&world, &token, method, &filled(&path, &parts)).await;
                assert!(refused(answer.status), "{method} {path} of another: {} {}", answer.status, answer.text);
            }
            // What is another's is not reached by way of one's own application either.
            let parts = [&[("app", "mine")], &foreign[..]].concat();
            if path.contains("{endpoint}") || path.contains("{msg}") {
                let answer = call(&world, &token, method, &filled(&path, &parts)).await;
                assert!(refused(answer.status), "{method} {path}: {} {}", answer.status, answer.text);
            }
        }
        let answer = call(&world, &token, method, &filled(&path, &[("app", "mine"), ("event_type", "t")])).await;
        let fits = match answer.status {
            401 => false,
            403 => !is_for_customers(method, &path),
            // Not answered yet by anybody; what only reads says so to everybody.
            501 if method == "GET" => true,
            _ => is_for_customers(method, &path),
        };
        assert!(fits, "{method} {path}: {} {}", answer.status, answer.text);
    }
    // All is as it was.
    world.get(&format!("/app/other/endpoint/{endpoint}")).await.expect(200);
    world.get(&format!("/app/other/msg/{message}")).await.expect(200);
    assert_eq!(world.get("/event-type/t").await.expect(200)["description"], "d");
    assert_eq!(world.get("/app").await.expect(200)["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(world.get("/app/mine/msg").await.expect(200)["data"], serde_json::json!([]));
}

async fn keys_reach_what_their_scopes_say(world: World) {
    let (_, read) = world.key(&[KeyScope::Read], None).await;
    let (_, send) = world.key(&[KeyScope::Send], None).await;
    let (_, write) = world.key(&[KeyScope::Write], None).await;
    for Route { method, path, .. } in routes() {
        if is_open(&path) || path == "/auth/logout" {
            continue;
        }
        let sends = method == "POST" && ["/app/{app}/msg", "/app/{app}/msg/precheck/active"].contains(&&*path);
        let reads = (method == "GET" && !path.ends_with("/secret")) || path.ends_with("/reconcile");
        for (token, wanted) in [(&read, reads), (&send, sends), (&write, true)] {
            let answer = call(&world, token, method, &filled(&path, &[])).await;
            assert_eq!(answer.status != 403, wanted, "{method} {path}: {}", answer.text);
        }
    }
}
