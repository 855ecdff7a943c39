//! The search box: from an id, a uid, an event id, a name or a URL to the page.

use reqwest::{Method, StatusCode};
use sendoff::domain::catalog::application::ApplicationSpec;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::{AppId, EndpointId, MessageId, Uid};
use sendoff::store::Tenant;
use sendoff::store::ingest::accept::AcceptItem;
use url::form_urlencoded::byte_serialize;

use crate::pages::words;
use crate::support::on_both;
use crate::world::{Browser, Try, World, location};

on_both! {
    every_named_object_is_found_in_its_own_organization
}

/// The address that a search redirects to, or the words of the page.
async fn find(browser: &Browser<'_>, text: &str) -> Result<String, String> {
    let encoded: String = byte_serialize(text.as_bytes()).collect();
    let request = browser.world.request(Method::GET, &format!("/find?q={encoded}"));
    let response = request.header("cookie", &browser.cookie).send().await.unwrap();
    match response.status() {
        StatusCode::SEE_OTHER => Ok(location(&response).to_owned()),
        status => {
            assert_eq!(status, StatusCode::OK, "{text}");
            let page = response.text().await.unwrap();
            crate::html::check(&page, "/find");
            Err(words(&page))
        }
    }
}

async fn every_named_object_is_found_in_its_own_organization(world: World) {
    let (tenant, other) = (world.tenant(), Tenant::org("org_b".parse().unwrap()));
    let uid = |text: &str, prefix| Some(Uid::parse("uid", text, prefix).unwrap());
    let spec = ApplicationSpec { uid: uid("acme", AppId::PREFIX), name: "Acme Corp".into(), ..Default::default() };
    let app = world.store.create_application(&tenant, spec, world.now).await.unwrap();
    let theirs = world.app_of(&other, "Theirs").await;
    let url = "http://127.0.0.1:1/hook?a=1";
    let spec = |name: &str| EndpointSpec { url: url.into(), uid: uid(name, EndpointId::PREFIX), ..Default::default() };
    let endpoint = world.endpoint_with(&app, spec("billing")).await;
    let hidden = world.endpoint_with(&theirs, spec("theirs")).await;
    let event_type = EventTypeSpec { name: "invoice.paid".into(), ..Default::default() };
    world.store.create_event_type(&tenant, event_type, world.now).await.unwrap();
    let message = world.message(&app, "invoice.paid", "{}", world.now).await;
    world.tries(&message, &endpoint, [Try::delivered(world.now, 5)]).await;
    let named = sendoff::domain::deliveries::message::MessageSpec {
        event_type: "a.b".into(),
        event_id: uid("event-7", MessageId::PREFIX),
        payload: "{}".into(),
        ..Default::default()
    };
    let item = AcceptItem {
        tenant: Some(tenant.clone()),
        app: app.id.into(),
        only_endpoint: None,
        spec: named,
        at: world.now,
        idempotency_key: None,
        audit: None,
    };
    let by_event_id = world.store.accept(item).await.unwrap().unwrap();
    let page = sendoff::store::PageRequest::first(1, sendoff::store::Order::Descending);
    let attempts = world.store.attempts(&tenant, app.id, &Default::default(), &page).await.unwrap().data;

    let browser = world.sign_in().await;
    let base = format!("/applications/{}", app.id);
    for (text, path) in [
        (app.id.to_string(), base.clone()),
        ("acme".into(), base.clone()),
        (" Acme Corp ".into(), base.clone()),
        (endpoint.id.to_string(), format!("{base}/endpoints/{}", endpoint.id)),
        ("billing".into(), format!("{base}/endpoints/{}", endpoint.id)),
        (url.into(), format!("{base}/endpoints/{}", endpoint.id)),
        (message.id.to_string(), format!("{base}/messages/{}", message.id)),
        (attempts[0].id.to_string(), format!("{base}/messages/{}", message.id)),
        ("event-7".into(), format!("{base}/messages/{}", by_event_id.id)),
        ("invoice.paid".into(), "/event-types/invoice.paid".into()),
        (world.url.join("/outbox").unwrap().to_string(), "/outbox".into()),
    ] {
        assert_eq!(find(&browser, &text).await, Ok(path), "{text}");
    }
    let none = [theirs.id.to_string(), hidden.id.to_string(), "theirs".into(), "http://evil.example/x".into()];
    let odd = ["", "\u{202e}<b>", "////evil.example", &"x".repeat(5_000)].map(str::to_owned);
    for text in none.into_iter().chain(odd) {
        let said = find(&browser, &text).await.unwrap_err();
        assert!(said.contains("No results") && said.contains("Enter an id (app_…, ep_…"), "{text}: {said}");
    }
    let twin = EventTypeSpec { name: "acme".into(), ..Default::default() };
    world.store.create_event_type(&tenant, twin, world.now).await.unwrap();
    let several = find(&browser, "acme").await.unwrap_err();
    assert!(several.contains("2 results") && several.contains("Acme Corp") && several.contains("Event type"));

    let settings = browser.page("/settings").await;
    for path in ["/keys", "/operators", "/audit", "/operational", "/outbox", "/docs"] {
        assert!(settings.contains(&format!("href=\"{path}\"")), "{path}");
    }
    for path in ["/settings", "/keys", "/outbox"] {
        let page = browser.page(path).await;
        assert!(page.contains("<a href=\"/settings\" aria-current=\"page\">Settings</a>"), "{path}: {page}");
    }
    let customer = world.portal_session(&app, None, &[]).await;
    assert!(!customer.page("/portal").await.contains("/find"));
}
