//! Operational endpoints over REST: made, read, changed and deleted like any endpoint, by the organization alone; what is done over
//! REST is told to them; and the application behind them is nowhere to be found.

use sendoff::store::queue::pending_deliveries::LaneRequest;
use sendoff::store::{EndpointRef, Tenant};
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::on_both;
use crate::world::{HOUR, World};

on_both! {
    operational_endpoints
    filters_name_operational_events
    a_chat_channel_hides_its_url
    only_the_organization_is_notified
    changes_over_rest_emit_operational_events
    the_application_behind_them_is_hidden
}

const ALL: &str = "/operational-webhook/endpoint";

async fn listener(world: &World, body: Value) -> String {
    world.call("POST", ALL, body).await.expect(201)["id"].as_str().expect("an id").to_owned()
}

/// The event types of what waits to be told to an operational endpoint, in the order in which it happened.
async fn told(world: &World, listener: &str) -> Vec<String> {
    let endpoint = listener.parse().expect("an id");
    let slot = world.store.slot_of_endpoint(endpoint).await.expect("the store") as u8;
    let waiting = world
        .store
        .pending_deliveries(&[LaneRequest {
            endpoint,
            slot,
            fresh: 100,
            retries: 100,
            fresh_from: sendoff::domain::Time::ZERO,
            retries_from: sendoff::domain::Time::ZERO,
            ordered: false,
        }])
        .await
        .expect("the store");
    let ids: Vec<_> = waiting.iter().map(|one| one.message_id).collect();
    let mut messages = world.store.load_messages(&ids).await.expect("the store");
    messages.sort_by_key(|message| message.id);
    messages.into_iter().map(|message| message.event_type).collect()
}

