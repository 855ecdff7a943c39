//! API keys, and tokens that were logged out.

use sendoff::domain::KeyId;
use sendoff::domain::access::api_key;
use sendoff::domain::access::api_key::{ApiKey, KeyScope, KeyScopes, KeySpec};
use sendoff::store::{Order, PageRequest};

use crate::home::*;
use crate::support::on_both;

/// A key of the default organization, and the hash under which it is kept.
fn made(name: &str, scopes: KeyScopes) -> (ApiKey, [u8; 32]) {
    let spec = KeySpec { name: name.into(), scopes, expires_at: Some(later(1_000)) };
    let (key, text) = ApiKey::make(tenant().org, spec, NOW).expect("a key");
    (key, api_key::hash(&text))
}

on_both! {
    a_key_is_found_unchanged_by_its_hash
    a_key_is_revoked_once_and_by_its_own_organization
    keys_are_listed_for_their_organization
    the_last_use_never_goes_back
    a_revoked_token_is_remembered_until_its_end
}

async fn a_key_is_found_unchanged_by_its_hash(home: Home) {
    let store = &home.store;
    for scopes in [KeyScopes::EVERYTHING, KeyScopes::of([KeyScope::Read, KeyScope::Send]), KeyScopes::of([])] {
        let (key, hash) = made("billing ☂", scopes);
        store.add_api_key(&key, &hash).await.unwrap();
        assert_eq!(store.api_key_by_hash(&hash).await.unwrap(), Some(key.clone()));
        let forever = ApiKey { id: KeyId::new(NOW), expires_at: None, ..key };
        assert!(store.add_api_key(&forever, &hash).await.is_err(), "a hash is one key's");
    }
    assert_eq!(store.api_key_by_hash(&[7; 32]).await.unwrap(), None);
}

async fn a_key_is_revoked_once_and_by_its_own_organization(home: Home) {
    let store = &home.store;
    let (key, hash) = made("k", KeyScopes::EVERYTHING);
    store.add_api_key(&key, &hash).await.unwrap();
    assert!(!store.revoke_api_key(&stranger(), key.id, later(1)).await.unwrap());
    assert!(!store.revoke_api_key(&tenant(), KeyId::new(NOW), later(1)).await.unwrap());
    assert_eq!(store.api_key_by_hash(&hash).await.unwrap().unwrap().revoked_at, None);
    for at in [1, 2] {
        assert!(store.revoke_api_key(&tenant(), key.id, later(at)).await.unwrap());
    }
    assert_eq!(store.api_key_by_hash(&hash).await.unwrap().unwrap().revoked_at, Some(later(1)));
}

async fn keys_are_listed_for_their_organization(home: Home) {
    let store = &home.store;
    let mut ids = Vec::new();
    for n in 0..3u8 {
        let (key, hash) = made(&n.to_string(), KeyScopes::EVERYTHING);
        ids.push(key.id);
        store.add_api_key(&key, &hash).await.unwrap();
    }
    store.revoke_api_key(&tenant(), ids[1], NOW).await.unwrap();
    let all = store.api_keys(&tenant(), &first()).await.unwrap();
    assert_eq!(all.data.iter().map(|key| key.id).collect::<Vec<_>>(), ids, "revoked ones too");
    let page = PageRequest { limit: 1, order: Order::Ascending, after: Some(ids[0]), back: false };
    let page = store.api_keys(&tenant(), &page).await.unwrap();
    assert_eq!((page.data[0].id, page.more), (ids[1], true));
    assert!(store.api_keys(&stranger(), &first()).await.unwrap().data.is_empty());
}

async fn the_last_use_never_goes_back(home: Home) {
    let store = &home.store;
    let ((one, first), (other, second)) = (made("a", KeyScopes::EVERYTHING), made("b", KeyScopes::EVERYTHING));
    store.add_api_key(&one, &first).await.unwrap();
    store.add_api_key(&other, &second).await.unwrap();
    store.api_keys_used(&[]).await.unwrap();
    store.api_keys_used(&[(other.id, later(5)), (one.id, later(9)), (KeyId::new(NOW), NOW)]).await.unwrap();
    store.api_keys_used(&[(one.id, later(8)), (other.id, later(6))]).await.unwrap();
    let used = async |hash| store.api_key_by_hash(hash).await.unwrap().unwrap().last_used_at;
    assert_eq!((used(&first).await, used(&second).await), (Some(later(9)), Some(later(6))));
    let uses: Vec<_> = [one.id, other.id].iter().map(|id| (*id, later(20))).collect();
    let backwards: Vec<_> = uses.iter().rev().copied().collect();
    let (a, b) = tokio::join!(store.api_keys_used(&uses), store.api_keys_used(&backwards));
    assert!(a.is_ok() && b.is_ok(), "whoever comes at once: {a:?} {b:?}");
}

async fn a_revoked_token_is_remembered_until_its_end(home: Home) {
    let store = &home.store;
    for _ in 0..2 {
        store.revoke_token(&[1; 32], later(60)).await.unwrap();
    }
    assert!(home.another().await.is_token_revoked(&[1; 32]).await.unwrap(), "in another process too");
    assert!(!store.is_token_revoked(&[2; 32]).await.unwrap());
    store.delete_expired_logins(later(59)).await.unwrap();
    assert!(store.is_token_revoked(&[1; 32]).await.unwrap());
    store.delete_expired_logins(later(60)).await.unwrap();
    assert!(!store.is_token_revoked(&[1; 32]).await.unwrap());
}
