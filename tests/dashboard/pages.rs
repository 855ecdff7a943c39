//! What the pages say and what their buttons do, on both stores.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::delivery::{DeadReason, DeliveryState, Transition};
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::domain::time::Clock;
use sendoff::store::Tenant;
use sendoff::store::ingest::accept::AcceptItem;
use sendoff::store::ingest::outbox::RelayRequest;

use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, field, location, retry};

on_both! {
    the_overview_counts_what_was_recorded
    an_empty_dashboard_explains_the_first_steps
    attempts_go_on_from_page_to_page
    a_message_tells_its_story
    resend_puts_a_delivery_back_and_needs_the_forms_token
    scheduled_messages_and_deleted_contents_are_labeled
    deliveries_of_another_organization_are_neither_seen_nor_resent
    stuck_rows_are_shown_with_their_reason
    operational_webhooks_have_their_own_page_and_appear_on_no_other
    unknown_pages_have_an_error_page_and_other_routes_are_not_affected
}

async fn the_overview_counts_what_was_recorded(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let fifth = world.endpoint(&acme, "https://b.example/hook").await;
    // Within the hour: 3 delivered (one of them after a failure), 1 dead, 1 being retried. Before: 1 delivered, 1 dead.
    let soon = world.now.plus(MINUTE * 5);
    for minutes in [2, 3] {
        let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * minutes)).await;
        world.tries(&message, &endpoint, [Try::delivered(world.ago(MINUTE * minutes), 20)]).await;
    }
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 9)).await;
    let tries = [
        Try::answered(world.ago(MINUTE * 9), 500, "", retry(world.ago(MINUTE * 8), 1)),
        Try::delivered(world.ago(MINUTE * 8), 20),
    ];
    world.tries(&message, &endpoint, tries).await;
    world.tries(&message, &fifth, [Try::answered(world.ago(MINUTE * 7), 500, "", dead())]).await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 5)).await;
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE * 5), 503, "", retry(soon, 1))]).await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 120)).await;
    world.tries(&message, &endpoint, [Try::delivered(world.ago(MINUTE * 120), 20)]).await;
    world.tries(&message, &fifth, [Try::answered(world.ago(MINUTE * 119), 500, "", dead())]).await;

    let browser = world.sign_in().await;
    let said = |page: &str| words(page.split("<h1").nth(1).unwrap().split("</h1>").next().unwrap());
    let page = browser.page("/").await;
    let wanted = "In the last hour 8 deliveries: 3 delivered, 1 being retried, 1 dead, 3 pending.";
    assert!(said(&page).ends_with(wanted), "{}", said(&page));
    let chart = "<p class=\"unseen\">Attempts per minute: 3 delivered, 2 failed and retried, 1 dead</p>";
    assert!(page.contains(chart), "{page}");
    assert!(page.contains("<p class=\"unseen\">Response time per minute. Total: p50 "), "{page}");
    // Six minutes in which something was tried: six bars, six rows, and the same for how long it took.
    assert_eq!(page.matches("<rect class=\"hit\"").count(), 2 * 6);
    let bars = page.matches("<a href=\"/deliveries?since=").count();
    assert_eq!(bars, 4 * 6, "a bar and a row of each chart lead to their minute");
    let worst = words(page.split("id=\"failing-title\">").nth(1).unwrap().split("</section>").next().unwrap());
    assert!(
        worst.starts_with("Most failures https://a.example/hook Acme 1 failed 60.0 % of attempts delivered https://b"),
        "{worst}"
    );
    assert!(worst.ends_with("Acme 1 failed 0.0 % of attempts delivered"), "{worst}");
    let place = format!("href=\"/applications/{}/endpoints/{}\"", acme.id, fifth.id);
    assert!(page.contains(&place), "{page}");
    let health = words(page.split("id=\"health-title\">").nth(1).unwrap().split("</section>").next().unwrap());
    let store = if world.store.shared() { "PostgreSQL" } else { "SQLite" };
    assert!(health.starts_with(&format!("Health Database {store}, ")), "{health}");
    assert!(health.contains("test 256 of 256 slots; started"), "{health}");
    let page = browser.page("/?range=24h").await;
    let wanted = "In the last 24 hours 10 deliveries: 4 delivered, 1 being retried, 2 dead, 3 pending.";
    assert!(said(&page).ends_with(wanted), "{}", said(&page));
    let chart = "<p class=\"unseen\">Attempts per hour: 4 delivered, 2 failed and retried, 2 dead</p>";
    assert!(page.contains(chart), "{page}");
    for (range, per) in [("7d", "3 hours"), ("30d", "day")] {
        let page = browser.page(&format!("/?range={range}")).await;
        assert!(said(&page).contains(" 10 deliveries: 4 delivered, "), "{}", said(&page));
        assert!(page.contains(&format!("<p class=\"unseen\">Attempts per {per}: 4 delivered")), "{page}");
    }

    assert_eq!(rows(&page), 8);
    assert_eq!(rows(&browser.page("/?show=failed").await), 4);
    // Two deliveries of the three messages to both endpoints were never tried, and are due since they were accepted.
    assert!(page.contains("Oldest due</strong> <a href=\"/applications/"), "{page}");
}

