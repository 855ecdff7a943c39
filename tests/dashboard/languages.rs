//! The portal in German: its texts come from one catalog, and what customers and teams wrote stays as it is.

use std::collections::{BTreeSet, HashSet};

use reqwest::{Method, StatusCode};
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::attempt::Failure;
use serde_json::json;

use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, field, retry, set_cookie};

on_both! {
    the_browser_s_language_counts_until_another_is_chosen
    every_text_of_the_portal_is_in_the_catalog
}

async fn in_language(customer: &Browser<'_>, path: &str, language: &str) -> String {
    let request = customer.world.request(Method::GET, path).header("cookie", &customer.cookie);
    let response = request.header("accept-language", language).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.text().await.unwrap()
}

async fn the_browser_s_language_counts_until_another_is_chosen(world: World) {
    let acme = world.app("Acme").await;
    let spec = EndpointSpec {
        description: "Overview".into(),
        url: "https://a.example/Settings".into(),
        ..EndpointSpec::default()
    };
    let endpoint = world.endpoint_with(&acme, spec).await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let english = in_language(&customer, "/portal", "fr, en;q=0.5, de;q=0.3").await;
    assert!(english.contains("<html lang=\"en\"") && english.contains(">Overview</a>"), "{english}");
    let german = in_language(&customer, "/portal", "de-CH").await;
    crate::html::check(&german, "/portal");
    assert!(german.contains("<html lang=\"de\"") && german.contains(">Übersicht</a>"), "{german}");
    assert!(german.contains("<bdi>Overview</bdi>") && german.contains("/Settings"), "{german}");
    assert!(german.contains("value=\"de\" lang=\"de\">Deutsch</button>"), "{german}");
    // A page that there is not, and one without a session.
    for path in ["/portal/none", "/portal/left"] {
        let request = world.request(Method::GET, path).header("cookie", &customer.cookie);
        let page = request.header("accept-language", "de").send().await.unwrap().text().await.unwrap();
        assert!(page.contains("<html lang=\"de\""), "{path}: {page}");
    }
    let choice = [("csrf", field(&german, "csrf")), ("language", "en".to_owned()), ("back", "/portal".to_owned())];
    let chosen = customer.post("/portal/preferences", &choice).await;
    let cookie = set_cookie(&chosen).split(';').next().unwrap().to_owned();
    assert!(cookie.ends_with(".local.en"), "{cookie}");
    let chooser = Browser { world: &world, cookie: format!("{}; {cookie}", customer.cookie) };
    let page = in_language(&chooser, "/portal", "de").await;
    assert!(
        page.contains("<html lang=\"en\"") && page.contains("value=\"en\" lang=\"en\" aria-pressed=\"true\""),
        "{page}"
    );
    // A theme that is chosen later keeps the language.
    let themed = chooser.post("/portal/preferences", &[("theme", "dark".to_owned())]).await;
    assert!(set_cookie(&themed).contains("=dark.local.en;"), "{}", set_cookie(&themed));
    // The dashboard is in English.
    let operator = world.sign_in().await;
    let page = in_language(&operator, &format!("/applications/{}/endpoints/{}", acme.id, endpoint.id), "de").await;
    assert!(page.contains("<html lang=\"en\"") && !page.contains("Deutsch"), "{page}");
}

/// Texts of a page: what stands between tags and in some attributes, but not in elements with text of others.
fn texts(html: &str) -> Vec<String> {
    const KEPT: [&str; 6] = ["bdi", "code", "pre", "textarea", "script", "style"];
    let (mut found, mut rest, mut kept): (_, _, Vec<&str>) = (Vec::new(), html, Vec::new());
    let whole = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    while let Some((text, tail)) = rest.split_once('<') {
        if kept.is_empty() {
            found.push(whole(text));
        }
        let (tag, after) = tail.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
        for attribute in [" aria-label=\"", " placeholder=\""] {
            if let Some((_, value)) = tag.split_once(attribute).filter(|_| kept.is_empty()) {
                found.push(whole(value.split('"').next().unwrap()));
            }
        }
        if KEPT.contains(&name) {
            match tag.strip_prefix('/') {
                Some(_) => drop(kept.pop()),
                None => kept.push(name),
            }
        }
        // An id is in parts.
        rest = match tag.starts_with("span class=\"id\"") {
            true => after.split_once("</span></span>").map_or(after, |(_, rest)| rest),
            false => after,
        };
    }
    found
}

