//! A form that creates or sends something acts once, however often it is posted, and answers the same each time.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use sendoff::domain::access::audit::action;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::{Order, PageRequest};

use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, hidden, location};

on_both! {
    every_form_takes_effect_once
    a_large_payload_is_sent_from_the_text_box
}

const URL: &str = "http://127.0.0.1:9/hook";

/// A form: the page that it is on, its action, what is typed, and the audited act.
struct Posted {
    page: String,
    action: String,
    typed: Vec<(&'static str, String)>,
    act: &'static str,
}

fn posted(page: &str, action: &str, act: &'static str, typed: &[(&'static str, &str)]) -> Posted {
    let typed = typed.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Posted { page: page.to_owned(), action: action.to_owned(), typed, act }
}

/// The number of entries of the log with this act.
async fn noted(world: &World, act: &str) -> usize {
    let filter = AuditFilter { act: Some(act.to_owned()), who: None };
    let page = PageRequest::first(100, Order::Descending);
    world.store.audit_log(&world.tenant(), &filter, &page).await.unwrap().data.len()
}

/// What a response says, without the tokens and times that differ between two renderings.
async fn outcome(browser: &Browser<'_>, form: &Posted, fields: &[(&str, String)]) -> (StatusCode, String) {
    let response = browser.post(&form.action, fields).await;
    let status = response.status();
    if status.is_redirection() {
        return (status, location(&response).to_owned());
    }
    let page = response.text().await.unwrap();
    crate::html::check(&page, &form.action);
    let lines = page.lines().filter(|line| !line.contains("name=\"once\"") && !line.contains("name=\"now\""));
    (status, lines.collect::<Vec<_>>().join("\n"))
}

