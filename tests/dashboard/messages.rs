//! What can be done with a message on its page, beside resending a delivery.

use reqwest::StatusCode;
use sendoff::domain::deliveries::delivery::DeliveryState;

use crate::pages::{link, words};
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead, field, location, retry};

on_both! {
    a_message_is_edited_and_sent_as_a_new_one
    a_message_is_sent_to_another_endpoint_and_copied
    a_message_refreshes_itself_while_something_is_about_to_be_sent
}

async fn a_message_is_edited_and_sent_as_a_new_one(world: World) {
    let acme = world.app("Acme").await;
    world.endpoint(&acme, "https://a.example/hook").await;
    let message = world.message(&acme, "invoice.paid", "{\"amount\": 1}", world.ago(MINUTE)).await;
    let browser = world.sign_in().await;
    let path = format!("/applications/{}/messages/{}", acme.id, message.id);
    let edit = link(&browser.page(&path).await, "Edit and resend").unwrap();
    let form = browser.page(&edit).await;
    assert!(form.contains("value=\"invoice.paid\"") && form.contains("&#34;amount&#34;: 1"), "{form}");
    let typed = [("eventType", "invoice.paid"), ("payload", "{\"amount\": 2}")];
    let response = browser.submit(&edit, &edit, &typed).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let made = browser.page(location(&response)).await;
    assert!(words(&made).contains("edited copy of") && made.contains(&format!("href=\"{path}\"")), "{made}");
    assert!(words(&made).contains("\"amount\": 2") && !made.contains("<bdi>edited-from"), "{made}");
    for odd in ["x", "msg_00000000000000000000000000"] {
        let path = format!("/applications/{}/send?from={odd}", acme.id);
        assert_eq!(browser.get(&path).await.0, StatusCode::NOT_FOUND);
    }
    let visitor = world.portal_session(&acme, None, &[]).await;
    assert!(!visitor.page(&format!("/portal/messages/{}", message.id)).await.contains("Edit and resend"));
}

async fn a_message_is_sent_to_another_endpoint_and_copied(world: World) {
    let acme = world.app("Acme").await;
    let one = world.endpoint(&acme, "https://a.example/hook").await;
    let payload = "{\"it\": \"it's\", \"n\": 1.0}";
    let message = world.message(&acme, "a.b", payload, world.ago(MINUTE)).await;
    world.tries(&message, &one, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    let other = world.endpoint(&acme, "https://b.example/hook").await;
    for (portal, place) in [(false, format!("/applications/{}", acme.id)), (true, "/portal".to_owned())] {
        let browser = if portal { world.portal_session(&acme, None, &[]).await } else { world.sign_in().await };
        let path = format!("{place}/messages/{}", message.id);
        let page = browser.page(&path).await;
        let curl = words(page.split("id=\"payload-curl\"").nth(1).unwrap().split("</pre>").next().unwrap());
        for part in [
            "curl -X POST 'https://a.example/hook'",
            "-H 'content-type: application/json'",
            &format!("-H 'webhook-id: {}'", message.id),
            r#"--data-binary '{"it": "it'\''s", "n": 1.0}'"#,
        ] {
            assert!(curl.contains(part), "{part}: {curl}");
        }
        let json = words(page.split("id=\"payload-json\"").nth(1).unwrap().split("</pre>").next().unwrap());
        assert!(json.contains(&format!("\"payload\": {payload}")) && json.contains("\"eventType\": \"a.b\""), "{json}");
        if !portal {
            assert!(page.contains(&format!("<option value=\"{}\">", other.id)), "{page}");
            let form = [("csrf", field(&page, "csrf")), ("endpoint", other.id.to_string())];
            let done = browser.post(&format!("{path}/resend"), &form).await;
            assert!(location(&done).ends_with("notice=resent"));
        } else {
            assert!(!page.contains("Resend to"), "each endpoint has it by now: {page}");
        }
    }
    let views = world.store.deliveries_of(&world.tenant(), acme.id, message.id).await.unwrap().data;
    assert_eq!(
        views.iter().find(|view| view.endpoint_id == other.id).map(|view| view.state),
        Some(DeliveryState::Fresh)
    );
}

/// The page refreshes itself only while something is about to be sent.
async fn a_message_refreshes_itself_while_something_is_about_to_be_sent(world: World) {
    let acme = world.app("Acme").await;
    let endpoint = world.endpoint(&acme, "https://a.example/hook").await;
    let browser = world.sign_in().await;
    let live = async |next: Option<Try>| {
        let message = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
        world.tries(&message, &endpoint, next).await;
        let page = browser.page(&format!("/applications/{}/messages/{}", acme.id, message.id)).await;
        assert_eq!(page.contains("hx-get"), page.contains("http-equiv=\"refresh\""), "with a script and without");
        page.contains("hx-get")
    };
    let at = world.ago(MINUTE);
    assert!(live(None).await, "due now");
    assert!(live(Some(Try::answered(at, 500, "", retry(world.now.plus(MINUTE / 2), 1)))).await, "soon");
    assert!(!live(Some(Try::answered(at, 500, "", retry(world.now.plus(MINUTE * 9), 1)))).await);
    assert!(!live(Some(Try::answered(at, 500, "", dead()))).await && !live(Some(Try::delivered(at, 9))).await);
}
