//! Event types from an OpenAPI document, and the validation that they may ask for.

use serde_json::{Value, json};

use crate::support::on_both;
use crate::world::World;

on_both! {
    a_document_becomes_event_types_after_a_dry_run
    an_event_type_refuses_payloads_with_their_paths
}

const IMPORT: &str = "/event-type/import/openapi";

fn document(schema: &Value) -> Value {
    let body = json!({"content": {"application/json": {"schema": schema}}});
    json!({"openapi": "3.1.0", "webhooks": {
        "invoice.paid": {"post": {"description": "Paid.", "requestBody": body}},
        "invoice.sent": {"post": {"summary": "Sent."}},
    }})
}

async fn a_document_becomes_event_types_after_a_dry_run(world: World) {
    let first = document(&json!({"type": "object"}));
    let dry = world.call("POST", IMPORT, json!({"spec": first, "dryRun": true})).await.expect(200);
    assert_eq!(dry["data"]["modified"], json!([]));
    assert_eq!(dry["data"]["to_modify"][0]["schemas"], json!({"1": {"type": "object"}}));
    assert_eq!(world.get("/event-type").await.expect(200)["data"], json!([]));
    let done = world.call("POST", IMPORT, json!({"specRaw": first.to_string()})).await.expect(200);
    assert_eq!(done["data"]["modified"], json!(["invoice.paid", "invoice.sent"]));
    let again = world.call("POST", IMPORT, json!({"spec": first})).await.expect(200);
    assert_eq!(again["data"]["modified"], json!([]), "nothing changed");

    let next = document(&json!({"type": "object", "required": ["id"]}));
    let versions = json!({"spec": next, "newVersions": true});
    assert_eq!(world.call("POST", IMPORT, versions).await.expect(200)["data"]["modified"], json!(["invoice.paid"]));
    let stored = world.get("/event-type/invoice.paid").await.expect(200);
    assert_eq!(stored["schemas"], json!({"1": {"type": "object"}, "2": {"type": "object", "required": ["id"]}}));
    let only = json!({"openapi": "3.1.0", "webhooks": {"invoice.sent": {"post": {"summary": "Sent."}}}});
    world.call("POST", IMPORT, json!({"spec": only, "replaceAll": true})).await.expect(200);
    assert_eq!(world.get("/event-type/invoice.paid").await.expect(200)["archived"], true);

    let yaml = "openapi: 3.1.0\nwebhooks:\n  invoice.late: {post: {summary: Late.}}\n";
    let late = world.call("POST", IMPORT, json!({"specRaw": yaml})).await.expect(200);
    assert_eq!(late["data"]["modified"], json!(["invoice.late"]));
    assert_eq!(world.get("/event-type/invoice.late").await.expect(200)["description"], "Late.");
    let bomb = format!("a: &a {}\nb: [{}]\n", "x".repeat(60_000), vec!["*a"; 90].join(", "));
    for wrong in ["openapi: [", "openapi: 3.0.0", &bomb] {
        assert_eq!(world.call("POST", IMPORT, json!({"specRaw": wrong})).await.refused(), ["body.specRaw"]);
    }

    let bad = json!({"openapi": "3.0.0", "webhooks": {}});
    assert_eq!(world.call("POST", IMPORT, json!({"spec": bad})).await.refused(), ["body.spec"]);
    assert_eq!(world.call("POST", IMPORT, json!({})).await.refused(), ["body.spec"]);
    let app = world.app("acme").await;
    let own = world.tokens.mint_app(&world.org(), app.parse().unwrap(), world.now(), crate::world::HOUR).unwrap();
    world.call_as(&own, "POST", IMPORT, Some("{}")).await.expect(403);
}

async fn an_event_type_refuses_payloads_with_their_paths(world: World) {
    let app = world.app("acme").await;
    let schema = json!({"1": {"properties": {"id": {"type": "string"}}}});
    let strict = json!({"name": "strict", "description": "", "schemas": schema, "validation": "reject"});
    assert_eq!(world.call("POST", "/event-type", strict).await.expect(201)["validation"], "reject");
    let send = async |payload: Value| {
        world.call("POST", &format!("/app/{app}/msg"), json!({"eventType": "strict", "payload": payload})).await
    };
    assert_eq!(send(json!({"id": 7})).await.refused(), ["body.payload.id"]);
    send(json!({"id": "a"})).await.expect(202);
    for wrong in [
        json!({"name": "a", "description": "", "validation": "loud"}),
        json!({"name": "a", "description": "", "validation": "warn"}),
    ] {
        assert_eq!(world.call("POST", "/event-type", wrong).await.refused(), ["body.validation"]);
    }
    let recursive = json!({"name": "a", "description": "", "validation": "warn", "schemas": {"1": {"$ref": "#"}}});
    assert_eq!(world.call("POST", "/event-type", recursive).await.refused(), ["body.schemas"]);
}
