//! Who sees what: no token, somebody else's, an application's own.

use sendoff::api::authn::jwt::Tokens;
use sendoff::domain::OrgId;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{HOUR, World, said};

on_both! {
    without_a_token
    other_organizations
    tokens_of_an_application
    event_types_of_an_application
}

async fn without_a_token(world: World) {
    let org = world.org();
    let stranger = Tokens::new(b"another secret").mint_org(&org, world.now(), HOUR).unwrap();
    let old = world.tokens.mint_org(&org, world.now().minus(2 * HOUR), HOUR).unwrap();
    let early = world.tokens.mint_org(&org, world.now().plus(HOUR), HOUR).unwrap();
    let good = &world.token;
    let shown = [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        "Bearer nonsense".into(),
        format!("Basic {good}"),
        good.clone(),
        format!("Bearer {good}x"),
        format!("Bearer {stranger}"),
        format!("Bearer {old}"),
        format!("Bearer {early}"),
    ];
    for header in shown {
        for (method, path) in [("GET", "/api/v1/app"), ("POST", "/api/v1/app/a/msg/"), ("POST", "/api/v1/auth/logout")]
        {
            let mut request = world.request(method, path).body("{ not even JSON");
            if !header.is_empty() {
                request = request.header("authorization", &header);
            }
            let answer = said(request).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{header}");
            assert_eq!(answer.expect(401)["code"], "authentication_failed", "{header}");
        }
    }
    let request = world.request("GET", "/api/v1/app").header("authorization", format!("bearer {good}"));
    assert_eq!(said(request).await.status, 200, "a scheme's case does not matter");
}

