//! Development endpoints on the pages: operators and customers see how programs on developers' machines responded.

use std::time::Duration;

use reqwest::StatusCode;
use sendoff::domain::access::portal::{PortalOptions, PortalPage};
use sendoff::domain::catalog::development::LocalResponse;

use crate::support::on_both;
use crate::world::{MINUTE, World};

on_both! {
    reports_of_a_listener_are_shown
}

async fn reports_of_a_listener_are_shown(world: World) {
    let (acme, other) = (world.app("Acme").await, world.app("Other").await);
    let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    let report = async |response: Option<LocalResponse>| {
        let attempt = response.map(|response| (message.id, response));
        let about = (acme.id, "my-machine", "http://localhost:3000/hooks");
        let kept = world.ago(MINUTE * 60);
        world.store.report_local_attempt(&world.tenant(), about, attempt.as_ref(), kept, world.now).await.unwrap();
    };
    let operator = world.sign_in().await;
    let customer = world.portal_session(&acme, None, &[]).await;
    let places = [(&operator, format!("/applications/{}", acme.id)), (&customer, "/portal".to_owned())];
    for (browser, place) in &places {
        assert!(!browser.page(&format!("{place}/endpoints")).await.contains("Development endpoints"));
    }
    report(None).await;
    let body = "<script>alert(1)</script>".to_owned();
    report(Some(LocalResponse { status: Some(503), duration: Duration::from_millis(7), body, error: String::new() }))
        .await;
    report(Some(LocalResponse { error: "Connection refused".to_owned(), ..LocalResponse::default() })).await;
    for (browser, place) in &places {
        let list = browser.page(&format!("{place}/endpoints")).await;
        let path = format!("{place}/development/my-machine");
        assert!(list.contains("Development endpoints") && list.contains(&path) && list.contains("localhost"), "{list}");
        let page = browser.page(&path).await;
        crate::html::check(&page, "a development endpoint's page");
        assert!(page.contains("503 Service Unavailable") && page.contains("Connection refused"), "{page}");
        assert!(page.contains("7 ms") && page.contains("&#60;script") && !page.contains("<script>alert"), "{page}");
        assert!(page.contains(&format!("{place}/messages/{}", message.id)), "{page}");
        assert_eq!(browser.get(&format!("{place}/development/none")).await.0, StatusCode::NOT_FOUND);
        // Nothing of it counts.
        let deliveries = browser.page(&format!("{place}/deliveries")).await;
        assert!(!deliveries.contains("503"), "{deliveries}");
    }
    let elsewhere = format!("/applications/{}/development/my-machine", other.id);
    assert_eq!(operator.get(&elsewhere).await.0, StatusCode::NOT_FOUND);
    let until = world.now.plus(Duration::from_secs(3_600)).micros();
    let options = PortalOptions { pages: Some(vec![PortalPage::Messages]), ..PortalOptions::all(until) };
    let reader = world.portal_session_with(&acme, options).await;
    assert_eq!(reader.get("/portal/development/my-machine").await.0, StatusCode::NOT_FOUND);
}
