//! Leased consumers and autoconfig subscriptions over REST.

use base64::Engine as _;
use sendoff::domain::access::api_key::KeyScope;
use serde_json::{Value, json};

use crate::resources::has;
use crate::support::on_both;
use crate::support::{SOON, eventually};
use crate::world::{HOUR, Said, World};

on_both! {
    leased_messages_belong_to_one_consumer
    uncommitted_messages_are_returned_again
    bad_leases
    a_leased_consumer_waits_for_the_next_message
    a_program_subscribes_by_one_token
    an_autoconfig_token_opens_its_own
    bad_autoconfig
    an_autoconfig_token_names_only_what_its_flags_show
}

async fn polled(world: &World, more: Value) {
    world.app("a").await;
    let mut body = json!({"type": "pollingEndpoint", "uid": "pull"});
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.call("POST", "/app/a/destination", body).await.expect(201);
}

const PULL: &str = "/app/a/polling-endpoint/pull/consumer";

async fn receive(world: &World, query: &str) -> Said {
    world.get(&format!("{PULL}/{query}")).await
}

async fn commit(world: &World, consumer: &str, offset: &Value) -> Said {
    world.call("POST", &format!("{PULL}/{consumer}/commit"), json!({"offset": offset})).await
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("a page").iter().map(|one| one["id"].as_str().expect("an id")).collect()
}

fn offsets(page: &Value) -> Vec<u64> {
    page["data"].as_array().expect("a page").iter().map(|one| one["offset"].as_u64().expect("an offset")).collect()
}

async fn leased_messages_belong_to_one_consumer(world: World) {
    polled(&world, json!({"channels": ["eu"]})).await;
    let mut sent = Vec::new();
    for n in 0..4 {
        let body = json!({"eventType": "t", "payload": {"n": n}, "channels": ["eu"]});
        sent.push(world.call("POST", "/app/a/msg", body).await.expect(202)["id"].as_str().unwrap().to_owned());
        world.message("a", "kept.back").await;
    }
    let said = receive(&world, "c?limit=3").await;
    assert_eq!(said.headers["x-poll-interval"], "0");
    let first = said.expect(200);
    assert_eq!(
        (ids(&first), offsets(&first), &first["done"]),
        (sent[..3].iter().map(|id| &**id).collect(), vec![1, 2, 3], &json!(false))
    );
    has(&first["data"][0], json!({"eventType": "t", "payload": {"n": 0}, "channels": ["eu"]}));
    let held = receive(&world, "c").await.expect(409);
    assert!(held["detail"].as_str().unwrap().contains("leased until"), "{held}");
    assert_eq!(ids(&receive(&world, "other").await.expect(200)).len(), 4, "another consumer");
    for _ in 0..2 {
        commit(&world, "c", &json!(2)).await.expect(204);
    }
    receive(&world, "c").await.expect(409);
    commit(&world, "c", &json!(3)).await.expect(204);
    let rest = receive(&world, "c").await.expect(200);
    assert_eq!((ids(&rest), offsets(&rest), &rest["done"]), (vec![&*sent[3]], vec![4], &json!(true)));
    commit(&world, "c", &json!(4)).await.expect(204);
    let end = receive(&world, "c").await;
    assert_eq!(end.headers["x-poll-interval"], "5");
    assert_eq!(end.expect(200), json!({"data": [], "done": true}));
    // Begun at what comes next.
    assert_eq!(ids(&receive(&world, "late?starting_position=latest").await.expect(200)).len(), 0);
    let body = json!({"eventType": "t", "payload": {}, "channels": ["eu"]});
    let next = world.call("POST", "/app/a/msg", body).await.expect(202);
    assert_eq!(ids(&receive(&world, "late").await.expect(200)), [next["id"].as_str().unwrap()]);
}

