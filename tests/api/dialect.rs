//! Where the dialect's own end-to-end tests and Sendoff once disagreed, and the dialect is right.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::World;

on_both! {
    a_put_replaces_the_uid
    puts_of_something_new_at_once_make_it_once
    lists_are_given_as_clients_write_them
    times_in_a_query_are_inclusive_and_loosely_written
    an_iterator_stands_at_the_end_of_a_list_too
    endpoints_are_listed_from_the_newest
    an_endpoint_shows_the_url_that_is_requested
    an_application_within_a_body_names_itself
    a_key_decides_how_an_endpoint_signs
    a_sixth_old_secret_is_refused
    names_of_headers_that_are_kept
    deleted_content_is_said_to_have_expired
    schemas_that_are_none
    a_ping_need_not_be_in_the_catalog
    uids_that_look_like_other_things
    names_with_another_character
    old_paths
    a_version_is_kept
    event_types_of_operational_events_are_read_and_not_written
}

async fn a_put_replaces_the_uid(world: World) {
    let app = world.app("a").await;
    let made = world.call("PUT", "/app/a/endpoint/hook", json!({"url": "https://example.com/"})).await.expect(201);
    assert_eq!(made["uid"], json!("hook"), "what is made has the uid of its path");
    let path = format!("/app/a/endpoint/{}", made["id"].as_str().unwrap());
    for body in [json!({"url": "https://example.com/"}), json!({"url": "https://example.com/", "uid": null})] {
        world.call("PATCH", &path, json!({"uid": "hook"})).await.expect(200);
        assert_eq!(world.call("PUT", &path, body).await.expect(200)["uid"], Value::Null);
    }
    // Under its uid it keeps it, or the next PUT of the same would make another.
    world.call("PATCH", &path, json!({"uid": "hook"})).await.expect(200);
    let body = json!({"url": "https://example.com/"});
    assert_eq!(world.call("PUT", "/app/a/endpoint/hook", body.clone()).await.expect(200)["uid"], json!("hook"));
    let none = json!({"url": "https://example.com/", "uid": null});
    assert_eq!(world.call("PUT", "/app/a/endpoint/hook", none).await.expect(200)["uid"], Value::Null);
    let mail = json!({"contactEmail": "ops@example.com"});
    world.call("PATCH", "/app/a", mail).await.expect(200);
    assert_eq!(world.call("PUT", "/app/a", json!({"name": "A"})).await.expect(200)["uid"], json!("a"));
    let replaced = world.call("PUT", &format!("/app/{app}"), json!({"name": "A"})).await.expect(200);
    assert_eq!((&replaced["uid"], &replaced["contactEmail"]), (&Value::Null, &json!("ops@example.com")));
    world.get("/app/a").await.expect(404);
    // Clients that leave out what is null clear it by PATCH.
    world.call("PATCH", &format!("/app/{app}"), json!({"uid": "b"})).await.expect(200);
    assert_eq!(world.call("PATCH", "/app/b", json!({"uid": null})).await.expect(200)["uid"], Value::Null);
}

async fn puts_of_something_new_at_once_make_it_once(world: World) {
    world.app("a").await;
    for (path, body) in [
        ("/app/new", json!({"name": "New", "uid": "new"})),
        ("/app/a/endpoint/new", json!({"url": "https://example.com/", "uid": "new"})),
        ("/operational-webhook/endpoint/new", json!({"url": "https://example.com/", "uid": "new"})),
        ("/event-type/new", json!({"description": ""})),
    ] {
        let puts = (0..40).map(|_| world.call("PUT", path, body.clone()));
        let said = futures_util::future::join_all(puts).await;
        let mut statuses: Vec<u16> = said.iter().map(|one| one.status).collect();
        statuses.sort_unstable();
        let wanted: Vec<u16> = [200; 39].into_iter().chain([201]).collect();
        assert_eq!(statuses, wanted, "{path}: {:?}", said.iter().find(|one| one.status > 299).map(|one| &one.text));
    }
}

