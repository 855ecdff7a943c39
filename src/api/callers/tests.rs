//! What is remembered of callers. (That a key and a token are refused once they are taken back is in `tests/api/callers.rs`.)

use super::*;
use crate::domain::OrgId;
use crate::domain::secret::MasterKey;
use crate::store::{Location, StoreOptions};

const NOW: Time = Time::from_micros(1_763_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

async fn callers(folder: &tempfile::TempDir) -> Callers {
    let location = Location::Sqlite(folder.path().join("sendoff.db"));
    let options = StoreOptions { location, master: MasterKey::generate(), max_payload: 1_024, queue: 10 };
    let store = Store::open(options).await.unwrap();
    store.migrate().await.unwrap();
    Callers::new(store, Tokens::new(b"secret"))
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_expires_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    assert!(callers.at_once(&token, NOW).is_none(), "the store has to be asked once");
    callers.find(&token, NOW).await.unwrap();
    assert!(callers.at_once(&token, NOW).is_some_and(|found| found.is_ok()));
    assert!(callers.at_once(&token, NOW.plus(HOUR)).is_some_and(|found| found.is_err()), "it has expired");
    let known = callers.known(&key::hash(&token)).unwrap();
    for seconds in 0..(REMEMBERED as u64 + 10) {
        let one = Known {
            caller: known.caller.clone(),
            good: known.good.clone(),
            asked: known.asked,
            asking: AtomicBool::new(false),
        };
        callers.remember(key::hash(&seconds.to_string()), one, NOW);
    }
    assert!(callers.inner.known.read().unwrap().len() <= REMEMBERED);
}

#[tokio::test]
async fn what_is_old_is_asked_again_and_what_is_older_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    callers.find(&token, NOW).await.unwrap();
    let hash = key::hash(&token);
    let known = callers.known(&hash).unwrap();
    let aged = |age: Duration| Known {
        caller: known.caller.clone(),
        good: known.good.clone(),
        asked: Instant::now().checked_sub(age).unwrap(),
        asking: AtomicBool::new(false),
    };
    // Another process took it back.
    callers.inner.store.revoke_token(&hash, NOW.plus(HOUR)).await.unwrap();
    callers.remember(hash, aged(LIFE), NOW);
    assert!(callers.at_once(&token, NOW).is_none(), "too old to be believed");
    assert!(matches!(callers.find(&token, NOW).await, Err(Denied::LoggedOut)));

    callers.remember(hash, aged(FRESH), NOW);
    assert!(callers.at_once(&token, NOW).is_some_and(|found| found.is_ok()), "answered without waiting");
    tokio::time::timeout(Duration::from_secs(20), async {
        while callers.known(&hash).is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("asked behind the answer, and forgotten");
}

#[tokio::test]
async fn a_token_that_was_logged_out_meanwhile_is_not_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let callers = callers(&folder).await;
    let token = callers.tokens().mint_org(&OrgId::default_org(), NOW, HOUR).unwrap();
    callers.find(&token, NOW).await.unwrap();
    let hash = key::hash(&token);
    let before = callers.known(&hash).unwrap();
    callers.forget(&hash);
    callers.clone().ask_again(hash, before).await;
    assert!(callers.known(&hash).is_none());
}
