//! The cache of callers. (`tests/api/callers.rs` tests the rejection of revoked keys and tokens.)

use crate::api::authn::authenticator::*;
use crate::domain::OrgId;
use crate::domain::access::api_key::{KeySpec, Scopes};
use crate::domain::signing::secret::MasterKey;
use crate::store::{Location, StoreOptions};

const NOW: Time = Time::from_micros(1_763_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

async fn callers(folder: &tempfile::TempDir) -> Callers {
    let callers = without_tables(folder).await;
    callers.inner.store.migrate().await.unwrap();
    callers
}

/// Without tables, so every query fails.
async fn without_tables(folder: &tempfile::TempDir) -> Callers {
    let location = Location::Sqlite(folder.path().join("sendoff.db"));
    let options = StoreOptions {
        location,
        master: MasterKey::generate(),
        max_payload: 1_024,
        queue: 10,
        wide: crate::store::WIDE,
    };
    let store = Store::open(options).await.unwrap();
    Callers::new(store, Tokens::new(b"secret"), Traffic::default())
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
async fn what_is_remembered_is_bounded_and_expires_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    assert!(callers.at_once(&token, || None, NOW).is_none(), "the store has to be asked once");
    callers.find(&token, None, NOW).await.unwrap();
    assert!(callers.at_once(&token, || None, NOW).is_some_and(|found| found.is_ok()));
    assert!(callers.at_once(&token, || None, NOW.plus(HOUR)).is_some_and(|found| found.is_err()), "it has expired");
    let known = callers.known(&api_key::hash(&token)).unwrap();
    for seconds in 0..(REMEMBERED as u64 + 10) {
        let one = Known {
            caller: known.caller.clone(),
            good: known.good.clone(),
            bucket: known.bucket.clone(),
            asked: known.asked,
            asking: AtomicBool::new(false),
        };
        callers.remember(api_key::hash(&seconds.to_string()), one, NOW);
    }
    assert!(callers.inner.known.read().unwrap().len() <= REMEMBERED);
}

#[tokio::test]
async fn what_is_old_is_asked_again_and_what_is_older_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    callers.find(&token, None, NOW).await.unwrap();
    let hash = api_key::hash(&token);
    let known = callers.known(&hash).unwrap();
    let aged = |age: Duration| Known {
        caller: known.caller.clone(),
        good: known.good.clone(),
        bucket: known.bucket.clone(),
        asked: Instant::now().checked_sub(age).unwrap(),
        asking: AtomicBool::new(false),
    };
    // Another process revoked it.
    callers.inner.store.revoke_token(&hash, NOW.plus(HOUR)).await.unwrap();
    callers.remember(hash, aged(LIFE), NOW);
    assert!(callers.at_once(&token, || None, NOW).is_none(), "too old to be believed");
    assert!(matches!(callers.find(&token, None, NOW).await, Err(Denied::LoggedOut)));

    callers.remember(hash, aged(FRESH), NOW);
    assert!(callers.at_once(&token, || None, NOW).is_some_and(|found| found.is_ok()), "answered without waiting");
    // The background refresh removes it from the cache.
    eventually(async || callers.known(&hash).is_none()).await;
}

#[tokio::test]
async fn a_token_that_was_logged_out_meanwhile_is_not_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    callers.find(&token, None, NOW).await.unwrap();
    let hash = api_key::hash(&token);
    let before = callers.known(&hash).unwrap();
    callers.forget(&hash);
    callers.clone().ask_again(hash, before, NOW).await;
    assert!(callers.known(&hash).is_none());
}

#[tokio::test]
async fn a_use_is_written_once_a_minute_and_sooner_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let callers = without_tables(&folder).await;
    let spec = KeySpec { name: "k".into(), scopes: Scopes::EVERYTHING, expires_at: None };
    let (key, text) = ApiKey::make(OrgId::default_org(), spec, NOW).unwrap();
    let hash = api_key::hash(&text);
    let caller = Good::Key(key.clone()).caller(hash);
    let rests_until = |callers: &Callers| callers.inner.uses.lock().unwrap()[&key.id].rest_until;
    let at = |seconds| NOW.plus(Duration::from_secs(seconds));

    callers.note(&caller, NOW);
    assert_eq!(rests_until(&callers), at(60));
    eventually(async || rests_until(&callers) == at(10)).await;
    callers.inner.store.migrate().await.unwrap();
    callers.inner.store.add_api_key(&key, &hash).await.unwrap();
    let written = async || callers.inner.store.api_key_of(&hash).await.unwrap().unwrap().last_used_at;
    callers.note(&caller, at(5));
    assert_eq!(rests_until(&callers), at(10), "not yet");
    callers.note(&caller, at(10));
    assert_eq!(rests_until(&callers), at(70));
    eventually(async || written().await == Some(at(10))).await;
    callers.note(&caller, at(69));
    assert_eq!(rests_until(&callers), at(70), "not with each use");
    callers.write_uses().await.unwrap();
    assert_eq!(written().await, Some(at(69)));
}
