//! Requests as they stand on the wire, and how new endpoints sign.

use reqwest::Method;
use serde_json::json;

use super::api::Api;
use crate::support::{Kind, Receiver, SOON, on_both};

on_both! {
    names_of_headers_are_written_as_usual_or_as_they_were_typed
    the_head_is_small_with_all_old_secrets
    new_endpoints_sign_as_the_server_is_set
}

/// The names that came with the request of this number, in order.
async fn names(receiver: &Receiver, number: usize) -> Vec<String> {
    let came = receiver.wait_for(number, SOON).await;
    let mut names: Vec<String> = came[number - 1].headers.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

async fn names_of_headers_are_written_as_usual_or_as_they_were_typed(kind: Kind) {
    let api = Api::on(kind, &[]);
    let receiver = Receiver::ok();
    api.customer(receiver.url("/")).await;
    api.send().await;
    let usual = ["Accept", "Content-Length", "Content-Type", "Host", "User-Agent"];
    let standard = ["webhook-id", "webhook-signature", "webhook-timestamp"];
    assert_eq!(names(&receiver, 1).await, [&usual[..], &standard].concat());

    let headers =
        json!({"headers": {"X-API-Key": "k", "x-team-ID": "t", "authorization": "Bearer x", "SOAPAction": "s"}});
    let extras = json!([{"style": "svix"}, {"style": "github", "header": "X-Hub-Signature-256"}]);
    let (status, _) = api.ask(Method::PUT, "/app/a/endpoint/e/headers", headers).await;
    assert_eq!(status, 204);
    let (status, _) = api.ask(Method::PATCH, "/app/a/endpoint/e", json!({"extraSignatures": extras})).await;
    assert_eq!(status, 200);
    api.send().await;
    let own = ["SOAPAction", "X-API-Key", "X-Hub-Signature-256", "authorization", "x-team-ID"];
    let svix = ["svix-id", "svix-signature", "svix-timestamp"];
    let mut wanted: Vec<&str> = [&usual[..], &standard, &own, &svix].concat();
    wanted.sort_unstable();
    assert_eq!(names(&receiver, 2).await, wanted);
    // Another case of the same name takes its place.
    let (status, _) =
        api.ask(Method::PATCH, "/app/a/endpoint/e/headers", json!({"headers": {"X-Api-Key": "new"}})).await;
    assert_eq!(status, 204);
    api.send().await;
    let came = names(&receiver, 3).await;
    assert!(came.contains(&"X-Api-Key".to_owned()) && !came.contains(&"X-API-Key".to_owned()), "{came:?}");
}

/// Common servers take a header of 8 KiB and no longer one. The longest signatures there are, in both sets of headers.
async fn the_head_is_small_with_all_old_secrets(kind: Kind) {
    let api = Api::on(kind, &[("SENDOFF_SIGNATURE_TYPE", "ed25519")]);
    let receiver = Receiver::ok();
    api.customer(receiver.url("/")).await;
    let extras = json!({"extraSignatures": [{"style": "svix"}]});
    assert_eq!(api.ask(Method::PATCH, "/app/a/endpoint/e", extras).await.0, 200);
    // Nobody gets more of them by trying on.
    for number in 0..20 {
        let (status, said) = api.ask(Method::POST, "/app/a/endpoint/e/secret/rotate", json!({})).await;
        assert_eq!(status, if number < 5 { 200 } else { 400 }, "rotation {number}: {said}");
    }
    api.send().await;
    let came = receiver.wait_for(1, SOON).await;
    let headers = &came[0].headers;
    let signatures = |name: &str| headers.iter().find(|(known, _)| known == name).expect(name).1.split(' ').count();
    assert_eq!((signatures("webhook-signature"), signatures("svix-signature")), (6, 6));
    let head: usize = headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum();
    assert!(head < 2_048, "{head} bytes: {headers:?}");
}

async fn new_endpoints_sign_as_the_server_is_set(kind: Kind) {
    let api = Api::on(kind, &[("SENDOFF_SIGNATURE_TYPE", "ed25519")]);
    api.post("/app", json!({"name": "A", "uid": "a"})).await;
    let url = "https://example.com/";
    let hmac = format!("whsec_{}", "A".repeat(32));
    for (body, wanted, prefix) in [
        (json!({"url": url}), "ed25519", "whpk_"),
        (json!({"url": url, "signatureType": "hmac256"}), "hmac256", "whsec_"),
        (json!({"url": url, "secret": hmac}), "hmac256", "whsec_"),
    ] {
        let made = api.post("/app/a/endpoint", body).await;
        assert_eq!(made["signatureType"], json!(wanted));
        let path = format!("/app/a/endpoint/{}/secret", made["id"].as_str().expect("an id"));
        let (_, secret) = api.ask(Method::GET, &path, json!(null)).await;
        assert!(secret["key"].as_str().expect("a key").starts_with(prefix), "{secret}");
    }
}