async fn lists_are_given_as_clients_write_them(world: World) {
    world.app("a").await;
    for event_type in ["x", "y", "z"] {
        world.message("a", event_type).await;
    }
    for query in ["event_types=x,y", "event_types=x&event_types=y", "event_types[]=x&event_types%5B%5D=y"] {
        let list = world.get(&format!("/app/a/msg?{query}")).await.expect(200);
        assert_eq!(list["data"].as_array().unwrap().len(), 2, "{query}");
    }
}

async fn times_in_a_query_are_inclusive_and_loosely_written(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let message = world.message("a", "x").await;
    world.attempt(&app, &message, &endpoint, 1, Some(200)).await;
    for path in [
        "/app/a/msg".to_owned(),
        format!("/app/a/attempt/endpoint/{endpoint}"),
        format!("/app/a/attempt/msg/{message}"),
        format!("/app/a/endpoint/{endpoint}/msg"),
    ] {
        let count = async |query: &str| {
            let list = world.get(&format!("{path}?{query}")).await.expect(200);
            list["data"].as_array().unwrap().len()
        };
        let at = world.get(&path).await.expect(200)["data"][0]["timestamp"].as_str().unwrap().to_owned();
        for (query, wanted) in [
            (format!("after={at}"), 1),
            (format!("before={at}"), 1),
            (format!("after={at}&before={at}"), 1),
            ("after=2026-01-01T00:00:00+00:00".to_owned(), 1),
            ("after=2026-01-01+00:00:00+UTC".to_owned(), 1),
            ("before=2026-01-01+00:00:00+UTC".to_owned(), 0),
        ] {
            assert_eq!(count(&query).await, wanted, "{path}?{query}");
        }
    }
}

async fn an_iterator_stands_at_the_end_of_a_list_too(world: World) {
    let app = world.app("a").await;
    let list = world.get("/app").await.expect(200);
    assert_eq!((&list["done"], &list["iterator"]), (&json!(true), &json!(app)));
    // What comes later is found from there.
    let later = world.app("b").await;
    let on = world.get(&format!("/app?iterator={app}")).await.expect(200);
    assert_eq!((on["data"][0]["id"].as_str(), &on["iterator"]), (Some(&*later), &json!(later)));
    let end = world.get(&format!("/app?iterator={later}")).await.expect(200);
    assert_eq!((&end["data"], &end["iterator"]), (&json!([]), &Value::Null));
}

async fn endpoints_are_listed_from_the_newest(world: World) {
    world.app("a").await;
    let (first, second) = (world.endpoint("a").await, world.endpoint("a").await);
    let ids = async |query: &str| {
        let list = world.get(&format!("/app/a/endpoint{query}")).await.expect(200);
        let ids: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        ids
    };
    assert_eq!(ids("").await, [second.clone(), first.clone()]);
    assert_eq!(ids("?order=ascending").await, [first, second]);
}

async fn an_endpoint_shows_the_url_that_is_requested(world: World) {
    world.app("a").await;
    for (typed, shown) in [
        ("http://EXAMPLE.com", "http://example.com/"),
        ("https://example.com:443/a b", "https://example.com/a%20b"),
        ("https://example.com/hook?x=1", "https://example.com/hook?x=1"),
    ] {
        let made = world.call("POST", "/app/a/endpoint", json!({"url": typed})).await.expect(201);
        assert_eq!(made["url"], json!(shown));
        let path = format!("/app/a/endpoint/{}", made["id"].as_str().unwrap());
        assert_eq!(world.get(&path).await.expect(200)["url"], json!(shown));
    }
}

