//! The customers' portal on a port of its own, which can be public while the rest is not.

use reqwest::redirect::Policy;
use serde_json::json;

use super::api::Api;
use crate::support::{Binary, Kind, SOON, complaint, eventually, free_port, on_both, sqlite_file};

on_both! {
    the_portal_can_have_its_own_port
}

async fn the_portal_can_have_its_own_port(kind: Kind) {
    let portal = format!("http://127.0.0.1:{}", free_port());
    let api = Api::on(kind, &[("SENDOFF_PORTAL_LISTEN", portal.trim_start_matches("http://"))]);
    let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
    let main = api.server.url();
    let status = async |url: String| client.get(&url).send().await.ok().map(|answer| answer.status().as_u16());
    eventually("the portal's port", SOON, async || status(format!("{portal}/portal/left")).await).await;
    for path in ["/login", "/applications", "/api/v1/health", "/docs", "/healthz", "/metrics", "/nothing"] {
        assert_eq!(status(format!("{portal}{path}")).await, Some(404), "{path}");
    }
    for (path, on_portal, on_main) in
        [("/portal/left", 200, 404), ("/portal", 401, 404), ("/login", 404, 401), ("/", 307, 303)]
    {
        let seen = (status(format!("{portal}{path}")).await, status(format!("{main}{path}")).await);
        assert_eq!(seen, (Some(on_portal), Some(on_main)), "{path}");
    }
    api.post("/app", json!({"name": "A", "uid": "a"})).await;
    let access = api.post("/auth/app-portal-access/a", json!({})).await;
    let link = access["url"].as_str().expect("a link");
    assert!(link.starts_with(&format!("{portal}/portal/enter/")), "{link}");
    let page = client.get(link).send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    let page = page.text().await.expect("a page");
    let style = page.split('"').find(|part| part.starts_with("/static/") && part.ends_with(".css")).expect("a style");
    assert_eq!(status(format!("{portal}{style}")).await, Some(200));
}

#[test]
fn a_url_of_the_portal_needs_its_port() {
    let binary = Binary::on(&sqlite_file().url()).set("SENDOFF_PORTAL_URL", "https://p.example.com");
    let line = complaint(&binary.run(&["serve"]), 2);
    assert!(line.contains("needs SENDOFF_PORTAL_LISTEN"), "{line}");
}
