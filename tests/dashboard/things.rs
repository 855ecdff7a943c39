//! Applications, endpoints and event types: lists, pages and forms, for operators and for customers.

use reqwest::{Method, StatusCode};
use sendoff::domain::EndpointId;
use sendoff::domain::access::portal::Capability;
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::polling::PollingEndpointSpec;
use sendoff::domain::signing::secret::SignatureType;
use sendoff::store::access::audit::AuditFilter;
use sendoff::store::{AppRef, Order, PageRequest, Store};

use crate::pages::words;
use crate::support::on_both;
use crate::world::{self, Browser, MINUTE, Try, World, field, hidden, location, retry};

on_both! {
    an_application_is_made_changed_found_and_deleted
    an_endpoint_is_made_changed_paused_and_deleted_by_operators_and_customers_alike
    lists_say_how_endpoints_do
    an_endpoint_that_fails_says_what_comes_of_it
    a_secret_is_shown_by_a_button_and_that_is_noted
    a_portal_session_is_limited_to_its_capabilities_and_application
    the_catalog_is_written_by_operators_and_read_by_customers
    a_message_is_sent_by_hand_and_a_test_event_to_one_endpoint
    pages_of_things_need_a_session
    long_lists_go_on_where_they_ended
    a_form_of_an_outdated_object_is_not_saved
}

const URL: &str = "http://127.0.0.1:9/hook";

async fn read(world: &World, endpoint: &Endpoint) -> Option<Endpoint> {
    world.store.endpoint(&world.tenant(), endpoint.app_id, &endpoint.id.into()).await.unwrap()
}

/// The acts of the audit log, the newest first.
async fn acts(world: &World) -> Vec<(String, String, String)> {
    let page = PageRequest::first(50, Order::Descending);
    let log = world.store.audit_log(&world.tenant(), &AuditFilter::default(), &page).await.unwrap();
    log.data.into_iter().map(|entry| (entry.actor.who, entry.act, entry.target)).collect()
}

async fn event_type(world: &World, name: &str, flags: &[&str], schema: Option<serde_json::Value>) {
    let schemas = schema.map(|schema| [("1".to_owned(), schema)].into_iter().collect());
    let feature_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let spec = EventTypeSpec { name: name.into(), feature_flags, schemas, ..EventTypeSpec::default() };
    world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
}

/// The form again: 422, and each of these fields with a reason beside it and a link to it above.
async fn refused(browser: &Browser<'_>, page: &str, path: &str, form: &[(&str, &str)], fields: &[&str]) -> String {
    let response = browser.submit(page, path, form).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    let html = response.text().await.unwrap();
    crate::html::check(&html, path);
    for field in fields {
        assert!(html.contains(&format!("id=\"{field}-wrong\"")), "{field}: {html}");
        assert!(
            html.contains(&format!("href=\"#f-{field}\"")) && html.contains(&format!("id=\"f-{field}\"")),
            "{field}"
        );
    }
    assert_eq!(html.matches("class=\"reason\" id=\"").count(), fields.len(), "only these: {html}");
    html
}

