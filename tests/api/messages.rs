//! What a message can carry besides its payload, and what can be deleted of it: tags, a time to be sent at, a raw payload, an
//! application that comes along, how long its content is kept.

use std::time::Duration;

use sendoff::domain::MessageId;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::deliveries::message::Message;
use sendoff::store::Tenant;
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::on_both;
use crate::world::{HOUR, MAX_PAYLOAD, World};

on_both! {
    tags_are_kept_and_filter_lists
    scheduled_messages
    raw_payloads
    applications_that_come_along
    a_new_application_for_many_at_once
    how_long_contents_are_kept
    contents_are_deleted
    answers_are_deleted
}

fn with(field: &str, value: Value) -> Value {
    json!({"eventType": "t", "payload": {}, field: value})
}

async fn send(world: &World, body: Value) -> Value {
    world.call("POST", "/app/a/msg", body).await.expect(202)
}

/// The message as it is stored, of the application `a`.
async fn stored(world: &World, out: &Value) -> Message {
    let id: MessageId = out["id"].as_str().unwrap().parse().unwrap();
    world.store.load_messages(&[id]).await.unwrap().remove(0)
}

async fn tags_are_kept_and_filter_lists(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let mut ids = Vec::new();
    for tags in [json!(["x", "y"]), json!(["y"]), json!([]), json!(["x"])] {
        let made = send(&world, with("tags", tags.clone())).await;
        assert_eq!(made["tags"], if tags == json!([]) { Value::Null } else { tags });
        let id = made["id"].as_str().unwrap().to_owned();
        assert_eq!(world.get(&format!("/app/a/msg/{id}")).await.expect(200), made);
        world.attempt(&app, &id, &endpoint, 1, Some(200)).await;
        ids.push(id);
    }
    let found = async |path: &str, name: &str| {
        let list = world.get(path).await.expect(200);
        let ids: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()).collect();
        (ids, list["iterator"].as_str().map(str::to_owned))
    };
    let at = |places: &[usize]| places.iter().map(|place| ids[*place].clone()).collect::<Vec<_>>();
    for (tag, wanted) in [("x", &[3, 0][..]), ("y", &[1, 0]), ("X", &[]), ("", &[3, 2, 1, 0])] {
        assert_eq!(found(&format!("/app/a/msg?tag={tag}"), "id").await.0, at(wanted), "{tag}");
        let attempts = format!("/app/a/attempt/endpoint/{endpoint}?tag={tag}");
        assert_eq!(found(&attempts, "msgId").await.0, at(wanted), "{tag}");
    }
    let (first, iterator) = found("/app/a/msg?tag=x&limit=1", "id").await;
    let (second, _) = found(&format!("/app/a/msg?tag=x&limit=1&iterator={}", iterator.unwrap()), "id").await;
    assert_eq!((first, second), (at(&[3]), at(&[0])));
    for (tag, count) in [("x", 1), ("z", 0)] {
        let path = format!("/app/a/attempt/msg/{}?tag={tag}&expanded_statuses=true", ids[3]);
        assert_eq!(found(&path, "id").await.0.len(), count);
    }
    let with_msg = world.get(&format!("/app/a/attempt/endpoint/{endpoint}?with_msg=true&limit=1")).await.expect(200);
    assert_eq!(with_msg["data"][0]["msg"]["tags"], json!(["x"]));
    for path in ["/app/a/msg?tag=a%20b", "/app/a/msg?tag=%22", &format!("/app/a/attempt/endpoint/{endpoint}?tag=a,b")] {
        assert_eq!(world.get(path).await.refused(), ["query.tag"], "{path}");
    }
    let path = format!("/app/a/attempt/endpoint/{endpoint}?expanded_statuses=maybe");
    assert_eq!(world.get(&path).await.refused(), ["query.expanded_statuses"]);
}

