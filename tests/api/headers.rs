//! An endpoint's own headers.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::World;

on_both! {
    headers_of_an_endpoint
    bad_headers
    masked_headers_do_not_go_to_another_host
}

async fn headers_of_an_endpoint(world: World) {
    world.app("a").await;
    let endpoint = world.endpoint("a").await;
    let path = format!("/app/a/endpoint/{endpoint}/headers");
    assert_eq!(world.get(&path).await.expect(200), json!({"headers": {}, "sensitive": []}));
    let all = json!({"X-Region": "eu", "Authorization": "Bearer hush", "cookie": "hush", "x-api-key": "hush"});
    world.call("PUT", &path, json!({"headers": all})).await.expect(204);
    let said = world.get(&format!("{path}/")).await;
    assert!(!said.text.contains("hush"), "{}", said.text);
    let wanted = json!({"headers": {"X-Region": "eu"}, "sensitive": ["Authorization", "cookie", "x-api-key"]});
    assert_eq!(said.json(), wanted);

    let patch = json!({"headers": {"x-region": "us", "x-b": "2", "cookie": null}, "deleteHeaders": ["AUTHORIZATION"]});
    world.call("PATCH", &path, patch).await.expect(204);
    let wanted = json!({"headers": {"x-region": "us"}, "sensitive": ["x-api-key", "x-b"]});
    assert_eq!(world.get(&path).await.expect(200), wanted);
    world.call("PATCH", &path, json!({"deleteHeaders": ["x-b", "not-there"]})).await.expect(204);
    world.call("PUT", &format!("/app/a/endpoint/{endpoint}"), json!({"url": "http://127.0.0.1:9/2"})).await.expect(200);
    let wanted = json!({"headers": {"x-region": "us"}, "sensitive": ["x-api-key"]});
    assert_eq!(world.get(&path).await.expect(200), wanted, "replacing an endpoint keeps them");
    world.call("PUT", &path, json!({"headers": {}})).await.expect(204);
    assert_eq!(world.get(&path).await.expect(200), json!({"headers": {}, "sensitive": []}));
    for method in ["GET", "PUT", "PATCH"] {
        let body = r#"{"headers": {}}"#;
        let none = world.call_as(&world.token, method, "/app/a/endpoint/none/headers", Some(body)).await;
        none.expect(404);
    }
}

async fn bad_headers(world: World) {
    world.app("a").await;
    let path = format!("/app/a/endpoint/{}/headers", world.endpoint("a").await);
    let many: serde_json::Map<String, Value> = (0..51).map(|n| (format!("x-{n}"), json!("v"))).collect();
    for (method, body, field) in [
        ("PUT", json!({}), "body.headers"),
        ("PUT", json!({"headers": null}), "body.headers"),
        ("PUT", json!({"headers": ["x"]}), "body.headers"),
        ("PUT", json!({"headers": {"x-a": null}}), "body.headers"),
        ("PUT", json!({"headers": {"host": "x"}}), "body.headers"),
        ("PUT", json!({"headers": {"x-a": "hush\r\nHost: evil"}}), "body.headers"),
        ("PUT", json!({"headers": many}), "body.headers"),
        ("PATCH", json!({}), "body.headers"),
        ("PATCH", json!({"headers": {"x-a": 1}}), "body.headers"),
        ("PATCH", json!({"headers": {"webhook-id": "x"}}), "body.headers"),
        ("PATCH", json!({"headers": {}, "deleteHeaders": "x"}), "body.deleteHeaders"),
        ("PATCH", json!({"headers": {"x-a": "1"}, "deleteHeaders": ["X-A"]}), "body.deleteHeaders"),
    ] {
        let said = world.call(method, &path, body.clone()).await;
        assert!(!said.text.contains("hush"), "{}", said.text);
        assert_eq!(said.refused(), [field], "{method} {body}");
    }
    assert_eq!(world.get(&path).await.expect(200), json!({"headers": {}, "sensitive": []}));
}

/// Somebody who may change a URL need not know the headers: they must not get them by sending them to a server of their own.
async fn masked_headers_do_not_go_to_another_host(world: World) {
    world.app("a").await;
    let path = format!("/app/a/endpoint/{}", world.endpoint("a").await);
    let headers = async || world.get(&format!("{path}/headers")).await.expect(200);
    let (shown, masked) = (json!({"x-team": "a"}), json!({"headers": {"x-team": "a"}, "sensitive": ["x-pass"]}));
    let all = json!({"x-team": "a", "x-pass": "hush"});
    for method in ["PATCH", "PUT"] {
        for other in ["http://127.0.0.1:10/hook", "https://127.0.0.1:9/hook", "http://localhost:9/hook"] {
            world.call("PUT", &format!("{path}/headers"), json!({"headers": all})).await.expect(204);
            world.call(method, &path, json!({"url": "http://127.0.0.1:9/other?path=1"})).await.expect(200);
            assert_eq!(headers().await, masked, "{method}: the same scheme, host and port");
            let said = world.call(method, &path, json!({"url": other})).await;
            if said.status == 422 {
                assert!(other.contains("localhost"), "{}", said.text);
                continue;
            }
            assert_eq!(headers().await, json!({"headers": shown, "sensitive": []}), "{method} {other}");
            let back = json!({"url": "http://127.0.0.1:9/hook", "headers": all});
            world.call(method, &path, back).await.expect(200);
            assert_eq!(headers().await, masked, "{method}: given again in the same request");
        }
    }
}
