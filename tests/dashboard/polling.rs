//! Polling endpoints on the pages: made by operators and customers, with a token that is shown once; who reads, and how far behind.

use std::time::Duration;

use reqwest::StatusCode;
use sendoff::domain::access::api_key;
use sendoff::domain::access::portal::{Capability, PortalOptions, PortalPage};
use sendoff::domain::catalog::event_type::EventTypeSpec;
use sendoff::domain::catalog::polling::PollingEndpoint;
use sendoff::domain::feed::{FeedIterator, Position};
use sendoff::store::{Order, PageRequest};

use crate::support::on_both;
use crate::world::{Browser, MINUTE, World, field, location};

on_both! {
    a_polling_endpoint_is_made_changed_and_deleted_by_operators_and_customers_alike
    a_portal_session_is_limited_to_its_capabilities
}

async fn all(world: &World, app: &sendoff::domain::catalog::application::Application) -> Vec<PollingEndpoint> {
    let page = PageRequest::first(20, Order::Ascending);
    world.store.polling_endpoints(&world.tenant(), app.id, &page).await.unwrap().data
}

/// The languages of the snippets, and a part of each.
const SNIPPETS: [(&str, &str); 6] = [
    ("curl", "curl -fsS"),
    ("python", "urllib.request"),
    ("javascript", "await fetch("),
    ("go", "http.NewRequest"),
    ("ruby", "Net::HTTP"),
    ("php", "file_get_contents"),
];

/// The token that an answer shows, which opens `endpoint`.
async fn shown(world: &World, endpoint: &PollingEndpoint, html: &str) -> String {
    crate::html::check(html, "the token's page");
    let (_, rest) = html.split_once("aria-label=\"The token\">").unwrap_or_else(|| panic!("no token: {html}"));
    let token = rest.split('<').next().unwrap().to_owned();
    let known = world.store.polling_token_by_hash(&api_key::hash(&token)).await.unwrap().expect("a token");
    assert_eq!(known.polling_endpoint_id, endpoint.id);
    token
}

async fn a_polling_endpoint_is_made_changed_and_deleted_by_operators_and_customers_alike(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let spec = EventTypeSpec { name: "a.b".into(), ..EventTypeSpec::default() };
    world.store.put_event_type(&world.tenant(), spec, world.now).await.unwrap();
    let place = format!("/applications/{}", acme.id);
    goes_through(&world, &world.sign_in().await, &place, &acme).await;
    goes_through(&world, &world.portal_session(&acme, None, &[]).await, "/portal", &acme).await;
    assert!(all(&world, &other).await.is_empty());
}