async fn an_application_within_a_body_names_itself(world: World) {
    let bodies = |application: Value| {
        [
            ("/app/new/msg", json!({"eventType": "x", "payload": {}, "application": application})),
            ("/auth/app-portal-access/new", json!({"application": application})),
        ]
    };
    for (path, body) in bodies(json!({"name": "New"})).into_iter().chain(bodies(json!({"name": "N", "uid": null}))) {
        assert_eq!(world.call("POST", path, body).await.refused(), ["body.application.uid"], "{path}");
    }
    for (path, body) in bodies(json!({"name": "New", "uid": "other"})) {
        let told = world.call("POST", path, body).await.expect(422);
        assert_eq!(told["detail"][0]["msg"], json!("must be the uid in the path, new"), "{path}");
    }
    world.get("/app/new").await.expect(404);
    let [message, portal] = bodies(json!({"name": "New", "uid": "new"}));
    world.call("POST", message.0, message.1).await.expect(202);
    world.call("POST", portal.0, portal.1).await.expect(200);
    assert_eq!(world.get("/app/new").await.expect(200)["name"], json!("New"));
}

async fn a_key_decides_how_an_endpoint_signs(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let path = format!("/app/a/endpoint/{endpoint}");
    let key =
        sendoff::domain::signing::secret::Secret::generate(sendoff::domain::signing::secret::SignatureType::Ed25519);
    let rotated = world.call("POST", &format!("{path}/secret/rotate"), json!({"key": &*key.text()})).await.expect(200);
    assert!(rotated["key"].as_str().unwrap().starts_with("whpk_"), "{rotated}");
    assert_eq!(world.get(&path).await.expect(200)["signatureType"], json!("ed25519"));
    // Without a key it goes on as it is.
    let again = world.call("POST", &format!("{path}/secret/rotate"), json!({})).await.expect(200);
    assert!(again["key"].as_str().unwrap().starts_with("whpk_"));
    let back = json!({"key": format!("whsec_{}", "A".repeat(32))});
    world.call("POST", &format!("{path}/secret/rotate"), back).await.expect(200);
    assert_eq!(world.get(&path).await.expect(200)["signatureType"], json!("hmac256"));
    // A style that knows HMAC alone stands in the way.
    let extra = json!({"extraSignatures": [{"style": "github", "header": "x-hub-signature-256"}]});
    world.call("PATCH", &path, extra).await.expect(200);
    let refused = world.call("POST", &format!("{path}/secret/rotate"), json!({"key": &*key.text()})).await.refused();
    assert_eq!(refused, ["body.key"]);
}

async fn a_sixth_old_secret_is_refused(world: World) {
    world.app("a").await;
    let path = format!("/app/a/endpoint/{}/secret/rotate", world.endpoint("a").await);
    for _ in 0..5 {
        world.call("POST", &path, json!({})).await.expect(200);
    }
    let told = world.call("POST", &path, json!({})).await.expect(400);
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("rotate again after 2") && detail.contains("5 old secrets"), "{detail}");
    world.call("POST", &path, json!({"gracePeriodSeconds": 0})).await.expect(200);
}

async fn names_of_headers_that_are_kept(world: World) {
    world.app("a").await;
    for name in ["svix-x", "x-svix-x", "X-Amzn-Trace-Id", "a:b", "a\u{0}b"] {
        let body = json!({"url": "https://example.com/", "headers": {name: "1"}});
        assert_eq!(world.call("POST", "/app/a/endpoint", body).await.refused(), ["body.headers"], "{name:?}");
    }
}

async fn deleted_content_is_said_to_have_expired(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let message = world.message("a", "x").await;
    world.delete(&format!("/app/a/msg/{message}/content")).await.expect(204);
    let expired = json!({"expired": true});
    assert_eq!(world.get(&format!("/app/a/msg/{message}")).await.expect(200)["payload"], expired);
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"][0]["payload"], expired);
    let sent = format!("/app/a/endpoint/{endpoint}/msg");
    assert_eq!(world.get(&sent).await.expect(200)["data"][0]["payload"], expired);
    let without = world.get("/app/a/msg?with_content=false").await.expect(200);
    assert_eq!(without["data"][0]["payload"], json!({}), "nobody asked for it");
}

