//! Sending an example to one endpoint.

use serde_json::json;

use crate::resources::has;
use crate::support::on_both;
use crate::world::{HOUR, World};

on_both! {
    an_example_goes_to_one_endpoint
    examples_that_there_are_not
}

async fn an_example_goes_to_one_endpoint(world: World) {
    let app = world.app("a").await;
    let other = world.endpoint("a").await;
    let schemas = json!({
        "9": {"example": {"of": "an old version"}},
        "10": {"type": "object", "examples": [{"total": 1}, {"total": 2.5}]},
    });
    world
        .call("POST", "/event-type", json!({"name": "listed", "description": "", "schemas": schemas}))
        .await
        .expect(201);
    let schemas = json!({"1": {"properties": {"id": {"type": "string"}, "at": {"$ref": "#/$defs/at"}},
        "$defs": {"at": {"type": "string", "format": "date-time"}}}});
    world.call("POST", "/event-type", json!({"name": "made", "description": "", "schemas": schemas})).await.expect(201);
    let body = json!({"url": "http://127.0.0.1:9/", "eventTypes": ["made"], "channels": ["x"]});
    let choosy = world.call("POST", "/app/a/endpoint", body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/app/a/endpoint/{choosy}/send-example");

    let sent = world.call("POST", &path, json!({"eventType": "listed"})).await.expect(202);
    has(&sent, json!({"eventType": "listed", "payload": {"total": 1}, "channels": null, "eventId": null}));
    let message = sent["id"].as_str().unwrap();
    let stands = world.get(&format!("/app/a/msg/{message}/endpoint")).await.expect(200);
    assert_eq!(stands["data"].as_array().unwrap().len(), 1, "to no other");
    has(&stands["data"][0], json!({"id": choosy, "statusText": "pending"}));
    assert_eq!(world.get(&format!("/app/a/msg/{message}")).await.expect(200), sent, "a message like any other");

    let sent = world.call("POST", &path, json!({"eventType": "listed", "exampleIndex": 1})).await.expect(202);
    has(&sent, json!({"payload": {"total": 2.5}}));
    let wanted = json!({"payload": {"id": "string", "at": "2026-01-01T12:00:00Z"}});
    let made = json!({"eventType": "made"});
    has(&world.call("POST", &path, made.clone()).await.expect(202), wanted);
    let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    world.call_as(&token, "POST", &path, Some(&made.to_string())).await.expect(202);
    let sent = world.get(&format!("/app/a/endpoint/{other}/msg")).await.expect(200);
    assert_eq!(sent["data"], json!([]));
}

async fn examples_that_there_are_not(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    for (name, more) in [
        ("bare", json!({})),
        ("empty", json!({"schemas": {}})),
        ("text", json!({"schemas": {"1": {"example": "no object"}}})),
        ("huge", json!({"schemas": {"1": {"example": {"x": "y".repeat(5_000)}}}})),
        ("two", json!({"schemas": {"1": {"examples": [{}, {}]}}})),
        ("beta", json!({"schemas": {"1": {}}, "featureFlags": ["beta"]})),
    ] {
        let mut body = json!({"name": name, "description": ""});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.call("POST", "/event-type", body).await.expect(201);
    }
    let path = format!("/app/a/endpoint/{endpoint}/send-example");
    for (body, field) in [
        (json!({}), "body.eventType"),
        (json!({"eventType": 7}), "body.eventType"),
        (json!({"eventType": "no.such"}), "body.eventType"),
        (json!({"eventType": "bare"}), "body.eventType"),
        (json!({"eventType": "empty"}), "body.eventType"),
        (json!({"eventType": "text"}), "body.eventType"),
        (json!({"eventType": "two", "exampleIndex": 2}), "body.exampleIndex"),
        (json!({"eventType": "two", "exampleIndex": -1}), "body.exampleIndex"),
        (json!({"eventType": "two", "payload": {}}), "body.payload"),
    ] {
        assert_eq!(world.call("POST", &path, body.clone()).await.refused(), [field], "{body}");
    }
    world.call("POST", &path, json!({"eventType": "huge"})).await.expect(413);
    let two = json!({"eventType": "two"});
    world.call("POST", "/app/a/endpoint/none/send-example", two.clone()).await.expect(404);
    let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let beta = world.call_as(&token, "POST", &path, Some(r#"{"eventType": "beta"}"#)).await;
    assert_eq!(beta.refused(), ["body.eventType"], "it is not offered to this customer");
    world.call("PATCH", &format!("/app/a/endpoint/{endpoint}"), json!({"disabled": true})).await.expect(200);
    assert_eq!(world.call("POST", &path, two).await.refused(), ["path.endpoint_id"]);
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"], json!([]), "nothing was accepted");
}
