//! An application's page: how it does, what fails there, its tabs, and the portal of its customer.

use sendoff::domain::access::portal::Capability;

use crate::pages::{link, rows, words};
use crate::support::on_both;
use crate::world::{Browser, MINUTE, Try, World, dead, location};

on_both! {
    an_application_says_how_it_does_and_what_fails
    the_tabs_of_an_application_are_on_each_of_its_lists
    the_portal_is_opened_and_its_link_has_options
    the_navigation_has_every_page
    a_message_has_the_time_of_each_attempt
}

/// The breadcrumbs of a page.
fn crumbs(page: &str) -> String {
    let nav = page.split("aria-label=\"Breadcrumb\">").nth(1).map_or("", |rest| rest.split("</nav>").next().unwrap());
    words(nav)
}

async fn an_application_says_how_it_does_and_what_fails(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let elsewhere = world.endpoint(&other, "https://b.example/hook").await;
    for n in 0..4u32 {
        let at = world.ago(MINUTE * (n + 2));
        let message = world.message(&acme, "invoice.paid", "{}", at).await;
        let tried = if n == 0 { Try::answered(at, 500, "", dead()) } else { Try::delivered(at, 9) };
        world.tries(&message, &endpoint, [tried]).await;
        let message = world.message(&other, "other.sent", "{}", at).await;
        world.tries(&message, &elsewhere, [Try::answered(at, 503, "", dead())]).await;
    }
    let browser = world.sign_in().await;
    let page = browser.page(&format!("/applications/{}", acme.id)).await;
    let said = words(&page);
    assert!(said.contains("3 delivered") && said.contains("1 dead") && said.contains("Success rate 75.0 %"), "{said}");
    assert!(page.contains("<figure class=\"chart\">"), "{said}");
    let failures = words(
        page.split("id=\"failures-title\"").nth(1).expect("what fails there").split("</section>").next().unwrap(),
    );
    assert!(failures.contains("invoice.paid") && failures.contains("500 Internal Server Error"), "{failures}");
    assert!(!said.contains("other.sent") && !said.contains("503"), "of this application alone: {said}");
}

async fn the_tabs_of_an_application_are_on_each_of_its_lists(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let (endpoint, at) = (world.endpoint(&acme, "https://a.example/hook").await, world.ago(MINUTE));
    for app in [&acme, &other] {
        let message = world.message(app, "a.b", "{}", at).await;
        if app.id == acme.id {
            world.tries(&message, &endpoint, [Try::delivered(at, 9)]).await;
        }
    }
    let browser = world.sign_in().await;
    let home = format!("/applications/{}", acme.id);
    let tabs = [
        ("Overview", ""),
        ("Endpoints", "/endpoints"),
        ("Messages", "/messages"),
        ("Deliveries", "/deliveries"),
        ("Event types", "/event-types"),
        ("Polling endpoints", "/polling"),
    ];
    for (name, path) in tabs {
        let page = browser.page(&format!("{home}{path}")).await;
        let nav = page.split("aria-label=\"Application pages\">").nth(1).expect(name).split("</nav>").next().unwrap();
        for (tab, to) in tabs {
            let current = if tab == name { " on\"" } else { "\"" };
            let link = format!("<a class=\"chip{current} href=\"{home}{to}\"");
            assert!(nav.contains(&link), "{name}: {link}: {nav}");
        }
        assert!(nav.contains(&format!("href=\"/tail?app={}\">Live", acme.id)), "{nav}");
        let above = if path.is_empty() { "" } else { "Applications Acme" };
        assert_eq!(crumbs(&page), above, "{name}");
    }
    assert_eq!(rows(&browser.page(&format!("{home}/messages")).await), 1);
    // Forms say whose endpoint it is.
    let path = format!("{home}/endpoints/{}", endpoint.id);
    for form in ["edit", "rotate", "delete"] {
        let page = browser.page(&format!("{path}/{form}")).await;
        assert_eq!(crumbs(&page), "Applications Acme Endpoints https://a.example/hook", "{form}");
    }
    assert_eq!(crumbs(&browser.page(&format!("{home}/endpoints/new")).await), "Applications Acme Endpoints");
    // A customer has the navigation for that.
    let customer = world.portal_session(&acme, None, &[]).await;
    for path in ["/portal", "/portal/endpoints", "/portal/messages", "/portal/deliveries", "/portal/polling"] {
        let page = customer.page(path).await;
        assert!(!page.contains("Application pages") && !page.contains("/applications/"), "{path}: {page}");
    }
}

async fn the_portal_is_opened_and_its_link_has_options(world: World) {
    let acme = world.app("Acme").await;
    let browser = world.sign_in().await;
    let home = format!("/applications/{}", acme.id);
    let page = browser.page(&home).await;
    assert!(page.contains("<button type=\"submit\" name=\"open\" value=\"1\">Open portal</button>"), "{page}");
    let form = [("expiry", "1h"), ("open", "1")];
    let opened = browser.submit(&home, &format!("{home}/portal-link"), &form).await;
    let path = location(&opened);
    assert!(path.contains("/portal/enter/"), "{path}");
    let ask = link(&page, "Copy portal link…").expect("a link");
    let form = browser.page(&ask).await;
    for option in ["name=\"expiry\"", "name=\"readOnly\""] {
        assert!(form.contains(option), "{option}: {form}");
    }
    let made = browser.submit(&ask, &ask, &[("expiry", "1h"), ("readOnly", "on")]).await.text().await.unwrap();
    assert!(made.contains("/portal/enter/") && made.contains("data-copy"), "{made}");
}

async fn the_navigation_has_every_page(world: World) {
    let acme = world.app("Acme").await;
    let names = async |browser: &Browser<'_>, path: &str, label: &str| {
        let page = browser.page(path).await;
        words(
            page.split(&format!("<nav {label}"))
                .nth(1)
                .expect(label)
                .split("</nav>")
                .next()
                .unwrap()
                .split_once('>')
                .unwrap()
                .1,
        )
    };
    let browser = world.sign_in().await;
    let pages = "Overview Deliveries Messages Endpoints Applications Event types Live Settings";
    assert_eq!(names(&browser, "/", "aria-label=\"Pages\"").await, pages);
    let settings =
        "Organization Organizations API keys Operators Sessions Audit log Operational webhooks Outbox API reference";
    assert_eq!(names(&browser, "/settings", "class=\"sub\" aria-label=\"Settings\"").await, settings);
    assert!(browser.page("/keys").await.contains("action=\"/find\""), "a search on every page");
    let customer = world.portal_session(&acme, None, &[]).await;
    let pages = "Overview Endpoints Polling Messages Deliveries Event types Live";
    assert_eq!(names(&customer, "/portal", "aria-label=\"Pages\"").await, pages);
    let looks = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    assert_eq!(names(&looks, "/portal", "aria-label=\"Pages\"").await, pages);
}

/// The exact time stands beside the relative one, not only in a title.
async fn a_message_has_the_time_of_each_attempt(world: World) {
    let acme = world.app("Acme").await;
    let (endpoint, at) = (world.endpoint(&acme, "https://a.example/hook").await, world.ago(MINUTE * 3));
    let message = world.message(&acme, "a.b", "{}", at).await;
    world.tries(&message, &endpoint, [Try::answered(at, 500, "", dead())]).await;
    let page = words(&world.sign_in().await.page(&format!("/applications/{}/messages/{}", acme.id, message.id)).await);
    let clock = at.to_string()[11..19].to_owned();
    assert!(page.contains("3 min ago (") && page.contains(&format!("{clock} UTC)")), "{clock}: {page}");
}
