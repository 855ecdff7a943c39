//! The store goes away: 503, nothing accepted, and all is well again when it is back.

use std::time::Duration;

use serde_json::json;

use crate::support::{Durability, Postgres, SOON, eventually};
use crate::world::{World, said};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_it_says_503_and_goes_on_by_itself() {
    let postgres = Postgres::start(Durability::On);
    let world = World::on(&postgres.fresh_database()).await;
    world.app("a").await;
    postgres.crash();
    let message = json!({"eventType": "t", "payload": {"a": 1}, "eventId": "once"});
    let answer = world.call("POST", "/app/a/msg", message.clone()).await;
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(!answer.text.contains("127.0.0.1") && !answer.text.contains("sendoff_test"), "{}", answer.text);
    assert_eq!(answer.expect(503)["code"], "unavailable");
    assert_eq!(world.get("/app").await.expect(503)["code"], "unavailable");
    let ready = said(world.request("GET", "/readyz")).await;
    assert_eq!(ready.expect(503)["code"], "store_unavailable");
    assert_eq!(said(world.request("GET", "/healthz")).await.status, 200);

    postgres.restart();
    eventually("the store to be back", SOON + Duration::from_secs(20), async || {
        (said(world.request("GET", "/readyz")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(world.get("/app/a/msg").await.expect(200)["data"], json!([]), "nothing was accepted meanwhile");
    world.call("POST", "/app/a/msg", message).await.expect(202);
}
