//! The customers' portal: how one gets in and out, what is there for whom, how it looks, and who may embed it.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use sendoff::domain::access::api_key;
use sendoff::domain::access::portal::{Capability, PortalLink, PortalOptions, PortalPage};
use sendoff::domain::access::theme::{Theme, ThemeMode};
use sendoff::domain::catalog::application::Application;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::deliveries::attempt::Failure;
use sendoff::domain::signing::signature::{ExtraSignature, KeyForm};

use crate::support::on_both;
use crate::support::pages::{Page, pages};
use crate::world::{Browser, MINUTE, Try, World, at, dead, field, framed, location, set_cookie};

on_both! {
    a_link_is_used_up_by_its_button_and_opens_one_application
    a_portal_session_has_the_pages_and_theme_of_its_options
    read_only_sessions_have_no_buttons_and_every_post_is_rejected
    a_portal_session_ends_with_its_time_or_its_application
    a_theme_is_there_before_one_enters_and_gives_way_to_the_customer_s_choice
    a_list_of_deliveries_leads_to_messages_also_where_they_have_no_list_of_their_own
    an_operator_sees_open_sessions_and_ends_one
    resends_and_the_live_view_are_found_and_a_state_is_the_same_everywhere
    an_operator_makes_a_link_that_is_good_once
    no_page_of_the_portal_names_us_or_a_setting_of_ours
    a_link_opens_at_an_endpoint
    the_first_endpoint_is_four_steps_away
    a_form_has_five_fields_and_the_rest_below_advanced
    signatures_are_explained_by_the_names_of_the_headers
}

/// The path of a link into the portal of `app`.
async fn link(world: &World, app: &Application, options: PortalOptions) -> String {
    let code = api_key::random_text();
    let link = PortalLink { org: app.org.clone(), app_id: app.id, options, expires_at: world.now.plus(MINUTE * 15) };
    world.store.add_portal_link(&api_key::hash(&code), &link, world.now).await.unwrap();
    format!("/portal/enter/{}", *code)
}

fn hour(world: &World) -> PortalOptions {
    PortalOptions::all(world.now.plus(MINUTE * 60).micros())
}

