//! What the pages say of ordered endpoints.

use sendoff::domain::catalog::endpoint::EndpointSpec;

use crate::house::{MINUTE, Try, both, dead};
use crate::pages::words;

#[tokio::test]
async fn a_delivery_that_waits_for_another_says_for_which() {
    for house in both().await {
        let acme = house.app("Acme").await;
        let spec = EndpointSpec { url: "https://acme.example/hook".into(), ordered: true, ..EndpointSpec::default() };
        let endpoint = house.endpoint_with(&acme, spec).await;
        let first = house.message(&acme, "a.b", "{}", house.ago(MINUTE * 2)).await;
        let second = house.message(&acme, "a.b", "{}", house.ago(MINUTE)).await;
        let browser = house.sign_in().await;
        let page = async |id| words(&browser.page(&format!("/applications/{}/messages/{id}", acme.id)).await);
        let comes_after = format!("this waits until {}", first.id);
        assert!(page(second.id).await.contains(&comes_after), "{}", page(second.id).await);
        assert!(!page(first.id).await.contains("this waits until"));
        house.tries(&first, &endpoint, [Try::answered(house.ago(MINUTE), 500, "", dead())]).await;
        assert!(!page(second.id).await.contains("this waits until"), "it is its turn");
    }
}
