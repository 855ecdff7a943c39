//! Messages, their payloads to the byte, attempts, and sending again.

use serde_json::json;

use crate::resources::has;
use crate::support::on_both;
use crate::world::World;

on_both! {
    messages
    payloads_stay_as_they_were_written
    attempts
    resending
}

async fn messages(world: World) {
    let app = world.app("a").await;
    let body = json!({"eventType": "not.in.the.catalog", "payload": {"b": 1, "a": [2]}});
    let made = world.call("POST", "/app/a/msg/", body).await.expect(202);
    has(
        &made,
        json!({"eventType": "not.in.the.catalog", "payload": {"b": 1, "a": [2]}, "eventId": null, "channels": null}),
    );
    assert_eq!(made["occurredAt"], made["timestamp"]);
    let full = json!({"eventType": "t", "eventId": "ev-1", "channels": ["c1", "c2"], "payload": {}, "tags": [], "deliverAt": null,
        "application": null, "transformationsParams": {}, "payloadRetentionPeriod": 90, "payloadRetentionHours": null,
        "occurredAt": "2026-01-02T03:04:05.000006Z"});
    let said = world.call("POST", &format!("/app/{app}/msg?with_content=false"), full.clone()).await.expect(202);
    has(&said, json!({"eventId": "ev-1", "channels": ["c1", "c2"], "payload": {}, "occurredAt": full["occurredAt"]}));
    assert_eq!(world.call("POST", "/app/a/msg", full).await.expect(409)["code"], "conflict");
    for path in ["ev-1", said["id"].as_str().unwrap()] {
        assert_eq!(world.get(&format!("/app/a/msg/{path}")).await.expect(200), said);
    }
    let first = format!("/app/a/msg/{}", made["id"].as_str().unwrap());
    assert_eq!(world.get(&first).await.expect(200), made);
    assert_eq!(world.get(&format!("{first}/?with_content=false")).await.expect(200)["payload"], json!({}));
    world.get("/app/a/msg/none").await.expect(404);
    // The event id belongs to its application.
    world.app("b").await;
    world.call("POST", "/app/b/msg", json!({"eventType": "t", "eventId": "ev-1", "payload": {}})).await.expect(202);
    world.get("/app/b/msg/ev-1").await.expect(200);
    assert_eq!(world.get(&format!("/app/b/msg/{}", made["id"].as_str().unwrap())).await.status, 404);
}

