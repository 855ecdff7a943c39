//! Reconciliation over HTTP: what a receiver misses by the ids that it has, and having it sent again.

use sendoff::domain::access::api_key::KeyScope;
use sendoff::store::jobs::job_lease::StepResult;
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::{Kind, on_both};
use crate::world::{HOUR, Settings, World, said};

on_both! {
    what_a_receiver_misses
    what_it_misses_is_sent_again
    bad_reconciliations
    who_may_reconcile
}

/// Three messages at an endpoint of application `a`: delivered, delivered, and waiting for a retry; the endpoint, and their ids.
async fn three(world: &World) -> (String, Vec<String>) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let mut ids = Vec::new();
    for status in [Some(204), Some(200), None] {
        let message = world.message("a", "t").await;
        world.attempt(&app, &message, &endpoint, 1, status).await;
        ids.push(message);
    }
    (format!("/app/a/endpoint/{endpoint}/reconcile"), ids)
}

fn since(world: &World, more: Value) -> Value {
    let mut body = json!({"since": world.now().minus(HOUR).to_string()});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ids_of(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("a page").iter().map(|one| one["id"].as_str().expect("an id")).collect()
}

async fn what_a_receiver_misses(world: World) {
    let (path, ids) = three(&world).await;
    let ask = async |more: Value| world.call("POST", &path, since(&world, more)).await.expect(200);
    let all = ask(json!({})).await;
    assert_eq!((ids_of(&all), &all["iterator"], &all["done"]), (vec![&*ids[0], &ids[1]], &json!(ids[2]), &json!(true)));
    has(&all["data"][0], json!({"status": 0, "statusText": "success", "eventType": "t", "payload": {"of": "t"}}));
    assert_eq!(ids_of(&ask(json!({"has": [ids[1], ids[1]], "until": null})).await), [&*ids[0]]);
    assert_eq!(ids_of(&ask(json!({"has": ids})).await).len(), 0);
    let first = ask(json!({"limit": 1})).await;
    assert_eq!((ids_of(&first), &first["done"]), (vec![&*ids[0]], &json!(false)));
    let rest = ask(json!({"limit": 1, "iterator": first["iterator"]})).await;
    assert_eq!((ids_of(&rest), &rest["done"]), (vec![&*ids[1]], &json!(true)));
    let bounded = ask(json!({"has": [ids[0]], "hasMore": true})).await;
    assert_eq!((ids_of(&bounded).len(), &bounded["iterator"], &bounded["done"]), (0, &json!(ids[0]), &json!(true)));
    assert_eq!(ids_of(&ask(json!({"has": [ids[2]], "iterator": bounded["iterator"]})).await), [&*ids[1]]);
    // What was accepted while it was disabled was never given to it.
    let endpoint = path.trim_end_matches("/reconcile");
    world.call("PATCH", endpoint, json!({"disabled": true})).await.expect(200);
    let unseen = world.message("a", "t").await;
    let page = ask(json!({"has": ids})).await;
    assert_eq!(ids_of(&page), [&*unseen]);
    has(&page["data"][0], json!({"status": null, "statusText": null}));
    let nothing =
        world.call("POST", &path, json!({"since": world.now().minus(5 * HOUR), "until": world.now().minus(4 * HOUR)}));
    has(&nothing.await.expect(200), json!({"data": [], "iterator": null, "done": true}));
}

async fn what_it_misses_is_sent_again(world: World) {
    let (path, ids) = three(&world).await;
    let body = since(&world, json!({"has": [ids[0]], "resend": true}));
    // A client that tries again begins no second task.
    let keyed = async || {
        let request = world.request("POST", &format!("/api/v1{path}")).bearer_auth(&world.token);
        let request = request.header("idempotency-key", "night-1").header("content-type", "application/json");
        said(request.body(body.to_string())).await.expect(202)
    };
    let task = keyed().await;
    has(&task, json!({"status": "running", "task": "endpoint.reconcile"}));
    assert_eq!(keyed().await["id"], task["id"]);
    let turn = world.store.lease_background(world.now()).await.unwrap().expect("a turn");
    assert!(matches!(world.store.step_background(turn, world.now()).await.unwrap(), StepResult::Ended(_)));
    assert_eq!(world.store.lease_background(world.now()).await.unwrap(), None, "there was one task");
    let done = world.get(&format!("/background-task/{}", task["id"].as_str().unwrap())).await.expect(200);
    has(&done, json!({"status": "finished"}));
    has(&done["data"], json!({"looked": 3, "sent": 1}));
    let sent = world.get(&format!("{}/msg?status=1", path.trim_end_matches("/reconcile"))).await.expect(200);
    assert_eq!(ids_of(&sent), [&*ids[1]]);
    let listed = world.get("/background-task?task=endpoint.reconcile").await.expect(200);
    assert_eq!(listed["data"][0]["id"], task["id"]);
}

async fn bad_reconciliations(world: World) {
    let (path, ids) = three(&world).await;
    let (hour, day) = (world.now().minus(HOUR).to_string(), world.now().minus(24 * HOUR).to_string());
    let many = vec![&ids[0]; 10_001];
    for (body, field) in [
        (json!({}), "body.since"),
        (json!({"since": "yesterday"}), "body.since"),
        (json!({"since": world.now().plus(HOUR)}), "body.since"),
        (json!({"since": hour, "until": day}), "body.since"),
        (json!({"since": day, "until": 5}), "body.until"),
        (json!({"since": day, "has": "msg_1"}), "body.has"),
        (json!({"since": day, "has": ["msg_1"]}), "body.has"),
        (json!({"since": day, "has": [ids[0], path]}), "body.has"),
        (json!({"since": day, "hasMore": true}), "body.hasMore"),
        (json!({"since": day, "has": [ids[0]], "hasMore": 1}), "body.hasMore"),
        (json!({"since": day, "resend": "yes"}), "body.resend"),
        (json!({"since": day, "limit": 0}), "body.limit"),
        (json!({"since": day, "limit": 251}), "body.limit"),
        (json!({"since": day, "iterator": "x"}), "body.iterator"),
    ] {
        assert_eq!(world.call("POST", &path, body.clone()).await.refused(), [field], "{body}");
    }
    // A body of so many ids is read.
    let wide = World::with(Kind::Sqlite, Settings { max_payload: 256 * 1024, ..Settings::default() }).await;
    let (path, _) = three(&wide).await;
    assert_eq!(wide.call("POST", &path, json!({"since": day, "has": many})).await.refused(), ["body.has"]);
    wide.call("POST", &path, json!({"since": day, "has": &many[1..]})).await.expect(200);
    world.call("POST", "/app/a/endpoint/none/reconcile", json!({"since": day})).await.expect(404);
    let endpoint = path.trim_end_matches("/reconcile");
    wide.call("PATCH", endpoint, json!({"disabled": true})).await.expect(200);
    assert_eq!(wide.call("POST", &path, json!({"since": day, "resend": true})).await.refused(), ["path.endpoint_id"]);
    wide.call("PATCH", endpoint, json!({"disabled": false})).await.expect(200);
    for _ in 0..5 {
        wide.call("POST", &path, json!({"since": day, "resend": true})).await.expect(202);
    }
    wide.call("POST", &path, json!({"since": day, "resend": true})).await.expect(409);
}

async fn who_may_reconcile(world: World) {
    let (path, _) = three(&world).await;
    let (look, resend) = (since(&world, json!({})).to_string(), since(&world, json!({"resend": true})).to_string());
    let (_, reader) = world.key(&[KeyScope::Read], None).await;
    let (_, sender) = world.key(&[KeyScope::Send], None).await;
    world.call_as(&reader, "POST", &path, Some(&look)).await.expect(200);
    world.call_as(&reader, "POST", &path, Some(&resend)).await.expect(403);
    world.call_as(&sender, "POST", &path, Some(&look)).await.expect(403);
    let mine = world.get("/app/a").await.expect(200)["id"].as_str().unwrap().parse().unwrap();
    let customer = world.tokens.mint_app(&world.org(), mine, world.now(), HOUR).unwrap();
    world.call_as(&customer, "POST", &path, Some(&look)).await.expect(200);
    world.call_as(&customer, "POST", &path, Some(&resend)).await.expect(202);
    let other = world.app("other").await.parse().unwrap();
    let other = world.tokens.mint_app(&world.org(), other, world.now(), HOUR).unwrap();
    world.call_as(&other, "POST", &path, Some(&look)).await.expect(404);
    // The filter of the feed for the same question.
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await.expect(201);
    let from = world.now().minus(HOUR);
    let ask = async |query: &str| world.get(&format!("/app/a/poller/pull?after={from}{query}")).await.expect(200);
    assert_eq!(ids_of(&ask("").await).len(), 3);
    assert_eq!(ids_of(&ask("&delivery_success=false").await).len(), 1);
    assert_eq!(ids_of(&ask("&delivery_success=true").await).len(), 2);
    assert_eq!(world.get("/app/a/poller/pull?delivery_success=maybe").await.refused(), ["query.delivery_success"]);
}
