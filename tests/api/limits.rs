//! What a caller can create has a limit: each field of each request body states one, more than that is refused, pages and errors
//! have bounded sizes.

use sendoff::domain::limits;
use serde_json::{Map, Value, json};

use crate::conformance::{operations, resolved};
use crate::support::kind::OnStore;
use crate::support::{Kind, on_both};
use crate::world::{Settings, World};

/// The most bytes of a payload: the default of the setting.
const MAX_PAYLOAD: usize = 256 * 1024;

/// A world whose payloads have up to [`MAX_PAYLOAD`] bytes.
struct Roomy(World);

impl OnStore for Roomy {
    async fn on(kind: Kind) -> Roomy {
        Roomy(World::with(kind, Settings { max_payload: MAX_PAYLOAD, ..Settings::default() }).await)
    }
}

on_both! {
    more_than_a_field_states_is_refused
    a_page_is_bounded_in_bytes
    an_answer_lists_a_few_errors
    names_are_stored_once
}

/// The request bodies: method, path, schema.
fn bodies() -> Vec<(String, String, &'static Value)> {
    let body = |(method, path, said): (String, String, &'static Value)| {
        let schema = said.pointer("/requestBody/content/application~1json/schema")?;
        Some((method, path, resolved(schema)))
    };
    operations().into_iter().filter_map(body).collect()
}

/// Collects the places in a schema that state no bound; counts those that do.
fn unbounded(place: &str, schema: &'static Value, bounded: &mut usize, found: &mut Vec<String>) {
    let schema = resolved(schema);
    for choices in ["oneOf", "allOf", "anyOf"] {
        for one in schema[choices].as_array().into_iter().flatten() {
            unbounded(place, one, bounded, found);
        }
    }
    if schema.get("oneOf").is_some() {
        return;
    }
    let has = |name: &str| schema.get(name).is_some();
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let fixed = schema["pattern"].as_str().is_some_and(|pattern| pattern.ends_with("}$"));
    let by_its_form = has("enum") || has("x-max-bytes") || schema["format"] == "date-time" || fixed;
    let closed = schema.get("additionalProperties").is_none_or(|other| *other == false);
    let ok = types.iter().all(|kind| match *kind {
        "null" | "boolean" => true,
        "string" => by_its_form || has("maxLength"),
        "integer" | "number" => has("enum") || (has("minimum") && has("maximum")),
        "array" => has("maxItems"),
        "object" => by_its_form || has("maxProperties") || (has("properties") && closed),
        other => panic!("{place} is of the type {other}"),
    });
    match ok && (!types.is_empty() || schema.get("allOf").is_some()) {
        true => *bounded += 1,
        false => found.push(format!("{place}: {schema}")),
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        unbounded(&format!("{place}.{name}"), member, bounded, found);
    }
    if let Some(items) = schema.get("items") {
        unbounded(&format!("{place}[]"), items, bounded, found);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object() && !by_its_form) {
        unbounded(&format!("{place}{{}}"), values, bounded, found);
    }
}

#[test]
fn every_field_of_every_body_states_a_bound() {
    let (mut bounded, mut found) = (0, Vec::new());
    for (method, path, schema) in bodies() {
        unbounded(&format!("{method} {path}"), schema, &mut bounded, &mut found);
    }
    assert!(found.is_empty(), "without a bound:\n{}", found.join("\n"));
    assert!(bounded > 200, "{bounded}");
}