async fn schemas_that_are_none(world: World) {
    let event_type = |schema: Value| json!({"name": "x", "description": "", "schemas": {"1": schema}});
    for schema in
        [json!({"readOnly": 15}), json!({"type": "strin"}), json!(7), json!({"properties": {"a": {"minLength": -1}}})]
    {
        let refused = world.call("POST", "/event-type", event_type(schema.clone())).await.refused();
        assert_eq!(refused, ["body.schemas"], "{schema}");
    }
    // Of another draft, which is known, and of one that nobody knows.
    for (name, metaschema) in
        [("x", "http://json-schema.org/draft-04/schema#"), ("y", "https://schema.example.com/own")]
    {
        let mut body = event_type(json!({"$schema": metaschema, "type": "object"}));
        body["name"] = json!(name);
        world.call("POST", "/event-type", body).await.expect(201);
    }
}

async fn a_ping_need_not_be_in_the_catalog(world: World) {
    world.app("a").await;
    let path = format!("/app/a/endpoint/{}/send-example", world.endpoint("a").await);
    for name in ["svix.ping", "sendoff.ping"] {
        let sent = world.call("POST", &path, json!({"eventType": name})).await.expect(202);
        assert_eq!((&sent["eventType"], &sent["payload"]), (&json!(name), &json!({"success": true})));
    }
    assert_eq!(world.call("POST", &path, json!({"eventType": "other.ping"})).await.refused(), ["body.eventType"]);
}

async fn uids_that_look_like_other_things(world: World) {
    for uid in ["org_1", "ep_1", "msg_1"] {
        world.call("POST", "/app", json!({"name": "A", "uid": uid})).await.expect(201);
        assert_eq!(world.get(&format!("/app/{uid}")).await.expect(200)["uid"], json!(uid));
    }
    assert_eq!(world.call("POST", "/app", json!({"name": "A", "uid": "app_1"})).await.refused(), ["body.uid"]);
    let endpoint = |uid: &str| json!({"url": "https://example.com/", "uid": uid});
    world.call("POST", "/app/org_1/endpoint", endpoint("app_1")).await.expect(201);
    assert_eq!(world.call("POST", "/app/org_1/endpoint", endpoint("ep_1")).await.refused(), ["body.uid"]);
    let message = |id: &str| json!({"eventType": "x", "payload": {}, "eventId": id});
    world.call("POST", "/app/org_1/msg", message("ep_1")).await.expect(202);
    assert_eq!(world.call("POST", "/app/org_1/msg", message("msg_1")).await.refused(), ["body.eventId"]);
}

async fn names_with_another_character(world: World) {
    world.app("a").await;
    let channels: Vec<String> = (0..10).map(|n| format!("eu:{n}")).collect();
    let body = json!({"eventType": "x", "payload": {}, "channels": channels, "tags": ["team/billing"],
        "payloadRetentionPeriod": 1});
    world.call("POST", "/app/a/msg", body.clone()).await.expect(202);
    for query in ["channel=eu:7", "tag=team/billing"] {
        let list = world.get(&format!("/app/a/msg?{query}")).await.expect(200);
        assert_eq!(list["data"].as_array().unwrap().len(), 1, "{query}");
    }
    world
        .call("POST", "/app/a/endpoint", json!({"url": "https://example.com/", "channels": ["eu:7"]}))
        .await
        .expect(201);
    for (field, value) in [
        ("channels", json!(vec!["x"; 11])),
        ("channels", json!(["a/b"])),
        ("tags", json!(["a:b"])),
        ("payloadRetentionPeriod", json!(0)),
    ] {
        let mut wrong = body.clone();
        wrong[field] = value;
        assert_eq!(world.call("POST", "/app/a/msg", wrong).await.refused(), [format!("body.{field}")]);
    }
    let visit = json!({"sessionId": "anna@example.com"});
    world.call("POST", "/auth/app-portal-access/a", visit).await.expect(200);
}