async fn payloads_stay_as_they_were_written(world: World) {
    let app = world.app("a").await;
    let tenant = sendoff::store::Tenant::org(world.org());
    let long = format!("{{\"s\":\"{}\"}}", "x".repeat(3_000));
    for payload in [
        r#"{"z":1,"a":2,"m":3}"#,
        "{ \"a\" :\t1 ,\n\r\n \"b\": [ ] }",
        r#"{"a":"\u00e9\u0000\ud83d\ude00é😀\/"}"#,
        r#"{"lone":"\ud800"}"#,
        r#"{"n":1e400,"m":-0.0,"k":1E+2,"i":123456789012345678901234567890,"f":0.1000000000000000055511151231257827}"#,
        r#"{"a":1,"a":2,"":{"":null}}"#,
        r#"{"payload":{"eventType":"decoy"}}"#,
        &long,
    ] {
        // Before and after other fields, with space around it.
        for body in [
            format!(r#"{{"eventType":"t","payload":{payload}}}"#),
            format!("{{\"payload\"  :  {payload} \n , \"eventType\":\"t\"}}\n"),
            format!(r#"{{"payload":{{"first":"loses"}},"eventType":"t","\u0070ayload":{payload}}}"#),
        ] {
            let said = world.raw("POST", "/app/a/msg", &body).await;
            assert_eq!(said.status, 202, "{}", said.text);
            assert!(said.text.contains(payload), "the answer shows it as it was written: {}", said.text);
            let id = said.text.split('"').nth(3).unwrap().parse::<sendoff::domain::MessageId>().unwrap();
            let stored = world.store.message(&tenant, app.parse().unwrap(), &id.into()).await.unwrap().unwrap();
            assert_eq!(std::str::from_utf8(&stored.payload.unwrap()), Ok(payload));
            for path in [format!("/app/a/msg/{id}"), "/app/a/msg?limit=1".to_owned()] {
                let text = world.get(&path).await.text;
                assert!(text.contains(payload), "{text}");
            }
        }
    }
    let said = world.raw("POST", "/app/a/msg?with_content=false", r#"{"eventType":"t","payload":{"a":1}}"#).await;
    assert!(said.text.contains(r#""payload":{}"#), "{}", said.text);
}

async fn attempts(world: World) {
    let app = world.app("a").await;
    let (one, two) = (world.endpoint("a").await, world.endpoint("a").await);
    let message = world.message("a", "t.a").await;
    let failed = world.attempt(&app, &message, &one, 1, Some(500)).await.to_string();
    let timed_out = world.attempt(&app, &message, &one, 2, None).await.to_string();
    let delivered = world.attempt(&app, &message, &one, 3, Some(204)).await.to_string();
    let other = world.attempt(&app, &message, &two, 1, Some(404)).await.to_string();

    let out = world.get(&format!("/app/a/msg/{message}/attempt/{failed}")).await.expect(200);
    has(
        &out,
        json!({"id": failed, "msgId": message, "endpointId": one, "number": 1, "status": 2, "statusText": "fail",
               "responseStatusCode": 500, "response": "résumé <b>", "responseDurationMs": 42, "triggerType": 0,
               "failure": "status", "url": "http://127.0.0.1:9/hook"}),
    );
    assert!(out["nextAttempt"].is_string() && out["timestamp"].is_string() && out.get("msg").is_none());
    let out = world.get(&format!("/app/a/msg/{message}/attempt/{timed_out}/")).await.expect(200);
    has(&out, json!({"number": 2, "responseStatusCode": 0, "failure": "timeout", "status": 2}));
    let out = world.get(&format!("/app/a/msg/{message}/attempt/{delivered}")).await.expect(200);
    has(&out, json!({"number": 3, "status": 0, "statusText": "success", "failure": null, "nextAttempt": null}));
    for path in ["none", &message, "atmpt_01jd8x5q3fe8ktq8b4m5rj2w3a"] {
        world.get(&format!("/app/a/msg/{message}/attempt/{path}")).await.expect(404);
    }

    let ids = async |path: String| {
        let list = world.get(&path).await.expect(200);
        list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = [&*other, &*delivered, &*timed_out, &*failed];
    for (query, wanted) in [
        ("", &all[..]),
        ("status=0", &all[1..2]),
        ("status=2", &[&*other, &*timed_out, &*failed]),
        ("status=1", &[]),
        ("status_code_class=500", &all[3..]),
        ("status_code_class=0", &all[2..3]),
        ("status_code_class=300", &[]),
        ("event_types=t.a,t.b", &all),
        ("event_types=t.b", &[]),
        ("channel=c", &[]),
        ("before=2026-01-01T00:00:00Z", &[]),
        ("after=2026-01-01T00:00:00Z", &all),
        ("limit=1", &all[..1]),
    ] {
        assert_eq!(ids(format!("/app/a/attempt/msg/{message}?{query}")).await, wanted, "{query}");
    }
    assert_eq!(ids(format!("/app/a/attempt/msg/{message}/?endpoint_id={two}")).await, all[..1]);
    assert_eq!(ids(format!("/app/a/attempt/endpoint/{one}")).await, all[1..]);
    assert_eq!(ids(format!("/app/a/attempt/endpoint/{one}/?status=0")).await, all[1..2]);
    let list = world.get(&format!("/app/a/attempt/endpoint/{two}?with_content=false&with_msg=true")).await.expect(200);
    has(&list["data"][0], json!({"response": ""}));
    has(&list["data"][0]["msg"], json!({"id": message, "eventType": "t.a", "payload": {}}));
    for (query, field) in [("status=9", "query.status"), ("status_code_class=42", "query.status_code_class")] {
        assert_eq!(world.get(&format!("/app/a/attempt/msg/{message}?{query}")).await.refused(), [field]);
    }

    let list = world.get(&format!("/app/a/msg/{message}/endpoint")).await.expect(200);
    has(
        &list["data"][0],
        json!({"id": one, "status": 0, "statusText": "success", "nextAttempt": null, "disabled": false}),
    );
    has(&list["data"][1], json!({"id": two, "status": 3, "statusText": "sending"}));
    assert!(list["data"][1]["nextAttempt"].is_string() && list["data"].as_array().unwrap().len() == 2);
    let second = world.get(&format!("/app/a/msg/{message}/endpoint?limit=1&iterator={one}")).await.expect(200);
    has(&second, json!({"done": true, "iterator": two, "prevIterator": format!("-{two}")}));
    let first = world.get(&format!("/app/a/msg/{message}/endpoint?limit=1&iterator=-{two}")).await.expect(200);
    assert_eq!((&first["data"][0]["id"], &first["iterator"]), (&json!(one), &json!(one)));

    world.delete(&format!("/app/a/endpoint/{two}")).await.expect(204);
    assert_eq!(
        ids(format!("/app/a/attempt/msg/{message}?endpoint_id={two}")).await,
        all[..1],
        "what was sent stays to be seen"
    );
    let list = world.get(&format!("/app/a/msg/{message}/endpoint")).await.expect(200);
    has(&list["data"][1], json!({"id": two, "disabled": true, "url": "http://127.0.0.1:9/hook"}));
}

async fn resending(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    world.call("POST", "/app/a/msg", json!({"eventType": "t", "eventId": "ev", "payload": {}})).await.expect(202);
    let message = world.get("/app/a/msg/ev").await.expect(200)["id"].as_str().unwrap().to_owned();
    world.attempt(&app, &message, &endpoint, 1, Some(200)).await;
    let stands = async || world.get("/app/a/msg/ev/endpoint").await.expect(200)["data"][0]["statusText"].clone();
    assert_eq!(stands().await, "success");
    let path = format!("/app/a/msg/ev/endpoint/{endpoint}/resend/");
    assert_eq!(world.call_as(&world.token, "POST", &path, None).await.expect(202), json!({}));
    assert_eq!(stands().await, "pending");
    for path in [format!("/app/a/msg/none/endpoint/{endpoint}/resend"), "/app/a/msg/ev/endpoint/none/resend".into()] {
        world.call_as(&world.token, "POST", &path, None).await.expect(404);
    }
}
