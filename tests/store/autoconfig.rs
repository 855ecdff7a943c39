//! Autoconfig subscriptions: a token, a secret, and what was made by them.

use sendoff::domain::access::api_key;
use sendoff::domain::catalog::autoconfig;
use sendoff::domain::catalog::autoconfig::AutoConfig;
use sendoff::domain::catalog::polling::PollingEndpointSpec;
use sendoff::domain::signing::secret::{Secret, SignatureType};
use sendoff::domain::{AppId, OrgId, limits};
use sendoff::store::feed::autoconfig::CreatedEndpoint;
use sendoff::store::{Store, StoreError};

use crate::home::*;
use crate::support::on_both;

async fn make(store: &Store, app: AppId) -> (AutoConfig, Secret, [u8; 32]) {
    let (made, secret, token) = AutoConfig::make(OrgId::default_org(), app, vec!["beta".into()], NOW);
    let hash = api_key::hash(&token);
    store.create_autoconfig(&tenant(), &made, &secret, &hash).await.expect("the store");
    (made, secret, hash)
}

on_both! {
    a_subscription_knows_what_was_made_by_it
    an_application_has_so_many_and_takes_them_with_it
}

async fn a_subscription_knows_what_was_made_by_it(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    let (made, secret, hash) = make(store, app).await;
    let read = async || store.autoconfig(&tenant(), app, made.id).await.unwrap();
    assert_eq!(read().await.as_ref(), Some(&made));
    assert_eq!(store.autoconfig_by_hash(&hash).await.unwrap().as_ref(), Some(&made));
    assert_eq!(store.autoconfig(&stranger(), app, made.id).await.unwrap(), None);
    assert_eq!(store.autoconfig_secret(&made).await.unwrap().unwrap().text(), secret.text());
    assert!(
        !home
            .bytes("SELECT secret FROM autoconfig")
            .await
            .windows(16)
            .any(|part| part == &secret.text().as_bytes()[6..22])
    );

    let (first, second) = (endpoint(store, app, endpoint_spec()).await, endpoint(store, app, endpoint_spec()).await);
    let bind = async |made_by| store.bind_autoconfig(&tenant(), &made, made_by, NOW).await.unwrap();
    assert!(bind(CreatedEndpoint::Endpoint(first.id)).await);
    assert!(!bind(CreatedEndpoint::Endpoint(second.id)).await, "it has one");
    assert_eq!(read().await.unwrap().endpoint, Some(first.id));
    store.delete_endpoint(&tenant(), app, first.id, NOW).await.unwrap();
    assert_eq!(read().await.unwrap().endpoint, None);
    assert!(bind(CreatedEndpoint::Endpoint(second.id)).await, "what was deleted gives room");
    let polled = store.create_polling_endpoint(&tenant(), app, PollingEndpointSpec::default(), NOW).await.unwrap();
    assert!(
        bind(CreatedEndpoint::PollingEndpoint(polled.id)).await
            && !bind(CreatedEndpoint::PollingEndpoint(polled.id)).await
    );
    let both = read().await.unwrap();
    assert_eq!((both.endpoint, both.polling_endpoint), (Some(second.id), Some(polled.id)));

    home.execute("CREATE TABLE earlier AS SELECT secret FROM autoconfig").await;
    let (token, other) = (autoconfig::new_token(), Secret::generate(SignatureType::Hmac256));
    let new = (&api_key::hash(&token), &*autoconfig::hint(&token));
    assert!(!store.rotate_autoconfig(&stranger(), &made, &other, new, NOW).await.unwrap());
    assert!(store.rotate_autoconfig(&tenant(), &made, &other, new, NOW).await.unwrap());
    assert_eq!(store.autoconfig_by_hash(&hash).await.unwrap(), None);
    assert_eq!(store.autoconfig_by_hash(new.0).await.unwrap().unwrap().hint, new.1);
    assert_eq!(store.autoconfig_secret(&made).await.unwrap().unwrap().text(), other.text());
    assert!(!store.delete_autoconfig(&stranger(), &made, NOW).await.unwrap());
    // The ciphertext of the earlier token does not open in its place.
    home.execute("UPDATE autoconfig SET secret = (SELECT secret FROM earlier)").await;
    assert!(store.autoconfig_secret(&made).await.is_err());
    assert!(store.delete_autoconfig(&tenant(), &made, NOW).await.unwrap());
    assert!(!store.delete_autoconfig(&tenant(), &made, NOW).await.unwrap());
    assert_eq!(store.autoconfig_by_hash(new.0).await.unwrap(), None);
}

async fn an_application_has_so_many_and_takes_them_with_it(home: Home) {
    let store = &home.store;
    let app = application(store, "acme").await.id;
    for _ in 0..limits::AUTOCONFIGS {
        make(store, app).await;
    }
    let (one_more, secret, token) = AutoConfig::make(OrgId::default_org(), app, Vec::new(), NOW);
    let refused = store.create_autoconfig(&tenant(), &one_more, &secret, &api_key::hash(&token)).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    store.delete_application(&tenant(), app, NOW).await.unwrap();
    assert_eq!(home.number("SELECT count(*) FROM autoconfig").await, 0);
    let gone = store.create_autoconfig(&tenant(), &one_more, &secret, &api_key::hash(&token)).await;
    assert!(matches!(gone, Err(StoreError::Invalid(_))), "{gone:?}");
}