async fn an_empty_dashboard_explains_the_first_steps(world: World) {
    let browser = world.sign_in().await;
    let page = browser.page("/").await;
    assert!(page.contains("No attempts yet"));
    assert_eq!(link(&page, "Create application").as_deref(), Some("/applications/new"), "{page}");
    let app = world.app("Acme").await;
    let page = browser.page("/").await;
    assert_eq!(link(&page, "Add an endpoint"), Some(format!("/applications/{}/endpoints/new", app.id)), "{page}");
    for path in ["/deliveries", "/messages"] {
        assert_eq!(link(&browser.page(path).await, "an application").as_deref(), Some("/applications"));
    }
    assert!(browser.page("/?show=failed").await.contains("failed attempts"));
    assert!(browser.page("/deliveries?status=dead").await.contains("No dead deliveries"));
    assert!(browser.page("/deliveries?status=retrying").await.contains("No deliveries being retried"));
    assert!(browser.page("/outbox").await.contains("No stuck rows"));
}

async fn attempts_go_on_from_page_to_page(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    for n in 0..120u32 {
        let at = world.ago(Duration::from_secs(u64::from(500 - n)));
        let message = world.message(&acme, &format!("n.{n}"), "{}", at).await;
        world.tries(&message, &endpoint, [Try::delivered(at, 5)]).await;
    }
    let browser = world.sign_in().await;
    let (mut path, mut seen) = ("/".to_owned(), Vec::new());
    loop {
        let page = browser.page(&path).await;
        seen.extend(page.split("<bdi>n.").skip(1).map(|rest| rest.split('<').next().unwrap().parse::<u32>().unwrap()));
        let Some(older) = link(&page, "Older") else { break };
        path = older;
    }
    // The oldest waiting is said once more above the table; there is none here.
    assert_eq!(seen, (0..120).rev().collect::<Vec<_>>());
}

