//! The lists of deliveries and messages and what can be done from there, on both stores, for operators and customers.

use std::time::Duration;

use reqwest::StatusCode;
use sendoff::domain::AppId;
use sendoff::domain::access::portal::{Capability, PortalLink, PortalOptions};
use sendoff::domain::catalog::endpoint::{Endpoint, EndpointSpec};
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::deliveries::delivery::DeliveryState;
use sendoff::domain::deliveries::message::MessageSpec;
use sendoff::store::access::sign_in_links::TokenHash;
use sendoff::store::ingest::accept::AcceptItem;
use sha2::{Digest, Sha256};

use crate::pages::{link, rows, words};
use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, execute, field, location, retry};

on_both! {
    each_filter_in_the_url_narrows_the_list
    a_time_range_is_one_click_away
    a_list_is_exported_as_it_is_shown
    rows_are_selected_and_resent
    an_account_keeps_views_under_names
    a_chip_takes_its_own_filter_away_and_keeps_the_others
    errors_are_shown_at_their_field
    an_application_is_named_as_people_call_it
    pages_show_each_row_once
    a_search_that_stops_says_how_far_it_came_and_goes_on
    a_list_without_rows_says_why
    a_pending_delivery_can_be_canceled_and_resent
    what_waits_says_why
    a_customer_sees_their_own_and_does_what_they_may
}

/// A customer in the portal.
async fn visitor<'h>(world: &'h World, app: AppId, capabilities: Option<Vec<Capability>>) -> Browser<'h> {
    let hash = |text: &str| -> TokenHash { Sha256::digest(text.as_bytes()).into() };
    let (link, visit) = (format!("link-{app}-{capabilities:?}"), format!("visit-{app}-{capabilities:?}"));
    let visit: String = visit.chars().filter(char::is_ascii_alphanumeric).collect();
    let until = world.now.plus(MINUTE * 60);
    let options = PortalOptions { capabilities, ..PortalOptions::all(until.micros()) };
    let stored = PortalLink { org: world.org.clone(), app_id: app, options, expires_at: until };
    world.store.add_portal_link(&hash(&link), &stored, world.now).await.unwrap();
    world.store.redeem_portal_link(&hash(&link), &hash(&visit), world.now).await.unwrap().unwrap();
    Browser { world, cookie: format!("sendoff_portal={visit}") }
}

/// Acme: `a.1` delivered, `b.2` retrying with 503, `a.3` dead with 404, `c.4` not answered. Globex: `a.5` pending.
async fn seeded(world: &World) -> (AppId, AppId, Endpoint) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    world.endpoint(&globex, "https://g.example/hook").await;
    let ago = |minutes| world.ago(MINUTE * minutes);
    let due = world.now.plus(MINUTE * 5);
    for (name, minutes, one) in [
        ("a.1", 50, Try::delivered(ago(50), 9)),
        ("b.2", 40, Try::answered(ago(40), 503, "", retry(due, 1))),
        ("a.3", 30, Try::answered(ago(30), 404, "", dead())),
        ("c.4", 20, Try::failed(ago(20), Failure::Timeout, "no whole answer within 15 s", 15_000, retry(due, 1))),
    ] {
        let message = world.message(&acme, name, format!("{{\"name\":\"{name}\"}}"), ago(minutes)).await;
        world.tries(&message, &endpoint, [one]).await;
    }
    let spec = MessageSpec {
        event_type: "a.5".into(),
        event_id: Some(sendoff::domain::Uid::parse("eventId", "evt-5", "msg_").unwrap()),
        payload: "{\"name\":\"a.5\"}".into(),
        ..MessageSpec::default()
    };
    let at = ago(10);
    let item = AcceptItem {
        tenant: Some(world.tenant()),
        app: globex.id.into(),
        only_endpoint: None,
        spec,
        at,
        idempotency_key: None,
        audit: None,
    };
    world.store.accept(item).await.unwrap().unwrap();
    (acme.id, globex.id, endpoint)
}

/// The event types in a page's table, from the top.
fn listed(page: &str) -> String {
    let cells = page.split("<td class=\"c-main\">").skip(1);
    let names = cells.filter_map(|cell| cell.split("<bdi>").nth(1)?.split("</bdi>").next());
    names.collect::<Vec<_>>().join(" ")
}

