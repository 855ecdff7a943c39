//! Changes of one thing that come at once: each is worked out on what the thing is, and none undoes another.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::on_both;
use crate::support::routes::routes;
use crate::world::World;

on_both! {
    changes_at_once_are_all_made
    headers_that_are_set_at_once_are_all_there
    an_event_type_comes_back_once
}

/// Sends all changes at once and checks that the thing has each of them.
async fn at_once(world: &World, path: &str, changes: &[Value]) {
    let said = join_all(changes.iter().map(|change| world.call("PATCH", path, change.clone()))).await;
    assert!(
        said.iter().all(|said| said.status == 200),
        "{path}: {:?}",
        said.iter().map(|s| &s.text).collect::<Vec<_>>()
    );
    let now = world.get(path).await.expect(200);
    for (name, value) in changes.iter().flat_map(|change| change.as_object().expect("an object")) {
        assert_eq!(&now[name], value, "{path}: {name} was undone");
    }
}

/// A resource that a PATCH changes has its lines in this file.
#[test]
fn every_patch_is_tested() {
    let patched = routes().into_iter().filter(|route| route.method == "PATCH" && route.answered);
    let mut paths: Vec<String> = patched.map(|route| route.path).collect();
    paths.sort();
    let tested = [
        "/app/{app}",
        "/app/{app}/destination/{sink}",
        "/app/{app}/endpoint/{endpoint}",
        "/app/{app}/endpoint/{endpoint}/headers",
        "/event-type/{event_type}",
    ];
    assert_eq!(paths, tested);
}

async fn changes_at_once_are_all_made(world: World) {
    world.app("a").await;
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await.expect(201);
    let endpoint = format!("/app/a/endpoint/{}", world.endpoint("a").await);
    world.call("POST", "/event-type", json!({"name": "t", "description": ""})).await.expect(201);
    for round in 1..=10 {
        let text = format!("round {round}");
        let metadata = json!({"round": text});
        let changes = [
            json!({"description": text}),
            json!({"throttleRate": round}),
            json!({"metadata": metadata}),
            json!({"requestTimeoutSeconds": round}),
        ];
        at_once(&world, &endpoint, &changes).await;
        let contact = format!("ops{round}@example.com");
        let changes = [
            json!({"name": text}),
            json!({"throttleRate": round}),
            json!({"metadata": metadata}),
            json!({"contactEmail": contact}),
        ];
        at_once(&world, "/app/a", &changes).await;
        let changes = [
            json!({"description": text}),
            json!({"deprecated": round % 2 == 0}),
            json!({"featureFlags": [format!("flag-{round}")]}),
            json!({"groupName": format!("group-{round}")}),
            json!({"schemas": {"1": {"title": text}}}),
        ];
        at_once(&world, "/event-type/t", &changes).await;
        let changes = [
            json!({"channels": [format!("channel-{round}")]}),
            json!({"eventTypes": if round % 2 == 0 { json!(["t"]) } else { Value::Null }}),
            json!({"metadata": metadata}),
        ];
        at_once(&world, "/app/a/destination/pull", &changes).await;
    }
}

/// Operational endpoints, too: they have no PATCH, but headers of their own.
async fn headers_that_are_set_at_once_are_all_there(world: World) {
    world.app("a").await;
    let path = format!("/app/a/endpoint/{}/headers", world.endpoint("a").await);
    let changes = (0..8).map(|n| world.call("PATCH", &path, json!({"headers": {format!("x-{n}"): "v"}})));
    assert!(join_all(changes).await.iter().all(|said| said.status == 204));
    let now = world.get(&path).await.expect(200);
    assert_eq!(now["sensitive"].as_array().expect("a list").len(), 8, "{now}");

    let operational = "/operational-webhook/endpoint/ops";
    world.call("PUT", operational, json!({"url": "http://127.0.0.1:9/"})).await.expect(201);
    let (headers, body) = (
        json!({"headers": {"x-team": "ops"}}),
        json!({"url": "http://127.0.0.1:9/", "uid": "ops", "description": "d"}),
    );
    let headers_path = format!("{operational}/headers");
    for _ in 0..5 {
        world.call("PUT", &headers_path, json!({"headers": {}})).await.expect(204);
        let set = world.call("PUT", &headers_path, headers.clone());
        let (set, put) = futures_util::future::join(set, world.call("PUT", operational, body.clone())).await;
        assert_eq!((set.status, put.status), (204, 200), "{} {}", set.text, put.text);
        assert_eq!(
            world.get(&headers_path).await.expect(200)["headers"],
            headers["headers"],
            "a PUT keeps the headers"
        );
    }
}

async fn an_event_type_comes_back_once(world: World) {
    for round in 0..5 {
        let name = format!("t.{round}");
        world.call("POST", "/event-type", json!({"name": name, "description": ""})).await.expect(201);
        world.delete(&format!("/event-type/{name}")).await.expect(204);
        let again =
            (0..4).map(|n| world.call("POST", "/event-type", json!({"name": name, "description": n.to_string()})));
        let mut statuses: Vec<u16> = join_all(again).await.iter().map(|said| said.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409]);
    }
}
