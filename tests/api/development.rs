//! Reports of listeners over REST: who may, of what, and how much.

use sendoff::domain::access::api_key::KeyScope;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{HOUR, World, said};

on_both! {
    a_listener_reports_responses
    bad_reports
}

const MINE: &str = "/app/a/development-endpoint/my.machine-3000";

fn attempt(message: &str) -> Value {
    json!({"url": "http://me:hush@localhost:3000/hooks?key=hush",
        "attempt": {"msgId": message, "responseStatusCode": 200, "responseDurationMs": 4, "response": "ok"}})
}

async fn a_listener_reports_responses(world: World) {
    let (app, other) = (world.app("a").await, world.app("b").await);
    let (message, foreign) = (world.message("a", "t").await, world.message("b", "t").await);
    let own = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let report =
        async |token: &str, path: &str, body: Value| world.call_as(token, "POST", path, Some(&body.to_string())).await;
    let made = report(&own, MINE, json!({"url": "http://localhost:3000/hooks"})).await.expect(200);
    assert_eq!(made["name"], "my.machine-3000");
    let reported = report(&own, MINE, attempt(&message)).await.expect(200);
    assert_eq!((&reported["url"], &reported["createdAt"]), (&json!("http://localhost:3000/hooks"), &made["createdAt"]));
    assert!(reported["expiresAt"].as_str() >= made["expiresAt"].as_str());
    // Under one key it is reported once.
    for _ in 0..2 {
        let request = world.request("POST", &format!("/api/v1{MINE}")).bearer_auth(&own);
        let request = request.header("idempotency-key", "k").header("content-type", "application/json");
        said(request.body(attempt(&message).to_string())).await.expect(200);
    }
    let tenant = sendoff::store::Tenant::org(world.org());
    let kept = world.store.local_attempts(&tenant, app.parse().unwrap(), "my.machine-3000").await.unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].message_id.to_string(), kept[0].response.body.as_str()), (message.clone(), "ok"));
    // Of its own application alone, and of messages that there are.
    report(&own, &MINE.replace("/a/", &format!("/{other}/")), attempt(&foreign)).await.expect(404);
    report(&own, MINE, attempt(&foreign)).await.expect(404);
    let (_, reader) = world.key(&[KeyScope::Read], None).await;
    report(&reader, MINE, attempt(&message)).await.expect(403);
    // It is no endpoint and no attempt of the dialect.
    assert_eq!(world.get("/app/a/endpoint").await.expect(200)["data"], json!([]));
    assert_eq!(world.get(&format!("/app/a/attempt/msg/{message}")).await.expect(200)["data"], json!([]));
}

async fn bad_reports(world: World) {
    world.app("a").await;
    let message = world.message("a", "t").await;
    let with = |field: &str, value: Value| {
        let mut body = attempt(&message);
        body["attempt"][field] = value;
        body
    };
    for (body, field) in [
        (json!({}), "body.url"),
        (json!({"url": "localhost:3000"}), "body.url"),
        (json!({"url": "file:///etc/passwd"}), "body.url"),
        (json!({"url": "http://localhost/", "attempt": []}), "body.attempt"),
        (with("msgId", json!("msg_1")), "body.attempt.msgId"),
        (with("msgId", Value::Null), "body.attempt.msgId"),
        (with("responseStatusCode", json!(99)), "body.attempt.responseStatusCode"),
        (with("responseStatusCode", json!(600)), "body.attempt.responseStatusCode"),
        (with("responseStatusCode", json!(-1)), "body.attempt.responseStatusCode"),
        (with("responseDurationMs", json!(3_600_001)), "body.attempt.responseDurationMs"),
        (with("error", json!("x".repeat(257))), "body.attempt.error"),
    ] {
        assert_eq!(world.call("POST", MINE, body.clone()).await.refused(), [field], "{body}");
    }
    let long = format!("/app/a/development-endpoint/{}", "x".repeat(257));
    assert_eq!(world.call("POST", &long, attempt(&message)).await.refused(), ["path.listener_id"]);
    world.call("POST", "/app/none/development-endpoint/mine", attempt(&message)).await.expect(404);
    let large = with("response", json!("x".repeat(16 * 1024 + 1)));
    let wide = World::with(
        crate::support::Kind::Sqlite,
        crate::world::Settings { max_payload: 64 * 1024, ..Default::default() },
    );
    let wide = wide.await;
    wide.app("a").await;
    assert_eq!(wide.call("POST", MINE, large).await.refused(), ["body.attempt.response"]);
}
