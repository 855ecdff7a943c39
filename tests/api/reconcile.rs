//! Reconciliation over HTTP: what a receiver misses by the ids that it has or by their digest, and having it sent again.

use sendoff::domain::access::api_key::KeyScope;
use sendoff::domain::deliveries::id_digest::IdHash;
use sendoff::store::jobs::job_lease::StepResult;
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::{Kind, on_both};
use crate::world::{HOUR, Settings, World, said};

on_both! {
    missing_messages_are_listed
    what_a_receiver_misses_by_a_digest
    missing_messages_are_resent
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

async fn missing_messages_are_listed(world: World) {
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

/// A bucket of the ids `has`, from the first to the last of `range`.
fn bucket(range: &[String], has: &[&String]) -> Value {
    let xor = IdHash::of_all(has.iter().map(|id| id.parse().expect("an id"))).to_bytes();
    let xor: String = xor.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"first": range.first(), "last": range.last(), "count": has.len(), "xor": xor})
}

async fn what_a_receiver_misses_by_a_digest(world: World) {
    let (path, mut ids) = three(&world).await;
    let (app, endpoint) = (world.get("/app/a").await.expect(200), path.split('/').nth(4).unwrap().to_owned());
    let app = app["id"].as_str().unwrap();
    for _ in 0..2 {
        let message = world.message("a", "t").await;
        world.attempt(app, &message, &endpoint, 1, Some(200)).await;
        ids.push(message);
    }
    let ask = async |more: Value| world.call("POST", &path, since(&world, more)).await.expect(200);
    let found = async |has: &[&String]| {
        let page = ask(json!({"digest": [bucket(&ids, has)]})).await;
        assert_eq!((&page["iterator"], &page["done"]), (&json!(ids[4]), &json!(true)));
        ids_of(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // The third waits for a retry: the receiver may have it or not.
    assert_eq!(found(&[&ids[0], &ids[1], &ids[3], &ids[4]]).await, [""; 0]);
    assert_eq!(found(&[&ids[0], &ids[1], &ids[2], &ids[3], &ids[4]]).await, [""; 0]);
    assert_eq!(found(&[&ids[0], &ids[2], &ids[4]]).await, [&*ids[1], &ids[3]]);
    assert_eq!(found(&[&ids[4]]).await, [&*ids[0], &ids[1], &ids[3]]);
    // An id that is not of this endpoint: what the receiver has cannot be computed.
    let foreign = world.app("b").await.replace("app_", "msg_");
    assert_eq!(found(&[&ids[0], &ids[1], &foreign]).await, [&*ids[0], &ids[1], &ids[3], &ids[4]]);

    let some = [&ids[0], &ids[3]];
    let first = ask(json!({"digest": [bucket(&ids[..4], &some)], "limit": 1})).await;
    assert_eq!((ids_of(&first), &first["done"]), (vec![&*ids[1]], &json!(false)));
    let rest = json!({"digest": [bucket(&ids[..4], &some)], "limit": 1, "iterator": first["iterator"]});
    assert_eq!(ids_of(&ask(rest).await), [&*ids[4]], "in no bucket");
    let bounded = ask(json!({"digest": [bucket(&ids[..4], &some)], "hasMore": true})).await;
    assert_eq!(
        (ids_of(&bounded), &bounded["iterator"], &bounded["done"]),
        (vec![&*ids[1]], &json!(ids[3]), &json!(true))
    );
    assert_eq!(ids_of(&ask(json!({"digest": []})).await).len(), 4);
    let both = json!({"digest": [bucket(&ids[3..], &[&ids[4]]), bucket(&ids[..2], &[&ids[0]])]});
    assert_eq!(ids_of(&ask(both).await), [&*ids[1], &ids[3]], "buckets in any order");

    let body = since(&world, json!({"digest": [bucket(&ids, &some)], "resend": true}));
    let task = world.call("POST", &path, body).await.expect(202);
    let turn = world.store.lease_background(world.now()).await.unwrap().expect("a turn");
    assert!(matches!(world.store.step_background(turn, world.now()).await.unwrap(), StepResult::Ended(_)));
    let done = world.get(&format!("/background-task/{}", task["id"].as_str().unwrap())).await.expect(200);
    has(&done["data"], json!({"looked": 5, "sent": 2}));
    let pending = world.get(&format!("{}/msg?status=1", path.trim_end_matches("/reconcile"))).await.expect(200);
    let mut pending = ids_of(&pending);
    pending.sort_unstable();
    assert_eq!(pending, [&*ids[1], &ids[4]]);
}

async fn missing_messages_are_resent(world: World) {
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
    let good = bucket(&ids, &[&ids[0], &ids[1]]);
    let but = |name: &str, value: Value| {
        let mut bucket = good.clone();
        bucket[name] = value;
        json!({"since": day, "digest": [bucket]})
    };
    for (body, field) in [
        (json!({}), "body.since"),
        (json!({"since": "yesterday"}), "body.since"),
        (json!({"since": world.now().plus(HOUR)}), "body.since"),
        (json!({"since": hour, "until": day}), "body.since"),
        (json!({"since": day, "until": 5}), "body.until"),
        (json!({"since": day, "has": "msg_1"}), "body.has"),
        (json!({"since": day, "has": ["msg_1"]}), "body.has"),
        (json!({"since": day, "has": [ids[0], path]}), "body.has"),
        (json!({"since": day, "has": [], "digest": []}), "body.digest"),
        (json!({"since": day, "digest": "msg_1"}), "body.digest"),
        (json!({"since": day, "digest": [ids[0]]}), "body.digest"),
        (json!({"since": day, "digest": [{"first": ids[0], "last": ids[0], "count": 1}]}), "body.digest"),
        (json!({"since": day, "digest": [good, good]}), "body.digest"),
        (but("first", json!("msg_1")), "body.digest"),
        (json!({"since": day, "digest": [bucket(&[ids[1].clone(), ids[0].clone()], &[&ids[0]])]}), "body.digest"),
        (but("count", json!(0)), "body.digest"),
        (but("count", json!(1_001)), "body.digest"),
        (but("count", json!(-1)), "body.digest"),
        (but("count", json!(1.5)), "body.digest"),
        (but("xor", json!("ab")), "body.digest"),
        (but("xor", json!("g".repeat(64))), "body.digest"),
        (but("xor", json!("0".repeat(65))), "body.digest"),
        (but("more", json!(1)), "body.digest"),
        (json!({"since": day, "digest": [], "hasMore": true}), "body.hasMore"),
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
    let message = |n: usize| format!("msg_01kapvcr{n:018}");
    let buckets: Vec<Value> = (0..3_001).map(|n| bucket(&[message(n)], &[&message(n)])).collect();
    let refused = wide.call("POST", &path, json!({"since": day, "digest": buckets})).await;
    assert_eq!(refused.refused(), ["body.digest"]);
    wide.call("POST", &path, json!({"since": day, "digest": &buckets[1..]})).await.expect(200);
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
    for more in [json!({"digest": []}), json!({"digest": [], "resend": true})] {
        let by_digest = since(&world, more).to_string();
        world.call_as(&other, "POST", &path, Some(&by_digest)).await.expect(404);
        world.call_as(&sender, "POST", &path, Some(&by_digest)).await.expect(403);
    }
    // The filter of the feed for the same question.
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await.expect(201);
    let from = world.now().minus(HOUR);
    let ask = async |query: &str| world.get(&format!("/app/a/poller/pull?after={from}{query}")).await.expect(200);
    assert_eq!(ids_of(&ask("").await).len(), 3);
    assert_eq!(ids_of(&ask("&delivery_success=false").await).len(), 1);
    assert_eq!(ids_of(&ask("&delivery_success=true").await).len(), 2);
    assert_eq!(world.get("/app/a/poller/pull?delivery_success=maybe").await.refused(), ["query.delivery_success"]);
}