async fn an_application_is_made_changed_found_and_deleted(world: World) {
    let browser = world.sign_in().await;
    assert!(browser.page("/applications").await.contains("No applications yet"));
    let new = "/applications/new";
    let typed = [("name", ""), ("uid", "a b"), ("throttleRate", "0"), ("contactEmail", "x"), ("metadata", "plan")];
    let wrong = ["name", "uid", "throttleRate", "contactEmail", "metadata"];
    let html = refused(&browser, new, new, &typed, &wrong).await;
    assert!(html.contains("value=\"a b\"") && html.contains("aria-invalid=\"true\""), "what was typed is kept: {html}");
    let typed = [("name", "Zürich & Söhne"), ("uid", "zs"), ("throttleRate", "50"), ("metadata", "plan=pro")];
    let response = browser.submit(new, new, &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let place = location(&response).split('?').next().unwrap().to_owned();
    assert!(browser.page(&place).await.contains("Zürich &#38; Söhne"));
    refused(&browser, new, new, &[("name", "x"), ("uid", "zs")], &["uid"]).await;

    world.app("Acme").await;
    for (text, found) in [("zürich", true), ("ZS", true), (&place["/applications/".len()..], true), ("öhne", false)] {
        let page = browser.page(&format!("/applications?q={text}")).await;
        assert_eq!(page.contains("Zürich"), found, "{text}: {page}");
        assert!(!page.contains(">Acme<"));
    }
    let edit = format!("{place}/edit");
    assert!(browser.page(&edit).await.contains("plan=pro"));
    let response = browser.submit(&edit, &edit, &[("name", "Zett")]).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let named = AppRef::parse(&place["/applications/".len()..]).unwrap();
    let app = world.store.application(&world.tenant(), &named).await.unwrap().unwrap();
    assert_eq!((app.name.as_str(), app.uid.as_ref(), app.throttle_rate), ("Zett", None, None));

    world.endpoint(&app, URL).await;
    let delete = format!("{place}/delete");
    assert!(browser.page(&delete).await.contains("Delete application and 1 endpoint"));
    assert_eq!(browser.submit(&delete, &delete, &[]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.get(&place).await.0, StatusCode::NOT_FOUND);
}

async fn an_endpoint_is_made_changed_paused_and_deleted_by_operators_and_customers_alike(world: World) {
    let acme = world.app("Acme").await;
    event_type(&world, "invoice.paid", &[], None).await;
    event_type(&world, "invoice.beta", &["beta"], None).await;
    for portal in [false, true] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let place = if portal { "/portal".to_owned() } else { format!("/applications/{}", acme.id) };
        makes_and_changes(&world, &browser, &place, &acme, portal).await;
    }
}

async fn makes_and_changes(world: &World, browser: &Browser<'_>, place: &str, acme: &Application, portal: bool) {
    let new = format!("{place}/endpoints/new");
    let typed = [
        ("url", "http://10.0.0.1/"),
        ("uid", "?"),
        ("eventTypes", "invoice.paid"),
        ("channels", "no spaces"),
        ("throttleRate", "70000"),
        ("requestTimeoutSeconds", "31"),
        ("retrySchedule", "5s, soon"),
        ("headers", "webhook-id: x"),
        ("extraSignatures", "other"),
        ("signatureType", "ed25519"),
        ("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ];
    let wrong = [
        "url",
        "uid",
        "channels",
        "throttleRate",
        "requestTimeoutSeconds",
        "retrySchedule",
        "headers",
        "extraSignatures",
        "secret",
    ];
    let html = refused(browser, &new, &new, &typed, &wrong).await;
    assert!(html.contains("5s, soon") && html.contains("value=\"invoice.paid\" checked"), "{html}");
    assert_eq!(html.contains("invoice.beta"), !portal, "what is behind a flag is not shown to a customer without it");
    if portal {
        let form = [("url", URL), ("eventTypes", "invoice.beta")];
        refused(browser, &new, &new, &form, &["eventTypes"]).await;
    }

    let typed = [
        ("url", URL),
        ("description", "the main one"),
        ("eventTypes", "invoice.paid"),
        ("channels", "a\r\nb\r\n"),
        ("retrySchedule", "5s, 5m"),
        ("ordered", "on"),
        ("headers", "authorization: Bearer s3cret\r\nx-team: ops"),
        ("secret", ""),
    ];
    let response = browser.submit(&new, &new, &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER, "{}", response.text().await.unwrap());
    let path = location(&response).split('?').next().unwrap().to_owned();
    let id: EndpointId = path.rsplit('/').next().unwrap().parse().unwrap();
    let made = world.store.endpoint(&world.tenant(), acme.id, &id.into()).await.unwrap().unwrap();
    assert_eq!(made.spec.event_types.as_deref(), Some(&["invoice.paid".to_owned()][..]));
    assert_eq!(made.spec.channels.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
    assert!(made.spec.headers.len() == 2 && made.spec.ordered);
    let page = browser.page(&path).await;
    assert!(
        page.contains("the main one")
            && page.contains("5s, 5m")
            && page.contains("one at a time")
            && !page.contains("s3cret"),
        "{page}"
    );

    let edit = format!("{path}/edit");
    let form = browser.page(&edit).await;
    assert!(form.contains("name=\"ordered\" checked"), "{form}");
    assert!(form.contains("authorization: ••••••••") && form.contains("x-team: ops") && !form.contains("s3cret"));
    let typed = [("url", URL), ("description", "changed"), ("headers", "authorization:"), ("throttleRate", "9")];
    assert_eq!(browser.submit(&edit, &edit, &typed).await.status(), StatusCode::SEE_OTHER);
    let changed = read(world, &made).await.unwrap().spec;
    assert_eq!((changed.description.as_str(), changed.throttle_rate), ("changed", Some(9)));
    assert_eq!((changed.event_types, changed.retry_schedule, changed.ordered), (None, None, false));
    assert_eq!(changed.headers.get("authorization").map(String::as_str), Some("Bearer s3cret"), "kept");

    // Somebody who may not see a header must not have it sent to a server of their own.
    let moved = [("url", "https://198.51.100.7/elsewhere"), ("headers", "authorization: ••••••••")];
    let response = browser.submit(&edit, &edit, &moved).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(response.text().await.unwrap().contains("need the value of authorization again"));
    assert_eq!(read(world, &made).await.unwrap().spec.url, URL);

    for (act, disabled) in [("disable", true), ("enable", false)] {
        assert_eq!(browser.submit(&path, &format!("{path}/{act}"), &[]).await.status(), StatusCode::SEE_OTHER);
        assert_eq!(read(world, &made).await.unwrap().spec.disabled, disabled);
        let html = browser.page(&path).await;
        assert_eq!(html.contains("Disabled <time") && html.contains(" manually."), disabled, "{html}");
    }
    let delete = format!("{path}/delete");
    assert!(browser.page(&delete).await.contains("Delete endpoint and 0 pending"));
    assert_eq!(browser.submit(&delete, &delete, &[]).await.status(), StatusCode::SEE_OTHER);
    assert!(read(world, &made).await.is_none());
}

async fn lists_say_how_endpoints_do(world: World) {
    let browser = world.sign_in().await;
    assert!(browser.page("/endpoints").await.contains("No endpoints yet"));
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let failing = world.endpoint(&acme, "https://failing.example/A").await;
    let fine = world.endpoint(&other, "https://fine.example/").await;
    let off = EndpointSpec { url: "https://off.example/".into(), disabled: true, ..EndpointSpec::default() };
    world.endpoint_with(&acme, off).await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 3)).await;
    let due = world.now.plus(MINUTE);
    world.tries(&message, &failing, [Try::answered(world.ago(MINUTE * 2), 503, "", retry(due, 1))]).await;
    let message = world.message(&other, "a.b", "{}", world.ago(MINUTE * 3)).await;
    world.tries(&message, &fine, [Try::delivered(world.ago(MINUTE), 40)]).await;
    world.message(&other, "a.b", "{}", world.ago(MINUTE)).await;

    let all = browser.page("/endpoints").await;
    for text in ["failing.example", "fine.example", "off.example", "100 %", "0.0 %", "disabled <time", "Acme"] {
        assert!(all.contains(text), "{text}: {all}");
    }
    for (query, there) in [
        ("status=failing", [true, false, false]),
        ("status=enabled", [false, true, false]),
        ("status=disabled", [false, false, true]),
        ("q=FINE.example", [false, true, false]),
        ("q=example/a", [true, false, false]),
        ("app=nobody", [false, false, false]),
        (&format!("app={}", acme.id), [true, false, true]),
    ] {
        let page = browser.page(&format!("/endpoints?{query}")).await;
        let found = ["failing.example", "fine.example", "off.example"].map(|host| page.contains(host));
        assert_eq!(found, there, "{query}");
    }
    let page = browser.page(&format!("/applications/{}/endpoints/{}", acme.id, failing.id)).await;
    assert!(
        page.contains("503 Service Unavailable")
            && page.contains("No attempt has succeeded since the first failure <time"),
        "{page}"
    );
    assert!(page.contains("<strong>Waiting</strong> 1<"), "{page}");
    assert!(page.contains("Unless an attempt succeeds, it will be disabled <time"), "{page}");
    assert!(page.contains("in 4 d") && !page.contains("A warning was sent"), "{page}");
    let page = browser.page(&format!("/applications/{}", acme.id)).await;
    assert!(words(&page).contains("0 delivered, 1 being retried") && page.contains("off.example"), "{page}");
}

/// A streak of two days was warned of; one that is longer than is allowed ends with the next failure; one that has ended is in the log.
async fn an_endpoint_that_fails_says_what_comes_of_it(world: World) {
    const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
    let browser = world.sign_in().await;
    let acme = world.app("Acme").await;
    let fail = async |endpoint: &Endpoint, days: &[u32]| {
        for ago in days {
            let at = world.ago(DAY * *ago);
            let message = world.message(&acme, "a.b", "{}", at).await;
            world.tries(&message, endpoint, [Try::answered(at, 503, "", retry(world.now, 1))]).await;
        }
    };
    let failing = world.endpoint(&acme, "https://failing.example/").await;
    fail(&failing, &[3, 1]).await;
    let idle = world.endpoint(&acme, "https://idle.example/").await;
    fail(&idle, &[8]).await;
    let ended = world.endpoint(&acme, "https://ended.example/").await;
    fail(&ended, &[6, 0]).await;
    let judged = world.store.check_failing_endpoints(DAY * 5, world.now).await.unwrap();
    assert_eq!((judged.warned, judged.disabled), (vec![(failing.id, 1)], vec![ended.id]));
    let page =
        async |endpoint: &Endpoint| browser.page(&format!("/applications/{}/endpoints/{}", acme.id, endpoint.id)).await;
    let html = page(&failing).await;
    assert!(html.contains("No attempt has succeeded since the first failure <time"), "{html}");
    assert!(html.contains("A warning was sent <time") && html.contains("it will be disabled <time"), "{html}");
    let html = page(&idle).await;
    assert!(html.contains("The next failure disables it.") && !html.contains("A warning"), "{html}");
    let html = page(&ended).await;
    assert!(html.contains("every attempt failed for too long") && !html.contains("will be disabled"), "{html}");
    let log = browser.page("/audit").await;
    assert!(log.contains("automatic") && log.contains("every attempt failed for too long, ended.example"), "{log}");
}

async fn a_secret_is_shown_by_a_button_and_that_is_noted(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, URL).await;
    let secret = async || {
        let secret = world.store.endpoint_secret(&world.tenant(), acme.id, endpoint.id).await.unwrap();
        secret.unwrap().shown()
    };
    let before = secret().await;
    for (portal, who) in [(false, "a login link"), (true, "ada")] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let place = if portal { "/portal".to_owned() } else { format!("/applications/{}", acme.id) };
        let path = format!("{place}/endpoints/{}", endpoint.id);
        let page = browser.page(&path).await;
        assert!(!page.contains(&before) && page.contains("whsec_…"), "only a placeholder");
        assert_eq!(browser.get(&format!("{path}/secret")).await.0, StatusCode::METHOD_NOT_ALLOWED);
        let noted = acts(&world).await.len();
        let response = browser.post(&format!("{path}/secret"), &[("csrf", "wrong".into())]).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(acts(&world).await.len(), noted);
        let response = browser.submit(&path, &format!("{path}/secret"), &[]).await;
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(response.text().await.unwrap().contains(&before));
        let wanted = (who.to_owned(), "secret revealed".to_owned(), endpoint.id.to_string());
        assert_eq!(acts(&world).await[0], wanted);
    }

    let browser = world.sign_in().await;
    let rotate = format!("/applications/{}/endpoints/{}/rotate", acme.id, endpoint.id);
    let form = [("key", "whsk_x"), ("gracePeriod", "8d")];
    refused(&browser, &rotate, &rotate, &form, &["key", "gracePeriod"]).await;
    assert_eq!(secret().await, before);
    assert_eq!(browser.submit(&rotate, &rotate, &[("gracePeriod", "1h")]).await.status(), StatusCode::SEE_OTHER);
    assert_ne!(secret().await, before);
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(browser.submit(&rotate, &rotate, &[("key", own)]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(secret().await, own);
    for _ in 0..3 {
        assert_eq!(browser.submit(&rotate, &rotate, &[]).await.status(), StatusCode::SEE_OTHER);
    }
    let last = secret().await;
    refused(&browser, &rotate, &rotate, &[("key", own)], &["key"]).await;
    assert_eq!(secret().await, last, "five old ones sign along already");
}

async fn a_portal_session_is_limited_to_its_capabilities_and_application(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let (own, foreign) = (world.endpoint(&acme, URL).await, world.endpoint(&other, URL).await);
    event_type(&world, "a.b", &[], Some(serde_json::json!({"examples": [{"n": 1}]}))).await;
    let looker = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let path = format!("/portal/endpoints/{}", own.id);
    let page = looker.page(&path).await;
    for act in ["edit", "disable", "delete", "secret", "rotate", "test"] {
        assert!(!page.contains(&format!("{path}/{act}\"")), "{act} is offered: {page}");
    }
    assert!(!looker.page("/portal/endpoints").await.contains("endpoints/new"));
    let csrf = field(&page, "csrf");
    for act in ["edit", "disable", "enable", "delete", "secret", "rotate", "test"] {
        let form = [("csrf", csrf.clone()), ("eventType", "a.b".into()), ("url", URL.into())];
        let response = looker.post(&format!("{path}/{act}"), &form).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{act}");
    }
    let form = [("csrf", csrf.clone()), ("url", URL.into())];
    assert_eq!(looker.post("/portal/endpoints/new", &form).await.status(), StatusCode::FORBIDDEN);
    for path in
        ["endpoints/new".to_owned(), format!("endpoints/{}/edit", own.id), format!("endpoints/{}/rotate", own.id)]
    {
        assert_eq!(looker.get(&format!("/portal/{path}")).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    assert!(acts(&world).await.is_empty());

    let viewer = world.portal_session(&acme, Some(&[Capability::ViewBase, Capability::ViewEndpointSecret]), &[]).await;
    let csrf = [("csrf", field(&viewer.page(&path).await, "csrf"))];
    assert_eq!(viewer.post(&format!("{path}/secret"), &csrf).await.status(), StatusCode::OK);
    assert_eq!(viewer.post(&format!("{path}/rotate"), &csrf).await.status(), StatusCode::FORBIDDEN);

    let customer = world.portal_session(&acme, None, &[]).await;
    let csrf = [("csrf", field(&customer.page(&path).await, "csrf"))];
    let theirs = format!("/portal/endpoints/{}", foreign.id);
    assert_eq!(customer.get(&theirs).await.0, StatusCode::NOT_FOUND);
    for act in ["edit", "disable", "delete", "secret", "rotate", "test"] {
        let response = customer.post(&format!("{theirs}/{act}"), &csrf).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{act}");
    }
    assert_eq!(read(&world, &foreign).await, Some(foreign.clone()));
    for path in ["/portal/edit", "/portal/delete", "/portal/send"] {
        assert_eq!(customer.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/applications", "/endpoints", "/event-types", "/event-types/new"] {
        let (status, _) = customer.get(path).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{path}: a portal session is no operator's");
    }
    // An operator does not reach an endpoint through another application either.
    let operator = world.sign_in().await;
    let crossed = format!("/applications/{}/endpoints/{}", acme.id, foreign.id);
    assert_eq!(operator.get(&crossed).await.0, StatusCode::NOT_FOUND);
}

async fn the_catalog_is_written_by_operators_and_read_by_customers(world: World) {
    let browser = world.sign_in().await;
    assert!(browser.page("/event-types").await.contains("No event types yet"));
    let new = "/event-types/new";
    let form = [("name", "a b"), ("groupName", "?"), ("featureFlags", "x y"), ("schemas", "{\"1\":\n oops}")];
    let html = refused(&browser, new, new, &form, &["name", "groupName", "featureFlags", "schemas"]).await;
    assert!(html.contains("line 2 column 2"), "{html}");
    let schemas = r#"{"1": {"type": "object", "examples": [{"amount": 4200}]}}"#;
    let form = [("name", "invoice.paid"), ("description", "Paid <in full>"), ("schemas", schemas)];
    let response = browser.submit(new, new, &form).await;
    assert_eq!(location(&response), "/event-types/invoice.paid?notice=created");
    refused(&browser, new, new, &form, &["name"]).await;
    let page = browser.page("/event-types/invoice.paid").await;
    assert!(page.contains("Paid &#60;in full&#62;") && page.matches("4200").count() == 2, "schema and example: {page}");
    event_type(&world, "beta", &["beta"], None).await;

    let acme = world.app("Acme").await;
    for (flags, sees) in [(&[][..], false), (&["beta"][..], true)] {
        let customer = world.portal_session(&acme, None, flags).await;
        let page = customer.page("/portal/event-types").await;
        assert!(page.contains("invoice.paid") && !page.contains("/edit"));
        assert_eq!(page.contains("/portal/event-types/beta"), sees);
        assert_eq!(customer.get("/portal/event-types/beta").await.0 == StatusCode::OK, sees);
    }
    let customer = world.portal_session(&acme, None, &[]).await;
    let archive = "/event-types/invoice.paid/archive";
    assert_eq!(browser.submit(archive, archive, &[]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(customer.get("/portal/event-types/invoice.paid").await.0, StatusCode::NOT_FOUND);
    assert!(!browser.page("/event-types").await.contains("invoice.paid"));
    assert!(browser.page("/event-types?archived=1").await.contains("invoice.paid"));
    let edit = "/event-types/invoice.paid/edit";
    assert!(browser.page(edit).await.contains("&#34;amount&#34;"));
    let response = browser.submit(edit, edit, &[("description", "again"), ("deprecated", "on")]).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let found = world.store.event_type(&world.tenant(), "invoice.paid").await.unwrap().unwrap().spec;
    assert_eq!((found.archived, found.deprecated, found.schemas), (false, true, None));
}

async fn a_message_is_sent_by_hand_and_a_test_event_to_one_endpoint(world: World) {
    let browser = world.sign_in().await;
    let acme = world.app("Acme").await;
    let (one, two) = (world.endpoint(&acme, URL).await, world.endpoint(&acme, URL).await);
    event_type(&world, "a.b", &[], Some(serde_json::json!({"examples": [{"n": 1}]}))).await;
    let send = format!("/applications/{}/send", acme.id);
    let page = browser.page(&format!("{send}?type=a.b")).await;
    assert!(page.contains("value=\"a.b\"") && page.contains("&#34;n&#34;: 1"), "{page}");
    let form = [("eventType", "no good"), ("payload", "{\n  oops"), ("channels", "a b"), ("eventId", "?")];
    let html = refused(&browser, &send, &send, &form, &["eventType", "payload", "channels", "eventId"]).await;
    assert!(html.contains("line 2 column 3") && html.contains("  oops</textarea>"), "{html}");
    let form = [("eventType", "a.b"), ("payload", "{\"x\": 1.0}"), ("eventId", "e1")];
    let response = browser.submit(&send, &send, &form).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let page = browser.page(location(&response)).await;
    assert!(page.contains("2 deliveries") && page.contains("{&#34;x&#34;: 1.0}"), "{page}");
    refused(&browser, &send, &send, &form, &["eventId"]).await;
    assert_eq!(acts(&world).await[0].1, "message sent by hand");

    let path = format!("/applications/{}/endpoints/{}", acme.id, one.id);
    let test = format!("{path}/test");
    refused(&browser, &path, &test, &[("eventType", "c.d")], &["eventType"]).await;
    let response = browser.submit(&path, &test, &[("eventType", "a.b")]).await;
    let page = browser.page(location(&response)).await;
    assert!(
        page.contains("1 delivery") && page.contains(&one.id.to_string()) && !page.contains(&format!("/{}", two.id))
    );
    assert_eq!(acts(&world).await[0].1, "test event sent");
    browser.submit(&path, &format!("{path}/disable"), &[]).await;
    let response = browser.submit(&path, &test, &[("eventType", "a.b")]).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn pages_of_things_need_a_session(world: World) {
    for path in ["/applications", "/applications/new", "/endpoints", "/event-types", "/applications/a/endpoints/b/edit"]
    {
        let response = world.request(Method::GET, path).send().await.unwrap();
        assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/login"), "{path}");
    }
}

async fn long_lists_go_on_where_they_ended(world: World) {
    let browser = world.sign_in().await;
    let acme = world.app("Acme").await;
    let fill = async |store: &Store| {
        for n in 0..51 {
            let spec = EndpointSpec { url: format!("http://127.0.0.1:9/n{n:02}"), ..EndpointSpec::default() };
            world.endpoint_with(&acme, spec).await;
        }
        store.endpoint_counts_by_app(&world.tenant(), &[acme.id]).await.unwrap()[&acme.id]
    };
    assert_eq!(fill(&world.store).await, 51);
    let first = browser.page("/endpoints?q=/n").await;
    assert!(first.contains("/n50") && !first.contains("/n00"), "the newest first");
    let next = first.split("href=\"").find(|rest| rest.contains(">Next page<")).unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
    let second = browser.page(&next).await;
    assert!(second.contains("/n00") && !second.contains("/n01"), "{second}");
}

/// Two people open the same form. The second to save would undo what the first has saved, without having seen it.
async fn a_form_of_an_outdated_object_is_not_saved(world: World) {
    let browser = world.sign_in().await;
    event_type(&world, "invoice.paid", &[], None).await;
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, URL).await;
    let spec = PollingEndpointSpec::default();
    let poller = world.store.create_polling_endpoint(&world.tenant(), acme.id, spec, world.now).await.unwrap();
    let at = format!("/applications/{}", acme.id);
    let forms = [
        (format!("{at}/polling/{}/edit", poller.id), "channels", "theirs", vec![]),
        (format!("{at}/edit"), "contactEmail", "ops@acme.example", vec![("name", "Acme")]),
        (format!("{at}/endpoints/{}/edit", endpoint.id), "description", "theirs", vec![("url", URL)]),
        ("/event-types/invoice.paid/edit".to_owned(), "groupName", "theirs", vec![]),
    ];
    for (path, field, theirs, rest) in forms {
        let mine = browser.page(&path).await;
        let with = |value: &'static str| rest.iter().copied().chain([(field, value)]).collect::<Vec<_>>();
        assert_eq!(browser.submit(&path, &path, &with(theirs)).await.status(), StatusCode::SEE_OTHER, "{path}");
        let form = || with("").into_iter().map(|(name, value)| (name, value.to_owned()));
        let late: Vec<_> = hidden(&mine).into_iter().chain(form()).collect();
        let response = browser.post(&path, &late).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let page = response.text().await.unwrap();
        assert!(page.contains("someone else changed it"), "{page}");
        assert!(browser.page(&path).await.contains(theirs), "{path}: what they saved stays");
        // Having seen that, it can be saved.
        let again: Vec<_> = hidden(&page).into_iter().chain(form()).collect();
        assert_eq!(browser.post(&path, &again).await.status(), StatusCode::SEE_OTHER, "{path}");
        assert!(!browser.page(&path).await.contains(theirs), "{path}");
        // A form that does not say what it was filled in on is none of ours.
        let without: Vec<_> = hidden(&page).into_iter().take(1).chain(form()).collect();
        assert_eq!(browser.post(&path, &without).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
}

#[tokio::test]
async fn a_new_endpoint_signs_as_the_server_is_set_unless_something_else_is_chosen() {
    let world = world::signing(SignatureType::Ed25519).await;
    let acme = world.app("Acme").await;
    let browser = world.sign_in().await;
    let new = format!("/applications/{}/endpoints/new", acme.id);
    let html = browser.page(&new).await;
    assert!(html.contains("value=\"ed25519\" selected") && !html.contains("value=\"hmac256\" selected"), "{html}");
}