async fn operational_endpoints(world: World) {
    assert_eq!(
        world.get(ALL).await.expect(200),
        json!({"data": [], "iterator": null, "prevIterator": null, "done": true})
    );
    assert_eq!(world.get(&format!("{ALL}?limit=0")).await.refused(), ["query.limit"]);
    for (method, path) in [("GET", "/e1"), ("DELETE", "/e1"), ("GET", "/e1/secret"), ("GET", "/e1/headers")] {
        let said = world.call_as(&world.token, method, &format!("{ALL}{path}"), None).await.expect(404);
        assert_eq!(said["detail"], "endpoint not found");
    }
    let full = json!({
        "url": "http://127.0.0.1:1/ops", "uid": "ops", "description": "d", "throttleRate": 5, "disabled": false,
        "eventTypes": ["endpoint.disabled", "message.attempt.exhausted"], "metadata": {"k": "v"},
        "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "headers": {"x-team": "ops", "Authorization": "Bearer x"},
    });
    let made = world.call("POST", ALL, full.clone()).await.expect(201);
    let mut shown = full.clone();
    shown.as_object_mut().unwrap().retain(|name, _| name != "secret" && name != "headers");
    has(&made, shown);
    assert_eq!(world.call("POST", ALL, full).await.status, 409);
    let id = made["id"].as_str().unwrap();
    for path in [format!("{ALL}/ops"), format!("{ALL}/{id}/")] {
        assert_eq!(world.get(&path).await.expect(200), made);
    }
    assert_eq!(world.get(ALL).await.expect(200)["data"], json!([made]));

    let put = world
        .call("PUT", &format!("{ALL}/ops"), json!({"url": "http://127.0.0.1:1/b", "uid": "ops"}))
        .await
        .expect(200);
    has(&put, json!({"id": id, "url": "http://127.0.0.1:1/b", "eventTypes": null, "uid": "ops"}));
    let new = world.call("PUT", &format!("{ALL}/new"), json!({"url": "http://127.0.0.1:1/n"})).await.expect(201);
    has(&new, json!({"uid": "new"}));
    let nobody = format!("{ALL}/ep_01jd8x5q3fe8ktq8b4m5rj2w3a");
    assert_eq!(world.call("PUT", &nobody, json!({"url": "http://127.0.0.1:1/"})).await.status, 404);

    let secret = world.get(&format!("{ALL}/ops/secret")).await.expect(200);
    assert_eq!(secret["key"], "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
    let other = world.call("POST", &format!("{ALL}/ops/secret/rotate"), json!({})).await.expect(200);
    assert_ne!(other, secret);
    assert_eq!(world.get(&format!("{ALL}/ops/secret")).await.expect(200), other);

    let headers = format!("{ALL}/ops/headers");
    let wanted = json!({"headers": {"x-team": "ops"}, "sensitive": ["Authorization"]});
    assert_eq!(world.get(&headers).await.expect(200), wanted);
    world.call("PUT", &headers, json!({"headers": {"x-a": "1", "x-api-key": "k"}})).await.expect(204);
    let wanted = json!({"headers": {}, "sensitive": ["x-a", "x-api-key"]});
    assert_eq!(world.get(&headers).await.expect(200), wanted);
    assert_eq!(world.call("PUT", &headers, json!({"headers": {"host": "x"}})).await.refused(), ["body.headers"]);
    assert_eq!(world.call("PUT", &headers, json!({})).await.refused(), ["body.headers"]);

    world.delete(&format!("{ALL}/ops")).await.expect(204);
    world.delete(&format!("{ALL}/ops")).await.expect(404);
    assert_eq!(world.get(ALL).await.expect(200)["data"].as_array().unwrap().len(), 1);
}

async fn filters_name_operational_events(world: World) {
    let typed = |names: Value| json!({"url": "http://127.0.0.1:1/", "eventTypes": names});
    let said = world.call("POST", ALL, typed(json!(["endpoint.created", "invoice.paid"]))).await;
    assert!(said.text.contains("invoice.paid") && !said.text.contains("endpoint.created"), "{}", said.text);
    assert_eq!(said.refused(), ["body.eventTypes"]);
    assert_eq!(world.call("POST", ALL, typed(json!([]))).await.refused(), ["body.eventTypes"]);
    let all = [
        "endpoint.created",
        "endpoint.updated",
        "endpoint.deleted",
        "endpoint.disabled",
        "endpoint.failing",
        "message.attempt.exhausted",
        "message.attempt.failing",
        "message.attempt.recovered",
        "message.expired",
        "consumer.silent",
        "outbox.stuck",
    ];
    let made = world.call("POST", ALL, typed(json!(all))).await.expect(201);
    let path = format!("{ALL}/{}", made["id"].as_str().unwrap());
    assert_eq!(world.call("PUT", &path, typed(json!(["nothing"]))).await.refused(), ["body.eventTypes"]);
}

/// The URL of a chat channel is a secret; its format is set once.
async fn a_chat_channel_hides_its_url(world: World) {
    let url = "http://127.0.0.1:1/services/T0/B0/s3cret";
    let channel = |more: Value| {
        let mut body = json!({"url": url, "eventTypes": ["endpoint.disabled"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for format in ["slack", "teams", "discord"] {
        let made = world.call("POST", ALL, channel(json!({"uid": format, "chatFormat": format}))).await.expect(201);
        has(&made, json!({"chatFormat": format, "url": "http://127.0.0.1:1/***", "throttleRate": 1}));
        let path = format!("{ALL}/{format}");
        let read = world.get(&path).await;
        assert!(!read.text.contains("s3cret"), "{}", read.text);
        assert_eq!(read.expect(200), made);
        // A client that writes back what it read changes nothing, with or without the format.
        for back in
            [json!({"url": "http://127.0.0.1:1/***"}), json!({"url": "http://127.0.0.1:1/***", "chatFormat": format})]
        {
            let put = world.call("PUT", &path, back).await.expect(200);
            has(&put, json!({"chatFormat": format, "url": "http://127.0.0.1:1/***"}));
        }
        let id = made["id"].as_str().unwrap().parse().unwrap();
        let tenant = Tenant::org(world.org());
        let app = world.store.operational_application(&tenant).await.unwrap().unwrap();
        let stored = world.store.endpoint(&tenant, app.id, &EndpointRef::Id(id)).await.unwrap().unwrap();
        assert_eq!(stored.spec.request_url(), url);
    }
    let rated = world.call("POST", ALL, channel(json!({"chatFormat": "slack", "throttleRate": 9}))).await.expect(201);
    has(&rated, json!({"throttleRate": 9}));
    let signed = world.call("PUT", &format!("{ALL}/signed"), channel(json!({"chatFormat": null}))).await.expect(201);
    has(&signed, json!({"chatFormat": null, "url": url}));
    let made = world.call("PUT", &format!("{ALL}/put"), channel(json!({"chatFormat": "teams"}))).await.expect(201);
    has(&made, json!({"chatFormat": "teams", "url": "http://127.0.0.1:1/***"}));
    for (path, format) in
        [("slack", json!("teams")), ("signed", json!("slack")), ("slack", json!("irc")), ("slack", json!(7))]
    {
        let said = world.call("PUT", &format!("{ALL}/{path}"), channel(json!({"chatFormat": format}))).await;
        assert_eq!(said.refused(), ["body.chatFormat"], "{path} {format}");
    }
    let wrong = channel(json!({"chatFormat": "irc", "url": "ftp://127.0.0.1/s3cret"}));
    let said = world.call("POST", ALL, wrong).await;
    assert!(!said.text.contains("s3cret"), "{}", said.text);
    let mut refused = said.refused();
    refused.sort();
    assert_eq!(refused, ["body.chatFormat", "body.url"]);
    // An application's endpoint is never a chat channel.
    world.app("acme").await;
    let made = world.call("POST", "/app/acme/endpoint", json!({"url": url, "chatFormat": "slack"})).await.expect(201);
    has(&made, json!({"chatFormat": null, "url": url}));
}

async fn only_the_organization_is_notified(world: World) {
    let app = world.app("acme").await;
    let listener = listener(&world, json!({"url": "http://127.0.0.1:1/", "uid": "ops"})).await;
    let own = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let body = Some(r#"{"url": "http://127.0.0.1:1/"}"#);
    for (method, path, body) in [
        ("GET", "", None),
        ("POST", "", body),
        ("GET", "/ops", None),
        ("PUT", "/ops", body),
        ("PUT", "/another", body),
        ("DELETE", "/ops", None),
        ("GET", "/ops/secret", None),
        ("POST", "/ops/secret/rotate", Some("{}")),
        ("GET", "/ops/headers", None),
        ("PUT", "/ops/headers", Some(r#"{"headers": {}}"#)),
    ] {
        let said = world.call_as(&own, method, &format!("{ALL}{path}"), body).await;
        assert_eq!(said.expect(403)["code"], "permission_denied", "{method} {path}");
    }
    let stranger = world.tokens.mint_org(&"org_other".parse().unwrap(), world.now(), HOUR).unwrap();
    assert_eq!(world.call_as(&stranger, "GET", ALL, None).await.expect(200)["data"], json!([]));
    assert_eq!(world.call_as(&stranger, "GET", &format!("{ALL}/{listener}"), None).await.status, 404);
    world.call_as(&stranger, "POST", ALL, body).await.expect(201);
    assert_eq!(world.call_as(&stranger, "GET", &format!("{ALL}/{listener}"), None).await.status, 404);
}

async fn changes_over_rest_emit_operational_events(world: World) {
    let listener = listener(&world, json!({"url": "http://127.0.0.1:1/"})).await;
    let app = world.app("acme").await;
    let endpoint = world.endpoint("acme").await;
    let path = format!("/app/acme/endpoint/{endpoint}");
    world.call("PATCH", &path, json!({"description": "new"})).await.expect(200);
    world.call("PUT", &path, json!({"url": "http://127.0.0.1:9/hook", "disabled": true})).await.expect(200);
    world.call("PATCH", &path, json!({"disabled": false})).await.expect(200);
    let wanted = ["endpoint.created", "endpoint.updated", "endpoint.updated", "endpoint.disabled", "endpoint.updated"];
    assert_eq!(told(&world, &listener).await, wanted);
    let message = world.message("acme", "a.b").await;
    for number in 1..=5 {
        world.attempt(&app, &message, &endpoint, number, Some(500)).await;
    }
    world.attempt(&app, &message, &endpoint, 6, Some(200)).await;
    world.delete(&path).await.expect(204);
    let all = told(&world, &listener).await;
    assert_eq!(all[wanted.len()..], ["message.attempt.failing", "message.attempt.recovered", "endpoint.deleted"]);
    assert_eq!(world.call("PATCH", &path, json!({"description": "late"})).await.status, 404);
    assert_eq!(told(&world, &listener).await.len(), all.len());
}

async fn the_application_behind_them_is_hidden(world: World) {
    let listener = listener(&world, json!({"url": "http://127.0.0.1:1/", "uid": "ops"})).await;
    assert_eq!(world.get("/app").await.expect(200)["data"], json!([]));
    let tenant = sendoff::store::Tenant::org(world.org());
    let house = world.store.operational_application(&tenant).await.unwrap().unwrap().id.to_string();
    let message = json!({"eventType": "endpoint.created", "payload": {}});
    for (method, path, body) in [
        ("GET", String::new(), Value::Null),
        ("PUT", String::new(), json!({"name": "mine"})),
        ("PATCH", String::new(), json!({"uid": "mine"})),
        ("DELETE", String::new(), Value::Null),
        ("GET", "/endpoint".into(), Value::Null),
        ("POST", "/endpoint".into(), json!({"url": "http://127.0.0.1:1/"})),
        ("GET", format!("/endpoint/{listener}"), Value::Null),
        ("GET", "/endpoint/ops/secret".into(), Value::Null),
        ("DELETE", "/endpoint/ops".into(), Value::Null),
        ("GET", "/msg".into(), Value::Null),
        ("POST", "/msg".into(), message),
        ("GET", "/attempt/endpoint/ops".into(), Value::Null),
    ] {
        for token in [
            world.token.clone(),
            world.tokens.mint_app(&world.org(), house.parse().unwrap(), world.now(), HOUR).unwrap(),
        ] {
            let text = (!body.is_null()).then(|| body.to_string());
            let said = world.call_as(&token, method, &format!("/app/{house}{path}"), text.as_deref()).await;
            assert!(matches!(said.status, 403 | 404), "{method} {path}: {} {}", said.status, said.text);
        }
    }
    assert!(told(&world, &listener).await.is_empty());
    world.get(&format!("{ALL}/ops")).await.expect(200);
}
