//! Bad input of every kind: a 4xx in JSON that says what was wrong and where, and nothing stored.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{MAX_PAYLOAD, World, said};

on_both! {
    bad_bodies
    bad_applications
    bad_endpoints
    bad_event_types
    bad_messages
    too_large
    hidden_secrets
}

async fn messages_of(world: &World) -> usize {
    world.get("/app/a/msg").await.expect(200)["data"].as_array().unwrap().len()
}

/// Bodies that cannot be read at all, to every operation that takes one.
async fn bad_bodies(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let one = format!("/app/a/endpoint/{endpoint}");
    let rotate = format!("{one}/secret/rotate");
    let operations = [
        ("POST", "/app"),
        ("PUT", "/app/a"),
        ("PATCH", "/app/a"),
        ("POST", "/app/a/endpoint"),
        ("PUT", &*one),
        ("PATCH", &*one),
        ("POST", &*rotate),
        ("POST", "/event-type"),
        ("PUT", "/event-type/t"),
        ("POST", "/app/a/msg"),
    ];
    let broken: [&[u8]; 9] = [
        b"",
        b"{",
        b"{\"name\":\"x\"",
        b"{\"name\":\"x\",}",
        b"{'name':'x'}",
        b"{\"name\":\"x\"} trailing",
        b"{\"name\":\"\xff\xfe\"}",
        b"{\"name\": nul}",
        b"\xef\xbb\xbf{\"name\":\"x\"}",
    ];
    for (method, path) in operations {
        let send = |kind: &str, body: &[u8]| {
            let request = world.request(method, &format!("/api/v1{path}")).bearer_auth(&world.token);
            said(request.header(CONTENT_TYPE, kind).body(body.to_vec()))
        };
        for body in broken {
            let answer = send("application/json", body).await;
            assert_eq!(answer.status, 400, "{method} {path} {:?}: {}", String::from_utf8_lossy(body), answer.text);
            assert_eq!(answer.json()["code"], "malformed");
        }
        for body in ["[]", "7", "\"x\"", "null", "true"] {
            let answer = send("application/json", body.as_bytes()).await;
            assert_eq!(answer.refused(), ["body"], "{method} {path} {body}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "garbage"] {
            assert_eq!(send(kind, b"{}").await.expect(415)["code"], "unsupported_media_type", "{kind}");
        }
    }
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"] {
        let request = world.request("POST", "/api/v1/app").bearer_auth(&world.token).header(CONTENT_TYPE, kind);
        assert_eq!(said(request.body("{\"name\":\"x\"}")).await.status, 201, "{kind}");
    }
    let request = world.request("POST", "/api/v1/app").bearer_auth(&world.token);
    assert_eq!(said(request.body("{\"name\":\"x\"}")).await.status, 201, "nothing said about the kind");
    assert_eq!(messages_of(&world).await, 0);
}

async fn bad_applications(world: World) {
    let big: Value = (0..51).map(|i| (i.to_string(), json!(""))).collect::<serde_json::Map<_, _>>().into();
    for (body, fields) in [
        (json!({}), &["body.name"][..]),
        (json!({"name": null}), &["body.name"]),
        (json!({"name": ""}), &["body.name"]),
        (json!({"name": 7}), &["body.name"]),
        (json!({"name": "a\u{0}b"}), &["body.name"]),
        (json!({"name": "x".repeat(257)}), &["body.name"]),
        (json!({"name": "x", "uid": "x".repeat(257)}), &["body.uid"]),
        (json!({"name": "x", "uid": ""}), &["body.uid"]),
        (json!({"name": "x", "uid": "a b"}), &["body.uid"]),
        (json!({"name": "x", "uid": "app_1"}), &["body.uid"]),
        (json!({"name": "x", "uid": "a:b"}), &["body.uid"]),
        (json!({"name": "x", "throttleRate": 0}), &["body.throttleRate"]),
        (json!({"name": "x", "throttleRate": 65536}), &["body.throttleRate"]),
        (json!({"name": "x", "throttleRate": 1.5}), &["body.throttleRate"]),
        (json!({"name": "x", "throttleRate": "9"}), &["body.throttleRate"]),
        (json!({"name": "x", "metadata": {"a": 1}}), &["body.metadata"]),
        (json!({"name": "x", "metadata": {"a": "x".repeat(4_097)}}), &["body.metadata"]),
        (json!({"name": "x", "metadata": big}), &["body.metadata"]),
        (json!({"name": "x", "contactEmail": "nobody"}), &["body.contactEmail"]),
        (json!({"uid": "a/b", "throttleRate": true}), &["body.name", "body.uid", "body.throttleRate"]),
    ] {
        assert_eq!(world.call("POST", "/app", body.clone()).await.refused(), fields, "{body}");
        assert_eq!(world.call("PUT", "/app/some", body.clone()).await.refused(), fields, "{body}");
    }
    assert_eq!(world.get("/app").await.expect(200)["data"], json!([]));
}