async fn uncommitted_messages_are_returned_again(world: World) {
    polled(&world, json!({})).await;
    let message = world.message("a", "t").await;
    let first = receive(&world, "c?lease_duration_ms=1").await.expect(200);
    assert_eq!(ids(&first), [&*message]);
    let again = eventually("the lease ends", SOON, async || {
        let said = receive(&world, "c?lease_duration_ms=60000").await;
        (said.status == 200).then(|| said.expect(200))
    })
    .await;
    assert_eq!((ids(&again), offsets(&again)), (vec![&*message], vec![2]));
    let late = commit(&world, "c", &json!(1)).await.expect(409);
    assert!(late["detail"].as_str().unwrap().contains("has expired"), "{late}");
    commit(&world, "c", &json!(2)).await.expect(204);
    // A consumer that is moved holds nothing any more.
    world.message("a", "t").await;
    let held = receive(&world, "c").await.expect(200);
    let back = json!({"after": world.now().minus(HOUR).to_string()});
    world.call("POST", "/app/a/poller/pull/consumer/c/seek", back).await.expect(200);
    commit(&world, "c", &json!(offsets(&held)[0])).await.expect(409);
    assert_eq!(ids(&receive(&world, "c").await.expect(200)).len(), 2);
    // A refused commit is not remembered under its key as one that was made.
    for _ in 0..2 {
        let request = world.request("POST", &format!("/api/v1{PULL}/c/commit")).bearer_auth(&world.token);
        let request = request.header("idempotency-key", "k").header("content-type", "application/json");
        crate::world::said(request.body(r#"{"offset": 1}"#)).await.expect(409);
    }
}

async fn bad_leases(world: World) {
    polled(&world, json!({})).await;
    world.message("a", "t").await;
    for (query, field) in [
        ("lease_duration_ms=0", "query.lease_duration_ms"),
        ("lease_duration_ms=43200001", "query.lease_duration_ms"),
        ("lease_duration_ms=x", "query.lease_duration_ms"),
        ("starting_position=middle", "query.starting_position"),
        ("limit=0", "query.limit"),
        ("wait=31", "query.wait"),
    ] {
        assert_eq!(receive(&world, &format!("c?{query}")).await.refused(), [field]);
    }
    assert_eq!(receive(&world, &"x".repeat(257)).await.refused(), ["path.consumer_id"]);
    commit(&world, "c", &json!(1)).await.expect(404);
    receive(&world, "c").await.expect(200);
    for (offset, field) in [
        (json!(null), "body.offset"),
        (json!("1"), "body.offset"),
        (json!(-1), "body.offset"),
        (json!(0), "body.offset"),
        (json!(2), "body.offset"),
    ] {
        assert_eq!(commit(&world, "c", &offset).await.refused(), [field], "{offset}");
    }
    // One that keeps its position in the other way.
    world.get("/app/a/poller/pull/consumer/c").await.expect(409);
    world.get("/app/a/poller/pull/consumer/i").await.expect(200);
    receive(&world, "i").await.expect(409);
    commit(&world, "i", &json!(1)).await.expect(404);
    world.call("PATCH", "/app/a/destination/pull", json!({"status": "disabled"})).await.expect(200);
    receive(&world, "d").await.expect(409);
    world.get("/app/a/polling-endpoint/none/consumer/c").await.expect(404);
    let (_, reader) = world.key(&[KeyScope::Read], None).await;
    world.call_as(&reader, "POST", &format!("{PULL}/c/commit"), Some(r#"{"offset": 1}"#)).await.expect(403);
    // A token of one polling endpoint.
    world.call("PATCH", "/app/a/destination/pull", json!({"status": "enabled"})).await.expect(200);
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "other"})).await.expect(201);
    let token = world.call("POST", "/auth/app/a/poller/pull/token/rotate", json!({})).await.expect(200);
    let token = token["token"].as_str().unwrap();
    world.call_as(token, "GET", &format!("{PULL}/d"), None).await.expect(200);
    world.call_as(token, "POST", &format!("{PULL}/d/commit"), Some(r#"{"offset": 1}"#)).await.expect(204);
    world.call_as(token, "GET", "/app/a/polling-endpoint/other/consumer/d", None).await.expect(404);
}

async fn a_leased_consumer_waits_for_the_next_message(world: World) {
    polled(&world, json!({})).await;
    let waiting = receive(&world, "c?wait=20");
    let (page, message) = tokio::join!(waiting, world.message("a", "t"));
    assert_eq!(ids(&page.expect(200)), [&*message]);
}

/// What a token's text carries.
fn content(token: &Value) -> Value {
    let text = token["token"].as_str().unwrap().strip_prefix("auto_v2_").expect("the second version");
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap()).unwrap()
}

async fn a_program_subscribes_by_one_token(world: World) {
    let app = world.app("a").await;
    let made = world.call("POST", "/app/a/autoconfig", json!({"featureFlags": ["beta"]})).await.expect(200);
    let told = content(&made);
    assert_eq!(
        (&told["aid"], &told["sid"], &told["surl"]),
        (&json!(app), &made["id"], &json!("https://hooks.example.com"))
    );
    let (token, secret) = (told["tok"].as_str().unwrap(), told["esec"].as_str().unwrap());
    let path = format!("/app/{app}/autoconfig/{}", made["id"].as_str().unwrap());
    let pending = world.get(&path).await.expect(200);
    has(&pending, json!({"status": "pending", "endpId": null, "destId": null}));
    assert!(pending["tokenCensored"].as_str().unwrap().ends_with(&token[token.len() - 4..]));
    let put = async |what: &str, body: Value| {
        world.call_as(token, "PUT", &format!("{path}/{what}"), Some(&body.to_string())).await
    };
    let url = "http://127.0.0.1:9/hook";
    let endpoint = put("endpoint", json!({"url": url, "channels": ["eu"]})).await.expect(200);
    has(&endpoint, json!({"url": url, "channels": ["eu"]}));
    let of_endpoint = format!("/app/a/endpoint/{}", endpoint["id"].as_str().unwrap());
    assert_eq!(world.get(&format!("{of_endpoint}/secret")).await.expect(200)["key"], json!(secret));
    let changed = put("endpoint", json!({"url": url, "uid": "mine"})).await.expect(200);
    has(&changed, json!({"id": endpoint["id"], "uid": "mine", "channels": null}));
    let queue =
        put("destination", json!({"type": "pollingEndpoint", "uid": "queue", "metadata": null})).await.expect(200);
    let same = put("destination", json!({"type": "pollingEndpoint", "channels": ["eu"]})).await.expect(200);
    has(&same, json!({"id": queue["id"], "uid": "queue", "channels": ["eu"]}));
    let active = world.call_as(token, "GET", &path, None).await.expect(200);
    has(&active, json!({"status": "active", "endpId": endpoint["id"], "destId": queue["id"]}));
    // It fetches from what was made by it, at once.
    let queue_id = queue["id"].as_str().unwrap();
    let consumer = format!("/app/a/polling-endpoint/{queue_id}/consumer/c");
    world.call_as(token, "GET", &consumer, None).await.expect(200);
    world.call_as(token, "GET", &format!("/app/a/poller/{queue_id}"), None).await.expect(200);
    // What was deleted is made again.
    world.delete(&of_endpoint).await.expect(204);
    has(&world.get(&path).await.expect(200), json!({"endpId": null}));
    let new = put("endpoint", json!({"url": url})).await.expect(200);
    assert_ne!(new["id"], endpoint["id"]);

    let key = json!({"signingSecret": {"gracePeriodSeconds": 60}});
    let rotated = world.call("POST", &format!("{path}/rotate"), key).await.expect(200);
    let fresh = content(&rotated);
    assert_eq!(
        (&rotated["id"], fresh["tok"] == told["tok"], fresh["esec"] == told["esec"]),
        (&made["id"], false, false)
    );
    let of_endpoint = format!("/app/a/endpoint/{}", new["id"].as_str().unwrap());
    assert_eq!(world.get(&format!("{of_endpoint}/secret")).await.expect(200)["key"], fresh["esec"]);
    eventually("the old token is refused", SOON, async || {
        (world.call_as(token, "GET", &path, None).await.status == 401).then_some(())
    })
    .await;
    let token = fresh["tok"].as_str().unwrap();
    world.call_as(token, "GET", &path, None).await.expect(200);
    world.delete(&path).await.expect(204);
    world.get(&path).await.expect(404);
    world.get(&of_endpoint).await.expect(200);
    eventually("its token opens nothing", SOON, async || {
        (world.call_as(token, "GET", &consumer, None).await.status == 401).then_some(())
    })
    .await;
}

async fn an_autoconfig_token_opens_its_own(world: World) {
    let app = world.app("a").await;
    let other = world.call("POST", "/app/a/autoconfig", json!({})).await.expect(200);
    // npm's SDK sends no body.
    let made = world.call_as(&world.token, "POST", "/app/a/autoconfig", None).await.expect(200);
    world.call("POST", "/app/a/destination", json!({"type": "pollingEndpoint", "uid": "pull"})).await.expect(201);
    let token = content(&made)["tok"].as_str().unwrap().to_owned();
    let show = async |method: &str, path: &str| {
        let body = (method != "GET").then_some(r#"{"url": "http://127.0.0.1:9/", "type": "pollingEndpoint"}"#);
        world.call_as(&token, method, path, body).await
    };
    let foreign = format!("/app/a/autoconfig/{}", other["id"].as_str().unwrap());
    for (method, path) in
        [("GET", &*foreign), ("PUT", &format!("{foreign}/endpoint")), ("PUT", &format!("{foreign}/destination"))]
    {
        show(method, path).await.expect(404);
    }
    show("GET", &format!("{PULL}/c")).await.expect(404);
    show("GET", "/app/a/poller/pull").await.expect(404);
    let own = format!("/app/a/autoconfig/{}", made["id"].as_str().unwrap());
    for (method, path) in [
        ("DELETE", &*own),
        ("POST", &format!("{own}/rotate")),
        ("POST", "/app/a/autoconfig"),
        ("GET", "/app/a"),
        ("GET", "/app/a/endpoint"),
        ("GET", "/app/a/msg"),
        ("POST", "/app/a/msg"),
        ("GET", "/event-type"),
        ("POST", "/app/a/destination"),
    ] {
        show(method, path).await.expect(403);
    }
    // Who may make one, and who may look.
    let (_, reader) = world.key(&[KeyScope::Read], None).await;
    world.call_as(&reader, "GET", &own, None).await.expect(200);
    world.call_as(&reader, "POST", "/app/a/autoconfig", Some("{}")).await.expect(403);
    let customer = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    world.call_as(&customer, "POST", "/app/a/autoconfig", Some("{}")).await.expect(200);
    world.app("b").await;
    world.call_as(&customer, "POST", "/app/b/autoconfig", Some("{}")).await.expect(404);
    world.get(&own.replace("/a/", "/b/")).await.expect(404);
}

async fn bad_autoconfig(world: World) {
    world.app("a").await;
    let made = world.call("POST", "/app/a/autoconfig", json!({})).await.expect(200);
    let path = format!("/app/a/autoconfig/{}", made["id"].as_str().unwrap());
    for (what, body, field) in [
        ("endpoint", json!({}), "body.url"),
        ("endpoint", json!({"url": "ftp://example.com"}), "body.url"),
        (
            "endpoint",
            json!({"url": "http://127.0.0.1:9/", "secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}),
            "body.secret",
        ),
        ("endpoint", json!({"url": "http://127.0.0.1:9/", "signatureType": "ed25519"}), "body.signatureType"),
        ("destination", json!({}), "body.type"),
        ("destination", json!({"type": "sqs"}), "body.type"),
    ] {
        assert_eq!(
            world.call("PUT", &format!("{path}/{what}"), body.clone()).await.refused(),
            [field],
            "{what} {body}"
        );
    }
    has(&world.get(&path).await.expect(200), json!({"status": "pending"}));
    for body in [json!({"featureFlags": "beta"}), json!({"featureFlags": ["a b"]})] {
        assert_eq!(world.call("POST", "/app/a/autoconfig", body).await.refused(), ["body.featureFlags"]);
    }
    for (body, field) in [
        (json!({"signingSecret": 7}), "body.signingSecret"),
        (json!({"signingSecret": {"key": "x"}}), "body.signingSecret.key"),
        (json!({"signingSecret": {"gracePeriodSeconds": 604_801}}), "body.signingSecret.gracePeriodSeconds"),
    ] {
        assert_eq!(world.call("POST", &format!("{path}/rotate"), body).await.refused(), [field]);
    }
    world.get("/app/a/autoconfig/acfg_1").await.expect(404);
    world
        .call(
            "PUT",
            "/app/a/autoconfig/acfg_01kapvcrj2e8zvm4h6x0c5w9nd/endpoint",
            json!({"url": "http://127.0.0.1:9/"}),
        )
        .await
        .expect(404);
    world.call("POST", "/app/a/autoconfig/acfg_01kapvcrj2e8zvm4h6x0c5w9nd/rotate", json!({})).await.expect(404);
}

/// A hidden event type is reported like one that does not exist, and a customer passes on its own flags only.
async fn an_autoconfig_token_names_only_what_its_flags_show(world: World) {
    world.app("a").await;
    for (name, flags) in [("plain", json!([])), ("beta", json!(["beta"])), ("gamma", json!(["beta", "gamma"]))] {
        let body = json!({"name": name, "description": "", "featureFlags": flags});
        world.call("POST", "/event-type", body).await.expect(201);
    }
    let subscription = async |caller: &str, body: Value| {
        let made = world.call_as(caller, "POST", "/app/a/autoconfig", Some(&body.to_string())).await.expect(200);
        let token = content(&made)["tok"].as_str().unwrap().to_owned();
        (token, format!("/app/a/autoconfig/{}", made["id"].as_str().unwrap()))
    };
    let access = world.call("POST", "/auth/app-portal-access/a", json!({"featureFlags": ["beta"]})).await.expect(200);
    let customer = access["token"].as_str().unwrap();
    for (caller, body, seen) in [
        (&*world.token, json!({}), &["plain"][..]),
        (&*world.token, json!({"featureFlags": ["beta"]}), &["plain", "beta"]),
        (customer, json!({}), &["plain", "beta"]),
        (customer, json!({"featureFlags": []}), &["plain"]),
    ] {
        let (token, path) = subscription(caller, body.clone()).await;
        for (what, other) in [("endpoint", "url"), ("destination", "type")] {
            let mut refusals = Vec::new();
            for name in ["plain", "beta", "gamma", "nosuch"] {
                let value = if other == "url" { "http://127.0.0.1:9/" } else { "pollingEndpoint" };
                let events = if other == "url" { "filterTypes" } else { "eventTypes" };
                let asked = json!({other: value, events: [name]}).to_string();
                let answer = world.call_as(&token, "PUT", &format!("{path}/{what}"), Some(&asked)).await;
                if seen.contains(&name) {
                    answer.expect(200);
                } else {
                    refusals.push(answer.expect(422).to_string().replace(name, "NAME"));
                }
            }
            assert!(refusals.iter().all(|one| *one == refusals[0]), "{body}, {what}: {refusals:?}");
        }
    }
    // No more than its own flags.
    for flags in [json!(["gamma"]), json!(["beta", "nosuch"])] {
        let body = json!({"featureFlags": flags}).to_string();
        let answer = world.call_as(customer, "POST", "/app/a/autoconfig", Some(&body)).await;
        assert_eq!(answer.refused(), ["body.featureFlags"]);
    }
}