async fn a_message_tells_its_story(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "invoice.paid", r#"{"n":1.0,"n":2}"#, world.ago(MINUTE * 9)).await;
    let at = |minutes| world.ago(MINUTE * minutes);
    let due = world.now.plus(Duration::from_secs(250));
    let tries = [
        Try::failed(at(8), Failure::Tls, "the certificate expired on 2026-01-02", 83, retry(at(7), 1)),
        Try::failed(at(7), Failure::Timeout, "no whole answer within 15 s", 15_000, retry(at(3), 2)),
        Try::answered(at(3), 503, r#"{"error":"database is locked"}"#, retry(due, 3)),
    ];
    world.tries(&message, &endpoint, tries).await;
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let page = browser.page(&path).await;
    let text = words(&page);
    // With its day, where that is another one: shortly before midnight.
    let (due, today) = (due.to_string(), Clock.now().to_string());
    let day = if due[..10] == today[..10] { String::new() } else { format!("{} ", &due[5..10]) };
    let next = format!("next attempt in 4 min ({day}{} UTC)", &due[11..19]);
    for part in [
        "invoice.paid to Acme",
        "Attempt 3 · 503 Service Unavailable after 214 ms · 3 min ago",
        &next,
        "Attempt 2 · Timed out after 15.0 s",
        "Attempt 1 · TLS failed after 83 ms",
        "the certificate expired on 2026-01-02",
        "Retries continue.",
        "webhook-signature",
        "{&quot;error&quot;:&quot;database is locked&quot;}".replace("&quot;", "\"").as_str(),
        "\"n\": 1.0, \"n\": 2",
        r#"{"n":1.0,"n":2}"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(page.contains("badge retrying") && page.contains("Resend now"));
    let by_name = browser.get(&format!("/applications/{}/messages/{}", acme.id, "nothing")).await;
    assert_eq!(by_name.0, StatusCode::NOT_FOUND);
}

async fn resend_puts_a_delivery_back_and_needs_the_forms_token(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 9)).await;
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    let state = async || {
        let views = world.store.deliveries_of(&world.tenant(), acme.id, message.id).await.unwrap().data;
        (views[0].state, views[0].attempts)
    };
    assert_eq!(state().await, (DeliveryState::Dead, 1));

    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let (post, page) = (format!("{path}/resend"), browser.page(&path).await);
    let (csrf, named) = (field(&page, "csrf"), field(&page, "endpoint"));
    assert_eq!(named, endpoint.id.to_string());
    for wrong in [String::new(), "x".into(), field(&world.sign_in().await.page("/").await, "csrf")] {
        let response = browser.post(&post, &[("csrf", wrong), ("endpoint", named.clone())]).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    let without = browser.post(&post, &[("endpoint", named.clone())]).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.get(&post).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(state().await, (DeliveryState::Dead, 1), "nothing of that did anything");

    let response = browser.post(&post, &[("csrf", csrf.clone()), ("endpoint", named.clone())]).await;
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, &*format!("{path}?notice=resent")));
    assert_eq!(state().await, (DeliveryState::Fresh, 1));
    let page = browser.page(&format!("{path}?notice=resent")).await;
    assert!(page.contains("Resent.") && page.contains("badge pending") && page.contains("due now"));

    // From the list of dead ones, back to it.
    world.tries(&message, &endpoint, []).await;
    let other = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 9)).await;
    world
        .tries(&other, &endpoint, [Try::answered(world.ago(MINUTE), 410, "", Transition::Dead(DeadReason::Gone))])
        .await;
    let page = browser.page("/deliveries?status=dead").await;
    let mut actions = page.split("action=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let action = actions.find(|action| action.ends_with("/resend")).unwrap().to_owned();
    assert_eq!(action, format!("/applications/{}/messages/{}/resend", acme.id, other.id));
    let form = [("csrf", csrf.clone()), ("endpoint", named.clone()), ("back", "/deliveries?status=dead".into())];
    let response = browser.post(&action, &form).await;
    assert_eq!(location(&response), "/deliveries?status=dead&notice=resent");
    assert!(browser.page("/deliveries?status=dead").await.contains("No dead deliveries"));

    // What is gone is not sent.
    world.store.delete_endpoint(&world.tenant(), acme.id, endpoint.id, world.now).await.unwrap();
    let response = browser.post(&action, &form[..2]).await;
    assert!(location(&response).ends_with("?notice=not-resent"));
    let foreign = format!("{action}?x=1");
    let back = [("csrf", csrf), ("endpoint", named), ("back", "//evil.example".into())];
    let response = browser.post(&foreign, &back).await;
    assert!(location(&response).starts_with("/applications/"), "not to another site");
}

