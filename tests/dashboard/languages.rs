//! The portal in German: its texts come from one catalog, and what customers and teams wrote stays as it is.

use std::collections::{BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use sendoff::domain::Uid;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::deliveries::attempt::Failure;
use serde_json::json;

use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, field, retry, set_cookie};

on_both! {
    the_browser_s_language_counts_until_another_is_chosen
    every_text_of_the_portal_is_in_the_catalog
    every_error_of_a_form_is_in_the_catalog
}

async fn in_language(customer: &Browser<'_>, path: &str, language: &str) -> String {
    let request = customer.world.request(Method::GET, path).header("cookie", &customer.cookie);
    let response = request.header("accept-language", language).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.text().await.unwrap()
}

/// The page that answers a form in a language, and its status.
async fn posted(customer: &Browser<'_>, path: &str, form: &[(&str, String)], language: &str) -> (StatusCode, String) {
    let request = customer.world.post(path, form).header("cookie", &customer.cookie);
    let response = request.header("accept-language", language).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
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
        for attribute in [" aria-label=\"", " placeholder=\"", " data-label=\"", " data-counted=\"", " data-confirm=\""]
        {
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
    check_texts(&pages);
}

/// What the catalog has, and what is alike in both languages: names and units.
struct Catalog {
    texts: HashSet<&'static str>,
    /// Words of the English texts that no German text has.
    english: HashSet<String>,
}

const ALIKE: [&str; 46] = [
    "ms",
    "in",
    "xx",
    "go",
    "hmac",
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
];

fn words_of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| word.chars().count() > 1).map(str::to_lowercase)
}

impl Catalog {
    fn read() -> Catalog {
        let rows = include_str!("../../src/dashboard/portal/texts.tsv").lines().skip(1);
        let rows: Vec<(&str, &str)> = rows.filter_map(|line| line.split_once('\t')).collect();
        let german: HashSet<String> = rows.iter().flat_map(|(_, german)| words_of(german)).collect();
        let english = rows.iter().flat_map(|(english, _)| words_of(english));
        let english = english.filter(|word| !german.contains(word) && !ALIKE.contains(&word.as_str())).collect();
        Catalog { texts: rows.iter().map(|(english, _)| *english).collect(), english }
    }
}