async fn each_filter_in_the_url_narrows_the_list(world: World) {
    let (acme, globex, endpoint) = seeded(&world).await;
    let browser = world.sign_in().await;
    let since = world.ago(MINUTE * 35).to_string().replace('+', "%2B");
    for (query, wanted) in [
        ("".to_owned(), "a.5 c.4 a.3 b.2 a.1"),
        ("status=".to_owned(), "a.5 c.4 a.3 b.2 a.1"),
        ("status=pending".to_owned(), "a.5"),
        ("status=retrying".to_owned(), "c.4 b.2"),
        ("status=delivered".to_owned(), "a.1"),
        ("status=dead".to_owned(), "a.3"),
        ("status=failed".to_owned(), "c.4 a.3 b.2"),
        ("status=canceled".to_owned(), ""),
        (format!("app={acme}"), "c.4 a.3 b.2 a.1"),
        ("app=ACME".to_owned(), "c.4 a.3 b.2 a.1"),
        ("app=glob".to_owned(), "a.5"),
        (format!("app={globex}&status=dead"), ""),
        (format!("endpoint={}", endpoint.id), "c.4 a.3 b.2 a.1"),
        ("type=a.1&type=b.2".to_owned(), "b.2 a.1"),
        ("type=a.1,+b.2".to_owned(), "b.2 a.1"),
        ("class=5xx".to_owned(), "b.2"),
        ("class=none".to_owned(), "c.4"),
        (format!("since={since}"), "a.5 c.4 a.3"),
        ("since=35m&until=15m".to_owned(), "c.4 a.3"),
        ("q=evt-5".to_owned(), "a.5"),
        (format!("q={}", endpoint.id), "c.4 a.3 b.2 a.1"),
        ("q=%22a.3%22".to_owned(), "a.3"),
        ("q=%22A.3%22".to_owned(), ""),
        (format!("q=name&app={acme}&status=failed&class=4xx&since=2h"), "a.3"),
    ] {
        let page = browser.page(&format!("/deliveries?{query}")).await;
        assert_eq!(listed(&page), wanted, "{query}");
        assert_eq!(rows(&page), wanted.split_whitespace().count());
    }
    for (query, wanted) in [
        ("", "a.5 c.4 a.3 b.2 a.1"),
        ("type=b.2", "b.2"),
        ("since=35m&until=15m", "c.4 a.3"),
        ("q=evt-5", "a.5"),
        ("q=%22a.3%22&since=1h", "a.3"),
        (&format!("app={globex}"), "a.5"),
        ("app=Globex", "a.5"),
    ] {
        let page = browser.page(&format!("/messages?{query}")).await;
        assert_eq!(listed(&page), wanted, "{query}");
        assert!(!page.contains("name=\"endpoint\""));
    }
    let page = browser.page(&format!("/applications/{acme}/deliveries?status=failed&app={globex}")).await;
    assert_eq!(listed(&page), "c.4 a.3 b.2", "within an application it is no filter");
    assert!(!page.contains("name=\"app\"") && !page.contains(">Application<"), "{page}");
    assert_eq!(listed(&browser.page(&format!("/applications/{globex}/messages")).await), "a.5");
}

async fn a_chip_takes_its_own_filter_away_and_keeps_the_others(world: World) {
    seeded(&world).await;
    let browser = world.sign_in().await;
    let page = browser.page("/deliveries?status=failed&type=a.3&type=b.2&since=2h&after=x").await;
    let chips: Vec<(String, String)> = page
        .split("<a class=\"chip on\" href=\"")
        .skip(1)
        .map(|rest| {
            let (href, text) = rest.split_once("\">").unwrap();
            (words(text.split("</a>").next().unwrap()), href.replace("&#38;", "&"))
        })
        .collect();
    let chips: Vec<(&str, &str)> = chips.iter().map(|(text, href)| (text.as_str(), href.as_str())).collect();
    assert_eq!(
        chips,
        [
            ("Status: failed ×: remove this filter", "/deliveries?type=a.3&type=b.2&since=2h"),
            ("Event type: a.3 ×: remove this filter", "/deliveries?status=failed&type=b.2&since=2h"),
            ("Event type: b.2 ×: remove this filter", "/deliveries?status=failed&type=a.3&since=2h"),
            ("Since: 2h ×: remove this filter", "/deliveries?status=failed&type=a.3&type=b.2"),
        ]
    );
    assert_eq!(link(&page, "Clear filters").as_deref(), Some("/deliveries"));
    assert!(
        page.contains("<option value=\"failed\" selected translate=\"yes\">") && page.contains("value=\"a.3 b.2\""),
        "{page}"
    );
    let dead = browser.page("/deliveries?status=dead&since=2h").await;
    assert_eq!(link(&dead, "Resend all…").as_deref(), Some("/resend?status=dead&since=2h"));
}

