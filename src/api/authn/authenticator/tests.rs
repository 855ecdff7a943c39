//! The cache of callers. (`tests/api/callers.rs` tests the rejection of revoked keys and tokens.)

use crate::api::authn::authenticator::*;
use crate::domain::OrgId;
use crate::domain::access::api_key::{ApiKey, KeyScopes, KeySpec};
use crate::store::StoreOptions;

const NOW: Time = Time::from_micros(1_763_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

async fn authenticator(folder: &tempfile::TempDir) -> Authenticator {
    let authenticator = without_tables(folder).await;
    authenticator.inner.store.migrate().await.unwrap();
    authenticator
}

/// Without tables, so every query fails.
async fn without_tables(folder: &tempfile::TempDir) -> Authenticator {
    let store = Store::open(StoreOptions::in_folder(folder)).await.unwrap();
    Authenticator::new(store, Tokens::new(b"secret"), Traffic::default())
}

/// A caller with a new token, which is now cached.
async fn signed_in(authenticator: &Authenticator) -> (String, TokenHash, Arc<CachedCaller>) {
    let token = authenticator.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    authenticator.authenticate(&token, None, NOW).await.unwrap();
    let hash = api_key::hash(&token);
    let cached = authenticator.cached(&hash).unwrap();
    (token, hash, cached)
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("what was waited for");
}

#[tokio::test]
async fn the_cache_is_bounded_and_honors_expiry() {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = authenticator(&folder).await;
    let token = authenticator.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    assert!(authenticator.authenticate_cached(&token, || None, NOW).is_none(), "the store has to be asked once");
    authenticator.authenticate(&token, None, NOW).await.unwrap();
    assert!(authenticator.authenticate_cached(&token, || None, NOW).is_some_and(|found| found.is_ok()));
    assert!(
        authenticator.authenticate_cached(&token, || None, NOW.plus(HOUR)).is_some_and(|found| found.is_err()),
        "it has expired"
    );
    let known = authenticator.cached(&api_key::hash(&token)).unwrap();
    for seconds in 0..(CACHE_CAPACITY as u64 + 10) {
        let one = CachedCaller {
            caller: known.caller.clone(),
            verified: known.verified.clone(),
            bucket: known.bucket.clone(),
            checked_at: known.checked_at,
            refreshing: AtomicBool::new(false),
        };
        authenticator.insert(api_key::hash(&seconds.to_string()), one, NOW);
    }
    assert!(authenticator.inner.cache.read().unwrap().len() <= CACHE_CAPACITY);
}

#[tokio::test]
async fn old_entries_are_refreshed_and_older_ones_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = authenticator(&folder).await;
    let (token, hash, known) = signed_in(&authenticator).await;
    let aged = |age: Duration| CachedCaller {
        caller: known.caller.clone(),
        verified: known.verified.clone(),
        bucket: known.bucket.clone(),
        checked_at: Instant::now().checked_sub(age).unwrap(),
        refreshing: AtomicBool::new(false),
    };
    // Another process revoked it.
    authenticator.inner.store.revoke_token(&hash, NOW.plus(HOUR)).await.unwrap();
    authenticator.insert(hash, aged(MAX_AGE), NOW);
    assert!(authenticator.authenticate_cached(&token, || None, NOW).is_none(), "too old to be believed");
    assert!(matches!(authenticator.authenticate(&token, None, NOW).await, Err(AuthenticationError::LoggedOut)));

    authenticator.insert(hash, aged(REFRESH_AGE), NOW);
    assert!(
        authenticator.authenticate_cached(&token, || None, NOW).is_some_and(|found| found.is_ok()),
        "answered without waiting"
    );
    // The background refresh removes it from the cache.
    eventually(async || authenticator.cached(&hash).is_none()).await;
}

#[tokio::test]
async fn a_refresh_does_not_restore_a_logged_out_token() {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = authenticator(&folder).await;
    let (_, hash, before) = signed_in(&authenticator).await;
    authenticator.evict(&hash);
    authenticator.clone().refresh(hash, before, NOW).await;
    assert!(authenticator.cached(&hash).is_none());
}

#[tokio::test]
async fn key_usage_is_written_once_a_minute_and_retried_sooner() {
    let folder = tempfile::tempdir().unwrap();
    let authenticator = without_tables(&folder).await;
    let spec = KeySpec { name: "k".into(), scopes: KeyScopes::EVERYTHING, expires_at: None };
    let (key, text) = ApiKey::make(OrgId::default_org(), spec, NOW).unwrap();
    let hash = api_key::hash(&text);
    let caller = Credential::Key(key.clone()).caller(hash);
    let rests_until = |authenticator: &Authenticator| authenticator.inner.usage.rests_until(key.id);
    let at = |seconds| NOW.plus(Duration::from_secs(seconds));

    authenticator.record_use(&caller, NOW);
    assert_eq!(rests_until(&authenticator), at(60));
    eventually(async || rests_until(&authenticator) == at(10)).await;
    authenticator.inner.store.migrate().await.unwrap();
    authenticator.inner.store.add_api_key(&key, &hash).await.unwrap();
    let written = async || authenticator.inner.store.api_key_by_hash(&hash).await.unwrap().unwrap().last_used_at;
    authenticator.record_use(&caller, at(5));
    assert_eq!(rests_until(&authenticator), at(10), "not yet");
    authenticator.record_use(&caller, at(10));
    assert_eq!(rests_until(&authenticator), at(70));
    eventually(async || written().await == Some(at(10))).await;
    authenticator.record_use(&caller, at(69));
    assert_eq!(rests_until(&authenticator), at(70), "not with each use");
    authenticator.write_key_usage().await.unwrap();
    assert_eq!(written().await, Some(at(69)));
}
