//! The OpenAPI document against the server: what is mounted is described, what is described is answered, each field that a body is said
//! to have is read, and each that is read is said. (That answers are as described, every test of this binary checks: see `conformance`.)

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::conformance::{BASE, document, operations, resolved};
use crate::support::on_both;
use crate::world::{World, said};

on_both! {
    every_method_is_described_or_refused
    operations_without_a_description_return_501
    every_described_answer_is_given
    every_described_field_is_read
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// A path with something in place of its names.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "some-name" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether this release answers an operation.
fn answered(said: &Value) -> bool {
    !said["operationId"].as_str().is_some_and(|id| id.starts_with("later."))
}

async fn every_method_is_described_or_refused(world: World) {
    let all = operations();
    let paths: BTreeSet<&String> = all.iter().map(|(_, path, _)| path).collect();
    assert!(paths.len() > 40, "{}", paths.len());
    for path in paths {
        let of_path = all.iter().filter(|(_, other, _)| other == path).map(|(method, ..)| method.as_str());
        let mut methods: BTreeSet<&str> = of_path.collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        for slash in ["", "/"] {
            for method in METHODS.into_iter().chain(["OPTIONS", "TRACE", "PURGE"]) {
                let url = format!("{BASE}{}{slash}", filled(path));
                let answer = said(world.request(method, &url)).await;
                assert_eq!(answer.status != 405, methods.contains(method), "{method} {url}: {}", answer.text);
                assert!(!answer.text.contains("no such operation"), "{method} {url}: {}", answer.text);
                if answer.status == 405 {
                    let allowed: BTreeSet<&str> = answer.headers["allow"].to_str().unwrap().split(", ").collect();
                    assert_eq!(allowed, methods, "{method} {url}");
                }
            }
        }
    }
}

async fn operations_without_a_description_return_501(world: World) {
    let mut ids = BTreeSet::new();
    for (method, path, described) in operations() {
        assert!(ids.insert(described["operationId"].as_str()), "an id of its own: {described}");
        assert!(described["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
        // Ends the token that the others need; answered elsewhere.
        if path == "/auth/logout" {
            continue;
        }
        let body = if method == "GET" { None } else { Some("{}") };
        let answer = world.call_as(&world.token, &method, &filled(&path), body).await;
        assert_eq!(
            answer.status != 501,
            answered(described),
            "{method} {path} answers {}: `op!` and `#[utoipa::path]` describe it (see src/api/openapi/mod.rs)",
            answer.status
        );
    }
    let nothing = said(world.request("GET", "/api/v1/openapi.json")).await.expect(200);
    assert_eq!(&nothing, document());
    assert_eq!(document()["openapi"], "3.1.0");
}

/// Makes everything once, and looks at everything. Whatever is described as a success must have been answered on the way.
async fn every_described_answer_is_given(world: World) {
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut step = async |status: u16, method: &str, template: &str, names: &[(&str, &str)], body: Value| {
        let (path, query) = template.split_once('?').unwrap_or((template, ""));
        let known = operations().iter().any(|(one, other, _)| one == method && other == path);
        assert!(known, "{method} {path} is not in the document");
        seen.insert((format!("{method} {path}"), status.to_string()));
        let path =
            names.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        let body = Some(body).filter(|body| !body.is_null()).map(|body| body.to_string());
        let answer = world.call_as(&world.token, method, &format!("{path}?{query}"), body.as_deref()).await;
        assert_eq!(answer.status, status, "{method} {template}: {}", answer.text);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    };
    let url = "http://127.0.0.1:9/hook";
    for path in ["/health", "/health/ping"] {
        step(204, "GET", path, &[], Value::Null).await;
    }
    step(200, "GET", "/openapi.json", &[], Value::Null).await;

    let event_type =
        json!({"name": "t.a", "description": "d", "schemas": {"1": {}}, "featureFlags": ["f"], "groupName": "g"});
    let named = &[("event_type_name", "t.a")];
    step(201, "POST", "/event-type", &[], event_type).await;
    step(200, "GET", "/event-type?with_content=true", &[], Value::Null).await;
    step(200, "GET", "/event-type/{event_type_name}", named, Value::Null).await;
    step(200, "PATCH", "/event-type/{event_type_name}", named, json!({"description": "e"})).await;
    let imported = json!({"openapi": "3.1.0", "webhooks": {"t.imported": {"post": {"summary": "Imported."}}}});
    step(200, "POST", "/event-type/import/openapi", &[], json!({"spec": imported})).await;
    step(200, "PUT", "/event-type/{event_type_name}", named, json!({"description": "e"})).await;
    step(201, "PUT", "/event-type/{event_type_name}", &[("event_type_name", "t.b")], json!({"description": "e"})).await;
    let example =
        json!({"name": "t.example", "description": "", "schemas": {"1": {"type": "object", "example": {"a": 1}}}});
    step(201, "POST", "/event-type", &[], example).await;

    let app =
        json!({"name": "a", "uid": "a", "metadata": {"k": "v"}, "throttleRate": 9, "contactEmail": "o@a.example"});
    step(201, "POST", "/app", &[], app.clone()).await;
    let id = step(200, "POST", "/app?get_if_exists=true", &[], app.clone()).await["id"].as_str().unwrap().to_owned();
    let named = &[("app_id", "a")];
    step(200, "GET", "/app", &[], Value::Null).await;
    step(200, "GET", "/app/{app_id}", named, Value::Null).await;
    step(200, "PATCH", "/app/{app_id}", named, json!({"name": "b"})).await;
    step(200, "PUT", "/app/{app_id}", named, app).await;
    step(201, "PUT", "/app/{app_id}", &[("app_id", "b")], json!({"name": "b"})).await;

    let endpoint = json!({
        "url": url, "uid": "e", "eventTypes": ["t.a"], "channels": ["c"], "metadata": {"k": "v"}, "throttleRate": 9,
        "requestTimeoutSeconds": 5, "retrySchedule": [1.5, 60], "ordered": true, "extraSignatures": [{"style": "github", "header": "x-sig"}],
    });
    let made = step(201, "POST", "/app/{app_id}/endpoint", named, endpoint.clone()).await;
    let endpoint_id = made["id"].as_str().unwrap();
    let named = &[("app_id", "a"), ("endpoint_id", "e")];
    step(200, "GET", "/app/{app_id}/endpoint", named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/endpoint/{endpoint_id}", named, Value::Null).await;
    step(200, "PATCH", "/app/{app_id}/endpoint/{endpoint_id}", named, json!({"disabled": true})).await;
    step(200, "PUT", "/app/{app_id}/endpoint/{endpoint_id}", named, endpoint).await;
    let other = &[("app_id", "a"), ("endpoint_id", "f")];
    step(201, "PUT", "/app/{app_id}/endpoint/{endpoint_id}", other, json!({"url": url})).await;
    step(200, "GET", "/app/{app_id}/endpoint/{endpoint_id}/secret", named, Value::Null).await;
    step(200, "POST", "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate", named, json!({})).await;

    let message = json!({"eventType": "t.a", "eventId": "m", "payload": {"a": 1}, "channels": ["c"]});
    let made = step(202, "POST", "/app/{app_id}/msg", named, message).await;
    let attempt = world.attempt(&id, made["id"].as_str().unwrap(), endpoint_id, 1, Some(503)).await.to_string();
    let named = &[("app_id", "a"), ("endpoint_id", "e"), ("msg_id", "m"), ("attempt_id", &*attempt)];
    step(200, "GET", "/app/{app_id}/msg", named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/msg/{msg_id}", named, Value::Null).await;
    for path in ["/app/{app_id}/attempt/msg/{msg_id}", "/app/{app_id}/attempt/endpoint/{endpoint_id}"] {
        let list = step(200, "GET", &format!("{path}?with_msg=true"), named, Value::Null).await;
        assert_eq!(list["data"][0]["msg"]["eventId"], "m");
    }
    step(200, "GET", "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}", named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/msg/{msg_id}/endpoint", named, Value::Null).await;
    step(202, "POST", "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend", named, Value::Null).await;

    let of_endpoint = "/app/{app_id}/endpoint/{endpoint_id}";
    let headers = json!({"headers": {"x-team": "a", "x-api-key": "hush"}});
    let at = |path: &str| format!("{of_endpoint}{path}");
    step(204, "PUT", &at("/headers"), named, headers.clone()).await;
    step(204, "PATCH", &at("/headers"), named, json!({"headers": {"x-team": null}})).await;
    step(200, "GET", &at("/headers"), named, Value::Null).await;
    step(200, "GET", &at("/msg?status=1&expanded_statuses=true"), named, Value::Null).await;
    step(200, "GET", &at("/stats"), named, Value::Null).await;
    step(200, "GET", &at("/attempt-stats"), named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/stats/attempts", named, Value::Null).await;
    step(202, "POST", &at("/send-example"), named, json!({"eventType": "t.example"})).await;
    let since = json!({"since": world.now().minus(crate::world::HOUR).to_string()});
    let task = step(202, "POST", &at("/recover"), named, since.clone()).await["id"].as_str().unwrap().to_owned();
    step(202, "POST", &at("/replay-missing"), named, since.clone()).await;
    step(202, "POST", &at("/bulk-replay"), named, since.clone()).await;
    step(200, "POST", &at("/reconcile"), named, since.clone()).await;
    let message = step(200, "GET", "/app/{app_id}/msg/{msg_id}", named, Value::Null).await["id"].clone();
    let bucket = json!({"first": message, "last": message, "count": 1, "xor": "0".repeat(64)});
    let mut digest = since;
    digest["digest"] = json!([bucket]);
    step(200, "POST", &at("/reconcile"), named, digest).await;
    let resend = json!({"since": world.now().minus(crate::world::HOUR).to_string(), "resend": true});
    step(202, "POST", &at("/reconcile"), named, resend).await;
    step(200, "GET", "/background-task?status=running", &[], Value::Null).await;
    step(200, "GET", "/background-task/{task_id}", &[("task_id", &task)], Value::Null).await;
    step(204, "DELETE", "/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content", named, Value::Null).await;
    step(204, "DELETE", "/app/{app_id}/msg/{msg_id}/content", named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/msg/{msg_id}", named, Value::Null).await;
    step(200, "POST", "/auth/app-portal-access/{app_id}", named, json!({"readOnly": true})).await;
    step(200, "POST", "/auth/dashboard-access/{app_id}", named, Value::Null).await;
    step(200, "GET", "/app/{app_id}/msg/{msg_id}/attempt", named, Value::Null).await;
    step(204, "POST", "/auth/app/{app_id}/expire-all", named, json!({})).await;

    let operational = "/operational-webhook/endpoint";
    let at = |path: &str| format!("{operational}/{{endpoint_id}}{path}");
    let (named_o, other) = (&[("endpoint_id", "o")], &[("endpoint_id", "p")]);
    step(201, "POST", operational, &[], json!({"url": url, "uid": "o", "eventTypes": ["endpoint.created"]})).await;
    step(200, "GET", operational, &[], Value::Null).await;
    step(200, "GET", &at(""), named_o, Value::Null).await;
    step(200, "PUT", &at(""), named_o, json!({"url": url, "uid": "o"})).await;
    step(201, "PUT", &at(""), other, json!({"url": url})).await;
    step(200, "GET", &at("/secret"), named_o, Value::Null).await;
    step(200, "POST", &at("/secret/rotate"), named_o, json!({})).await;
    step(204, "PUT", &at("/headers"), named_o, headers).await;
    step(200, "GET", &at("/headers"), named_o, Value::Null).await;
    step(204, "DELETE", &at(""), named_o, Value::Null).await;

    let named_p = &[("app_id", "a"), ("sink_id", "p"), ("consumer_id", "c")];
    let at = |path: &str| format!("/app/{{app_id}}/poller/{{sink_id}}{path}");
    let poller = json!({"type": "pollingEndpoint", "uid": "p", "eventTypes": ["t.a"], "channels": ["c"], "metadata": {"k": "v"}});
    step(201, "POST", "/app/{app_id}/destination", named_p, poller.clone()).await;
    step(200, "GET", "/app/{app_id}/destination", named_p, Value::Null).await;
    step(200, "GET", "/app/{app_id}/destination/{sink_id}", named_p, Value::Null).await;
    step(200, "PATCH", "/app/{app_id}/destination/{sink_id}", named_p, json!({"eventTypes": null})).await;
    step(200, "PUT", "/app/{app_id}/destination/{sink_id}", named_p, json!({"type": "pollingEndpoint"})).await;
    let other_p = &[("app_id", "a"), ("sink_id", "q")];
    step(201, "PUT", "/app/{app_id}/destination/{sink_id}", other_p, json!({"type": "pollingEndpoint"})).await;
    let whole = json!({"eventType": "t.a", "eventId": "n", "payload": {"a": 1}, "channels": ["c"], "tags": ["x"]});
    let whole = step(202, "POST", "/app/{app_id}/msg", named_p, whole).await;
    let attempt = json!({"msgId": whole["id"], "responseStatusCode": 0, "responseDurationMs": 3, "error": "refused"});
    let listener = &[("app_id", "a"), ("listener_id", "mine")];
    let report = json!({"url": "http://localhost:3000/", "attempt": attempt});
    step(200, "POST", "/app/{app_id}/development-endpoint/{listener_id}", listener, report).await;
    let raw = json!({"eventType": "t.a", "payload": {}, "transformationsParams": {"rawPayload": "a=1"}});
    step(202, "POST", "/app/{app_id}/msg", named_p, raw).await;
    let page = step(200, "GET", &at("?limit=9&event_type=t.a"), named_p, Value::Null).await;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(2));
    step(200, "GET", &at("/consumer/{consumer_id}?wait=0"), named_p, Value::Null).await;
    step(200, "POST", &at("/consumer/{consumer_id}/seek"), named_p, json!({"after": world.now().to_string()})).await;
    step(200, "POST", "/auth/app/{app_id}/poller/{sink_id}/token/rotate", named_p, json!({"expiry": 60})).await;
    step(200, "GET", "/auth/app/{app_id}/poller/{sink_id}/token", named_p, Value::Null).await;
    let leased = "/app/{app_id}/polling-endpoint/{sink_id}/consumer/{consumer_id}";
    let named_l = &[("app_id", "a"), ("sink_id", "p"), ("consumer_id", "l")];
    step(200, "GET", &format!("{leased}?limit=1&starting_position=earliest"), named_l, Value::Null).await;
    step(204, "POST", &format!("{leased}/commit"), named_l, json!({"offset": 1})).await;
    let auto = step(200, "POST", "/app/{app_id}/autoconfig", named_p, json!({})).await;
    let named_a = &[("app_id", "a"), ("autoconfig_id", auto["id"].as_str().unwrap())];
    let at = |path: &str| format!("/app/{{app_id}}/autoconfig/{{autoconfig_id}}{path}");
    step(200, "PUT", &at("/endpoint"), named_a, json!({"url": url})).await;
    step(200, "PUT", &at("/destination"), named_a, json!({"type": "pollingEndpoint"})).await;
    step(200, "GET", &at(""), named_a, Value::Null).await;
    step(200, "POST", &at("/rotate"), named_a, json!({})).await;
    step(204, "DELETE", &at(""), named_a, Value::Null).await;
    step(204, "DELETE", "/app/{app_id}/destination/{sink_id}", named_p, Value::Null).await;

    step(204, "DELETE", "/app/{app_id}/endpoint/{endpoint_id}", named, Value::Null).await;
    step(204, "DELETE", "/app/{app_id}", named, Value::Null).await;
    step(204, "DELETE", "/event-type/{event_type_name}", &[("event_type_name", "t.b")], Value::Null).await;
    step(204, "POST", "/auth/logout", &[], Value::Null).await;

    for (method, path, described) in operations().into_iter().filter(|(_, _, described)| answered(described)) {
        // A stream does not end: tests/api/polling.rs.
        if path.ends_with("/stream") {
            continue;
        }
        let statuses = described["responses"].as_object().unwrap().keys().filter(|status| status.starts_with('2'));
        for status in statuses {
            let told = (format!("{method} {path}"), status.clone());
            assert!(seen.contains(&told), "described, and not tried here: {told:?}");
        }
    }
}

/// A value of another type than `schema` wants.
fn wrong_for(schema: &'static Value) -> Value {
    let schema = match schema["oneOf"].as_array() {
        Some(choices) => resolved(choices.iter().find(|choice| choice["type"] != "null").expect("a choice")),
        None => resolved(schema),
    };
    let kind = schema["type"].as_str().or(schema["type"][0].as_str()).expect("a type");
    if kind == "string" { json!(7) } else { json!("x") }
}

/// Sends each field with a value of a wrong type: it must be refused by name, or nobody reads it.
async fn every_described_field_is_read(world: World) {
    world.app("some-name").await;
    world.call("PUT", "/app/some-name/endpoint/some-name", json!({"url": "http://127.0.0.1/"})).await.expect(201);
    world.call("PUT", "/event-type/some-name", json!({"description": ""})).await.expect(201);
    world.call("PUT", "/app/some-name/destination/some-name", json!({"type": "pollingEndpoint"})).await.expect(201);
    let auto = world.call("POST", "/app/some-name/autoconfig", json!({})).await.expect(200);
    let operational = "/operational-webhook/endpoint/some-name";
    world.call("PUT", operational, json!({"url": "http://127.0.0.1/"})).await.expect(201);
    let mut fields = 0;
    for (method, path, described) in operations() {
        let body = &described["requestBody"]["content"]["application/json"]["schema"];
        if body.is_null() {
            continue;
        }
        let body = resolved(body);
        let example = body["example"].as_object().unwrap_or_else(|| panic!("{method} {path} has no example"));
        for (name, schema) in body["properties"].as_object().expect("properties") {
            let mut body = example.clone();
            body.insert(name.clone(), wrong_for(schema));
            // It has no name but its id.
            let path = path.replace("{autoconfig_id}", auto["id"].as_str().expect("an id"));
            let answer = world.call(&method, &filled(&path), body.into()).await;
            let refused = answer.refused();
            assert!(refused.contains(&format!("body.{name}")), "{method} {path} does not read {name}: {refused:?}");
            fields += 1;
        }
    }
    assert!(fields > 60, "{fields}");
}

/// The other way round: a field that the source reads from a body is in some body of the document.
#[test]
fn every_field_that_is_read_is_described() {
    let schemas = document()["components"]["schemas"].as_object().expect("schemas");
    let bodies =
        schemas.iter().filter(|(name, _)| ["In", "Patch", "Update", "Params"].iter().any(|end| name.ends_with(end)));
    let known: BTreeSet<&String> =
        bodies.filter_map(|(_, schema)| schema["properties"].as_object()).flat_map(|all| all.keys()).collect();
    let mut paths = vec![std::path::PathBuf::from(format!("{}/src/api", env!("CARGO_MANIFEST_DIR")))];
    let mut read = 0;
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(&path).expect("sources").map(|entry| entry.expect("an entry").path()));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs")
            || path.ends_with("body.rs")
            || path.ends_with("tests.rs")
        {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("a source");
        for call in source.split("fields.").skip(1) {
            let Some((function, rest)) = call.split_once("(\"") else { continue };
            let reads =
                ["text", "flag", "list", "names", "parsed", "take", "take_with", "require", "raw", "take::<u64>"];
            if let Some((name, _)) = rest.split_once('"').filter(|_| reads.contains(&function)) {
                assert!(
                    known.iter().any(|one| *one == name),
                    "{}: {name} is in no body of the document",
                    path.display()
                );
                read += 1;
            }
        }
    }
    assert!(read > 40, "{read}");
}