async fn errors_are_shown_at_their_field(world: World) {
    seeded(&world).await;
    let browser = world.sign_in().await;
    for (query, name, why) in [
        ("app=nobody", "app", "No application has this name, id or uid."),
        ("app=%C3%BC", "app", "No application has this name, id or uid."),
        ("endpoint=nobody", "endpoint", "No endpoint has this id or uid."),
        ("since=yesterday", "since", "Enter a time such as"),
        ("since=1h&until=2h", "until", "Must be after"),
        ("status=odd", "status", "Unknown status."),
        ("class=6xx", "class", "Unknown response class"),
        ("type=a%2Fb", "type", "An event type may only contain"),
    ] {
        let (status, page) = browser.get(&format!("/deliveries?{query}&q=kept")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        let said = page.split(&format!("id=\"w-{name}\">")).nth(1).unwrap_or_else(|| panic!("{query}: {page}"));
        assert!(said.split("</p>").next().unwrap().contains(why), "{query}: {said}");
        assert!(page.contains(&format!("aria-describedby=\"w-{name}\"")) && page.contains("value=\"kept\""));
        assert!(page.contains("Invalid filter") && rows(&page) == 0);
    }
}

/// An application is found by its name, wherever one is filtered by.
async fn an_application_is_named_as_people_call_it(world: World) {
    let (_, _, endpoint) = seeded(&world).await;
    let (one, two) = (world.app("Initech").await, world.app("initech").await);
    world.app("Initech Europe").await;
    let browser = world.sign_in().await;
    for list in ["/deliveries", "/messages"] {
        let (status, page) = browser.get(&format!("{list}?app=INITECH")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains("Several applications match this name"), "{page}");
        for name in [one.id.to_string(), two.id.to_string(), "initech europe".into(), "Initech+E".into()] {
            browser.page(&format!("{list}?app={name}")).await;
        }
    }
    let page = browser.page("/deliveries").await;
    assert!(page.contains("<option value=\"Acme\">"), "a name that one has is proposed: {page}");
    assert!(!page.contains("<option value=\"Initech\">") && page.contains(&format!("<option value=\"{}\">", one.id)));
    for (path, there) in [
        ("/endpoints?app=acme", true),
        ("/endpoints?app=globex", false),
        ("/tail?app=acme", true),
        ("/tail?app=globex", false),
    ] {
        assert_eq!(browser.page(path).await.contains("a.example/hook"), there, "{path} {}", endpoint.id);
    }
}

async fn pages_show_each_row_once(world: World) {
    let acme = world.app("Acme").await;
    let (dying, waiting) =
        (world.endpoint(&acme, "https://a.example/").await, world.endpoint(&acme, "https://b.example/").await);
    for n in 0..60u64 {
        let at = world.ago(Duration::from_secs(900 - n));
        let message = world.message(&acme, &format!("n.{n}"), "{}", at).await;
        world.tries(&message, &dying, [Try::answered(at, 500, "", dead())]).await;
        let due = world.now.plus(Duration::from_secs(60 + n / 40));
        world.tries(&message, &waiting, [Try::answered(at, 500, "", retry(due, 1))]).await;
    }
    let browser = world.sign_in().await;
    let once: Vec<u64> = (0..60).rev().collect();
    let twice: Vec<u64> = once.iter().flat_map(|n| [*n, *n]).collect();
    for (list, wanted) in [
        ("/deliveries?status=dead".to_owned(), &once),
        ("/deliveries?status=retrying".to_owned(), &once),
        ("/deliveries?status=failed".to_owned(), &twice),
        (format!("/applications/{}/deliveries", acme.id), &twice),
        ("/messages".to_owned(), &once),
    ] {
        let (mut path, mut seen) = (list.clone(), Vec::new());
        loop {
            let page = browser.page(&path).await;
            seen.extend(listed(&page).split(' ').map(|name| name[2..].parse::<u64>().unwrap()));
            assert_eq!(link(&page, "First page").is_some(), path != list);
            let next = page.split("<nav class=\"pager\"").nth(1).and_then(|nav| {
                let href = nav.split("rel=\"next\">Next page").next().filter(|before| before.len() < nav.len())?;
                Some(href.rsplit("href=\"").next()?.split('"').next()?.replace("&#38;", "&"))
            });
            let Some(next) = next else { break };
            path = next;
        }
        assert_eq!(seen, *wanted, "{list}");
        let sign = if list.contains('?') { '&' } else { '?' };
        for odd in ["x", "msg_1.ep_2", "1.2.3", "%00", "-9223372036854775808.x.y"] {
            assert_eq!(browser.get(&format!("{list}{sign}after={odd}")).await.0, StatusCode::OK);
        }
    }
}

async fn a_search_that_stops_says_how_far_it_came_and_goes_on(world: World) {
    let acme = world.app("Acme").await;
    world.endpoint(&acme, "https://a.example/").await;
    for n in 0..3u32 {
        world.message(&acme, "a.b", "{\"word\": 1}", world.ago(MINUTE * (10 - n))).await;
    }
    // Payloads so large that a page does not look at all of them.
    let large = if world.database.starts_with("sqlite:") {
        "zeroblob(17000000)"
    } else {
        "decode(repeat('00', 17000000), 'hex')"
    };
    let newer = world.ago(Duration::from_secs(595)).micros();
    execute(&world, &format!("UPDATE message SET payload = {large} WHERE accepted_at > {newer}")).await;
    let browser = world.sign_in().await;
    for list in ["/deliveries", "/messages"] {
        let page = browser.page(&format!("{list}?q=word&since=1h")).await;
        assert!(words(&page).contains("No match so far Searched back to"), "{page}");
        let on = link(&page, "Search further").unwrap();
        let page = browser.page(&on).await;
        assert_eq!((rows(&page), link(&page, "Search further")), (1, None), "{page}");
        let page = browser.page(&format!("{list}?q=nowhere")).await;
        assert!(page.contains("Only payloads of the last 24 hours were searched."), "{page}");
    }
}

async fn a_list_without_rows_says_why(world: World) {
    let browser = world.sign_in().await;
    for (path, wanted) in [
        ("/deliveries", "No deliveries yet"),
        ("/messages", "No messages yet"),
        ("/deliveries?status=dead", "No dead deliveries"),
        ("/deliveries?status=retrying", "No deliveries being retried"),
        ("/deliveries?status=dead&class=5xx", "No matching deliveries"),
        ("/messages?type=a.b", "No matching messages"),
    ] {
        let page = browser.page(path).await;
        assert!(page.contains(wanted), "{path}: {page}");
        let clear = path.split('?').next().filter(|_| path.contains('?'));
        assert_eq!(link(&page, "Clear filters").as_deref(), clear, "{path}");
    }
}

async fn a_pending_delivery_can_be_canceled_and_resent(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let page = browser.page(&path).await;
    assert!(page.contains("An attempt is in flight") && page.contains(&format!("action=\"{path}/cancel\"")), "{page}");
    let form = [("csrf", field(&page, "csrf")), ("endpoint", endpoint.id.to_string())];
    let without = browser.post(&format!("{path}/cancel"), &form[1..]).await;
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    let done = browser.post(&format!("{path}/cancel"), &form).await;
    assert_eq!(location(&done), format!("{path}?notice=canceled"));
    let page = browser.page(&format!("{path}?notice=canceled")).await;
    assert!(
        page.contains("badge canceled") && page.contains("The delivery was canceled.") && !page.contains("/cancel\"")
    );
    let again = browser.post(&format!("{path}/cancel"), &form).await;
    assert_eq!(location(&again), format!("{path}?notice=not-canceled"));

    let list = browser.page("/deliveries?status=canceled").await;
    let back = field(&list, "back").replace("&#38;", "&");
    let form = [("csrf", form[0].1.clone()), ("endpoint", field(&list, "endpoint")), ("back", back)];
    let resent = browser.post(&format!("{path}/resend"), &form).await;
    assert_eq!(location(&resent), "/deliveries?status=canceled&notice=resent");
    let views = world.store.deliveries_of(&world.tenant(), acme.id, message.id).await.unwrap().data;
    assert_eq!(views[0].state, DeliveryState::Fresh);
}

async fn what_waits_says_why(world: World) {
    let acme = world.app("Acme").await;
    let spec = |url: &str| EndpointSpec { url: url.into(), ..EndpointSpec::default() };
    let slow = EndpointSpec { throttle_rate: Some(2), ..spec("https://slow.example/") };
    let paused = world.endpoint_with(&acme, spec("https://paused.example/")).await;
    world.endpoint_with(&acme, slow).await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    let off = EndpointSpec { disabled: true, ..paused.spec.clone() };
    world.store.update_endpoint(&world.tenant(), &paused, off, world.now).await.unwrap();
    let browser = world.sign_in().await;
    let page = browser.page(&format!("/applications/{}/messages/{}", acme.id, message.id)).await;
    assert!(page.contains("The endpoint is disabled. Delivery resumes when it is enabled."), "{page}");
    assert!(page.contains("Waiting for the endpoint&#39;s rate limit (2/s)."), "{page}");
    assert!(page.contains(&format!("href=\"/applications/{}/endpoints/{}\"", acme.id, paused.id)));
}

async fn a_customer_sees_their_own_and_does_what_they_may(world: World) {
    let (acme, globex, endpoint) = seeded(&world).await;
    let all = visitor(&world, acme, None).await;
    for (path, wanted) in [
        ("/portal/deliveries".to_owned(), "c.4 a.3 b.2 a.1"),
        ("/portal/messages".to_owned(), "c.4 a.3 b.2 a.1"),
        ("/portal/deliveries?status=pending".to_owned(), ""),
        ("/portal/deliveries?status=dead".to_owned(), "a.3"),
        (format!("/portal/deliveries?app={globex}"), "c.4 a.3 b.2 a.1"),
        ("/portal/deliveries?q=evt-5".to_owned(), ""),
        ("/portal/messages?q=a.5".to_owned(), ""),
        ("/portal/deliveries?q=%22a.1%22".to_owned(), "a.1"),
    ] {
        let page = all.page(&path).await;
        assert_eq!(listed(&page), wanted, "{path}");
        for hidden in ["Globex", "g.example", "/applications/", ">Application<"] {
            assert!(!page.contains(hidden), "{path}: {hidden}: {page}");
        }
    }
    assert_eq!(all.get("/deliveries").await.0, StatusCode::SEE_OTHER, "the operators' pages are not theirs");

    let page = all.page("/portal/deliveries?status=dead").await;
    let action =
        page.split("action=\"").skip(1).find(|rest| rest.contains("/resend\"")).unwrap().split('"').next().unwrap();
    assert!(action.starts_with("/portal/messages/msg_"), "{action}");
    let form = [("csrf", field(&page, "csrf")), ("endpoint", endpoint.id.to_string()), ("back", field(&page, "back"))];
    let done = all.post(action, &form).await;
    assert_eq!(location(&done), "/portal/deliveries?status=dead&notice=resent");
    let message = action.strip_suffix("/resend").unwrap();
    assert!(all.page(message).await.contains(&format!("{message}/cancel")));

    // Who may only look has no buttons, and is refused without them.
    let looks = visitor(&world, acme, Some(vec![Capability::ViewBase])).await;
    let page = looks.page("/portal/deliveries?status=failed").await;
    assert!(rows(&page) == 2 && !page.contains("/resend\""), "{page}");
    let own = looks.page(message).await;
    assert!(!own.contains("/resend\"") && !own.contains("/cancel\""), "{own}");
    let form = [("csrf", field(&own, "csrf")), ("endpoint", endpoint.id.to_string())];
    for button in ["resend", "cancel"] {
        assert_eq!(looks.post(&format!("{message}/{button}"), &form).await.status(), StatusCode::FORBIDDEN);
    }
}

async fn a_time_range_is_one_click_away(world: World) {
    seeded(&world).await;
    let browser = world.sign_in().await;
    let page = browser.page("/deliveries?status=failed&since=2026-01-01&until=5m&after=x").await;
    for (name, href) in [
        ("15 min", "/deliveries?status=failed&since=15m"),
        ("7 d", "/deliveries?status=failed&since=7d"),
        ("Any time", "/deliveries?status=failed"),
    ] {
        assert_eq!(link(&page, name).as_deref(), Some(href), "{name}");
    }
    assert!(page.contains("<a href=\"#f-since\" aria-current=\"true\">Custom</a>"), "{page}");
    let page = browser.page("/deliveries?since=1h").await;
    assert!(
        page.contains("since=1h\" aria-current=\"true\">1 h</a>") && page.contains("<a href=\"#f-since\">Custom</a>")
    );
    assert_eq!(listed(&browser.page("/deliveries?since=15m").await), "a.5");
}

/// An export has the rows of the list, whatever its filters.
async fn a_list_is_exported_as_it_is_shown(world: World) {
    let (acme, globex, endpoint) = seeded(&world).await;
    let described =
        EndpointSpec { description: "=HYPERLINK(\"https://evil.example\")".into(), ..endpoint.spec.clone() };
    world.store.update_endpoint(&world.tenant(), &endpoint, described, world.now).await.unwrap();
    let browser = world.sign_in().await;
    let export = async |browser: &Browser<'_>, path: &str| {
        let response =
            world.request(reqwest::Method::GET, path).header("cookie", &browser.cookie).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let file = response.headers()["content-disposition"].to_str().unwrap().to_owned();
        (kind, file, response.text().await.unwrap())
    };
    let page = browser.page("/deliveries?status=failed").await;
    let (kind, file, csv) = export(&browser, &link(&page, "CSV").unwrap()).await;
    assert!(kind.starts_with("text/csv") && file.starts_with("attachment; filename=\"deliveries-"), "{kind} {file}");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("acceptedAt,messageId,eventType,application,"), "{csv}");
    let types: Vec<&str> = lines[1..].iter().map(|line| line.split(',').nth(2).unwrap()).collect();
    assert_eq!(types, ["c.4", "a.3", "b.2"], "{csv}");
    assert!(lines[2].contains(",dead,1,") && lines[2].contains(",404,"), "{csv}");
    assert!(csv.contains("\"'=HYPERLINK(\"\"https://evil.example\"\")\""), "a formula is text: {csv}");
    let (kind, _, lines) = export(&browser, &link(&page, "JSON Lines").unwrap()).await;
    let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((kind.as_str(), rows.len(), &rows[0]["eventType"]), ("application/x-ndjson", 3, &"c.4".into()));
    assert_eq!(rows[0]["endpointUrl"], "https://a.example/hook");
    let (_, _, lines) = export(&browser, "/messages.jsonl?type=a.1&type=b.2").await;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let (_, _, lines) = export(&browser, &format!("/applications/{globex}/messages.csv")).await;
    assert!(lines.lines().count() == 2 && lines.contains("evt-5"), "{lines}");
    let (status, _) = browser.get("/deliveries.csv?app=nobody").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // A customer has their own rows, and only the lists that they see.
    let visitor = visitor(&world, globex, None).await;
    let (_, _, lines) = export(&visitor, &format!("/portal/deliveries.csv?app={acme}")).await;
    assert!(lines.lines().count() == 2 && lines.contains("a.5"), "{lines}");
    let app = world.app("Hooli").await;
    let only =
        |page| PortalOptions { pages: Some(vec![page]), ..PortalOptions::all(world.now.plus(MINUTE * 60).micros()) };
    use sendoff::domain::access::portal::PortalPage;
    for (page, opens) in [(PortalPage::Deliveries, "deliveries"), (PortalPage::Messages, "messages")] {
        let looks = world.portal_session_with(&app, only(page)).await;
        for list in ["deliveries", "messages"] {
            let request = world.request(reqwest::Method::GET, &format!("/portal/{list}.csv"));
            let status = request.header("cookie", &looks.cookie).send().await.unwrap().status();
            assert_eq!(status == StatusCode::OK, list == opens, "{list} {status}");
        }
    }
}