async fn bad_endpoints(world: World) {
    world.app("a").await;
    let url = "http://127.0.0.1/";
    let with = |field: &str, value: Value| json!({"url": url, field: value});
    for (body, fields) in [
        (json!({}), &["body.url"][..]),
        (json!({"url": ""}), &["body.url"]),
        (json!({"url": 1}), &["body.url"]),
        (json!({"url": "example.com"}), &["body.url"]),
        (json!({"url": "/relative"}), &["body.url"]),
        (json!({"url": "ftp://example.com/"}), &["body.url"]),
        (json!({"url": "https://user:hush@example.com/"}), &["body.url"]),
        (json!({"url": "http://127.0.0.2/"}), &["body.url"]),
        (json!({"url": "http://10.0.0.1/"}), &["body.url"]),
        (json!({"url": "http://169.254.169.254/latest/meta-data"}), &["body.url"]),
        (json!({"url": "http://[::ffff:10.0.0.1]/"}), &["body.url"]),
        (json!({"url": format!("http://127.0.0.1/{}", "x".repeat(2_048))}), &["body.url"]),
        (with("secret", json!("whsec_short")), &["body.secret"]),
        (with("secret", json!("not base64!")), &["body.secret"]),
        (with("secret", json!(5)), &["body.secret"]),
        (with("eventTypes", json!([])), &["body.eventTypes"]),
        (with("eventTypes", json!(["unknown.type"])), &["body.eventTypes"]),
        (with("filterTypes", json!("x")), &["body.filterTypes"]),
        (with("channels", json!([])), &["body.channels"]),
        (with("channels", json!(["a b"])), &["body.channels"]),
        (with("channels", json!((0..11).map(|i| i.to_string()).collect::<Vec<_>>())), &["body.channels"]),
        (with("uid", json!("ep_1")), &["body.uid"]),
        (with("throttleRate", json!(0)), &["body.throttleRate"]),
        (with("disabled", json!("no")), &["body.disabled"]),
        (with("requestTimeoutSeconds", json!(0)), &["body.requestTimeoutSeconds"]),
        (with("requestTimeoutSeconds", json!(31)), &["body.requestTimeoutSeconds"]),
        (with("requestTimeoutSeconds", json!(1.5)), &["body.requestTimeoutSeconds"]),
        (with("retrySchedule", json!(vec![1; 21])), &["body.retrySchedule"]),
        (with("retrySchedule", json!([-1])), &["body.retrySchedule"]),
        (with("retrySchedule", json!(["5s"])), &["body.retrySchedule"]),
        (with("retrySchedule", json!([1e12])), &["body.retrySchedule"]),
        (with("signatureType", json!("rsa")), &["body.signatureType"]),
        (with("extraSignatures", json!([{"style": "morse"}])), &["body.extraSignatures"]),
        (with("extraSignatures", json!([{"style": "github", "header": "webhook-id"}])), &["body.extraSignatures"]),
        (with("headers", json!({"webhook-signature": "x"})), &["body.headers"]),
        (with("headers", json!({"x-a": "line\nbreak"})), &["body.headers"]),
        (with("ordered", json!("yes")), &["body.ordered"]),
        (with("version", json!(0)), &["body.version"]),
        (with("version", json!(1.5)), &["body.version"]),
        (
            json!({"url": "nope", "uid": "a b", "channels": [], "secret": "x"}),
            &["body.uid", "body.secret", "body.url", "body.channels"],
        ),
    ] {
        assert_eq!(world.call("POST", "/app/a/endpoint", body.clone()).await.refused(), fields, "{body}");
    }
    let said = world.call("POST", "/app/a/endpoint", with("eventTypes", json!(["un.known", "x.y"]))).await;
    assert!(said.text.contains("un.known, x.y"), "it names the missing ones: {}", said.text);
    world.call("POST", "/app/a/endpoint", with("ordered", json!(false))).await.expect(201);
    world.call("POST", "/app/a/endpoint", with("url", json!("https://no-such-host.invalid/"))).await.expect(201);
    world.call("POST", "/app/unknown/endpoint", json!({"url": url})).await.expect(404);
    world.call("POST", "/app/not%20a%20name/endpoint", json!({"url": url})).await.expect(404);
    assert_eq!(world.get("/app/a/endpoint").await.expect(200)["data"].as_array().unwrap().len(), 2);
}