/// A value of the schema that is a little larger than it allows; `None`: it has no bound in numbers.
fn too_large(schema: &'static Value) -> Option<Value> {
    let schema = resolved(schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().find_map(too_large);
    }
    let number = |name: &str| schema[name].as_u64().map(|most| usize::try_from(most).expect("a bound") + 1);
    if let Some(most) = number("maxLength") {
        return Some("a".repeat(most).into());
    }
    if let Some(most) = number("maxItems") {
        return Some((0..most).map(|n| format!("n{n}").into()).collect::<Vec<Value>>().into());
    }
    if let Some(most) = number("maxProperties") {
        return Some((0..most).map(|n| (format!("x-{n}"), json!("v"))).collect::<Map<String, Value>>().into());
    }
    if schema.get("enum").is_none()
        && let Some(most) = number("maximum")
    {
        return Some(most.into());
    }
    (schema["x-max-bytes"] == limits::SCHEMAS_BYTES)
        .then(|| json!({"1": {"description": "a".repeat(limits::SCHEMAS_BYTES)}}))
}

async fn more_than_a_field_states_is_refused(Roomy(world): Roomy) {
    world.app("some-name").await;
    world.call("PUT", "/app/some-name/endpoint/some-name", json!({"url": "http://127.0.0.1/"})).await.expect(201);
    world.call("PUT", "/event-type/some-name", json!({"description": ""})).await.expect(201);
    world.call("PUT", "/app/some-name/destination/some-name", json!({"type": "pollingEndpoint"})).await.expect(201);
    world.call("PUT", "/operational-webhook/endpoint/some-name", json!({"url": "http://127.0.0.1/"})).await.expect(201);
    let auto = world.call("POST", "/app/some-name/autoconfig", json!({})).await.expect(200);
    let mut tried = 0;
    for (method, path, schema) in bodies() {
        // It has no name but its id.
        let path = path.replace("{autoconfig_id}", auto["id"].as_str().expect("an id"));
        let parts = path.split('/').map(|part| if part.starts_with('{') { "some-name" } else { part });
        let url = parts.collect::<Vec<_>>().join("/");
        let example = schema["example"].as_object().expect("an example");
        for (name, field) in schema["properties"].as_object().expect("properties") {
            let Some(value) = too_large(field) else { continue };
            let mut body = example.clone();
            body.insert(name.clone(), value);
            let said = world.call(&method, &url, body.into()).await;
            let refused = said.refused();
            // Old names are refused under the new ones.
            let new = match name.as_str() {
                "filterTypes" => "eventTypes",
                "rateLimit" => "throttleRate",
                "featureFlag" => "featureFlags",
                other => other,
            };
            let wanted = [format!("body.{name}"), format!("body.{new}")];
            assert!(refused.iter().any(|one| wanted.contains(one)), "{method} {path} {name}: {refused:?}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// Walks a list in pages of 250, on and back; checks each page's bytes and gives the ids.
async fn walk(world: &World, path: &str, key: &str) -> (Vec<String>, usize) {
    let (mut ids, mut pages, mut at) = (Vec::new(), 0, String::new());
    loop {
        let said = world.get(&format!("{path}limit=250{at}")).await;
        assert!(said.text.len() < limits::PAGE_BYTES + 64 * 1024, "{path}: {} bytes", said.text.len());
        let page = said.expect(200);
        let data = page["data"].as_array().expect("data");
        ids.extend(data.iter().map(|item| item[key].as_str().expect("a key").to_owned()));
        pages += 1;
        if page["done"] == true {
            return (ids, pages);
        }
        at = format!("&iterator={}", page["iterator"].as_str().expect("an iterator"));
    }
}

async fn a_page_is_bounded_in_bytes(Roomy(world): Roomy) {
    world.app("a").await;
    let long = "\u{1F980}".repeat(limits::DESCRIPTION);
    let names: Vec<String> = (0..limits::EVENT_TYPES).map(|n| format!("{n:0>256}")).collect();
    // The catalog first: 40 schemas of about 200 KB, and the names for the endpoints' filters.
    let schema = json!({"1": {"description": "a".repeat(200 * 1024)}});
    for name in &names[..30] {
        let body = json!({"name": name, "description": "", "schemas": schema});
        world.call("POST", "/event-type", body).await.expect(201);
    }
    let (found, pages) = walk(&world, "/event-type?with_content=true&", "name").await;
    assert!(found == names[..30] && pages > 1, "{} in {pages}", found.len());
    for name in &names[30..60] {
        world.call("POST", "/event-type", json!({"name": name, "description": ""})).await.expect(201);
    }
    let mut made = Vec::new();
    for _ in 0..140 {
        let body = json!({"url": "http://127.0.0.1:9/", "description": long, "eventTypes": &names[..60]});
        let endpoint = world.call("POST", "/app/a/endpoint", body).await.expect(201);
        made.push(endpoint["id"].as_str().expect("an id").to_owned());
    }
    let (found, pages) = walk(&world, "/app/a/endpoint?order=ascending&", "id").await;
    assert!(found == made && pages > 1, "{} in {pages}", found.len());

    let payload = json!({"text": "a".repeat(MAX_PAYLOAD - 16)});
    let mut sent = Vec::new();
    world.app("b").await;
    let endpoint = world.endpoint("b").await;
    for _ in 0..20 {
        let message = world.call("POST", "/app/b/msg", json!({"eventType": "t", "payload": payload})).await.expect(202);
        sent.insert(0, message["id"].as_str().expect("an id").to_owned());
    }
    for path in ["/app/b/msg?".to_owned(), format!("/app/b/endpoint/{endpoint}/msg?")] {
        let (found, pages) = walk(&world, &path, "id").await;
        assert!(found == sent && pages > 1, "{path}: {} in {pages}", found.len());
    }
}

async fn an_answer_lists_a_few_errors(Roomy(world): Roomy) {
    world.app("a").await;
    let refused = |said: crate::world::Said| {
        assert!(said.text.len() < 32 * 1024, "{} bytes", said.text.len());
        said.refused()
    };
    let many = |name: &str| json!({"url": "http://127.0.0.1:9/", "eventTypes": vec![name; 40_000]});
    for name in ["", "no spaces", "t"] {
        assert_eq!(refused(world.call("POST", "/app/a/endpoint", many(name)).await), ["body.eventTypes"], "{name:?}");
    }
    let wrong: Vec<String> = (0..100).map(|n| format!("no spaces {n}")).collect();
    let said = world.call("POST", "/app/a/endpoint", json!({"url": "http://127.0.0.1:9/", "eventTypes": wrong})).await;
    assert!(said.text.contains("… and 80 more"), "{}", said.text);
    assert_eq!(refused(said).len(), limits::ERRORS + 1);
    let unknown: Vec<String> = (0..400).map(|n| format!("{n:0>256}")).collect();
    let said =
        world.call("POST", "/app/a/endpoint", json!({"url": "http://127.0.0.1:9/", "eventTypes": unknown})).await;
    assert!(said.text.contains("not in the catalog") && said.text.len() < 4_096, "{} bytes", said.text.len());
    refused(said);
    // A name that the caller chose, and that comes back in the error.
    let theme: Map<String, Value> = (0..200).map(|n| (format!("{n}{}", "x".repeat(900)), json!(1))).collect();
    let said = world.call("POST", "/auth/app-portal-access/a", json!({"theme": theme})).await;
    assert_eq!(refused(said).len(), limits::ERRORS + 1);
}

async fn names_are_stored_once(Roomy(world): Roomy) {
    world.app("a").await;
    world
        .call("POST", "/event-type", json!({"name": "t", "description": "", "featureFlags": ["f", "g", "f"]}))
        .await
        .expect(201);
    assert_eq!(world.get("/event-type/t").await.expect(200)["featureFlags"], json!(["f", "g"]));
    let body = json!({"url": "http://127.0.0.1:9/", "eventTypes": vec!["t"; 400], "channels": ["b", "a", "b"]});
    let made = world.call("POST", "/app/a/endpoint", body).await.expect(201);
    assert_eq!((&made["eventTypes"], &made["channels"]), (&json!(["t"]), &json!(["b", "a"])));
}
