//! `idempotency-key`: a POST that comes twice acts once and is answered as the first time.

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{HOUR, Said, World, said};

async fn post(world: &World, token: &str, key: &str, path: &str, body: &str) -> Said {
    let request = world
        .request("POST", &format!("/api/v1{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("idempotency-key", key)
        .header(CONTENT_TYPE, "application/json")
        .body(body.to_owned());
    said(request).await
}

async fn again_gives_the_first_answer(world: World) {
    let app = world.app("acme").await;
    let endpoint = world.endpoint(&app).await;
    let message = world.message(&app, "a.b").await;
    let schemas = json!({"1": {"type": "object", "example": {"a": 1}}});
    world.call("POST", "/event-type", json!({"name": "e.f", "description": "", "schemas": schemas})).await.expect(201);
    let since = world.now().minus(HOUR).to_string();
    let of_app = format!("/app/{app}");
    let of_endpoint = format!("{of_app}/endpoint/{endpoint}");
    for (path, body, status) in [
        ("/app".to_owned(), json!({"name": "x", "uid": "x"}), 201),
        ("/app?get_if_exists=true".to_owned(), json!({"name": "y", "uid": "y"}), 201),
        ("/event-type".to_owned(), json!({"name": "c.d", "description": ""}), 201),
        (format!("{of_app}/endpoint"), json!({"url": "http://127.0.0.1:9/", "uid": "e"}), 201),
        (format!("{of_app}/msg"), json!({"eventType": "a.b", "eventId": "order-1", "payload": {"a": 1.50}}), 202),
        (format!("{of_app}/msg?with_content=false"), json!({"eventType": "a.b", "payload": {"a": 1}}), 202),
        (
            "/app/fresh/msg".to_owned(),
            json!({"eventType": "a.b", "payload": {}, "application": {"name": "Made on the way", "uid": "fresh"}}),
            202,
        ),
        (format!("{of_endpoint}/send-example"), json!({"eventType": "e.f"}), 202),
        (format!("{of_endpoint}/recover"), json!({"since": since}), 202),
        (format!("{of_endpoint}/replay-missing"), json!({"since": since}), 202),
        (format!("{of_endpoint}/bulk-replay"), json!({"since": since}), 202),
        ("/operational-webhook/endpoint".to_owned(), json!({"url": "http://127.0.0.1:9/"}), 201),
        (format!("{of_endpoint}/secret/rotate"), json!({}), 200),
        (format!("{of_app}/msg/{message}/endpoint/{endpoint}/resend"), json!({}), 202),
    ] {
        let body = body.to_string();
        let first = post(&world, &world.token, "key-1", &path, &body).await.expect(status);
        let second = post(&world, &world.token, "key-1", &path, &body).await.expect(status);
        assert_eq!(first, second, "{path}");
        if !path.ends_with("resend") {
            let other = post(&world, &world.token, "key-1", &path, &format!("{body} ")).await.refused();
            assert_eq!(other, ["header.idempotency-key"], "{path}: another body is another request");
        }
    }
    let count = world.get(&format!("{of_app}/msg")).await.expect(200)["data"].as_array().map(Vec::len);
    assert_eq!(count, Some(4));
    // A way in is given anew, for what is kept of it cannot be given out; another body is another request all the same.
    let path = format!("/auth/app-portal-access/{app}");
    let mut given = Vec::new();
    for _ in 0..2 {
        given.push(post(&world, &world.token, "key-1", &path, "{}").await.expect(200)["token"].clone());
    }
    assert!(given.iter().all(Value::is_string));
    let other = post(&world, &world.token, "key-1", &path, r#"{"readOnly": true}"#).await.refused();
    assert_eq!(other, ["header.idempotency-key"]);
}

async fn a_key_is_bound_to_its_url_and_its_caller(world: World) {
    let (one, two) = (world.app("one").await, world.app("two").await);
    let body = json!({"eventType": "a", "payload": {}}).to_string();
    let stranger = world.tokens.mint_org(&"org_else".parse().unwrap(), world.now(), HOUR).unwrap();
    let mut ids: Vec<Value> = Vec::new();
    for (path, key) in [(&one, "k"), (&one, "l"), (&two, "k")] {
        ids.push(post(&world, &world.token, key, &format!("/app/{path}/msg"), &body).await.expect(202)["id"].clone());
    }
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 3);
    let theirs = post(&world, &stranger, "k", "/app", r#"{"name":"n"}"#).await.expect(201);
    let ours = post(&world, &world.token, "k", "/app", r#"{"name":"n"}"#).await.expect(201);
    assert_ne!(theirs["id"], ours["id"]);
}

async fn a_failure_is_not_remembered(world: World) {
    let path = "/app/late/msg";
    let body = json!({"eventType": "a", "payload": {}}).to_string();
    post(&world, &world.token, "k", path, &body).await.expect(404);
    post(&world, &world.token, "k", path, "{").await.expect(400);
    world.app("late").await;
    post(&world, &world.token, "k", path, &body).await.expect(202);
    let long = "k".repeat(257);
    assert_eq!(post(&world, &world.token, &long, path, &body).await.refused(), ["header.idempotency-key"]);
    assert_eq!(post(&world, &world.token, "", path, &body).await.refused(), ["header.idempotency-key"]);
}

async fn one_of_twenty_concurrent_requests_takes_effect(world: World) {
    let app = world.app("acme").await;
    let (path, body) = (format!("/app/{app}/msg"), json!({"eventType": "a", "payload": {}}).to_string());
    let all = (0..20).map(|_| post(&world, &world.token, "k", &path, &body));
    let mut ids: Vec<String> = Vec::new();
    for one in futures_util::future::join_all(all).await {
        match one.status {
            202 => ids.push(one.json()["id"].to_string()),
            _ => assert_eq!(one.expect(409)["code"], "conflict", "under way"),
        }
    }
    assert!(!ids.is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(world.get(&path).await.expect(200)["data"].as_array().map(Vec::len), Some(1));
}

on_both! {
    again_gives_the_first_answer
    a_key_is_bound_to_its_url_and_its_caller
    a_failure_is_not_remembered
    one_of_twenty_concurrent_requests_takes_effect
}
