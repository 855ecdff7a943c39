//! Applications, endpoints, secrets and event types through their lives: shapes, codes, what PUT replaces and PATCH leaves, ids and
//! uids alike; and what else is there.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::{World, said};

on_both! {
    applications
    endpoints
    endpoints_keep_what_only_we_know
    old_names
    secrets
    event_types
    what_is_around
    probes_say_how_it_is
}

/// Asserts that `part` is in `whole`, member by member.
pub fn has(whole: &Value, part: Value) {
    for (name, value) in part.as_object().expect("an object") {
        assert_eq!(&whole[name], value, "{name} in {whole}");
    }
}

async fn applications(world: World) {
    let app = world.call("POST", "/app", json!({"name": "Acme"})).await.expect(201);
    has(&app, json!({"name": "Acme", "uid": null, "throttleRate": null, "metadata": {}, "contactEmail": null}));
    assert!(app["id"].as_str().unwrap().starts_with("app_") && app["createdAt"].as_str().unwrap().ends_with('Z'));

    let full =
        json!({"name": "B", "uid": "b.1", "throttleRate": 7, "metadata": {"k": "v"}, "contactEmail": "o@b.example"});
    let made = world.call("POST", "/app/", full.clone()).await.expect(201);
    has(&made, full.clone());
    assert_eq!(world.call("POST", "/app", full.clone()).await.expect(409)["code"], "conflict");
    let got = world.call("POST", "/app?get_if_exists=true", json!({"name": "ignored", "uid": "b.1"})).await.expect(200);
    assert_eq!(got, made);
    world.call("POST", "/app?get_if_exists=true", json!({"name": "C", "uid": "c"})).await.expect(201);
    for path in ["/app/b.1", "/app/b.1/", &format!("/app/{}", made["id"].as_str().unwrap())] {
        assert_eq!(world.get(path).await.expect(200), made);
    }

    let patched = world.call("PATCH", "/app/b.1", json!({"throttleRate": null})).await.expect(200);
    has(&patched, json!({"name": "B", "uid": "b.1", "throttleRate": null, "metadata": {"k": "v"}}));
    let patched = world.call("PATCH", "/app/b.1", json!({"metadata": null, "contactEmail": null})).await.expect(200);
    has(&patched, json!({"name": "B", "metadata": {}, "contactEmail": null}));
    assert_eq!(world.call("PATCH", "/app/b.1", json!({"name": null})).await.refused(), ["body.name"]);
    assert!(patched["updatedAt"].as_str() > made["updatedAt"].as_str() && patched["createdAt"] == made["createdAt"]);

    let put = world.call("PUT", "/app/b.1", json!({"name": "B2", "uid": "b.1"})).await.expect(200);
    has(&put, json!({"id": made["id"], "name": "B2", "uid": "b.1", "throttleRate": null}));
    let new = world.call("PUT", "/app/new-uid", json!({"name": "N"})).await.expect(201);
    has(&new, json!({"uid": "new-uid"}));
    let again = json!({"name": "N", "uid": "new-uid"});
    has(&world.call("PUT", "/app/new-uid", again).await.expect(200), json!({"id": new["id"]}));
    assert_eq!(world.call("PUT", "/app/x", json!({"name": "N", "uid": "y"})).await.refused(), ["body.uid"]);
    assert_eq!(world.call("PUT", "/app/b.1", json!({"name": "B", "uid": "new-uid"})).await.status, 409);
    let nobody = "app_01jd8x5q3fe8ktq8b4m5rj2w3a";
    assert_eq!(world.call("PUT", &format!("/app/{nobody}"), json!({"name": "N"})).await.status, 404);
    assert_eq!(world.call("PUT", "/app/app_x", json!({"name": "N"})).await.refused(), ["path.app_id"]);
    assert_eq!(world.call("PATCH", "/app/b.1", json!({"uid": null})).await.expect(200)["uid"], Value::Null);

    world.delete("/app/new-uid").await.expect(204);
    world.delete("/app/new-uid").await.expect(404);
    world.get(&format!("/app/{}", new["id"].as_str().unwrap())).await.expect(404);
    world.call("PUT", "/app/new-uid", json!({"name": "again"})).await.expect(201);
}