/// Every text is in the catalog, and none is left in English, not even in part.
fn check_texts(pages: &[(String, String, String)]) {
    let catalog = Catalog::read();
    let mut missing = BTreeSet::new();
    for (path, english, german) in pages {
        let (english, german) = (texts(english), texts(german));
        assert_eq!(english.len(), german.len(), "{path}: the same elements in both languages");
        for (english, german) in english.iter().zip(&german).filter(|(_, german)| !german.starts_with("https://")) {
            let alike = words_of(english).all(|word| ALIKE.contains(&word.as_str()));
            let status =
                english.split_once(' ').is_some_and(|(code, _)| code.len() == 3 && code.parse::<u16>().is_ok());
            if english == german && !alike && !status && !catalog.texts.contains(english.as_str()) {
                missing.insert(format!("{english}   ({path})"));
            }
            let quoted = german.split('"').step_by(2).collect::<String>();
            let left: Vec<String> = words_of(&quoted).filter(|word| catalog.english.contains(word)).collect();
            if english != german && !left.is_empty() {
                missing.insert(format!("{german}   ({path}): {left:?} is English"));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "not in src/dashboard/portal/texts.tsv:\n{}",
        missing.into_iter().collect::<Vec<_>>().join("\n")
    );
}

/// The errors that the forms of the portal answer with: every form, and every reason that a field can have.
async fn every_error_of_a_form_is_in_the_catalog(world: World) {
    let acme = world.app("Acme").await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let taken = EndpointSpec { uid: Some(Uid::parse("uid", "taken", "ep_").unwrap()), ..spec_of("https://a.example/") };
    world.endpoint_with(&acme, taken).await;
    let headers = [("Authorization".to_owned(), "x".to_owned())].into();
    let one = world.endpoint_with(&acme, EndpointSpec { headers, ..spec_of("https://b.example/") }).await;
    let off = world.endpoint_with(&acme, EndpointSpec { disabled: true, ..spec_of("https://c.example/") }).await;
    let message = world.message(&acme, "a.b", "{}", world.now).await;
    world
        .store
        .put_event_type(&world.tenant(), EventTypeSpec { name: "a.b".into(), ..EventTypeSpec::default() }, world.now)
        .await
        .unwrap();
    let csrf = field(&customer.page("/portal/endpoints/new").await, "csrf");
    let pull = [("csrf", csrf.clone()), ("uid", "pull".to_owned())];
    assert_eq!(customer.post("/portal/polling/new", &pull).await.status(), StatusCode::OK);

    let long = |length: usize| "x".repeat(length);
    let many =
        |line: &str, count: usize| (0..count).map(|n| line.replace('#', &n.to_string())).collect::<Vec<_>>().join("\n");
    let key = |bytes: usize| STANDARD.encode(vec![7; bytes]);
    // The fields of an endpoint, with values that are refused.
    let endpoint: Vec<(&str, Vec<String>)> = vec![
        (
            "url",
            [
                "",
                "no",
                "https://",
                "https://[::",
                "https://1.2.3.999/",
                "https://a.example:99999/",
                "ftp://a.example/",
                "https://u:p@a.example/",
                "https://a.example:0/",
                "https://10.0.0.1/",
                "https://0.1.2.3/",
                "https://0.0.0.0/",
                "https://100.64.0.1/",
                "https://168.63.129.16/",
                "https://169.254.1.1/",
                "https://192.0.0.1/",
                "https://192.0.2.1/",
                "https://192.88.99.1/",
                "https://198.18.0.1/",
                "https://224.0.0.1/",
                "https://255.255.255.255/",
                "https://240.0.0.1/",
                "https://[::1]/",
                "https://[::]/",
                "https://[::ffff:10.0.0.1]/",
                "https://[64:ff9b::a00:1]/",
                "https://[64:ff9b:1::1]/",
                "https://[100::1]/",
                "https://[5f00::1]/",
                "https://[fc00::1]/",
                "https://[fe80::1]/",
                "https://[fec0::1]/",
                "https://[ff02::1]/",
                "https://[::1:1]/",
                "https://[2001::1]/",
                "https://[2001:2::1]/",
                "https://[2001:5::1]/",
                "https://[2001:db8::1]/",
                "https://[2002::1]/",
                "https://[3fff::1]/",
                "https://[4000::1]/",
                "https://[2606:4700::5efe:10.0.0.1]/",
                "https://xn--0.example/",
                "https://a b.example/",
                "mailto:x",
            ]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("https://a.example/{}", long(3_000)), format!("https://{}.example/", long(70))])
            .collect(),
        ),
        ("description", vec![long(5_000), "\0".into()]),
        ("uid", vec!["taken".into(), "a b".into(), long(300), "ep_1".into()]),
        ("eventTypes", vec!["x.y".into(), "a b".into(), long(300), many("x#", 1_200)]),
        ("channels", vec!["ü".into(), long(300), many("x#", 11)]),
        ("throttleRate", vec!["x".into(), "0".into(), "70000".into()]),
        ("requestTimeoutSeconds", vec!["x".into(), "31".into()]),
        (
            "retrySchedule",
            vec!["x".into(), "5".into(), "5x".into(), "99999999999999999999s".into(), "9999d".into(), many("1s,", 21)],
        ),
        (
            "headers",
            vec![
                "x".into(),
                "x-a:".into(),
                "x-a: 1\nX-A: 2".into(),
                "a b: 1".into(),
                "webhook-id: 1".into(),
                format!("x: {}", long(5_000)),
                "x: ü".into(),
                format!("{}: 1", long(300)),
                many("x-#: 1", 60),
            ],
        ),
        (
            "extraSignatures",
            vec![
                "x".into(),
                many("github x-#", 5),
                "github webhook-id".into(),
                "github x-a\nstripe x-a".into(),
                "svix\nsvix".into(),
            ],
        ),
        ("signatureType", vec!["x".into()]),
        (
            "secret",
            vec![
                "x".into(),
                "whpk_x".into(),
                format!("whsec_{}", key(3)),
                format!("whsk_{}", key(3)),
                format!("whsk_{}", key(64)),
                format!("whsk_{}", key(32)),
            ],
        ),
    ];
    let path = |what: &str| format!("/portal/endpoints/{}/{what}", one.id);
    let mut forms: Vec<(String, Vec<(&str, String)>)> = Vec::new();
    for (name, values) in &endpoint {
        for value in values {
            let url = ("url", "https://8.8.8.8/".to_owned());
            let fields = if *name == "url" { vec![] } else { vec![url] };
            forms.push(("/portal/endpoints/new".into(), fields.into_iter().chain([(*name, value.clone())]).collect()));
        }
    }
    let ed25519 = [("signatureType", "ed25519".to_owned()), ("url", "https://8.8.8.8/".into())];
    let with = |more: (&'static str, String)| ed25519.iter().cloned().chain([more]).collect::<Vec<_>>();
    forms.push(("/portal/endpoints/new".into(), with(("secret", format!("whsec_{}", key(32))))));
    forms.push(("/portal/endpoints/new".into(), with(("extraSignatures", "github x-a".into()))));
    let moved = vec![
        ("seen", one.updated_at.micros().to_string()),
        ("url", "https://8.8.4.4/".into()),
        ("headers", "Authorization:".into()),
    ];
    forms.push((path("edit"), moved));
    forms.push((path("edit"), vec![("url", "https://8.8.8.8/".into()), ("seen", "1".into())]));
    for grace in ["x", "5", "5x", "99d"] {
        forms.push((path("rotate"), vec![("gracePeriod", grace.to_owned()), ("key", "x".into())]));
    }
    forms.push((path("rotate"), vec![("key", format!("whsk_{}", key(32)))]));
    forms.push((path("test"), vec![("eventType", "x.y".into())]));
    forms.push((format!("/portal/endpoints/{}/test", off.id), vec![("eventType", "a.b".into())]));
    for name in ["uid", "eventTypes", "channels"] {
        let (_, values) = endpoint.iter().find(|(other, _)| *other == name).unwrap();
        for value in values.iter().filter(|value| *value != "taken" && *value != "ep_1") {
            forms.push(("/portal/polling/new".into(), vec![(name, value.clone())]));
        }
    }
    forms.push(("/portal/polling/new".into(), vec![("uid", "pull".into())]));
    forms.push(("/portal/polling/new".into(), vec![("uid", "poll_1".into())]));
    forms.push(("/portal/polling/pull/edit".into(), vec![("seen", "1".into())]));
    forms.push(("/portal/polling/pull/token".into(), vec![("life", "x".into())]));
    for (name, value) in [
        ("since", "x"),
        ("status", "x"),
        ("class", "x"),
        ("type", "a b"),
        ("endpoint", "none"),
        ("row", "x"),
        ("resend", "x"),
    ] {
        forms.push(("/portal/resend".into(), vec![(name, value.into())]));
    }
    forms.push(("/portal/resend".into(), vec![]));
    forms.push(("/portal/resend".into(), vec![("status", "missing".into()), ("endpoint", off.id.to_string())]));
    forms.push(("/portal/cancel".into(), vec![]));
    forms.push((format!("/portal/messages/{}/resend", message.id), vec![]));
    forms.push((format!("/portal/messages/{}/cancel", message.id), vec![]));

    let mut pages = Vec::new();
    for (path, form) in &forms {
        let form: Vec<(&str, String)> = [("csrf", csrf.clone())].into_iter().chain(form.iter().cloned()).collect();
        let ((status, english), (_, german)) =
            (posted(&customer, path, &form, "en").await, posted(&customer, path, &form, "de").await);
        assert!(status.is_client_error(), "{path} {form:?} is refused, but was {status}");
        crate::html::check(&german, path);
        assert!(
            !english.to_lowercase().replace("sendoff_", "").contains("sendoff"),
            "{path} {form:?}: the product's name"
        );
        pages.push((
            format!("{path} {:?}", form.last().map(|(name, value)| (name, value.chars().take(40).collect::<String>()))),
            english,
            german,
        ));
    }
    // Filters, and pages that there are not.
    for path in [
        "/portal/deliveries?since=x&until=x&status=x&class=x&type=a%20b&endpoint=none",
        "/portal/deliveries?since=1h&until=2h",
        "/portal/messages?since=x&type=a%20b",
        "/portal/resend?since=x",
        "/portal/resend?since=2999-01-01&status=dead",
        "/portal/tail?endpoint=none",
        "/portal/deliveries.csv?since=x",
        "/portal/none",
        "/portal/endpoints/x",
        "/portal/endpoints/new?x",
        "/portal/enter/x",
    ] {
        let get = async |language: &str| {
            let request = world.request(Method::GET, path).header("cookie", &customer.cookie);
            request.header("accept-language", language).send().await.unwrap().text().await.unwrap()
        };
        pages.push((path.to_owned(), get("en").await, get("de").await));
    }
    // Every form without its token, and for a customer who may only look.
    let looks = world.portal_session(&acme, Some(&[]), &[]).await;
    let table = include_str!("access.txt")
        .lines()
        .filter_map(|line| line.strip_prefix("POST   "))
        .filter_map(|line| line.split_whitespace().next());
    for route in table.filter(|route| route.starts_with("/portal") && !route.ends_with("/leave")) {
        let path = route
            .replace("{endpoint}", &one.id.to_string())
            .replace("{poller}", "pull")
            .replace("{message}", &message.id.to_string());
        let path = path.replace("{work}", "qtask_none").replace("{code}", "none");
        for (browser, form) in
            [(&customer, vec![]), (&looks, vec![("csrf", field(&looks.page("/portal").await, "csrf"))])]
        {
            let ((status, english), (_, german)) =
                (posted(browser, &path, &form, "en").await, posted(browser, &path, &form, "de").await);
            if status.is_client_error() {
                pages.push((path.clone(), english, german));
            }
        }
        let fields =
            !["/disable", "/enable", "/delete", "/secret", "/preferences", "/enter/{code}", "/resend/{work}/cancel"]
                .iter()
                .any(|end| route.ends_with(end));
        let of_route = |path: &str| {
            path.split('/').count() == route.split('/').count()
                && path.split('/').zip(route.split('/')).all(|(part, of)| of.starts_with('{') || of == part)
        };
        assert!(!fields || forms.iter().any(|(path, _)| of_route(path)), "{route}: a form whose errors are not tried");
    }
    check_texts(&pages);
}

fn spec_of(url: &str) -> EndpointSpec {
    EndpointSpec { url: url.into(), ..EndpointSpec::default() }
}