async fn scheduled_messages(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let at = world.now().plus(24 * HOUR);
    let made = send(&world, with("deliverAt", json!(at.to_string()))).await;
    assert_eq!(made["deliverAt"], json!(at.to_string()));
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/app/a/msg/{id}")).await.expect(200), made);
    let stands = async || world.get(&format!("/app/a/msg/{id}/endpoint")).await.expect(200)["data"][0].clone();
    has(&stands().await, json!({"statusText": "pending", "nextAttempt": at.to_string()}));
    let path = format!("/app/a/msg/{id}/endpoint/{endpoint}/resend");
    world.call_as(&world.token, "POST", &path, None).await.expect(202);
    assert!(stands().await["nextAttempt"].as_str().unwrap() < at.to_string().as_str(), "at once, not then");
    let past = send(&world, with("deliverAt", json!("2020-01-01T00:00:00Z"))).await;
    assert_eq!(past["deliverAt"], "2020-01-01T00:00:00.000000Z", "as it was given");
    let usual = send(&world, with("deliverAt", Value::Null)).await;
    assert_eq!(usual["deliverAt"], Value::Null);
    let too_far = world.now().plus(31 * 24 * HOUR).to_string();
    for bad in [json!("tomorrow"), json!(5), json!(too_far)] {
        assert_eq!(world.call("POST", "/app/a/msg", with("deliverAt", bad)).await.refused(), ["body.deliverAt"]);
    }
}

async fn raw_payloads(world: World) {
    world.app("a").await;
    let raw = |params: Value| with("transformationsParams", params);
    for (params, bytes, kind) in [
        (json!({"rawPayload": "a=1&b=\u{fc}\n\u{0}"}), "a=1&b=\u{fc}\n\u{0}", "application/json"),
        (json!({"rawPayload": "<x/>", "headers": {"Content-Type": "text/xml"}, "other": null}), "<x/>", "text/xml"),
        (json!({"rawPayload": "", "headers": {}}), "", "application/json"),
    ] {
        let made = send(&world, raw(params.clone())).await;
        assert_eq!(made["payload"], json!({}), "{params}");
        let found = stored(&world, &made).await;
        assert_eq!((found.payload.as_deref(), found.raw_type.as_deref()), (Some(bytes.as_bytes()), Some(kind)));
        assert_eq!(world.get(&format!("/app/a/msg/{}", found.id)).await.expect(200), made);
    }
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"][0]["payload"], json!({}));
    // Nothing raw in it: the payload is what counts.
    for params in [json!({}), json!(null), json!({"rawPayload": null, "headers": null})] {
        let body = json!({"eventType": "t", "payload": {"a": 1}, "transformationsParams": params});
        assert_eq!(send(&world, body).await["payload"], json!({"a": 1}));
    }
    for (params, field) in [
        (json!({"rawPayload": 1}), "body.transformationsParams.rawPayload"),
        (json!({"rawPayload": "x", "headers": "text/xml"}), "body.transformationsParams.headers"),
        (json!({"rawPayload": "x", "headers": {"x-a": "b"}}), "body.transformationsParams.headers"),
        (json!({"headers": {"content-type": "text/xml"}}), "body.transformationsParams.headers"),
        (json!({"rawPayload": "x", "headers": {"content-type": "text"}}), "body.transformationsParams"),
        (json!({"rawPayload": "x", "headers": {"content-type": "a/b\r\nx: y"}}), "body.transformationsParams"),
        (json!({"rawPayload": "x", "somethingElse": 1}), "body.transformationsParams.somethingElse"),
        (json!([]), "body.transformationsParams"),
    ] {
        assert_eq!(world.call("POST", "/app/a/msg", raw(params.clone())).await.refused(), [field], "{params}");
    }
    let beside = json!({"eventType": "t", "payload": 5, "transformationsParams": {"rawPayload": "x"}});
    assert_eq!(world.call("POST", "/app/a/msg", beside).await.refused(), ["body.payload"]);
    // The limit is one of the bytes that are sent, and not of how they are written.
    let quotes = |count: usize| raw(json!({"rawPayload": "\"".repeat(count)}));
    send(&world, quotes(MAX_PAYLOAD)).await;
    assert_eq!(
        world.call("POST", "/app/a/msg", quotes(MAX_PAYLOAD + 1)).await.expect(413)["code"],
        "payload_too_large"
    );
}