async fn rows_are_selected_and_resent(world: World) {
    let (acme, _, endpoint) = seeded(&world).await;
    let browser = world.sign_in().await;
    let page = browser.page("/deliveries").await;
    let keys: Vec<&str> =
        page.split("name=\"row\" value=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(keys.len(), 5, "{page}");
    // The second and the fourth: c.4 retries, b.2 too; a.3 between them does not belong.
    let query = format!("row={}&row={}", keys[1], keys[3]);
    assert_eq!(listed(&browser.page(&format!("/deliveries?{query}")).await), "c.4 b.2");
    let chosen = browser.page(&format!("/resend?{query}")).await;
    assert!(chosen.contains(">Resend 2 deliveries</button>"), "{}", words(&chosen));
    assert!(words(&chosen).contains("2 selected deliveries") && words(&chosen).contains("Selected: 2 deliveries"));
    let form: Vec<(&str, String)> = ["csrf", "once"].into_iter().map(|name| (name, field(&chosen, name))).collect();
    let rows = [("row", keys[1].to_owned()), ("row", keys[3].to_owned())];
    let response = browser.post("/resend", &[form, rows.to_vec()].concat()).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let now = sendoff::domain::time::Clock.now();
    let turn = world.store.lease_background(now).await.unwrap().unwrap();
    world.store.step_background(turn, now).await.unwrap();
    let job = browser.page(location(&response)).await;
    assert!(words(&job).contains("Resent 2 deliveries"), "{}", words(&job));
    for (query, why) in [("row=x", "Select up to 50 rows"), (&"row=x&".repeat(60), "Select up to 50 rows")] {
        let (status, page) = browser.get(&format!("/resend?{query}")).await;
        assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains(why), "{query}: {page}");
    }
    // Another organization's or application's rows are nobody else's to resend.
    let visitor = visitor(&world, world.app("Hooli").await.id, None).await;
    assert!(words(&visitor.page(&format!("/portal/resend?{query}")).await).contains("Nothing to resend"));
    let looks = self::visitor(&world, acme, Some(vec![Capability::ViewBase])).await;
    assert!(!looks.page("/portal/deliveries").await.contains("name=\"row\""), "{}", endpoint.id);
}

