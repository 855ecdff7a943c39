//! Search for fields of payloads, in the lists of messages and deliveries.

use url::form_urlencoded::byte_serialize;

use crate::pages::words;
use crate::support::on_both;
use crate::world::World;

on_both! {
    payloads_are_found_by_their_fields
}

async fn payloads_are_found_by_their_fields(world: World) {
    let app = world.app("Acme").await;
    world.endpoint(&app, "http://127.0.0.1:1/").await;
    for (event_type, payload) in [
        (
            "k.cheap",
            r#"{"amount": 9.5, "paid": true, "customer": {"id": "c1"}, "lines": [{"sku": "a"}], "odd": "\u0000"}"#,
        ),
        (
            "k.dear",
            r#"{"amount": 150, "paid": false, "customer": {"id": "c2"}, "lines": [{"sku": "b"}], "note": null}"#,
        ),
        ("k.text", r#"{"amount": "150", "customer": "c1", "at": "2026-11-22T10:00:00Z", "lone": "\ud800"}"#),
        ("k.none", r#"{"other": 1}"#),
    ] {
        world.message(&app, event_type, payload, world.now).await;
    }
    let browser = world.sign_in().await;
    let found = async |list: &str, text: &str| {
        let encoded: String = byte_serialize(text.as_bytes()).collect();
        let page = words(&browser.page(&format!("{list}?q={encoded}")).await);
        ["cheap", "dear", "text", "none"]
            .into_iter()
            .filter(|name| page.contains(&format!("k.{name}")))
            .collect::<Vec<_>>()
            .join(" ")
    };
    // PostgreSQL's jsonb holds neither \u0000 nor an unpaired surrogate.
    let whole = world.database.starts_with("sqlite:");
    for (text, wanted) in [
        ("amount > 100", "dear"),
        ("amount >= 150.0", "dear"),
        ("amount != 9.5", if whole { "dear text" } else { "dear" }),
        ("amount < 100", if whole { "cheap" } else { "" }),
        ("amount = \"150\"", if whole { "text" } else { "" }),
        ("customer.id = \"c2\"", "dear"),
        ("lines[0].sku = \"b\"", "dear"),
        ("lines.0.sku = \"z\"", ""),
        ("paid = false", "dear"),
        ("note = null", "dear"),
        ("at > \"2026-11-22\"", if whole { "text" } else { "" }),
        ("other = 1", "none"),
        ("missing != 1", ""),
        ("\"other\": 1", "none"),
    ] {
        assert_eq!(found("/messages", text).await, wanted, "{text}");
        assert_eq!(found("/deliveries", text).await, wanted, "{text}");
    }
}