async fn applications_that_come_along(world: World) {
    let app = |app: Value| with("application", app);
    let made = world
        .call("POST", "/app/new/msg", app(json!({"name": "New", "uid": "new", "throttleRate": 7})))
        .await
        .expect(202);
    assert!(made["id"].is_string());
    let there = world.get("/app/new").await.expect(200);
    has(&there, json!({"name": "New", "uid": "new", "throttleRate": 7}));
    // Once there, it stays as it is.
    for path in ["/app/new/msg".to_owned(), format!("/app/{}/msg", there["id"].as_str().unwrap())] {
        world.call("POST", &path, app(json!({"name": "Other", "uid": "new"}))).await.expect(202);
    }
    assert_eq!(world.get("/app/new").await.expect(200), there);
    assert_eq!(world.get("/app/new/msg").await.expect(200)["data"].as_array().unwrap().len(), 3);

    let differs = world.call("POST", "/app/x/msg", app(json!({"name": "X", "uid": "y"}))).await;
    assert_eq!(differs.refused(), ["body.application.uid"]);
    let bad = json!({"eventType": "t", "payload": [], "application": {"uid": "a b", "throttleRate": 0}, "tags": 1});
    let fields = ["body.tags", "body.application.uid", "body.application.name", "body.application.throttleRate"];
    let mut refused = world.call("POST", "/app/x/msg", bad).await.refused();
    refused.sort_by_key(|field| fields.iter().position(|known| known == field));
    assert_eq!(refused, fields, "everything at once");
    assert_eq!(world.call("POST", "/app/x/msg", app(json!("x"))).await.refused(), ["body.application"]);
    let no_message = json!({"eventType": "t", "payload": [], "application": {"name": "X", "uid": "x"}});
    assert_eq!(world.call("POST", "/app/x/msg", no_message).await.refused(), ["body.payload"]);
    world.get("/app/x").await.expect(404);
    let none = "/app/app_01jd8x5q3fe8ktq8b4m5rj2w3a/msg";
    world.call("POST", none, app(json!({"name": "X", "uid": "x"}))).await.expect(404);
    world.get("/app/x").await.expect(404);
}