async fn other_organizations(world: World) {
    let app = world.app("shared-uid").await;
    let endpoint = world.endpoint("shared-uid").await;
    world.call("POST", "/event-type", json!({"name": "t", "description": "ours"})).await.expect(201);
    let message = world.message("shared-uid", "t").await;
    let attempt = world.attempt(&app, &message, &endpoint, 1, Some(200)).await;

    let other: OrgId = "org_other".parse().unwrap();
    let token = world.tokens.mint_org(&other, world.now(), HOUR).unwrap();
    let body = Some(r#"{"name":"n","url":"http://127.0.0.1/","eventType":"t","payload":{},"description":""}"#);
    for (method, path, body) in [
        ("GET", format!("/app/{app}"), None),
        ("GET", "/app/shared-uid".into(), None),
        ("PUT", format!("/app/{app}"), body),
        ("PATCH", format!("/app/{app}"), body),
        ("DELETE", format!("/app/{app}"), None),
        ("GET", format!("/app/{app}/endpoint"), None),
        ("POST", format!("/app/{app}/endpoint"), body),
        ("GET", format!("/app/{app}/endpoint/{endpoint}"), None),
        ("PUT", format!("/app/{app}/endpoint/{endpoint}"), body),
        ("PATCH", format!("/app/{app}/endpoint/{endpoint}"), body),
        ("DELETE", format!("/app/{app}/endpoint/{endpoint}"), None),
        ("GET", format!("/app/{app}/endpoint/{endpoint}/secret"), None),
        ("POST", format!("/app/{app}/endpoint/{endpoint}/secret/rotate"), body),
        ("GET", format!("/app/{app}/msg"), None),
        ("POST", format!("/app/{app}/msg"), body),
        ("GET", format!("/app/{app}/msg/{message}"), None),
        ("GET", format!("/app/{app}/msg/{message}/endpoint"), None),
        ("POST", format!("/app/{app}/msg/{message}/endpoint/{endpoint}/resend"), None),
        ("GET", format!("/app/{app}/msg/{message}/attempt/{attempt}"), None),
        ("DELETE", format!("/app/{app}/msg/{message}/attempt/{attempt}/content"), None),
        ("DELETE", format!("/app/{app}/msg/{message}/content"), None),
        ("GET", format!("/app/{app}/attempt/msg/{message}"), None),
        ("GET", format!("/app/{app}/attempt/endpoint/{endpoint}"), None),
        ("GET", "/event-type/t".into(), None),
        ("PATCH", "/event-type/t".into(), body),
        ("DELETE", "/event-type/t".into(), None),
    ] {
        let answer = world.call_as(&token, method, &path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
    }
    for path in ["/app", "/event-type"] {
        assert_eq!(world.call_as(&token, "GET", path, None).await.expect(200)["data"], json!([]));
    }
    // The same uid is free over there, and means another application; neither sees into the other.
    let made = world.call_as(&token, "POST", "/app", Some(r#"{"name":"x","uid":"shared-uid"}"#)).await.expect(201);
    let theirs = made["id"].as_str().unwrap();
    assert_ne!(theirs, app);
    for path in [format!("endpoint/{endpoint}"), format!("msg/{message}"), format!("attempt/msg/{message}")] {
        assert_eq!(world.call_as(&token, "GET", &format!("/app/{theirs}/{path}"), None).await.status, 404, "{path}");
    }
    world.call_as(&token, "POST", "/app/shared-uid/msg", body).await.expect(202);
    assert_eq!(world.get("/app/shared-uid/msg").await.expect(200)["data"].as_array().unwrap().len(), 1);
    // All is as it was.
    assert_eq!(world.get(&format!("/app/{app}")).await.expect(200)["name"], "shared-uid");
    assert_eq!(world.get("/event-type/t").await.expect(200)["description"], "ours");
}

async fn tokens_of_an_application(world: World) {
    let (mine, other) = (world.app("mine").await, world.app("other").await);
    let foreign = world.endpoint("other").await;
    let endpoint = world.endpoint("mine").await;
    let message = world.message("mine", "t").await;
    let hidden = world.message("other", "t").await;
    let attempt = world.attempt(&mine, &message, &endpoint, 1, Some(200)).await;
    let token = world.tokens.mint_app(&world.org(), mine.parse().unwrap(), world.now(), HOUR).unwrap();
    let call = async |method: &str, path: &str, body: Value| {
        let body = body.to_string();
        world.call_as(&token, method, path, (method != "GET").then_some(&*body)).await
    };
    for path in [
        format!("/app/{mine}"),
        "/app/mine/endpoint".into(),
        format!("/app/mine/endpoint/{endpoint}"),
        format!("/app/mine/endpoint/{endpoint}/secret"),
        "/app/mine/msg".into(),
        format!("/app/mine/msg/{message}"),
        format!("/app/mine/msg/{message}/endpoint"),
        format!("/app/mine/msg/{message}/attempt/{attempt}"),
        format!("/app/mine/attempt/msg/{message}"),
        format!("/app/mine/attempt/endpoint/{endpoint}"),
        "/event-type".into(),
    ] {
        assert_eq!(call("GET", &path, Value::Null).await.status, 200, "{path}");
    }
    let url = json!({"url": "http://127.0.0.1/"});
    call("POST", "/app/mine/endpoint", url.clone()).await.expect(201);
    call("PATCH", &format!("/app/mine/endpoint/{endpoint}"), json!({"description": "d"})).await.expect(200);
    call("POST", &format!("/app/mine/endpoint/{endpoint}/secret/rotate"), json!({})).await.expect(200);
    call("POST", &format!("/app/mine/msg/{message}/endpoint/{endpoint}/resend"), json!({})).await.expect(202);

    let named = json!({"name": "n", "description": "", "eventType": "t", "payload": {}});
    for (method, path) in [
        ("GET", "/app"),
        ("POST", "/app"),
        ("PUT", "/app/mine"),
        ("PATCH", "/app/mine"),
        ("DELETE", "/app/mine"),
        ("POST", "/app/mine/msg"),
        ("POST", "/event-type"),
        ("PUT", "/event-type/t"),
        ("PATCH", "/event-type/t"),
        ("DELETE", "/event-type/t"),
    ] {
        assert_eq!(call(method, path, named.clone()).await.expect(403)["code"], "permission_denied", "{method} {path}");
    }
    for (method, path) in [
        ("GET", format!("/app/{other}")),
        ("GET", "/app/other".into()),
        ("GET", "/app/other/endpoint".into()),
        ("POST", format!("/app/{other}/endpoint")),
        ("GET", format!("/app/other/endpoint/{foreign}")),
        ("GET", format!("/app/mine/endpoint/{foreign}")),
        ("GET", format!("/app/other/endpoint/{foreign}/secret")),
        ("DELETE", format!("/app/other/endpoint/{foreign}")),
        ("GET", "/app/other/msg".into()),
        ("GET", format!("/app/other/msg/{hidden}")),
        ("GET", format!("/app/mine/msg/{hidden}")),
        ("GET", format!("/app/other/attempt/msg/{hidden}")),
        ("POST", format!("/app/mine/msg/{hidden}/endpoint/{endpoint}/resend")),
        ("POST", format!("/app/mine/msg/{message}/endpoint/{foreign}/resend")),
    ] {
        assert_eq!(call(method, &path, url.clone()).await.status, 404, "{method} {path}");
    }
    world.get(&format!("/app/other/endpoint/{foreign}")).await.expect(200);
}

async fn event_types_of_an_application(world: World) {
    let app = world.app("a").await;
    for (name, more) in [
        ("a", json!({})),
        ("b", json!({"featureFlags": ["beta"]})),
        ("c", json!({"archived": true})),
        ("d", json!({})),
        ("e", json!({"featureFlag": "beta"})),
        ("f", json!({})),
    ] {
        let mut body = json!({"name": name, "description": ""});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.call("POST", "/event-type", body).await.expect(201);
    }
    let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let list = async |query: &str| {
        let list =
            world.call_as(&token, "GET", &format!("/event-type?include_archived=true&{query}"), None).await.expect(200);
        let names: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        (names.concat(), list["iterator"].as_str().unwrap_or("-").to_owned(), list["done"] == true)
    };
    let answer = |names: &str, iterator: &str, done| (names.to_owned(), iterator.to_owned(), done);
    assert_eq!(list("").await, answer("adf", "f", true));
    assert_eq!(list("limit=1").await, answer("a", "a", false));
    assert_eq!(list("limit=1&iterator=a").await, answer("d", "d", false));
    assert_eq!(list("limit=2&iterator=a").await, answer("df", "f", true));
    assert_eq!(list("limit=1&iterator=-f").await, answer("d", "d", false));
    assert_eq!(list("limit=2&iterator=-f").await, answer("ad", "d", true));
    assert_eq!(list("limit=1&order=descending").await, answer("f", "f", false));
    for (name, status) in [("a", 200), ("b", 404), ("c", 404)] {
        assert_eq!(world.call_as(&token, "GET", &format!("/event-type/{name}"), None).await.status, status);
    }
}