/// Every page of the portal, with something of everything on it: a text that is the same in both languages is in the catalog.
async fn every_text_of_the_portal_is_in_the_catalog(world: World) {
    let acme = world.app("Acme").await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let empty = [
        "/portal",
        "/portal/endpoints",
        "/portal/messages",
        "/portal/deliveries",
        "/portal/event-types",
        "/portal/polling",
        "/portal/resend",
    ];
    let mut pages = Vec::new();
    for path in empty {
        pages.push((
            path.to_owned(),
            in_language(&customer, path, "en").await,
            in_language(&customer, path, "de").await,
        ));
    }
    let schema = json!({"type": "object", "properties": {"amount": {"type": "number"}}, "examples": [{"amount": 1}]});
    let mut spec = EventTypeSpec { name: "a.b".into(), description: "ü".into(), ..EventTypeSpec::default() };
    spec.schemas = Some(serde_json::Map::from_iter([("1".to_owned(), schema)]));
    world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
    let one = world.endpoint(&acme, "https://a.example/").await;
    let off = EndpointSpec { url: "https://b.example/".into(), disabled: true, ..EndpointSpec::default() };
    let off = world.endpoint_with(&acme, off).await;
    let bad = world.endpoint(&acme, "https://c.example/").await;
    let mut messages = Vec::new();
    for n in 0..5u32 {
        let at = world.ago(MINUTE * (n + 2));
        let message = world.message(&acme, "a.b", "{\"amount\": 1}", at).await;
        let due = world.now.plus(MINUTE * 9);
        let tries = match n {
            0 => vec![],
            1 => vec![Try::delivered(at, 9)],
            2 => vec![Try::answered(at, 500, "", retry(due, 1))],
            3 => vec![Try::failed(at, Failure::Timeout, "no response", 900, dead())],
            _ => vec![Try::answered(at, 500, "", retry(at, 1)), Try::answered(at, 500, "", dead())],
        };
        world.tries(&message, &one, tries).await;
        let failed = Try::failed(at, Failure::Refused, "refused", 1, retry(due, 1)).resting_until(due);
        world.tries(&message, &bad, [failed]).await;
        messages.push(message.id);
    }
    world.store.cancel(&world.tenant(), acme.id, (messages[0], one.id), world.now).await.unwrap();
    let app = customer.page("/portal/resend?status=dead").await;
    let job = customer.post("/portal/resend", &[("csrf", field(&app, "csrf")), ("status", "dead".into())]).await;
    let job = crate::world::location(&job).to_owned();
    let form = customer.page("/portal/polling/new").await;
    let polling = [("csrf", field(&form, "csrf")), ("uid", "pull".to_owned())];
    assert_eq!(customer.post("/portal/polling/new", &polling).await.status(), StatusCode::OK);
    let rows = format!("row={}.{}&row={}.{}", messages[2], one.id, messages[1], one.id);
    let mut paths: Vec<String> = [
        "/portal?range=1h",
        "/portal?range=7d",
        "/portal/endpoints",
        "/portal/endpoints/new",
        "/portal/messages",
        "/portal/messages?q=nothing",
        "/portal/deliveries",
        "/portal/deliveries?status=dead",
        "/portal/deliveries?status=failed",
        "/portal/deliveries?status=retrying",
        "/portal/deliveries?status=canceled",
        "/portal/deliveries?status=dead&q=nothing",
        "/portal/event-types",
        "/portal/event-types/a.b",
        "/portal/polling",
        "/portal/polling/new",
        "/portal/polling/pull",
        "/portal/polling/pull/edit",
        "/portal/polling/pull/delete",
        "/portal/polling/pull/token",
        "/portal/tail",
        "/portal/resend",
        "/portal/resend?status=dead",
        "/portal/resend?status=pending",
        "/portal/resend?status=missing",
        "/portal/endpoints?q=none",
        "/portal/left",
    ]
    .map(str::to_owned)
    .into();
    paths.extend([job, format!("/portal/cancel?{rows}")]);
    for endpoint in [one.id, off.id, bad.id] {
        let path = format!("/portal/endpoints/{endpoint}");
        paths.extend([
            path.clone(),
            format!("{path}/edit"),
            format!("{path}/rotate"),
            format!("{path}/delete"),
            format!("{path}?notice=created"),
        ]);
    }
    paths.extend(messages.iter().map(|id| format!("/portal/messages/{id}")));
    for path in paths {
        let (english, german) = (in_language(&customer, &path, "en").await, in_language(&customer, &path, "de").await);
        crate::html::check(&german, &path);
        pages.push((path, english, german));
    }
    let catalog: HashSet<&str> = include_str!("../../src/dashboard/portal/texts.tsv")
        .lines()
        .filter_map(|line| Some(line.split_once('\t')?.0))
        .collect();
    // Names, units and what is written alike everywhere.
    let alike = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 2);
        words.map(str::to_ascii_lowercase).all(|word| {
            [
                "utc",
                "min",
                "http",
                "https",
                "english",
                "deutsch",
                "acme",
                "python",
                "javascript",
                "ruby",
                "php",
                "java",
                "rust",
                "openssl",
                "curl",
                "json",
                "csv",
                "lines",
                "post",
                "org",
                "svix",
                "msg",
                "poll",
                "typescript",
                "bytes",
                "jan",
                "feb",
                "mar",
                "apr",
                "may",
                "jun",
                "jul",
                "aug",
                "sep",
                "oct",
                "nov",
                "dec",
                "live",
                "number",
                "pull",
                "kib",
            ]
            .contains(&&*word)
        })
    };
    let mut missing = BTreeSet::new();
    for (path, english, german) in &pages {
        let (english, german) = (texts(english), texts(german));
        assert_eq!(english.len(), german.len(), "{path}: the same elements in both languages");
        for (text, _) in english.iter().zip(&german).filter(|(one, other)| one == other) {
            let address = text.starts_with("https://");
            if !address && !catalog.contains(text.as_str()) && !alike(text) {
                missing.insert(format!("{text}   ({path})"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in src/dashboard/portal/texts.tsv:\n{}",
        missing.into_iter().collect::<Vec<_>>().join("\n")
    );
}