async fn a_link_is_used_up_by_its_button_and_opens_one_application(world: World) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let mine = world.endpoint(&acme, "https://a.example/hook").await;
    let theirs = world.endpoint(&globex, "https://b.example/hook").await;
    let secret = world.message(&globex, "a.b", "{}", world.now).await;
    let path = link(&world, &acme, hour(&world)).await;
    for method in [Method::GET, Method::HEAD, Method::GET] {
        let response = world.request(method, &path).send().await.unwrap();
        assert_eq!((response.status(), set_cookie(&response)), (StatusCode::OK, String::new()));
    }
    let page = world.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    crate::html::check(&page, &path);
    assert!(page.contains("Acme") && page.contains("data-enter"), "{page}");
    let wrong = world.post(&path, &[("csrf", "A".repeat(43))]).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    let form = [("csrf", field(&page, "csrf")), ("next", "//evil.example".to_owned())];
    let response = world.post(&path, &form).send().await.unwrap();
    assert_eq!((response.status(), location(&response)), (StatusCode::SEE_OTHER, "/portal"));
    let cookie = set_cookie(&response);
    for part in ["sendoff_portal=", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let again = world.post(&path, &form).send().await.unwrap();
    assert_eq!((again.status(), set_cookie(&again)), (StatusCode::UNAUTHORIZED, String::new()));

    let visitor = Browser { world: &world, cookie: cookie.split(';').next().unwrap().to_owned() };
    let home = visitor.page("/portal").await;
    assert!(home.contains("a.example") && home.contains("In the last 24 hours"), "{home}");
    assert!(!home.contains("b.example") && !home.contains("Globex"), "{home}");
    assert_eq!(visitor.get(&format!("/portal/endpoints/{}", mine.id)).await.0, StatusCode::OK);
    for path in [
        format!("/portal/endpoints/{}", theirs.id),
        format!("/portal/messages/{}", secret.id),
        "/portal/applications".to_owned(),
        "/portal/keys".to_owned(),
    ] {
        assert_eq!(visitor.get(&path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    // A portal session is no operator's session, and the other way round.
    assert_eq!(visitor.get("/").await.0, StatusCode::SEE_OTHER);
    let operator = world.sign_in().await;
    assert_eq!(operator.get("/portal").await.0, StatusCode::UNAUTHORIZED);

    let left = visitor.post("/portal/leave", &[("csrf", field(&home, "csrf"))]).await;
    assert_eq!((left.status(), location(&left)), (StatusCode::SEE_OTHER, "/portal/left"));
    assert_eq!(visitor.get("/portal").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn over_tls_the_cookie_goes_along_into_a_frame_and_is_kept_apart_there() {
    let world = framed("https://hooks.example.com", &["https://app.example.com"]).await;
    let acme = world.app("Acme").await;
    let path = link(&world, &acme, hour(&world)).await;
    let ask = |method: Method, path: &str| world.request(method, path).header("host", "hooks.example.com");
    let page = ask(Method::GET, &path).send().await.unwrap();
    let header = |name: &str| page.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    assert!(header("content-security-policy").contains("frame-ancestors https://app.example.com;"));
    assert_eq!(header("x-frame-options"), "");
    let csrf = field(&page.text().await.unwrap(), "csrf");
    let entered = ask(Method::POST, &path)
        .header("origin", "https://hooks.example.com")
        .header("sec-fetch-site", "same-origin")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={csrf}"))
        .send()
        .await
        .unwrap();
    let cookie = set_cookie(&entered);
    for part in ["__Host-sendoff_portal=", "HttpOnly", "Secure", "SameSite=None", "Partitioned", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    // The operators' pages are nobody else's to show.
    let login = ask(Method::GET, "/login").send().await.unwrap();
    let policy = login.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(login.headers()["x-frame-options"], "DENY");
    let unframed = at("http://localhost").await;
    let page = unframed.request(Method::GET, "/portal").send().await.unwrap();
    assert_eq!(page.headers()["x-frame-options"], "DENY", "without origins nobody may");
}

async fn a_portal_session_has_the_pages_and_theme_of_its_options(world: World) {
    let acme = world.app("Acme").await;
    let theme = Theme {
        accent: Some("#c0ffee".parse().unwrap()),
        radius: Some(2),
        logo: Some("https://cdn.example.com/logo.svg".into()),
        mode: ThemeMode::Dark,
        ..Theme::default()
    };
    let pages = Some(vec![PortalPage::Endpoints]);
    let visitor = world.portal_session_with(&acme, PortalOptions { theme: Some(theme), pages, ..hour(&world) }).await;
    let first = visitor.get("/portal").await;
    assert_eq!(first.0, StatusCode::SEE_OTHER, "the overview is not among them");
    for path in ["/portal/messages", "/portal/deliveries", "/portal/event-types", "/portal/tail"] {
        assert_eq!(visitor.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let page = visitor.page("/portal/endpoints").await;
    assert!(page.contains("data-theme=\"dark\"") && page.contains("https://cdn.example.com/logo.svg"), "{page}");
    assert!(!page.contains("href=\"/portal/messages\""), "what is not there is not in the navigation: {page}");
    let sheet = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let sheet = sheet.into_iter().find(|href| href.starts_with("/portal/theme.css")).expect("a sheet").to_owned();
    let response = world.request(Method::GET, &sheet).header("cookie", &visitor.cookie).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/css; charset=utf-8");
    let css = response.text().await.unwrap();
    assert!(css.starts_with(":root {") && css.contains("--accent:") && css.contains("--radius: 2px;"), "{css}");
    let known = |line: &str| line.starts_with("  --") || matches!(line, ":root {" | "}");
    assert!(css.lines().all(known), "tokens and nothing else: {css}");
    let shown = world.request(Method::GET, "/portal/endpoints").header("cookie", &visitor.cookie).send().await.unwrap();
    let policy = shown.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("img-src 'self' https://cdn.example.com;"), "{policy}");

    let bare = world.portal_session_with(&acme, PortalOptions { navigation: false, ..hour(&world) }).await;
    let page = bare.page("/portal").await;
    assert!(!page.contains("<header class=\"top\">"), "no navigation of ours: {page}");
}

async fn read_only_sessions_have_no_buttons_and_every_post_is_rejected(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    let visitor = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let path = format!("/portal/messages/{}", message.id);
    let page = visitor.page(&path).await;
    assert!(!page.contains(&format!("{path}/resend")), "{page}");
    let csrf = field(&page, "csrf");
    let form = [("csrf", csrf), ("endpoint", endpoint.id.to_string())];
    for act in [
        format!("{path}/resend"),
        format!("{path}/cancel"),
        format!("/portal/endpoints/{}/disable", endpoint.id),
        format!("/portal/endpoints/{}/secret", endpoint.id),
        "/portal/endpoints/new".to_owned(),
        "/portal/resend".to_owned(),
    ] {
        assert_eq!(visitor.post(&act, &form).await.status(), StatusCode::FORBIDDEN, "{act}");
    }
    let home = visitor.page("/portal").await;
    assert!(home.contains("Latest failures") && !home.contains("Add endpoint"), "{home}");
    assert!(home.contains(&format!("href=\"{path}\"")), "a failure leads to its message: {home}");
}

/// What a page's answer says of who may embed it, and the page.
async fn framing(world: &World, path: &str, cookie: &str) -> (String, Option<String>, String) {
    let response = world.request(Method::GET, path).header("cookie", cookie).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    let ancestors = policy.split("frame-ancestors ").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    let old = response.headers().get("x-frame-options").map(|value| value.to_str().unwrap().to_owned());
    (ancestors, old, response.text().await.unwrap())
}

#[tokio::test]
async fn only_portal_pages_can_be_embedded_and_only_by_listed_origins() {
    let named = framed("http://localhost", &["https://app.example.com", "http://localhost:3000"]).await;
    let plain = at("http://localhost").await;
    for (world, wanted) in [(&named, "https://app.example.com http://localhost:3000"), (&plain, "'none'")] {
        let acme = world.app("Acme").await;
        let (entry, visitor) =
            (link(world, &acme, hour(world)).await, world.portal_session_with(&acme, hour(world)).await);
        let operator = world.sign_in().await;
        let portal = [entry.as_str(), "/portal", "/portal/nowhere", "/portal/left", "/portal/theme.css"];
        let others = ["/", "/deliveries", "/login", "/nowhere", "/portals"];
        for (path, wanted) in portal.map(|path| (path, wanted)).into_iter().chain(others.map(|path| (path, "'none'"))) {
            for cookie in [format!("{}; {}", visitor.cookie, operator.cookie), String::new()] {
                let (ancestors, old, _) = framing(world, path, &cookie).await;
                assert_eq!(ancestors, wanted, "{path}");
                assert_eq!(old.as_deref(), (wanted == "'none'").then_some("DENY"), "{path}");
            }
        }
    }
}

async fn a_portal_session_ends_with_its_time_or_its_application(world: World) {
    let acme = world.app("Acme").await;
    let over = world.portal_session_with(&acme, PortalOptions::all(world.ago(MINUTE).micros())).await;
    let visitor = world.portal_session_with(&acme, hour(&world)).await;
    assert_eq!(visitor.get("/portal").await.0, StatusCode::OK);
    world.store.delete_application(&world.tenant(), acme.id, world.now).await.unwrap();
    for browser in [over, visitor] {
        let (status, page) = browser.get("/portal").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(page.contains("Your session has ended") && !page.contains("<a "), "there is nowhere to go: {page}");
        assert!(!page.contains("Sendoff"), "a customer knows the team and not us: {page}");
    }
}

#[tokio::test]
async fn a_link_continues_to_a_page_of_its_session_until_that_ends() {
    for (public, tls) in [("http://127.0.0.1:8071", false), ("https://hooks.example.com", true)] {
        let world = at(public).await;
        let acme = world.app("Acme").await;
        let host = public.split("://").nth(1).unwrap();
        for (next, pages, wanted) in [
            ("/portal/endpoints/new?x=1", None, "/portal/endpoints/new?x=1"),
            ("https://evil.example/portal", None, "/portal"),
            ("/portal/endpoints", Some(vec![PortalPage::EventTypes, PortalPage::Messages]), "/portal/messages"),
        ] {
            let path = link(&world, &acme, PortalOptions { pages, ..hour(&world) }).await;
            let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            let page = world.request(Method::GET, &format!("{path}?{query}")).header("host", host);
            let page = page.send().await.unwrap().text().await.unwrap();
            let form = [("csrf", field(&page, "csrf")), ("next", field(&page, "next"))];
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            let enter = world.request(Method::POST, &path).header("host", host).header("origin", public);
            let enter = enter.header("content-type", "application/x-www-form-urlencoded").body(body);
            let response = enter.send().await.unwrap();
            assert_eq!(location(&response), wanted);
            let cookie = set_cookie(&response);
            let age = cookie.split("Max-Age=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
            assert!((3_500..=3_600).contains(&age.parse::<i64>().unwrap()), "until the session ends: {cookie}");
            assert_eq!(cookie.contains("Secure"), tls, "{cookie}");
            assert!(
                cookie.contains("SameSite=Lax") && !cookie.contains("Partitioned"),
                "nobody may embed it: {cookie}"
            );
        }
    }
}

async fn a_theme_is_there_before_one_enters_and_gives_way_to_the_customer_s_choice(world: World) {
    let acme = world.app("Acme \"&<b>").await;
    let logo = Some("https://cdn.example.com/logo.svg?a=\"1".to_owned());
    let accent = Some("#0b6e4f".parse().unwrap());
    let theme = Some(Theme { logo, accent, mode: ThemeMode::Dark, ..Theme::default() });
    let options = PortalOptions { theme, ..hour(&world) };
    let entry = link(&world, &acme, options.clone()).await;
    let response = world.request(Method::GET, &entry).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("img-src 'self' https://cdn.example.com;"), "{policy}");
    let page = response.text().await.unwrap();
    crate::html::check(&page, &entry);
    assert!(page.contains("data-theme=\"dark\"") && page.contains(&format!("{entry}/theme.css")), "{page}");
    for _ in 0..2 {
        let css = world.request(Method::GET, &format!("{entry}/theme.css")).send().await.unwrap();
        assert!(css.text().await.unwrap().contains("--accent: light-dark(#0b6e4f, "), "looking uses nothing up");
    }
    let visitor = world.portal_session_with(&acme, options).await;
    for (prefs, theme) in [("", "dark"), ("light.local", "light"), ("auto.local", "auto"), (".utc", "dark")] {
        let (_, _, page) = framing(&world, "/portal", &format!("{}; sendoff_prefs={prefs}", visitor.cookie)).await;
        assert!(page.contains(&format!("data-theme=\"{theme}\"")), "{prefs}: {page}");
    }
    let clock = visitor.post("/portal/preferences", &[("clock", "utc".to_owned())]).await;
    assert!(set_cookie(&clock).starts_with("sendoff_prefs=.utc;"), "who chose a clock chose no colours");
}

async fn a_list_of_deliveries_leads_to_messages_also_where_they_have_no_list_of_their_own(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    world.tries(&message, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    let path = format!("/portal/messages/{}", message.id);
    let only = |pages: &[PortalPage]| PortalOptions { pages: Some(pages.to_vec()), ..hour(&world) };
    let visitor = world.portal_session_with(&acme, only(&[PortalPage::Overview, PortalPage::Deliveries])).await;
    assert_eq!(visitor.get("/portal/messages").await.0, StatusCode::NOT_FOUND);
    assert!(visitor.page("/portal").await.contains(&path) && visitor.page(&path).await.contains("a.b"));
    let visitor = world.portal_session_with(&acme, only(&[PortalPage::Overview])).await;
    let home = visitor.page("/portal").await;
    assert!(home.contains("Latest failures") && !home.contains(&path), "named, and no link to nowhere: {home}");
    assert_eq!(visitor.get(&path).await.0, StatusCode::NOT_FOUND);
}

async fn an_operator_sees_open_sessions_and_ends_one(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let options = PortalOptions { session_id: Some("anna <b>".into()), ..hour(&world) };
    let (anna, bert) = (world.portal_session_with(&acme, options).await, world.portal_session(&acme, None, &[]).await);
    let browser = world.sign_in().await;
    let page = browser.page(&format!("/applications/{}", acme.id)).await;
    assert!(page.contains("Portal sessions") && page.contains("anna &#60;b&#62;"), "{page}");
    assert_eq!(page.matches("/end\"").count(), 2, "{page}");
    assert!(!browser.page(&format!("/applications/{}", other.id)).await.contains("Portal sessions"));
    let row = page.split("<tr>").find(|row| row.contains("anna")).unwrap();
    let end = row.split("action=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = [("csrf", field(&page, "csrf"))];
    assert_eq!(browser.post(&end, &[("csrf", "x".to_owned())]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(bert.post(&end, &form).await.status(), StatusCode::SEE_OTHER, "a customer is sent to sign in");
    let elsewhere = end.replace(&acme.id.to_string(), &other.id.to_string());
    let answer = browser.post(&elsewhere, &form).await;
    assert!(location(&answer).contains("notice=session-over"), "another application's");
    assert_eq!(
        anna.world.request(Method::GET, "/portal").header("cookie", &anna.cookie).send().await.unwrap().status(),
        StatusCode::OK
    );
    let answer = browser.post(&end, &form).await;
    assert!(location(&answer).contains("notice=session-ended"), "{}", location(&answer));
    assert_ne!(
        anna.world.request(Method::GET, "/portal").header("cookie", &anna.cookie).send().await.unwrap().status(),
        StatusCode::OK
    );
    bert.page("/portal").await;
    assert!(browser.page("/audit").await.contains("portal session ended"));
}

/// A customer finds the live view and the resends, unless the team left them out; and an endpoint's state is the one of its own page.
async fn resends_and_the_live_view_are_found_and_a_state_is_the_same_everywhere(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    for n in 0..3u32 {
        let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * (9 - n))).await;
        let at = world.ago(MINUTE * (9 - n));
        let one = if n == 0 { Try::answered(at, 500, "", dead()) } else { Try::delivered(at, 5) };
        world.tries(&message, &endpoint, [one]).await;
    }
    let visitor = world.portal_session(&acme, None, &[]).await;
    let home = visitor.page("/portal").await;
    for path in ["/portal/tail", "/portal/resend"] {
        assert!(home.contains(&format!("href=\"{path}\"")), "{path}: {home}");
        let page = visitor.page(path).await;
        assert!(!page.contains(">Application<") && !page.contains("REST API"), "{path}: {page}");
    }
    let row = home.split("id=\"endpoints-title\"").nth(1).unwrap().split("</ul>").next().unwrap();
    assert!(row.contains("badge enabled") && row.contains("66.6 % of 3 attempts"), "{row}");
    assert!(visitor.page(&format!("/portal/endpoints/{}", endpoint.id)).await.contains("badge enabled"));
    let looks = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let home = looks.page("/portal").await;
    assert!(home.contains("href=\"/portal/tail\"") && !home.contains("href=\"/portal/resend\""), "{home}");
    let few = PortalOptions { pages: Some(vec![PortalPage::EventTypes]), ..hour(&world) };
    let page = world.portal_session_with(&acme, few).await.page("/portal/event-types").await;
    assert!(!page.contains("/portal/tail") && !page.contains("/portal/resend"), "{page}");
}

/// An operator makes a link for a customer, or opens the portal by it.
async fn an_operator_makes_a_link_that_is_good_once(world: World) {
    let acme = world.app("Acme").await;
    let browser = world.sign_in().await;
    let place = format!("/applications/{}/portal-link", acme.id);
    assert!(browser.page(&format!("/applications/{}", acme.id)).await.contains(&place));
    let bad = browser.submit(&place, &place, &[("expiry", "9y")]).await;
    assert_eq!(bad.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let made = browser.submit(&place, &place, &[("expiry", "1d"), ("readOnly", "on")]).await;
    let page = made.text().await.unwrap();
    crate::html::check(&page, &place);
    let path = page.split("href=\"").find(|rest| rest.starts_with("/portal/enter/")).unwrap();
    let path = path.split('"').next().unwrap().to_owned();
    assert!(page.contains(&format!("http://127.0.0.1:{}{path}</code>", world.url.port().unwrap())), "{page}");
    let entry = world.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let enter = world.post(&path, &[("csrf", field(&entry, "csrf"))]).send().await.unwrap();
    let visitor = Browser { world: &world, cookie: set_cookie(&enter).split(';').next().unwrap().to_owned() };
    assert!(!visitor.page("/portal").await.contains("/portal/resend"), "it is read only");
    let again = world.request(Method::GET, &path).send().await.unwrap();
    assert_ne!(again.status(), StatusCode::OK, "once");
    assert!(browser.page("/audit").await.contains("portal link made"));
    // The options of a link, and the portal in one click.
    let hidden = [("expiry", "1h"), ("hide", "endpoints"), ("hide", "messages"), ("featureFlags", "beta\r\n")];
    let made = browser.submit(&place, &place, &hidden).await.text().await.unwrap();
    assert!(made.contains("/portal/enter/"), "{made}");
    let all: Vec<(&str, &str)> =
        ["overview", "endpoints", "messages", "deliveries", "event-types"].map(|page| ("hide", page)).to_vec();
    let refused = browser.submit(&place, &place, &[vec![("expiry", "1h")], all].concat()).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "nothing would be left");
    let home = format!("/applications/{}", acme.id);
    let opened = browser.submit(&home, &place, &[("expiry", "1h"), ("open", "1")]).await;
    assert!(opened.status() == StatusCode::SEE_OTHER && location(&opened).starts_with("/portal/enter/"));
    let told = world.store.ensure_operational_application(&world.tenant(), world.now).await.unwrap();
    assert_eq!(browser.get(&format!("/applications/{}/portal-link", told.id)).await.0, StatusCode::NOT_FOUND);
}

/// Every page of the portal, with failures of each kind on them, and errors of forms.
async fn no_page_of_the_portal_names_us_or_a_setting_of_ours(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let mut messages = Vec::new();
    for (failure, detail) in [
        (Failure::Blocked, "the name resolves to a blocked address"),
        (
            Failure::Tls,
            "the receiver's certificate is not trusted (self-signed, or an intermediate certificate is missing)",
        ),
        (Failure::Tls, "the receiver's certificate is not valid before 2027-01-01"),
        (Failure::Dns, "the name does not exist in DNS"),
        (Failure::Unreachable, "the host is unreachable"),
    ] {
        let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 3)).await;
        world.tries(&message, &endpoint, [Try::failed(world.ago(MINUTE), failure, detail, 3, dead())]).await;
        messages.push(message.id.to_string());
    }
    let customer = world.portal_session_with(&acme, hour(&world)).await;
    let mut read = 0;
    let check = |path: &str, page: &str| {
        // The user agent of a request is what was sent.
        let page = page.replace("Sendoff/", "");
        for word in ["SENDOFF_", "SSL_CERT_FILE", "Sendoff", "this machine"] {
            assert!(!page.contains(word), "{path} says {word}: {page}");
        }
    };
    for page in pages().into_iter().filter(|page| page.in_portal() && page.method == "GET") {
        let path = page.path.replace("{endpoint}", &endpoint.id.to_string());
        for path in messages.iter().map(|message| path.replace("{message}", message)).collect::<BTreeSet<_>>() {
            if path.contains("/events") || path.contains("{code}") {
                continue;
            }
            let (_, page) = customer.get(&Page { path: path.clone(), ..page.clone() }.path_with("x")).await;
            check(&path, &page);
            read += 1;
        }
    }
    assert!(read > 20, "{read} pages");
    for url in ["http://10.0.0.1/", "http://127.0.0.1:1/", "ftp://a.example/", "http://user@a.example/"] {
        let path = "/portal/endpoints/new";
        let response = customer.submit(path, path, &[("url", url)]).await;
        check(url, &response.text().await.unwrap());
    }
    // Rejected before any page.
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let request = world.request(Method::POST, "/portal/preferences").header("cookie", &customer.cookie);
        let response = request.header(name, value).send().await.unwrap();
        assert!(response.status().is_client_error(), "{name}");
        check(name, &response.text().await.unwrap());
    }
}

async fn a_link_opens_at_an_endpoint(world: World) {
    let (acme, globex) = (world.app("Acme").await, world.app("Globex").await);
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let theirs = world.endpoint(&globex, "https://b.example/hook").await;
    let operator = world.sign_in().await;
    let page = operator.page(&format!("/applications/{}/endpoints/{}", acme.id, endpoint.id)).await;
    let form = format!("/applications/{}/portal-link", acme.id);
    assert!(page.contains(&format!("href=\"{form}?endpoint={}\"", endpoint.id)), "{page}");
    let page = operator.page(&format!("{form}?endpoint={}", endpoint.id)).await;
    assert!(page.contains(&format!("name=\"endpoint\" value=\"{}\"", endpoint.id)), "{page}");
    let fields = |endpoint: &str, more: &[(&'static str, &str)]| {
        let mut fields =
            vec![("csrf", field(&page, "csrf")), ("expiry", "1h".into()), ("endpoint", endpoint.to_owned())];
        fields.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        fields
    };
    for (wrong, more) in
        [(theirs.id.to_string(), &[][..]), ("no such".into(), &[]), (endpoint.id.to_string(), &[("hide", "endpoints")])]
    {
        let refused = operator.post(&form, &fields(&wrong, more)).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let made = operator.post(&form, &fields(&endpoint.id.to_string(), &[("open", "1")])).await;
    let path = location(&made).to_owned();
    assert!(path.ends_with(&format!("?next=%2Fportal%2Fendpoints%2F{}", endpoint.id)), "{path}");
    let entry = world.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let entered = [("csrf", field(&entry, "csrf")), ("next", field(&entry, "next"))];
    let entered = world.post(path.split('?').next().unwrap(), &entered).send().await.unwrap();
    assert_eq!(location(&entered), format!("/portal/endpoints/{}", endpoint.id));
}

async fn the_first_endpoint_is_four_steps_away(world: World) {
    let acme = world.app("Acme").await;
    let steps = |page: &str| {
        page.split("<ol class=\"steps\">")
            .nth(1)
            .map_or(0, |list| list.split("</ol>").next().unwrap().matches("<li>").count())
    };
    let customer = world.portal_session(&acme, None, &[]).await;
    let home = customer.page("/portal").await;
    assert_eq!(steps(&home), 4, "{home}");
    assert!(home.contains("href=\"/portal/endpoints/new\""), "{home}");
    let reader = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let home = reader.page("/portal").await;
    assert!(steps(&home) == 0 && home.contains("No endpoints yet") && !home.contains("endpoints/new"), "{home}");
    world.endpoint(&acme, "https://a.example/hook").await;
    assert_eq!(steps(&customer.page("/portal").await), 0);
}

async fn a_form_has_five_fields_and_the_rest_below_advanced(world: World) {
    let acme = world.app("Acme").await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let page = customer.page("/portal/endpoints/new").await;
    let (first, advanced) = page.split_once("<details class=\"advanced\">").expect("closed at first");
    let fields = |html: &str| html.matches("id=\"f-").count();
    assert_eq!((fields(first), fields(advanced)), (5, 8), "{page}");
    // An error below *Advanced* is not hidden.
    let wrong =
        [("csrf", field(&page, "csrf")), ("url", "https://a.example/".into()), ("retrySchedule", "soon".into())];
    let refused = customer.post("/portal/endpoints/new", &wrong).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = refused.text().await.unwrap();
    assert!(
        page.contains("<details class=\"advanced\" open>") && page.contains("id=\"retrySchedule-wrong\""),
        "{page}"
    );
}

async fn signatures_are_explained_by_the_names_of_the_headers(world: World) {
    let acme = world.app("Acme").await;
    let github = |header: &str| ExtraSignature::GitHub { header: header.into(), key: KeyForm::Text };
    let stripe = ExtraSignature::Stripe { header: "Shop-Signature".into(), key: KeyForm::Bytes };
    let spec = EndpointSpec {
        url: "https://a.example/hook".into(),
        extra_signatures: vec![github("X-Shop-Signature"), stripe],
        ..EndpointSpec::default()
    };
    let endpoint = world.endpoint_with(&acme, spec).await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let path = format!("/portal/endpoints/{}", endpoint.id);
    let page = customer.page(&path).await;
    for part in [
        "<code>webhook-signature</code>",
        "<code>X-Shop-Signature</code>",
        "headers[&#34;x-shop-signature&#34;]",
        "headers[&#34;shop-signature&#34;]",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = customer.page(&format!("{path}/rotate")).await;
    assert!(page.contains("Signed with both secrets: webhook-signature, Shop-Signature."), "{page}");
    assert!(page.contains("Signed with the new secret alone, from now on: X-Shop-Signature."), "{page}");
    let plain = world.endpoint(&acme, "https://b.example/hook").await;
    let page = customer.page(&format!("/portal/endpoints/{}/rotate", plain.id)).await;
    assert!(page.contains("Signed with both secrets: webhook-signature.") && !page.contains("alone"), "{page}");
}