async fn goes_through(
    world: &World,
    browser: &Browser<'_>,
    place: &str,
    app: &sendoff::domain::catalog::application::Application,
) {
    let list = format!("{place}/polling");
    assert!(browser.page(&list).await.contains("No polling endpoints yet"));
    let new = format!("{list}/new");
    for (typed, wrong) in [
        ([("uid", "a b"), ("eventTypes", ""), ("channels", "")], "uid"),
        ([("uid", ""), ("eventTypes", "no.such"), ("channels", "")], "eventTypes"),
        ([("uid", ""), ("eventTypes", ""), ("channels", "a b")], "channels"),
    ] {
        let response = browser.submit(&new, &new, &typed).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        let html = response.text().await.unwrap();
        assert!(html.contains(&format!("id=\"{wrong}-wrong\"")), "{wrong}: {html}");
    }
    let typed = [("uid", "pull"), ("eventTypes", "a.b\n"), ("channels", "eu\nus")];
    let response = browser.submit(&new, &new, &typed).await;
    assert_eq!(response.status(), StatusCode::OK);
    let html = response.text().await.unwrap();
    let made = all(world, app).await.remove(0);
    let first = shown(world, &made, &html).await;
    let url = format!("/api/v1/app/{}/poller/pull", app.id);
    assert!(SNIPPETS.iter().all(|(_, part)| html.contains(part)), "{html}");
    assert_eq!(html.matches(&url).count(), SNIPPETS.len(), "{html}");
    let page = browser.page(&list).await;
    assert!(
        page.contains(">pull<")
            && crate::pages::words(&page).contains("a.b · channels eu, us")
            && page.contains("never"),
        "{page}"
    );
    let path = format!("{list}/{}", made.id);
    let page = browser.page(&path).await;
    assert!(page.contains(&first[first.len() - 4..]) && !page.contains(&first), "only its last characters: {page}");
    assert!(page.contains("No consumers yet") && page.contains("curl -fsS"), "{page}");
    for (language, part) in SNIPPETS {
        let page = browser.page(&format!("{path}?code={language}")).await;
        assert!(page.contains(part) && page.contains(&url) && page.contains("sk_poll_…"), "{language}: {page}");
    }

    let token = format!("{path}/token");
    let response = browser.submit(&token, &token, &[("life", "30d")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    let second = shown(world, &made, &response.text().await.unwrap()).await;
    assert_ne!(first, second);
    let response = browser.submit(&token, &token, &[("life", "soon")]).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);

    let edit = format!("{path}/edit");
    let response = browser.submit(&edit, &edit, &[("uid", ""), ("eventTypes", ""), ("channels", "eu")]).await;
    assert_eq!((response.status(), location(&response).starts_with(&path)), (StatusCode::SEE_OTHER, true));
    for (act, disabled) in [("disable", true), ("enable", false)] {
        let response = browser.submit(&path, &format!("{path}/{act}"), &[]).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(all(world, app).await[0].spec.disabled, disabled);
    }
    let changed = all(world, app).await.remove(0).spec;
    assert_eq!(
        (changed.uid, changed.filter.event_types, changed.filter.channels),
        (None, None, Some(vec!["eu".to_owned()]))
    );

    let at = FeedIterator { position: Position::at(world.ago(MINUTE * 3)), complete_at: world.now, moves: 0 };
    world.store.consume(&world.tenant(), &made, "warehouse", Some(at), world.now).await.unwrap();
    world.store.lease_state(&world.tenant(), &made, "leaser", at, world.now).await.unwrap();
    for minutes in [5, 2, 1] {
        world.message(app, "a.b", "{}", world.ago(MINUTE * minutes)).await;
    }
    let behind = world.store.feed_lag(&world.tenant(), app.id, at.position, world.now).await.unwrap();
    let page = browser.page(&path).await;
    assert!(page.contains("warehouse") && page.contains("leases and commits"), "{page}");
    assert!(page.contains(&format!("number\">{behind}<")) && behind >= 2, "{behind} behind: {page}");
    assert!(!page.contains("badge silent"), "{page}");
    let (day, later) = (Duration::from_secs(86_400), world.now.plus(Duration::from_secs(2 * 86_400)));
    let report = world.store.report_silent_consumers(day, later).await.unwrap();
    assert_eq!(report.silent.len(), 2, "{report:?}");
    let page = browser.page(&path).await;
    assert_eq!(page.matches("badge silent").count(), 2, "{page}");
    assert!(browser.page(&list).await.contains("badge silent"));
    let delete = format!("{path}/delete");
    assert!(browser.page(&delete).await.contains("Delete polling endpoint and 2 consumers"));
    assert_eq!(browser.submit(&delete, &delete, &[]).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.get(&path).await.0, StatusCode::NOT_FOUND);
}

async fn a_portal_session_is_limited_to_its_capabilities(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let make = async |app: &sendoff::domain::catalog::application::Application| {
        world.store.create_polling_endpoint(&world.tenant(), app.id, Default::default(), world.now).await.unwrap()
    };
    let (own, foreign) = (make(&acme).await, make(&other).await);
    let looker = world.portal_session(&acme, Some(&[Capability::ViewBase]), &[]).await;
    let path = format!("/portal/polling/{}", own.id);
    let page = looker.page(&path).await;
    assert!(!looker.page("/portal/polling").await.contains("polling/new"));
    for act in ["token", "edit", "disable", "enable", "delete"] {
        assert!(!page.contains(&format!("{path}/{act}\"")), "{act} is offered: {page}");
        let form = [("csrf", field(&page, "csrf")), ("life", "never".to_owned())];
        assert_eq!(looker.post(&format!("{path}/{act}"), &form).await.status(), StatusCode::FORBIDDEN, "{act}");
    }
    let form = [("csrf", field(&page, "csrf"))];
    assert_eq!(looker.post("/portal/polling/new", &form).await.status(), StatusCode::FORBIDDEN);
    let manager = world.portal_session(&acme, Some(&[Capability::ViewBase, Capability::ManageEndpoint]), &[]).await;
    let new = "/portal/polling/new";
    let made = manager.submit(new, new, &[("uid", "x"), ("eventTypes", ""), ("channels", "")]).await;
    assert_eq!(made.status(), StatusCode::OK);
    let theirs = format!("/portal/polling/{}", foreign.id);
    assert_eq!(manager.get(&theirs).await.0, StatusCode::NOT_FOUND);
    let form = [("csrf", field(&manager.page(&path).await, "csrf"))];
    assert_eq!(manager.post(&format!("{theirs}/delete"), &form).await.status(), StatusCode::NOT_FOUND);
    // The pages go with those of endpoints.
    let until = world.now.plus(Duration::from_secs(3_600)).micros();
    let options = PortalOptions { pages: Some(vec![PortalPage::Messages]), ..PortalOptions::all(until) };
    let reader = world.portal_session_with(&acme, options).await;
    assert_eq!(reader.get("/portal/polling").await.0, StatusCode::NOT_FOUND);
    assert!(!reader.page("/portal/messages").await.contains("/portal/polling"));
}