async fn scheduled_messages_and_deleted_contents_are_labeled(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let spec = MessageSpec {
        event_type: "a.b".into(),
        payload: "<b>two words</b>".into(),
        raw_type: Some("text/html".into()),
        deliver_at: Some(world.now.plus(MINUTE * 180)),
        ..MessageSpec::default()
    };
    let item = AcceptItem {
        tenant: Some(world.tenant()),
        app: acme.id.into(),
        only_endpoint: None,
        spec,
        at: world.now,
        idempotency_key: None,
        audit: None,
    };
    let message = world.store.accept(item).await.unwrap().unwrap();
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let page = browser.page(&path).await;
    assert!(page.contains("scheduled for ") && page.contains("badge pending"), "{page}");
    assert!(page.contains("no attempts yet") && words(&page).contains("next in "), "{page}");
    assert!(page.contains("Send now") && page.contains("two words") && !page.contains("<b>two"), "{page}");

    assert!(world.store.delete_content(&world.tenant(), acme.id, message.id, world.now).await.unwrap());
    let page = browser.page(&path).await;
    assert!(page.contains("The content was deleted") && page.contains("badge dead"), "{page}");
    assert!(!page.contains("two words") && !page.contains(&format!("{path}/resend")), "{page}");
    let list = browser.page("/deliveries?status=dead").await;
    assert!(list.contains("Content deleted") && !list.contains(&format!("{path}/resend")), "{list}");
    let csrf = field(&browser.page("/").await, "csrf");
    let form = [("csrf", csrf), ("endpoint", endpoint.id.to_string())];
    let response = browser.post(&format!("{path}/resend"), &form).await;
    assert!(location(&response).ends_with("not-resent"));
}

async fn deliveries_of_another_organization_are_neither_seen_nor_resent(mut world: World) {
    let theirs = Tenant::org("org_other".parse().unwrap());
    let app = world.app_of(&theirs, "Their customer").await;
    let endpoint = world.endpoint(&app, "https://their.example/hook").await;
    let message = world.message(&app, "their.event", "{\"their\":1}", world.ago(MINUTE * 9)).await;
    world.org = theirs.org.clone();
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    world.org = sendoff::domain::OrgId::default_org();
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", app.id, message.id);
    assert_eq!(browser.get(&path).await.0, StatusCode::NOT_FOUND);
    for path in ["/", "/?range=24h&show=failed", "/deliveries?status=dead", "/deliveries?status=retrying"] {
        let page = browser.page(path).await;
        assert!(!page.to_lowercase().contains("their"), "{path}: {page}");
    }
    let csrf = field(&browser.page("/").await, "csrf");
    let form = [("csrf", csrf), ("endpoint", endpoint.id.to_string())];
    let response = browser.post(&format!("{path}/resend"), &form).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let views = world.store.deliveries_of(&theirs, app.id, message.id).await.unwrap().data;
    assert_eq!(views[0].state, DeliveryState::Dead);
}

async fn stuck_rows_are_shown_with_their_reason(world: World) {
    insert_into_outbox(&world).await;
    world.store.relay(RelayRequest { limit: 10, now: world.ago(MINUTE) }).await.unwrap();
    if world.store.kind() == "sqlite" {
        // SQLite's columns take anything.
        let odd = "INSERT INTO outbox (application, event_type, payload) VALUES (X'ff00', 7.5, X'fe'), (CAST(X'ff' AS TEXT), '', 1)";
        crate::world::execute(&world, odd).await;
        world.store.relay(RelayRequest { limit: 10, now: world.ago(MINUTE) }).await.unwrap();
        let browser = world.sign_in().await;
        assert!(words(&browser.page("/outbox").await).contains("4 stuck outbox rows"));
        crate::world::execute(&world, "DELETE FROM outbox WHERE rowid > 2").await;
    }
    let browser = world.sign_in().await;
    let strip = words(&browser.page("/").await);
    assert!(strip.contains("2 outbox rows could not be routed"), "{strip}");
    let page = words(&browser.page("/outbox").await);
    assert!(page.contains("2 stuck outbox rows") && page.contains("there is no application nobody"), "{page}");
    assert!(page.contains("is missing"), "{page}");
}

async fn insert_into_outbox(world: &World) {
    let rows =
        "INSERT INTO outbox (application, event_type, payload) VALUES ('nobody', 'a.b', '{}'), (NULL, NULL, NULL)";
    crate::world::execute(world, rows).await;
}

