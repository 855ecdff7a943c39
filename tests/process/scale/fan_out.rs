//! One application with many endpoints, beside one with few.

use serde_json::json;

use super::world::{Kind, World, master, on_both};
use crate::support::backlog::customers;

on_both! {
    a_wide_fan_out_is_complete_and_others_are_accepted_meanwhile
    a_message_that_is_packed_reaches_every_endpoint_once
}

const ENDPOINTS: usize = 500;
/// Messages to all of them that come through the outbox, in one transaction.
const ROWS: usize = 20;
/// Messages of another application.
const OTHERS: usize = 100;

async fn a_wide_fan_out_is_complete_and_others_are_accepted_meanwhile(kind: Kind) {
    let world = World::on(kind).await;
    world.execute(&customers(world.is_sqlite(), &master(), 1, ENDPOINTS, &world.receiver.url("/wide"))).await;
    let server = world.binary().serve();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (client, token) = (reqwest::Client::new(), server.token());
    let post = async |path: &str, body: serde_json::Value| {
        let request = client.post(format!("{}/api/v1/app/{path}", server.url())).bearer_auth(&token);
        let request = request.header("content-type", "application/json").body(body.to_string());
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(post("", json!({"name": "Small", "uid": "small"})).await, 201);
    assert_eq!(post("small/endpoint/", json!({"url": world.receiver.url("/small")})).await, 201);

    let rows: Vec<String> = (0..ROWS).map(|n| format!("('app-0', 'wide', '{{\"n\": {n}}}', 'outbox-{n}')")).collect();
    world
        .execute(&[format!(
            "INSERT INTO outbox (application, event_type, payload, event_id) VALUES {}",
            rows.join(", ")
        )])
        .await;
    let event = |n: usize| json!({"eventType": "wide", "eventId": format!("api-{n}"), "payload": {"n": n}});
    assert_eq!(post("app-0/msg/", event(0)).await, 202);
    for n in 0..OTHERS {
        assert_eq!(post("small/msg/", event(n)).await, 202, "message {n} of the small application");
    }
    world.all_delivered_once((ROWS + 1) * ENDPOINTS + OTHERS).await;
    assert_eq!(world.number("SELECT count(*) FROM outbox").await, 0, "rows left in the outbox");
}

/// More endpoints than an accepting transaction takes: by REST and through the outbox.
async fn a_message_that_is_packed_reaches_every_endpoint_once(kind: Kind) {
    const MANY: usize = sendoff::store::WIDE + 500;
    let world = World::on(kind).await;
    world.execute(&customers(world.is_sqlite(), &master(), 1, MANY, &world.receiver.url("/wide"))).await;
    let server = world.binary().serve();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().post(format!("{}/api/v1/app/app-0/msg/", server.url()));
    let request = request.bearer_auth(server.token()).header("content-type", "application/json");
    let body = json!({"eventType": "wide", "payload": {}}).to_string();
    assert_eq!(request.body(body).send().await.expect("an answer").status().as_u16(), 202);
    let row = "INSERT INTO outbox (application, event_type, payload) VALUES ('app-0', 'wide', '{}')";
    world.execute(&[row.to_owned()]).await;
    world.all_delivered_once(2 * MANY).await;
    assert_eq!(world.number("SELECT count(*) FROM fan_out").await, 0);
    let metrics = server.get("/metrics");
    assert!(metrics.lines().any(|line| line == format!("sendoff_fanned_out_total {}", 2 * MANY)), "{metrics}");
}
