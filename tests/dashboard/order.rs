//! What the pages say of ordered endpoints.

use sendoff::domain::catalog::endpoint::EndpointSpec;

use crate::pages::words;
use crate::support::on_both;
use crate::world::{MINUTE, Try, World, dead};

on_both! {
    a_delivery_that_waits_for_another_says_for_which
}

async fn a_delivery_that_waits_for_another_says_for_which(world: World) {
    let acme = world.app("Acme").await;
    let spec = EndpointSpec { url: "https://acme.example/hook".into(), ordered: true, ..EndpointSpec::default() };
    let endpoint = world.endpoint_with(&acme, spec).await;
    let first = world.message(&acme, "a.b", "{}", world.ago(MINUTE * 2)).await;
    let second = world.message(&acme, "a.b", "{}", world.ago(MINUTE)).await;
    let browser = world.sign_in().await;
    let page = async |id| words(&browser.page(&format!("/applications/{}/messages/{id}", acme.id)).await);
    let comes_after = format!("this waits until {}", first.id);
    assert!(page(second.id).await.contains(&comes_after), "{}", page(second.id).await);
    assert!(!page(first.id).await.contains("this waits until"));
    world.tries(&first, &endpoint, [Try::answered(world.ago(MINUTE), 500, "", dead())]).await;
    assert!(!page(second.id).await.contains("this waits until"), "it is its turn");
}