async fn operational_webhooks_have_their_own_page_and_appear_on_no_other(world: World) {
    let browser = world.sign_in().await;
    assert!(!browser.page("/").await.contains("<strong>Operational webhooks"), "nobody listens");
    assert!(words(&browser.page("/operational").await).contains("No operational endpoints"));
    let told = world.store.ensure_operational_application(&world.tenant(), world.now).await.unwrap();
    let ears = world.endpoint(&told, "https://ops.example/hook").await;
    assert!(words(&browser.page("/operational").await).contains("New events appear here"));
    let acme = world.app("Acme").await;
    world.endpoint(&acme, "https://a.example/hook").await;
    let slot = world.store.slot_of_endpoint(ears.id).await.unwrap() as u8;
    let wants = sendoff::store::queue::pending_deliveries::LaneRequest {
        endpoint: ears.id,
        slot,
        fresh: 9,
        retries: 9,
        fresh_from: sendoff::domain::Time::ZERO,
        retries_from: sendoff::domain::Time::ZERO,
        ordered: false,
    };
    let id = world.store.pending_deliveries(&[wants]).await.unwrap()[0].message_id;
    let message = world.store.load_messages(&[id]).await.unwrap().remove(0);
    let at = world.ago(MINUTE * 5);
    world.tries(&message, &ears, [Try::answered(at, 500, "", retry(at, 1)), Try::answered(at, 500, "", dead())]).await;

    let page = words(&browser.page("/").await);
    assert!(page.contains("In the last hour 0 deliveries: 0 delivered, 0 being retried, 0 dead."), "{page}");
    assert!(page.contains("Operational webhooks 0 attempts delivered, 2 failed") && page.contains("No attempts yet"));
    assert_eq!(rows(&browser.page("/deliveries?status=dead").await), 0);
    let page = browser.page("/operational").await;
    assert_eq!(rows(&page), 3, "its endpoint and two attempts");
    let text = words(&page);
    assert!(text.contains("0 attempts were delivered and 2 failed") && text.contains("all events"), "{text}");
    let path = format!("/applications/{}/messages/{id}", told.id);
    assert!(page.contains(&path));
    let message = browser.page(&path).await;
    assert!(words(&message).contains("endpoint.created to Operational webhooks"), "{message}");
    let form = [("csrf", field(&message, "csrf")), ("endpoint", ears.id.to_string())];
    let done = browser.post(&format!("{path}/resend"), &form).await;
    assert_eq!(location(&done), format!("{path}?notice=resent"));
}

async fn unknown_pages_have_an_error_page_and_other_routes_are_not_affected(world: World) {
    let browser = world.sign_in().await;
    for path in ["/nowhere", "/applications/a/nothing", "/static/x/none.css", "/apiary", "/login/x", "/%ff"] {
        let response = world.request(Method::GET, path).send().await.unwrap();
        let (status, id) = (response.status(), response.headers()["x-request-id"].to_str().unwrap().to_owned());
        let page = response.text().await.unwrap();
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(page.contains(&id) && page.contains("Page not found"), "{path}: {page}");
        assert_eq!(browser.get(path).await.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(browser.post("/outbox", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    for (path, wanted) in [("/api/v1/health", "the api"), ("/metrics", "the metrics")] {
        let response = world.request(Method::GET, path).header("host", "any.example").send().await.unwrap();
        assert!(response.headers().get("content-security-policy").is_none());
        assert_eq!(response.text().await.unwrap(), wanted);
    }
}

/// The text of a page, white space put together.
pub fn words(page: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    for (entity, c) in [("&#34;", "\""), ("&#39;", "'"), ("&#60;", "<"), ("&#62;", ">"), ("&#38;", "&")] {
        text = text.replace(entity, c);
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",").replace(" .", ".")
}

/// How many rows the page's table has.
pub fn rows(page: &str) -> usize {
    page.matches("<td class=\"c-state\">").count()
}

/// Where the link with that text leads.
pub fn link(page: &str, text: &str) -> Option<String> {
    let before = page.split(&format!("\">{text}</a>")).next().filter(|before| before.len() < page.len())?;
    Some(before.rsplit("href=\"").next()?.replace("&#38;", "&").replace("&amp;", "&"))
}

/// Buttons have a stylesheet of their own: without it they look like links.
#[test]
fn a_template_with_buttons_has_their_stylesheet() {
    let templates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
    let mut with_buttons = 0;
    // The parts are within pages.
    for entry in [templates.join("portal"), templates].iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if text.contains("class=\"button") {
            with_buttons += 1;
            assert!(text.contains("actions.css"), "{} has a button and no actions.css", path.display());
        }
    }
    assert!(with_buttons > 10, "{with_buttons}");
}