async fn endpoints(world: World) {
    world.app("a").await;
    world.call("POST", "/event-type", json!({"name": "x.y", "description": ""})).await.expect(201);
    let endpoint = world.call("POST", "/app/a/endpoint", json!({"url": "http://127.0.0.1:1/a?b#c"})).await.expect(201);
    has(
        &endpoint,
        json!({"url": "http://127.0.0.1:1/a?b#c", "description": "", "disabled": false, "disabledReason": null,
               "eventTypes": null, "channels": null, "throttleRate": null, "uid": null, "metadata": {}, "version": 1,
               "requestTimeoutSeconds": null, "retrySchedule": null, "ordered": false, "signatureType": "hmac256",
               "extraSignatures": []}),
    );
    let full = json!({
        "url": "http://127.0.0.1:1/", "uid": "e1", "description": "d", "disabled": true, "eventTypes": ["x.y"],
        "channels": ["c1"], "throttleRate": 65535, "metadata": {"a": "b"}, "requestTimeoutSeconds": 30,
        "retrySchedule": [0, 1.5, 60], "ordered": true, "signatureType": "hmac256",
        "extraSignatures": [{"style": "github", "header": "X-Hub-Signature-256", "key": "text"}, {"style": "svix"}],
    });
    let mut given = full.clone();
    given["headers"] = json!({"x-key": "hush-hush"});
    given["secret"] = json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let said = world.call("POST", "/app/a/endpoint/", given).await;
    assert!(!said.text.contains("hush-hush") && !said.text.contains("MfKQ9r8GKYqr"), "{}", said.text);
    let made = said.expect(201);
    has(&made, full.clone());
    assert_eq!(made["disabledReason"], "manual");
    for path in
        ["/app/a/endpoint/e1", "/app/a/endpoint/e1/", &format!("/app/a/endpoint/{}", made["id"].as_str().unwrap())]
    {
        assert_eq!(world.get(path).await.expect(200), made);
    }
    assert_eq!(
        world.call("POST", "/app/a/endpoint", json!({"url": "http://127.0.0.1/", "uid": "e1"})).await.status,
        409
    );

    // What a PATCH does not name stays; null clears.
    let same = world.call("PATCH", "/app/a/endpoint/e1", json!({})).await.expect(200);
    has(&same, full.clone());
    let cleared = json!({"description": null, "eventTypes": null, "channels": null, "throttleRate": null,
        "metadata": null, "requestTimeoutSeconds": null, "retrySchedule": null, "ordered": null, "extraSignatures": null});
    let patched = world.call("PATCH", "/app/a/endpoint/e1", cleared).await.expect(200);
    has(
        &patched,
        json!({"url": "http://127.0.0.1:1/", "uid": "e1", "disabled": true, "description": "", "eventTypes": null,
               "channels": null, "throttleRate": null, "metadata": {}, "requestTimeoutSeconds": null,
               "retrySchedule": null, "ordered": false, "extraSignatures": []}),
    );
    let enabled = world.call("PATCH", "/app/a/endpoint/e1", json!({"disabled": false})).await.expect(200);
    has(&enabled, json!({"disabled": false, "disabledReason": null}));
    for (body, field) in [
        (json!({"url": null}), "body.url"),
        (json!({"disabled": null}), "body.disabled"),
        (json!({"signatureType": "ed25519"}), "body.signatureType"),
        (json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}), "body.secret"),
        (json!({"eventTypes": []}), "body.eventTypes"),
        (json!({"eventTypes": ["x.y", "un.known"]}), "body.eventTypes"),
    ] {
        assert_eq!(world.call("PATCH", "/app/a/endpoint/e1", body).await.refused(), [field]);
    }
    world.call("PATCH", "/app/a/endpoint/e1", json!({"signatureType": "hmac256"})).await.expect(200);

    let made = world.call("PUT", "/app/a/endpoint/e2", json!({"url": "http://127.0.0.1/"})).await.expect(201);
    has(&made, json!({"uid": "e2"}));
    let put =
        world.call("PUT", "/app/a/endpoint/e2", json!({"url": "http://127.0.0.1/2", "uid": "e2"})).await.expect(200);
    has(&put, json!({"uid": "e2", "id": made["id"], "url": "http://127.0.0.1/2"}));
    world.delete("/app/a/endpoint/e2/").await.expect(204);
    world.get("/app/a/endpoint/e2").await.expect(404);
    world.get("/app/nobody/endpoint/e1").await.expect(404);
    world
        .call("PUT", "/app/a/endpoint/ep_01jd8x5q3fe8ktq8b4m5rj2w3a", json!({"url": "http://127.0.0.1/"}))
        .await
        .expect(404);
}

