//! `/docs`: every operation, parameter, schema and error of the document is on the page; it loads nothing from elsewhere, and its links
//! lead somewhere.

use std::collections::BTreeSet;

use crate::conformance::{document, operations};
use crate::support::on_both;
use crate::world::{World, said};

on_both! {
    the_page_has_everything
    the_page_stands_alone
}

/// What stands between `before` and the next `"`, each time.
fn all<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
    text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

async fn the_page_has_everything(world: World) {
    let html = said(world.request("GET", "/docs")).await;
    assert_eq!((html.status, &html.headers["content-type"]), (200, &"text/html; charset=utf-8".parse().unwrap()));
    assert_eq!(said(world.request("GET", "/docs/")).await.text, html.text);
    let ids = all(&html.text, " id=\"");
    for (method, path, described) in operations() {
        assert!(html.text.contains(&format!("<code>/api/v1{path}</code>")), "{method} {path}");
        let id = described["operationId"].as_str().expect("an id");
        assert!(ids.contains(id) || id.starts_with("later."), "{id}");
    }
    for name in document()["components"]["schemas"].as_object().expect("schemas").keys() {
        assert!(ids.contains(&*format!("schema-{name}")), "{name}");
    }
    for name in document()["components"]["responses"].as_object().expect("responses").keys() {
        assert!(ids.contains(&*format!("error-{name}")), "{name}");
    }
    for text in
        ["Maximum number of items.", "<code>idempotency-key</code>", "integer, 1 to 250", "invoice.paid", "no token"]
    {
        assert!(html.text.contains(text), "{text}");
    }
}

async fn the_page_stands_alone(world: World) {
    let html = said(world.request("GET", "/docs")).await;
    let policy = html.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self';"), "{policy}");
    for foreign in ["<script", "javascript:", " style=\"", "<form", " src=\"", " onclick"] {
        assert!(!html.text.contains(foreign), "{foreign}");
    }
    let ids = all(&html.text, " id=\"");
    let (mut inside, mut outside) = (0, BTreeSet::new());
    for href in all(&html.text, " href=\"") {
        match href.strip_prefix('#') {
            Some(anchor) => {
                assert!(ids.contains(anchor), "{href} leads nowhere");
                inside += 1;
            }
            None => drop(outside.insert(href)),
        }
    }
    assert!(inside > 60, "{inside}");
    assert!(outside.remove("/"), "the dashboard");
    for href in outside {
        let file = said(world.request("GET", href)).await;
        assert_eq!(file.status, 200, "{href}");
        assert!(file.text.len() < 20_000 || href.ends_with(".json"), "{href}: {}", file.text.len());
        let kept = file.headers.get("cache-control").is_some_and(|value| value.to_str().unwrap().contains("immutable"));
        assert_eq!(kept, href.starts_with("/docs/"), "{href}");
    }
    assert_eq!(said(world.request("GET", "/docs/0/style.css")).await.headers["cache-control"], "no-cache");
    assert_eq!(said(world.request("HEAD", "/docs")).await.status, 200);
    let wrong = said(world.request("POST", "/docs")).await;
    assert_eq!((wrong.status, &wrong.headers["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    said(world.request("GET", "/docs/nothing")).await.expect(404);
}
