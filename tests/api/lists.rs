//! Lists: to their end and back again, in both orders, with filters.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::World;

on_both! {
    lists_of_applications
    lists_of_endpoints
    lists_of_event_types
    lists_of_messages
    filters_on_messages
    bad_lists
}

/// Walks a list of five to its end in pages of two and back again; `path` has its query open for more.
async fn walk(world: &World, path: &str, key: &str, wanted: &[String]) {
    let page = async |iterator: &str| {
        let list = world.get(&format!("{path}&limit=2&iterator={iterator}")).await.expect(200);
        let keys: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap().to_owned()).collect();
        (keys, list)
    };
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no iterator: {value}")).to_owned();
    let (first, one) = page("").await;
    assert_eq!((&first[..], &one["done"]), (&wanted[..2], &json!(false)), "{path}");
    let (second, two) = page(&text(&one["iterator"])).await;
    assert_eq!((&second[..], &two["done"]), (&wanted[2..4], &json!(false)));
    let (third, three) = page(&text(&two["iterator"])).await;
    assert_eq!((&third[..], &three["done"]), (&wanted[4..], &json!(true)));
    assert!(three["iterator"].is_string(), "what comes later is found from there");
    let (back, four) = page(&text(&three["prevIterator"])).await;
    assert_eq!((&back[..], &four["done"]), (&wanted[2..4], &json!(false)), "back, and still in the list's order");
    let (start, five) = page(&text(&four["prevIterator"])).await;
    assert_eq!((&start[..], &five["done"]), (&wanted[..2], &json!(true)));
    let (nothing, six) = page(&text(&five["prevIterator"])).await;
    assert_eq!((nothing.len(), &six["done"]), (0, &json!(true)), "nothing before the first");
    let (again, _) = page(&text(&five["iterator"])).await;
    assert_eq!(again, wanted[2..4], "and on again");
    let all = world.get(path).await.expect(200);
    assert_eq!(
        (all["data"].as_array().unwrap().len(), &all["done"], &all["iterator"]),
        (5, &json!(true), &three["iterator"])
    );
}

async fn both_orders(world: &World, path: &str, key: &str, wanted: &[String]) {
    let reversed: Vec<String> = wanted.iter().rev().cloned().collect();
    let usual = if path.ends_with("/endpoint") { &reversed } else { wanted };
    walk(world, &format!("{path}?a=b"), key, usual).await;
    walk(world, &format!("{path}/?order=ascending"), key, wanted).await;
    walk(world, &format!("{path}?order=descending"), key, &reversed).await;
}

async fn lists_of_applications(world: World) {
    let mut ids = Vec::new();
    for uid in ["a", "b", "c", "d", "e"] {
        ids.push(world.app(uid).await);
    }
    both_orders(&world, "/app", "id", &ids).await;
}

async fn lists_of_endpoints(world: World) {
    for uid in ["a", "b"] {
        world.app(uid).await;
    }
    world.endpoint("b").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.endpoint("a").await);
    }
    both_orders(&world, "/app/a/endpoint", "id", &ids).await;
}

async fn lists_of_event_types(world: World) {
    // In the order of their bytes, on every store and whatever its locale.
    let names = ["-dash", "A.z", "_under", "a.b", "a_b"].map(str::to_owned);
    for name in &names {
        world.call("POST", "/event-type", json!({"name": name, "description": ""})).await.expect(201);
    }
    both_orders(&world, "/event-type", "name", &names).await;
}

async fn lists_of_messages(world: World) {
    for uid in ["a", "b"] {
        world.app(uid).await;
    }
    world.message("b", "t").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, world.message("a", "t").await);
    }
    walk(&world, "/app/a/msg?x=y", "id", &ids).await;
    walk(&world, "/app/a/msg?order=ascending", "id", &ids).await;
}

async fn filters_on_messages(world: World) {
    world.app("a").await;
    let mut sent = Vec::new();
    for (event_type, channels) in [("t.a", json!(["c_1"])), ("t.b", json!(["cx1", "c2"])), ("t.c", Value::Null)] {
        let body = json!({"eventType": event_type, "channels": channels, "payload": {"x": 1}});
        sent.push(world.call("POST", "/app/a/msg", body).await.expect(202));
    }
    let middle = sent[1]["timestamp"].as_str().unwrap();
    let (before, after) = (format!("before={middle}"), format!("after={middle}"));
    for (query, wanted) in [
        ("event_types=t.a", &["t.a"][..]),
        ("event_types=t.a,t.c", &["t.c", "t.a"]),
        ("event_types=t.a&event_types=t.b", &["t.b", "t.a"]),
        ("channel=c_1", &["t.a"]),
        ("channel=c2", &["t.b"]),
        ("channel=c", &[]),
        (&before, &["t.b", "t.a"]),
        (&after, &["t.c", "t.b"]),
        ("after=2020-01-01T00:00:00%2B02:00", &["t.c", "t.b", "t.a"]),
        ("event_types=t.b&channel=c_1", &[]),
    ] {
        let list = world.get(&format!("/app/a/msg?{query}")).await.expect(200);
        let types: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|one| one["eventType"].as_str().unwrap()).collect();
        assert_eq!(types, wanted, "{query}");
        assert!(list["data"].as_array().unwrap().iter().all(|one| one["payload"] == json!({"x": 1})));
    }
    let bare = world.get("/app/a/msg?with_content=false").await.expect(200);
    assert!(bare["data"].as_array().unwrap().iter().all(|one| one["payload"] == json!({})));
}

async fn bad_lists(world: World) {
    world.app("a").await;
    for (path, field) in [
        ("/app?limit=0", "query.limit"),
        ("/app?limit=251", "query.limit"),
        ("/app?limit=-1", "query.limit"),
        ("/app?order=sideways", "query.order"),
        ("/app?iterator=ep_01jd8x5q3fe8ktq8b4m5rj2w3a", "query.iterator"),
        ("/app?exclude_apps_with_no_endpoints=true", "query.exclude_apps_with_no_endpoints"),
        ("/app/a/endpoint?iterator=x", "query.iterator"),
        ("/app/a/msg?iterator=-x", "query.iterator"),
        ("/app/a/msg?before=yesterday", "query.before"),
        ("/app/a/msg?with_content=maybe", "query.with_content"),
        ("/event-type?iterator=a%20b", "query.iterator"),
        ("/event-type?include_archived=2", "query.include_archived"),
    ] {
        assert_eq!(world.get(path).await.refused(), [field], "{path}");
    }
    world.get("/app?limit=250&exclude_apps_with_no_endpoints=false").await.expect(200);
}
