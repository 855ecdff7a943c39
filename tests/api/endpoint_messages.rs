//! What an endpoint was sent, and counts.

use serde_json::json;

use crate::resources::has;
use crate::support::on_both;
use crate::world::{HOUR, World};

on_both! {
    messages_sent_to_an_endpoint_are_listed
    counts
    a_resting_endpoint_says_how_many_wait_and_when_it_is_tried
}

async fn messages_sent_to_an_endpoint_are_listed(world: World) {
    let app = world.app("a").await;
    let (one, other) = (world.endpoint("a").await, world.endpoint("a").await);
    let mut ids = Vec::new();
    for (n, event_type) in ["t.a", "t.b", "t.a"].into_iter().enumerate() {
        let body = json!({"eventType": event_type, "eventId": format!("ev-{n}"), "channels": [format!("c{n}")],
            "payload": {"n": n}});
        ids.push(world.call("POST", "/app/a/msg", body).await.expect(202)["id"].as_str().unwrap().to_owned());
    }
    world.attempt(&app, &ids[0], &one, 1, Some(200)).await;
    world.attempt(&app, &ids[1], &one, 1, Some(500)).await;
    world.attempt(&app, &ids[1], &other, 1, Some(200)).await;
    let path = format!("/app/a/endpoint/{one}/msg");
    let all = world.get(&path).await.expect(200);
    has(
        &all["data"][2],
        json!({"id": ids[0], "eventId": "ev-0", "eventType": "t.a", "channels": ["c0"], "payload": {"n": 0}, "status": 0,
            "statusText": "success", "nextAttempt": null}),
    );
    has(&all["data"][1], json!({"id": ids[1], "status": 3, "statusText": "sending"}));
    has(&all["data"][0], json!({"id": ids[2], "status": 1, "statusText": "pending"}));
    assert!(all["data"][1]["nextAttempt"].as_str() > all["data"][1]["timestamp"].as_str());
    has(&all, json!({"done": true, "iterator": ids[0], "prevIterator": format!("-{}", ids[2])}));
    for (query, wanted) in [
        ("status=0", &[0][..]),
        ("status=1", &[2]),
        ("status=2", &[]),
        ("status=3", &[1]),
        ("status=4&expanded_statuses=true", &[]),
        ("event_types=t.a,t.c", &[2, 0]),
        ("channel=c1", &[1]),
        ("channel=c", &[]),
        ("tag=x", &[]),
        ("before=2026-01-01T00:00:00Z", &[]),
        ("after=2026-01-01T00:00:00Z&status=3&event_types=t.b", &[1]),
        ("limit=2", &[2, 1]),
    ] {
        let list = world.get(&format!("{path}/?with_content=false&{query}")).await.expect(200);
        let found = list["data"].as_array().unwrap();
        let of: Vec<usize> = found.iter().map(|m| ids.iter().position(|id| m["id"] == json!(id)).unwrap()).collect();
        assert_eq!(of, wanted, "{query}");
        assert!(found.iter().all(|message| message["payload"] == json!({})));
    }
    let page = world.get(&format!("{path}?limit=2&status=3&iterator={}", ids[2])).await.expect(200);
    has(&page, json!({"done": true, "iterator": ids[1]}));
    assert_eq!(page["data"][0]["id"], json!(ids[1]));
    let back = world.get(&format!("{path}?limit=1&iterator=-{}", ids[0])).await.expect(200);
    has(&back, json!({"done": false, "iterator": ids[1], "prevIterator": format!("-{}", ids[1])}));
    for (query, field) in [("status=9", "query.status"), ("limit=0", "query.limit"), ("after=x", "query.after")] {
        assert_eq!(world.get(&format!("{path}?{query}")).await.refused(), [field]);
    }
    world.get("/app/a/endpoint/none/msg").await.expect(404);
    world.app("b").await;
    world.get(&format!("/app/b/endpoint/{one}/msg")).await.expect(404);
    let mine = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), HOUR).unwrap();
    let list = world.call_as(&mine, "GET", &path, None).await.expect(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 3, "a receiver may reconcile with its application's token");
}

async fn counts(world: World) {
    let app = world.app("a").await;
    let (one, two) = (world.endpoint("a").await, world.endpoint("a").await);
    for (endpoint, status) in [(&one, Some(200)), (&one, Some(500)), (&two, None)] {
        let message = world.message("a", "t").await;
        world.attempt(&app, &message, endpoint, 1, status).await;
    }
    let stats = format!("/app/a/endpoint/{one}/stats");
    let wanted = json!({"success": 1, "pending": 2, "sending": 0, "fail": 0, "canceled": 0});
    assert_eq!(world.get(&stats).await.expect(200), wanted);
    let none = json!({"success": 0, "pending": 0, "sending": 0, "fail": 0, "canceled": 0});
    assert_eq!(world.get(&format!("{stats}/?until=2026-01-01T00:00:00Z")).await.expect(200), none);
    let tries = json!({"success": 1, "fail": 1, "canceled": 0});
    assert_eq!(world.get(&format!("/app/a/endpoint/{one}/attempt-stats")).await.expect(200), tries);
    let tries = json!({"success": 1, "fail": 2, "canceled": 0});
    assert_eq!(world.get("/app/a/stats/attempts/").await.expect(200), tries);
    let none = json!({"success": 0, "fail": 0, "canceled": 0});
    let long_ago = "since=2025-12-01T00:00:00Z&until=2026-01-01T00:00:00Z";
    assert_eq!(world.get(&format!("/app/a/stats/attempts?{long_ago}")).await.expect(200), none);
    for path in [&*stats, "/app/a/stats/attempts"] {
        for query in ["since=x", "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since=9999-01-01T00:00:00Z"]
        {
            assert_eq!(world.get(&format!("{path}?{query}")).await.refused(), ["query.since"], "{path} {query}");
        }
    }
    let years = "since=2020-01-01T00:00:00Z&until=2026-01-01T00:00:00Z";
    assert_eq!(world.get(&format!("/app/a/stats/attempts?{years}")).await.refused(), ["query.since"]);
    world.get("/app/none/stats/attempts").await.expect(404);
}

async fn a_resting_endpoint_says_how_many_wait_and_when_it_is_tried(world: World) {
    let app = world.app("a").await;
    let (one, two) = (world.endpoint("a").await, world.endpoint("a").await);
    let stats = async |endpoint: &str| world.get(&format!("/app/a/endpoint/{endpoint}/stats")).await.expect(200);
    let mut last = String::new();
    for _ in 0..3 {
        last = world.message("a", "t").await;
    }
    assert!(stats(&one).await.get("restsUntil").is_none());
    let until = world.now().plus(std::time::Duration::from_secs(300));
    world.rest(&app, &last, &one, until).await;
    world.message("a", "t").await;
    has(&stats(&one).await, json!({"pending": 4, "restsUntil": until.to_string()}));
    let other = stats(&two).await;
    assert!(other["pending"] == 4 && other.get("restsUntil").is_none(), "{other}");
    let answered = world.message("a", "t").await;
    world.attempt(&app, &answered, &one, 1, Some(200)).await;
    assert!(stats(&one).await.get("restsUntil").is_none(), "it answered");
}