async fn a_new_application_for_many_at_once(world: World) {
    let body = with("application", json!({"name": "Raced", "uid": "raced"}));
    let sends = (0..12).map(|_| world.call("POST", "/app/raced/msg", body.clone()));
    for said in futures_util::future::join_all(sends).await {
        said.expect(202);
    }
    assert_eq!(world.get("/app").await.expect(200)["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.get("/app/raced/msg").await.expect(200)["data"].as_array().unwrap().len(), 12);
}

async fn how_long_contents_are_kept(world: World) {
    world.app("a").await;
    let (days, hours) = ("payloadRetentionPeriod", "payloadRetentionHours");
    let until = async |body: Value| {
        let found = stored(&world, &send(&world, body).await).await;
        found.content_until.map(|until| until.since(found.first_due()))
    };
    let hours_of = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    assert_eq!(until(with(days, json!(1))).await, hours_of(24));
    assert_eq!(until(with(days, json!(90))).await, hours_of(2_160));
    assert_eq!(until(with(hours, json!(1))).await, hours_of(1));
    assert_eq!(until(with(hours, json!(2_160))).await, hours_of(2_160));
    assert_eq!(until(json!({"eventType": "t", "payload": {}, days: 5, hours: 120})).await, hours_of(120));
    let later = world.now().plus(24 * HOUR).to_string();
    assert_eq!(until(json!({"eventType": "t", "payload": {}, days: 6, "deliverAt": later})).await, hours_of(144));
    for none in [with(days, Value::Null), with(hours, Value::Null)] {
        assert_eq!(until(none).await, None);
    }
    for (field, bad) in [
        (days, json!(0)),
        (days, json!(91)),
        (days, json!(-1)),
        (days, json!(5.5)),
        (days, json!("5")),
        (hours, json!(0)),
        (hours, json!(2_161)),
    ] {
        let said = world.call("POST", "/app/a/msg", with(field, bad.clone())).await;
        assert_eq!(said.refused(), [format!("body.{field}")], "{bad}");
    }
    let both = json!({"eventType": "t", "payload": {}, days: 5, hours: 121});
    assert_eq!(world.call("POST", "/app/a/msg", both).await.refused(), [format!("body.{hours}")]);
}

async fn contents_are_deleted(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let body = json!({"eventType": "t", "eventId": "ev", "payload": {"secret": 1}, "tags": ["x"]});
    let made = send(&world, body).await;
    let other = send(&world, json!({"eventType": "t", "payload": {"b": 2}})).await;
    let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let path = "/app/a/msg/ev/content";
    assert_eq!(world.call_as(&token, "DELETE", path, None).await.expect(403)["code"], "permission_denied");
    assert_eq!(world.get("/app/a/msg/ev").await.expect(200), made);

    assert_eq!(world.delete(path).await.expect(204), Value::Null);
    let out = world.get("/app/a/msg/ev").await.expect(200);
    has(&out, json!({"id": made["id"], "payload": {"expired": true}, "tags": ["x"], "eventId": "ev"}));
    let list = world.get("/app/a/msg").await.expect(200);
    assert_eq!((&list["data"][0], &list["data"][1]["payload"]), (&other, &json!({"expired": true})));
    has(
        &world.get("/app/a/msg/ev/endpoint").await.expect(200)["data"][0],
        json!({"statusText": "fail", "nextAttempt": null}),
    );
    let tenant = Tenant::org(world.org());
    let message: MessageId = made["id"].as_str().unwrap().parse().unwrap();
    let stands = world.store.deliveries_of(&tenant, app.parse().unwrap(), message).await.unwrap().data.remove(0);
    assert_eq!(
        (stands.state, stands.reason.map(|reason| reason.word())),
        (DeliveryState::Dead, Some("content-deleted"))
    );

    let resend = format!("/app/a/msg/ev/endpoint/{endpoint}/resend");
    let said = world.call_as(&world.token, "POST", &resend, None).await.expect(409);
    assert!(said["code"] == "conflict" && said["detail"].as_str().unwrap().contains("content"), "{said}");
    world.delete(path).await.expect(204);
    for path in ["/app/a/msg/none/content", "/app/b/msg/ev/content", "/app/a/msg/msg_x/content"] {
        assert_eq!(world.delete(path).await.expect(404)["code"], "not_found", "{path}");
    }
    // Its event id stays taken.
    world.call("POST", "/app/a/msg", json!({"eventType": "t", "eventId": "ev", "payload": {}})).await.expect(409);
}

async fn answers_are_deleted(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let (message, other) = (world.message("a", "t").await, world.message("a", "t").await);
    let first = world.attempt(&app, &message, &endpoint, 1, Some(500)).await;
    let second = world.attempt(&app, &message, &endpoint, 2, Some(200)).await;
    let path = format!("/app/a/msg/{message}/attempt/{first}");
    let before = world.get(&path).await.expect(200);
    assert_eq!(before["response"], "résumé <b>");
    let content = format!("{path}/content");
    let token = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    world.call_as(&token, "DELETE", &content, None).await.expect(403);
    world.delete(&content).await.expect(204);
    let after = world.get(&path).await.expect(200);
    has(
        &after,
        json!({"response": "EXPUNGED", "responseStatusCode": 500, "failure": "status", "timestamp": before["timestamp"]}),
    );
    let kept = world.get(&format!("/app/a/msg/{message}/attempt/{second}")).await.expect(200);
    assert_eq!(kept["response"], "résumé <b>");
    for path in [
        format!("/app/a/msg/{other}/attempt/{first}/content"),
        format!("/app/a/msg/{message}/attempt/x/content"),
        format!("/app/a/msg/none/attempt/{first}/content"),
    ] {
        assert_eq!(world.delete(&path).await.expect(404)["code"], "not_found", "{path}");
    }
}