async fn bad_event_types(world: World) {
    for (body, fields) in [
        (json!({}), &["body.name", "body.description"][..]),
        (json!({"name": "", "description": ""}), &["body.name"]),
        (json!({"name": "a b", "description": ""}), &["body.name"]),
        (json!({"name": "x".repeat(257), "description": ""}), &["body.name"]),
        (json!({"name": "x", "description": null}), &["body.description"]),
        (json!({"name": "x", "description": "\u{0}"}), &["body.description"]),
        (json!({"name": "x", "description": "", "archived": "no"}), &["body.archived"]),
        (json!({"name": "x", "description": "", "featureFlags": ["a b"]}), &["body.featureFlags"]),
        (json!({"name": "x", "description": "", "schemas": "x"}), &["body.schemas"]),
    ] {
        assert_eq!(world.call("POST", "/event-type", body.clone()).await.refused(), fields, "{body}");
    }
    let deep = format!(r#"{{"name":"x","description":"","schemas":{}1{}}}"#, "{\"a\":".repeat(300), "}".repeat(300));
    assert_eq!(world.raw("POST", "/event-type", &deep).await.refused(), ["body.schemas"]);
}

async fn bad_messages(world: World) {
    world.app("a").await;
    let with = |field: &str, value: Value| json!({"eventType": "t", "payload": {}, field: value});
    let six: Vec<String> = (0..6).map(|i| i.to_string()).collect();
    for (body, fields) in [
        (json!({}), &["body.eventType", "body.payload"][..]),
        (json!({"eventType": "t"}), &["body.payload"]),
        (json!({"payload": {}}), &["body.eventType"]),
        (with("payload", Value::Null), &["body.payload"]),
        (with("payload", json!([])), &["body.payload"]),
        (with("payload", json!("{}")), &["body.payload"]),
        (with("payload", json!(1)), &["body.payload"]),
        (with("eventType", json!("a b")), &["body.eventType"]),
        (with("eventType", json!("")), &["body.eventType"]),
        (with("eventType", json!(5)), &["body.eventType"]),
        (with("eventType", json!("x".repeat(257))), &["body.eventType"]),
        (with("eventId", json!("x".repeat(257))), &["body.eventId"]),
        (with("eventId", json!("msg_1")), &["body.eventId"]),
        (with("eventId", json!(1)), &["body.eventId"]),
        (with("channels", json!([])), &["body.channels"]),
        (with("channels", json!((0..11).map(|i| i.to_string()).collect::<Vec<_>>())), &["body.channels"]),
        (with("channels", json!(["x".repeat(129)])), &["body.channels"]),
        (with("channels", json!("x")), &["body.channels"]),
        (with("occurredAt", json!("yesterday")), &["body.occurredAt"]),
        (with("tags", json!(six)), &["body.tags"]),
        (with("tags", json!(["a b"])), &["body.tags"]),
        (with("tags", json!(["x".repeat(129)])), &["body.tags"]),
        (with("tags", json!("x")), &["body.tags"]),
    ] {
        let said = world.call("POST", "/app/a/msg", body.clone()).await;
        assert_eq!(said.refused(), fields, "{body}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let said = world.raw("POST", "/app/a/msg", &format!(r#"{{"eventType":"t","payload":{deep}}}"#)).await;
    assert_eq!(said.refused(), ["body.payload"]);
    let none = world.call("POST", "/app/nobody/msg", with("eventId", json!("x"))).await;
    assert_eq!(none.expect(404)["code"], "not_found");
    for path in ["/app/msg_x/msg", "/app/%01/msg", "/app/a%2Fb/msg"] {
        assert_eq!(world.call("POST", path, with("eventId", json!("x"))).await.status, 404, "{path}");
    }
    assert_eq!(messages_of(&world).await, 0, "nothing of it was stored");
    world.call("POST", "/app/a/msg", with("eventId", json!("x"))).await.expect(202);
}

async fn too_large(world: World) {
    world.app("a").await;
    let payload = |bytes: usize| format!("{{\"s\":\"{}\"}}", "x".repeat(bytes - 8));
    let body = |bytes| format!(r#"{{"eventType":"t","payload":{}}}"#, payload(bytes));
    world.raw("POST", "/app/a/msg", &body(MAX_PAYLOAD)).await.expect(202);
    let over = world.raw("POST", "/app/a/msg", &body(MAX_PAYLOAD + 1)).await.expect(413);
    assert_eq!(over["code"], "payload_too_large");
    assert!(over["detail"].as_str().unwrap().contains("4097"), "{over}");
    let huge = body(2 * MAX_PAYLOAD + 64 * 1024);
    assert_eq!(world.raw("POST", "/app/a/msg", &huge).await.expect(413)["code"], "payload_too_large");
    assert_eq!(world.raw("POST", "/app", &huge).await.status, 413);
    // The same in pieces, without a length said beforehand.
    let pieces =
        huge.as_bytes().chunks(10_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>();
    let stream = futures_util::stream::iter(pieces);
    let request = world.request("POST", "/api/v1/app/a/msg").bearer_auth(&world.token);
    let answer = request.header(CONTENT_TYPE, "application/json").body(reqwest::Body::wrap_stream(stream)).send().await;
    // The server may close before all of it was sent: then there is no answer to read.
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 413));
    // A large envelope around a small payload is fine, in one piece and in several.
    let wide = format!("{}{}", body(100), " ".repeat(60_000));
    world.raw("POST", "/app/a/msg", &wide).await.expect(202);
    assert_eq!(messages_of(&world).await, 2);
}

async fn hidden_secrets(world: World) {
    world.app("a").await;
    let body = json!({"url": "http://127.0.0.1/", "uid": "e", "headers": {"authorization": "Bearer hush-hush"}});
    let made = world.call("POST", "/app/a/endpoint", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = world.get("/app/a/endpoint/e/secret").await.expect(200)["key"].as_str().unwrap()[6..].to_owned();
    for path in ["/app/a/endpoint/e", "/app/a/endpoint", "/app/a", "/app"] {
        let text = world.get(path).await.text;
        assert!(!text.contains("hush-hush") && !text.contains(&key), "{path}: {text}");
    }
    let bad =
        world.call("POST", "/app/a/endpoint", json!({"url": "http://127.0.0.1/", "secret": "whsec_geheim"})).await;
    assert!(!bad.text.contains("geheim"), "{}", bad.text);
    let foreign = world.call_as("eyJhbGciOiJub25lIn0.e30.", "GET", "/app", None).await;
    assert!(!foreign.text.contains("eyJ"), "{}", foreign.text);
}