async fn old_paths(world: World) {
    let app = world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let message = world.message("a", "x").await;
    world.attempt(&app, &message, &endpoint, 1, Some(200)).await;
    let list = world.get(&format!("/app/a/msg/{message}/attempt")).await.expect(200);
    assert_eq!(list, world.get(&format!("/app/a/attempt/msg/{message}")).await.expect(200));
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let access = world.raw("POST", "/auth/dashboard-access/a", "").await.expect(200);
    let token = access["token"].as_str().unwrap();
    world.call_as(token, "GET", "/app/a/endpoint", None).await.expect(200);
    assert!(access["url"].as_str().unwrap().contains("/portal/enter/"));
    world.raw("POST", "/auth/dashboard-access/none", "").await.expect(404);
}

async fn a_version_is_kept(world: World) {
    world.app("a").await;
    let body = |version: Value| json!({"url": "https://example.com/", "uid": "e", "version": version});
    let made = world.call("POST", "/app/a/endpoint", body(json!(7))).await.expect(201);
    assert_eq!(made["version"], json!(7));
    let patched = world.call("PATCH", "/app/a/endpoint/e", json!({"description": "x"})).await.expect(200);
    assert_eq!(patched["version"], json!(7));
    assert_eq!(world.get("/app/a/endpoint/e").await.expect(200)["version"], json!(7));
    for (given, kept) in [(json!(2_147_483_647), 2_147_483_647_u32), (Value::Null, 1), (json!(1), 1)] {
        let put = world.call("PUT", "/app/a/endpoint/e", body(given)).await.expect(200);
        assert_eq!(put["version"], json!(kept));
    }
    world.call("PUT", "/app/a/endpoint/e", body(json!(3))).await.expect(200);
    let put = world.call("PUT", "/app/a/endpoint/e", json!({"url": "https://example.com/"})).await.expect(200);
    assert_eq!(put["version"], json!(1), "a PUT replaces it");
    for wrong in [json!(0), json!(-1), json!(1.5), json!("2"), json!(2_147_483_648_u64)] {
        assert_eq!(world.call("POST", "/app/a/endpoint", body(wrong)).await.refused(), ["body.version"]);
    }
}

async fn event_types_of_operational_events_are_read_and_not_written(world: World) {
    let failing = world.get("/event-type/message.attempt.failing").await.expect(200);
    assert_eq!((&failing["name"], &failing["archived"]), (&json!("message.attempt.failing"), &json!(false)));
    assert!(failing["description"].as_str().unwrap().contains("fourth attempt"));
    let names = async |query: &str| {
        let list = world.get(&format!("/event-type?{query}")).await.expect(200);
        let names: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        (names, list["done"].as_bool().unwrap(), list["iterator"].as_str().map(str::to_owned))
    };
    let (all, done, _) = names("operational=true").await;
    assert_eq!((all.len(), done, all.is_sorted()), (11, true, true));
    let (mut walked, mut iterator) = (Vec::new(), None::<String>);
    loop {
        let on = iterator.map_or(String::new(), |iterator| format!("&iterator={iterator}"));
        let (page, done, next) = names(&format!("operational=true&limit=4&order=descending{on}")).await;
        walked.extend(page);
        iterator = next;
        if done {
            break;
        }
    }
    assert!(walked.iter().eq(all.iter().rev()), "{walked:?}");
    assert_eq!(names("").await.0, Vec::<String>::new(), "the organization's own catalog has none of them");
    for (method, body) in [("PATCH", json!({"description": "x"})), ("DELETE", Value::Null)] {
        world.call(method, "/event-type/message.attempt.failing", body).await.expect(404);
    }
    // An application knows nothing of them.
    world.app("a").await;
    let token =
        world.raw("POST", "/auth/app-portal-access/a", "{}").await.expect(200)["token"].as_str().unwrap().to_owned();
    world.call_as(&token, "GET", "/event-type/message.attempt.failing", None).await.expect(404);
    let list = world.call_as(&token, "GET", "/event-type?operational=true", None).await.expect(200);
    assert_eq!(list["data"], json!([]));
}