async fn an_account_keeps_views_under_names(world: World) {
    seeded(&world).await;
    let by_link = world.sign_in().await;
    assert!(!by_link.page("/deliveries?status=dead").await.contains("Save view"), "without an account there is none");
    crate::passwords::account(&world, "anna", None).await;
    let browser = crate::passwords::signed_in(&world, "anna").await;
    assert!(!browser.page("/deliveries").await.contains("Save view"), "no filter is set");
    let list = "/deliveries?status=dead&since=24h";
    let saved = browser
        .submit(
            list,
            "/views",
            &[("list", "deliveries"), ("query", "status=dead&since=24h&odd=1"), ("name", " Dead <today> ")],
        )
        .await;
    assert_eq!(location(&saved), "/deliveries?status=dead&since=24h&notice=view-saved");
    let page = browser.page("/deliveries").await;
    assert_eq!(
        link(&page, "Dead &lt;today&gt;").or_else(|| link(&page, "<bdi>Dead &#60;today&#62;</bdi>")).as_deref(),
        Some(list),
        "{page}"
    );
    assert!(!browser.page("/messages").await.contains("today"), "it is of the other list");
    let page = browser.page(list).await;
    assert!(page.contains("Delete view") && !page.contains("Save view"), "{page}");
    let deleted = browser.submit(list, "/views/delete", &[("name", "Dead <today>"), ("back", list)]).await;
    assert!(location(&deleted).ends_with("notice=view-deleted"));
    assert!(browser.page(list).await.contains("Save view"));
    for (name, query) in [("", "status=dead"), ("x", ""), ("x", "odd=1")] {
        let refused = browser.submit(list, "/views", &[("list", "messages"), ("query", query), ("name", name)]).await;
        assert!(location(&refused).ends_with("notice=view-not-saved"), "{name} {query}: {}", location(&refused));
    }
}
