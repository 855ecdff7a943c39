//! Organizations: their names and defaults, and what follows from them.

use std::time::Duration;

use reqwest::StatusCode;
use sendoff::domain::catalog::endpoint::EndpointSpec;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::store::StoreError;

use crate::pages::words;
use crate::support::on_both;
use crate::world::{World, location};

on_both! {
    an_organization_has_a_name_and_defaults_of_its_own
}

async fn an_organization_has_a_name_and_defaults_of_its_own(world: World) {
    let browser = world.sign_in().await;
    let path = "/settings/organization";
    let typed = [
        ("name", "Acme <staging>"),
        ("retrySchedule", "5s, 5m"),
        ("payloadRetention", "2h"),
        ("maxEndpoints", "1"),
        ("accent", "#0b6e4f"),
        ("logo", ""),
        ("mode", "dark"),
    ];
    let saved = browser.submit(path, path, &typed).await;
    assert_eq!(location(&saved), "/settings/organization?notice=changed");
    let page = browser.page(path).await;
    for value in ["value=\"5s, 5m\"", "value=\"2h\"", "value=\"#0b6e4f\"", "Acme &#60;staging&#62;"] {
        assert!(page.contains(value), "{value}: {page}");
    }
    let app = world.app("Acme").await;
    let message = world.message(&app, "a.b", "{}", world.now).await;
    assert_eq!(message.content_until, Some(message.accepted_at.plus(Duration::from_secs(7_200))));
    world.endpoint(&app, "http://127.0.0.1:1/").await;
    let spec = EndpointSpec { url: "http://127.0.0.1:2/".into(), ..EndpointSpec::default() };
    let secret = Secret::generate(SignatureType::Hmac256);
    let second = world.store.create_endpoint(&world.tenant(), app.id, spec, &secret, world.now).await;
    assert!(matches!(second, Err(StoreError::Invalid(_))), "{second:?}");

    let bad =
        [("name", "x"), ("retrySchedule", "5"), ("payloadRetention", "1s"), ("maxEndpoints", "0"), ("accent", "red")];
    let refused = browser.submit(path, path, &bad).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let older = [("seen", "7".to_owned()), ("csrf", crate::world::field(&page, "csrf")), ("name", "other".to_owned())];
    let stale = browser.post(path, &older).await;
    assert!(words(&stale.text().await.unwrap()).contains("someone else changed it"));

    let event_type = |name: &str, flags: &[&str]| sendoff::domain::catalog::event_type::EventTypeSpec {
        name: name.into(),
        feature_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        ..Default::default()
    };
    for spec in [event_type("open.one", &[]), event_type("secret.one", &["beta"])] {
        world.store.create_event_type(&world.tenant(), spec, world.now).await.unwrap();
    }
    let public = async |path: &str| {
        let response = world.request(reqwest::Method::GET, path).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    let list = format!("/catalog/{}", world.org);
    assert_eq!(public(&list).await.0, StatusCode::NOT_FOUND, "it is off by default");
    let on = browser.submit(path, path, &[("name", "x"), ("publicCatalog", "on"), ("mode", "auto")]).await;
    assert_eq!(on.status(), StatusCode::SEE_OTHER);
    let (status, page) = public(&list).await;
    crate::html::check(&page, &list);
    assert!(status == StatusCode::OK && page.contains("open.one") && !page.contains("secret.one"), "{page}");
    assert!(!page.contains("Sendoff"), "it is a page for customers");
    assert_eq!(public(&format!("{list}/open.one")).await.0, StatusCode::OK);
    assert_eq!(public(&format!("{list}/secret.one")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(public("/catalog/org_other").await.0, StatusCode::NOT_FOUND);
    browser.submit(path, path, &[("name", "Acme <staging>"), ("mode", "auto")]).await;
    assert_eq!(public(&list).await.0, StatusCode::NOT_FOUND);

    let new = "/settings/organizations/new";
    for id in ["staging", "org_"] {
        let refused = browser.submit(new, new, &[("org", id), ("name", "")]).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{id}");
    }
    let made = browser.submit(new, new, &[("org", "org_staging"), ("name", "Staging")]).await;
    assert_eq!(location(&made), "/settings/organizations?notice=created");
    let list = words(&browser.page("/settings/organizations").await);
    assert!(list.contains("Staging") && list.contains("org_staging") && list.contains("Acme <staging>"), "{list}");
    let switched = browser.submit("/settings/organizations", "/organization", &[("org", "org_staging")]).await;
    assert_eq!(location(&switched), "/");
    assert!(browser.page("/").await.contains("<span class=\"org\">Staging</span>"));
}