async fn endpoints_keep_what_only_we_know(world: World) {
    let app = world.app("a").await;
    let body = json!({"url": "http://127.0.0.1/", "uid": "e", "description": "d", "throttleRate": 5, "headers": {"x-a": "1"},
        "retrySchedule": [1, 2], "requestTimeoutSeconds": 9, "ordered": true, "signatureType": "ed25519",
        "extraSignatures": [{"style": "svix"}]});
    world.call("POST", "/app/a/endpoint", body).await.expect(201);
    let put =
        world.call("PUT", "/app/a/endpoint/e", json!({"url": "http://127.0.0.1/2", "uid": "e"})).await.expect(200);
    has(
        &put,
        json!({"uid": "e", "description": "", "throttleRate": null, "retrySchedule": [1, 2], "requestTimeoutSeconds": 9,
               "ordered": true, "signatureType": "ed25519", "extraSignatures": [{"style": "svix"}]}),
    );
    let tenant = sendoff::store::Tenant::org(world.org());
    let id = put["id"].as_str().unwrap().parse::<sendoff::domain::EndpointId>().unwrap();
    let stored = async || {
        let found = world.store.endpoint(&tenant, app.parse().unwrap(), &id.into()).await.unwrap().unwrap();
        found.spec.headers.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(stored().await, [("x-a".to_owned(), "1".to_owned())], "headers have a path of their own");
    world.call("PATCH", "/app/a/endpoint/e", json!({"headers": null})).await.expect(200);
    assert_eq!(stored().await, []);
}

async fn old_names(world: World) {
    world.app("a").await;
    for name in ["t.a", "t.b"] {
        world.call("POST", "/event-type", json!({"name": name, "description": ""})).await.expect(201);
    }
    let old = json!({"url": "http://127.0.0.1/", "uid": "e", "rateLimit": 9, "filterTypes": ["t.a"], "version": 1});
    let made = world.call("POST", "/app/a/endpoint", old.clone()).await.expect(201);
    has(&made, old);
    has(&made, json!({"throttleRate": 9, "eventTypes": ["t.a"]}));
    let both = json!({"rateLimit": 9, "throttleRate": 3, "filterTypes": ["t.a"], "eventTypes": ["t.b"]});
    let patched = world.call("PATCH", "/app/a/endpoint/e", both).await.expect(200);
    has(&patched, json!({"rateLimit": 3, "filterTypes": ["t.b"]}));
    assert_eq!(
        world.call("PATCH", "/app/a/endpoint/e", json!({"rateLimit": 0})).await.refused(),
        ["body.throttleRate"]
    );
    let both = json!({"rateLimit": 0, "throttleRate": 3, "filterTypes": [], "eventTypes": ["t.b"]});
    let refused = world.call("PATCH", "/app/a/endpoint/e", both).await.refused();
    assert_eq!(
        refused,
        ["body.filterTypes", "body.rateLimit"],
        "an old name that does not count is checked all the same"
    );
    let both = json!({"rateLimit": 0, "throttleRate": 3});
    assert_eq!(world.call("PATCH", "/app/a", both).await.refused(), ["body.rateLimit"]);
    has(
        &world.call("PATCH", "/app/a", json!({"rateLimit": 4})).await.expect(200),
        json!({"throttleRate": 4, "rateLimit": 4}),
    );
}

async fn secrets(world: World) {
    world.app("a").await;
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let post = |body: Value| world.call("POST", "/app/a/endpoint", body);
    post(json!({"url": "http://127.0.0.1/", "uid": "own", "secret": own})).await.expect(201);
    post(json!({"url": "http://127.0.0.1/", "uid": "bare", "secret": &own[6..]})).await.expect(201);
    post(json!({"url": "http://127.0.0.1/", "uid": "made", "secret": null})).await.expect(201);
    post(json!({"url": "http://127.0.0.1/", "uid": "pair", "signatureType": "ed25519"})).await.expect(201);
    let key = async |uid: &str| {
        let said = world.get(&format!("/app/a/endpoint/{uid}/secret/")).await;
        assert_eq!(said.headers["cache-control"], "no-store");
        said.expect(200)["key"].as_str().unwrap().to_owned()
    };
    assert_eq!(key("own").await, own);
    assert_eq!(key("bare").await, own);
    assert!(key("made").await.starts_with("whsec_") && key("made").await != own);
    let public = key("pair").await;
    assert!(public.starts_with("whpk_"), "the private half stays here: {public}");

    let rotate =
        async |uid: &str, body: Value| world.call("POST", &format!("/app/a/endpoint/{uid}/secret/rotate"), body).await;
    let next = rotate("own", json!({})).await.expect(200)["key"].as_str().unwrap().to_owned();
    assert!(next != own && key("own").await == next);
    let chosen = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert_eq!(rotate("own", json!({"key": chosen, "gracePeriodSeconds": 0})).await.expect(200)["key"], chosen);
    assert_eq!(key("own").await, chosen);
    rotate("own", json!({"key": null, "gracePeriodSeconds": 604_800})).await.expect(200);
    let turned = rotate("pair", json!({})).await.expect(200)["key"].as_str().unwrap().to_owned();
    assert!(turned.starts_with("whpk_") && turned != public);
    for (uid, body, field) in [
        ("own", json!({"gracePeriodSeconds": 604_801}), "body.gracePeriodSeconds"),
        ("own", json!({"gracePeriodSeconds": -1}), "body.gracePeriodSeconds"),
        ("own", json!({"gracePeriodSeconds": 1.5}), "body.gracePeriodSeconds"),
        ("own", json!({"key": "whsec_c2hvcnQ="}), "body.key"),
        ("own", json!({"key": 7}), "body.key"),
    ] {
        let said = rotate(uid, body).await;
        assert!(!said.text.contains("c2hvcnQ") && !said.text.contains("MfKQ"), "{}", said.text);
        assert_eq!(said.refused(), [field]);
    }
    // A private key tells the type by itself; told otherwise, it is a mistake.
    let private = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    has(
        &post(json!({"url": "http://127.0.0.1/", "secret": private})).await.expect(201),
        json!({"signatureType": "ed25519"}),
    );
    for (kind, secret) in [("hmac256", private), ("ed25519", own)] {
        let body = json!({"url": "http://127.0.0.1/", "secret": secret, "signatureType": kind});
        assert_eq!(post(body).await.refused(), ["body.secret"]);
    }
}

async fn event_types(world: World) {
    let schemas = json!({"1": {"type": "object", "properties": {"a": {"type": "string"}}}});
    let full = json!({"name": "user.new", "description": "d", "archived": false, "deprecated": true,
        "featureFlags": ["beta"], "groupName": "user", "schemas": schemas});
    let made = world.call("POST", "/event-type/", full.clone()).await.expect(201);
    has(&made, full.clone());
    assert_eq!(made["featureFlag"], "beta");
    assert_eq!(world.get("/event-type/user.new/").await.expect(200), made);
    assert_eq!(world.call("POST", "/event-type", full).await.expect(409)["code"], "conflict");
    let patched = world.call("PATCH", "/event-type/user.new", json!({"groupName": null, "featureFlag": "g"})).await;
    has(
        &patched.expect(200),
        json!({"groupName": null, "featureFlags": ["g"], "deprecated": true, "schemas": schemas}),
    );
    let cleared = json!({"featureFlags": null, "schemas": null, "description": null});
    let patched = world.call("PATCH", "/event-type/user.new", cleared).await.expect(200);
    has(&patched, json!({"featureFlags": [], "featureFlag": null, "schemas": null, "description": ""}));
    for (body, field) in [
        (json!({"archived": null}), "body.archived"),
        (json!({"schemas": []}), "body.schemas"),
        (json!({"groupName": "a b"}), "body.groupName"),
    ] {
        assert_eq!(world.call("PATCH", "/event-type/user.new", body).await.refused(), [field]);
    }
    world.call("PUT", "/event-type/put.made", json!({"description": "p"})).await.expect(201);
    has(
        &world.call("PUT", "/event-type/put.made", json!({"description": "q"})).await.expect(200),
        json!({"description": "q"}),
    );
    assert_eq!(world.call("PUT", "/event-type/put.made", json!({})).await.refused(), ["body.description"]);
    assert_eq!(world.call("POST", "/event-type", json!({"name": "x"})).await.refused(), ["body.description"]);
    assert_eq!(world.call("PUT", "/event-type/a b", json!({"description": ""})).await.status, 422);
    world.call("PATCH", "/event-type/none", json!({})).await.expect(404);

    world.delete("/event-type/user.new").await.expect(204);
    assert_eq!(world.get("/event-type/user.new").await.expect(200)["archived"], true);
    let names = async |query: &str| {
        let list = world.get(&format!("/event-type?{query}")).await.expect(200);
        list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["put.made"]);
    assert_eq!(names("include_archived=true").await, ["put.made", "user.new"]);
    has(
        &world.call("POST", "/event-type", json!({"name": "user.new", "description": "back"})).await.expect(201),
        json!({"archived": false, "createdAt": made["createdAt"]}),
    );
    world.delete("/event-type/user.new?expunge=true").await.expect(204);
    world.get("/event-type/user.new").await.expect(404);
    world.delete("/event-type/user.new").await.expect(404);

    world.call("PATCH", "/event-type/put.made", json!({"schemas": schemas})).await.expect(200);
    let schemas_in_list =
        async |query| world.get(&format!("/event-type?{query}")).await.expect(200)["data"][0]["schemas"].clone();
    assert_eq!(schemas_in_list("").await, Value::Null);
    assert_eq!(schemas_in_list("with_content=true").await, schemas);
}

async fn what_is_around(world: World) {
    for path in ["/health", "/health/", "/health/ping", "/health/ping/"] {
        let said = said(world.request("GET", &format!("/api/v1{path}"))).await;
        assert_eq!((said.status, &*said.text), (204, ""), "{path} needs no token");
    }
    for (method, path) in [("POST", "/app/a/msg/expunge-all-contents"), ("GET", "/app/a/endpoint/e/transformation")] {
        let later = world.call_as(&world.token, method, path, None).await.expect(501);
        assert_eq!(later["code"], "not_implemented", "{method} {path}");
        assert_eq!(said(world.request(method, &format!("/api/v1{path}"))).await.status, 401, "a token first");
    }
    for path in ["/api/v1/nothing", "/api/v1/app/a/nothing/x", "/api/v1", "/api/v2/app", "/api"] {
        assert_eq!(said(world.request("GET", path)).await.expect(404)["code"], "not_found", "{path}");
    }
    for (method, path, allow) in [
        ("DELETE", "/app", "GET, POST, HEAD"),
        ("PATCH", "/app/a/msg/", "POST, GET, HEAD"),
        ("GET", "/auth/logout", "POST"),
    ] {
        let said = world.call_as(&world.token, method, path, None).await;
        assert_eq!(said.headers["allow"], allow);
        assert_eq!(said.expect(405)["code"], "method_not_allowed");
    }
}

async fn probes_say_how_it_is(world: World) {
    let get = |path: &str| said(world.request("GET", path));
    assert_eq!(get("/healthz").await.expect(200)["status"], "alive");
    assert_eq!(get("/readyz").await.expect(200)["status"], "ready");
    world.get("/app/nobody").await.expect(404);
    world.delete("/app/").await.expect(405);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (got, head) = (said(world.request("GET", path)).await, said(world.request("HEAD", path)).await);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.headers["content-type"], got.headers["content-type"], "{path}");
    }
    let metrics = get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    let counted = |labels: &str| metrics.text.contains(&format!("sendoff_http_requests_total{{{labels}}}"));
    assert!(counted(r#"route="/app/{app}",method="GET",status="404""#), "{}", metrics.text);
    assert!(counted(r#"route="/app",method="other",status="405""#), "{}", metrics.text);
    world.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(get("/readyz").await.expect(503)["code"], "draining");
    assert_eq!(get("/healthz").await.status, 200, "it still lives");
}