async fn every_form_takes_effect_once(world: World) {
    let (browser, acme) = (world.sign_in().await, world.app("Acme").await);
    let endpoint = world.endpoint(&acme, URL).await;
    let other = world.endpoint(&acme, "http://127.0.0.1:9/other").await;
    let schema = serde_json::json!({"examples": [{"n": 1}]});
    let spec = EventTypeSpec {
        name: "invoice.paid".into(),
        schemas: Some([("1".to_owned(), schema)].into_iter().collect()),
        ..EventTypeSpec::default()
    };
    world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
    let message = world.message(&acme, "invoice.paid", "{}", world.ago(MINUTE)).await;
    for to in [&endpoint, &other] {
        world.tries(&message, to, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    }
    let home = format!("/applications/{}", acme.id);
    let at = |path: &str| format!("{home}/{path}");
    let (resend, test) = (at(&format!("messages/{}", message.id)), at(&format!("endpoints/{}", endpoint.id)));
    let to = endpoint.id.to_string();
    let sent = [("eventType", "invoice.paid"), ("payload", "{\"n\": 1}")];
    let account = [
        ("name", "anna"),
        ("password", "a long password"),
        ("again", "a long password"),
        ("role", "viewer"),
        ("sees", "all"),
    ];
    let same = |path: &str, act, typed: &[(&'static str, &str)]| posted(path, path, act, typed);
    let forms = [
        same(&at("send"), action::MESSAGE_SENT, &sent),
        posted(&test, &format!("{test}/test"), action::TEST_EVENT_SENT, &[("eventType", "invoice.paid")]),
        posted(&resend, &format!("{resend}/resend"), action::DELIVERY_RESENT, &[("endpoint", &to)]),
        posted("/resend?status=dead", "/resend", action::RESEND_BEGUN, &[("status", "dead"), ("count", "1")]),
        same("/applications/new", action::APPLICATION_CREATED, &[("name", "Second"), ("uid", "second")]),
        same("/event-types/new", action::EVENT_TYPE_CHANGED, &[("name", "invoice.sent")]),
        same(&at("endpoints/new"), action::ENDPOINT_CREATED, &[("url", URL), ("uid", "third")]),
        same(&format!("{test}/rotate"), action::SECRET_ROTATED, &[("gracePeriod", "1h")]),
        same(&at("portal-link"), action::PORTAL_LINK_MADE, &[("expiry", "1h")]),
        same(&at("polling/new"), action::POLLING_ENDPOINT_CREATED, &[("uid", "warehouse")]),
        same("/keys", action::KEY_CREATED, &[("name", "billing"), ("scope", "write"), ("life", "never")]),
        same("/operators", action::OPERATOR_CREATED, &account),
    ];
    for form in forms {
        let page = browser.page(&form.page).await;
        let mut fields = hidden(&page);
        assert!(fields.iter().any(|(name, _)| *name == "once"), "{} has no id", form.page);
        fields.extend(form.typed.iter().cloned());
        let before = noted(&world, form.act).await;
        // A double click, and then a reload.
        let (first, second) = tokio::join!(outcome(&browser, &form, &fields), outcome(&browser, &form, &fields));
        let third = outcome(&browser, &form, &fields).await;
        assert!(first.0.is_redirection() || first.0.is_success(), "{}: {first:?}", form.action);
        assert!(!first.1.contains("notice=not-"), "{first:?}");
        assert_eq!(first, second, "{}: twice at once", form.action);
        assert_eq!(first, third, "{}: again", form.action);
        assert_eq!(noted(&world, form.act).await, before + 1, "{}: how often it acted", form.action);
        // The same form of a new page is a new act, where two of the same are possible.
        if [action::MESSAGE_SENT, action::PORTAL_LINK_MADE, action::KEY_CREATED].contains(&form.act) {
            let mut fields = hidden(&browser.page(&form.page).await);
            fields.extend(form.typed.iter().cloned());
            assert_ne!(outcome(&browser, &form, &fields).await.1, first.1, "{}", form.action);
            assert_eq!(noted(&world, form.act).await, before + 2, "{}: a second time", form.action);
        }
    }
    tokens_of_polling_endpoints(&world, &browser, &at("polling")).await;
}

/// A token is shown to the same form again, and there is one.
async fn tokens_of_polling_endpoints(world: &World, browser: &Browser<'_>, list: &str) {
    let page = browser.page(list).await;
    let mark = format!("href=\"{list}/poll_");
    let id = page.split(&mark).nth(1).and_then(|rest| rest.split('"').next()).expect("a polling endpoint");
    let path = format!("{list}/poll_{id}/token");
    let form = posted(&path, &path, action::POLLING_TOKEN_ROTATED, &[("life", "30d")]);
    let mut fields = hidden(&browser.page(&path).await);
    fields.extend(form.typed.iter().cloned());
    let before = noted(world, form.act).await;
    let shown = [outcome(browser, &form, &fields).await, outcome(browser, &form, &fields).await];
    assert!(shown[0].1.contains("sk_poll_"), "{}", shown[0].1);
    assert_eq!(BTreeSet::from(shown).len(), 1);
    assert_eq!(noted(world, form.act).await, before + 1);
}

async fn a_large_payload_is_sent_from_the_text_box(world: World) {
    let (browser, acme) = (world.sign_in().await, world.app("Acme").await);
    let path = format!("/applications/{}/send", acme.id);
    // Quotes and braces take three bytes each in a form.
    let payload = format!("{{\"list\": [{}{{}}]}}", "{},".repeat(85_000));
    let typed = [("eventType", "a.b"), ("payload", payload.as_str())];
    let response = browser.submit(&path, &path, &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{}", response.text().await.unwrap());
    let schema = format!("{{\"1\": {{\"description\": \"{}\"}}}}", "x".repeat(200_000));
    let typed = [("name", "a.large"), ("schemas", schema.as_str())];
    let response = browser.submit("/event-types/new", "/event-types/new", &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{}", response.text().await.unwrap());
    // Nobody without a session can make us read as much.
    let body = format!("csrf=x&payload={}", "x".repeat(4 << 20));
    let request = world.request(Method::POST, &path).header("content-type", "application/x-www-form-urlencoded");
    let response = request.header("origin", world.url.origin().ascii_serialization()).body(body).send().await;
    assert!(response.is_err() || response.is_ok_and(|response| location(&response) == "/login"));
}
