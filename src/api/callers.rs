//! Who calls: what a request shows, an API key or a JWT, becomes a [`Caller`].
//!
//! Both may be taken back at any time (a key is revoked, a token logged out), which only the store knows. So that it is not asked
//! ten thousand times a second, what it said is remembered for [`LIFE`]: **whatever is taken back is refused 3 seconds later at the latest**,
//! in every process. In the last two of them the store is asked again behind the answer, so that who calls all the time never waits.
//!
//! * [`Caller`] – who calls, with what rights.
//! * [`Callers`] – finds out; remembers; notes when keys were used; takes each request out of its caller's
//!   [bucket](crate::traffic::rate_limits), or out of that of the address where no good token is shown.
//! * [`Denied`] – nobody: nothing good was shown (401), or the store could not be asked (503).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::auth::{Grant, TokenError, Tokens};
use super::errors::ApiError;
use super::rights::Rights;
use crate::domain::audit::{Actor, ActorKind};
use crate::domain::autoconfig::{self, AutoConfig};
use crate::domain::key::{self, ApiKey};
use crate::domain::polling::{self, PollingToken};
use crate::domain::{AppId, KeyId, Time};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{Store, StoreError, Tenant};
use crate::traffic::Traffic;
use crate::traffic::rate_limits::{Bucket, Limited, Who};

/// How many callers are remembered.
const REMEMBERED: usize = 1_024;
/// How long the store is not asked about a caller again.
const FRESH: Duration = Duration::from_secs(1);
/// How long it is at most believed what the store said.
pub const LIFE: Duration = Duration::from_secs(3);
/// How often the last use of a key is written at most.
const USE: Duration = Duration::from_secs(60);
/// How soon after a failure.
const USE_AGAIN: Duration = Duration::from_secs(10);

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub tenant: Tenant,
    pub rights: Rights,
    /// An application's: event types behind other flags are not shown to it.
    pub flags: Vec<String>,
    pub shown: Shown,
    /// How the audit log names them.
    pub actor: Arc<Actor>,
}

/// What was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// `expires` is `None` where the token does not say.
    Token {
        hash: TokenHash,
        expires: Option<Time>,
    },
    Key(KeyId),
}

/// Why nobody calls.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token has been logged out")]
    LoggedOut,
    #[error("the application's tokens of this time have been expired")]
    Expired,
    #[error("the API key is not known here")]
    UnknownKey,
    #[error("{0}")]
    Key(&'static str),
    #[error(transparent)]
    Limited(#[from] Limited),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        match denied {
            // It may be good: nobody could say.
            Denied::Store(error) => error.into(),
            Denied::Limited(limited) => limited.into(),
            denied => ApiError::unauthorized(denied.to_string()),
        }
    }
}

/// Finds out who calls. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Callers {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tokens: Tokens,
    traffic: Traffic,
    known: RwLock<HashMap<TokenHash, Arc<Known>>>,
    uses: Mutex<HashMap<KeyId, Use>>,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callers(redacted)")
    }
}

/// What was good when the store was asked last.
struct Known {
    caller: Arc<Caller>,
    good: Good,
    bucket: Arc<Bucket>,
    /// Just before it was asked.
    asked: Instant,
    /// Somebody asks again already.
    asking: AtomicBool,
}

#[derive(Clone)]
enum Good {
    Token(Grant),
    Key(ApiKey),
    Poller(PollingToken),
    AutoConfig(Box<AutoConfig>),
}

impl Good {
    fn at(&self, now: Time) -> Result<(), Denied> {
        match self {
            Good::Token(grant) => Ok(grant.at(now)?),
            Good::Key(key) => key.good_at(now).map_err(Denied::Key),
            Good::Poller(token) if token.is_good_at(now) => Ok(()),
            Good::Poller(_) => Err(Denied::Key("the polling token has expired")),
            Good::AutoConfig(_) => Ok(()),
        }
    }

    /// By what its requests are limited. All tokens of an application share a limit, and so do those of an organization: more of them
    /// give no more requests.
    fn who(&self) -> Who {
        match self {
            Good::Key(key) => Who::Key(key.id),
            Good::Poller(token) => Who::Application(token.app_id),
            Good::AutoConfig(subscription) => Who::Application(subscription.app_id),
            Good::Token(grant) => match grant.tenant.only {
                Some(app) => Who::Application(app),
                None => Who::Organization(grant.tenant.org.clone()),
            },
        }
    }

    fn caller(&self, hash: TokenHash) -> Caller {
        match self {
            Good::Token(grant) => Caller {
                tenant: grant.tenant.clone(),
                rights: grant.rights.clone(),
                flags: grant.flags.clone(),
                shown: Shown::Token { hash, expires: grant.expires },
                actor: Arc::new(Actor::new(ActorKind::Token, grant.subject())),
            },
            Good::Key(key) => Caller {
                tenant: Tenant::org(key.org.clone()),
                rights: Rights::Key(key.scopes),
                flags: Vec::new(),
                shown: Shown::Key(key.id),
                actor: Arc::new(Actor::new(ActorKind::Key, key.called())),
            },
            Good::Poller(token) => Caller {
                tenant: Tenant { org: token.org.clone(), only: Some(token.app_id) },
                rights: Rights::Poller(token.polling_endpoint_id),
                flags: Vec::new(),
                shown: Shown::Token { hash, expires: token.expires_at },
                actor: Arc::new(Actor::new(ActorKind::Token, token.censored())),
            },
            Good::AutoConfig(subscription) => Caller {
                tenant: Tenant { org: subscription.org.clone(), only: Some(subscription.app_id) },
                rights: Rights::AutoConfig(subscription.id),
                flags: Vec::new(),
                shown: Shown::Token { hash, expires: None },
                actor: Arc::new(Actor::new(ActorKind::Token, subscription.censored())),
            },
        }
    }
}

/// When a key was used.
struct Use {
    last: Time,
    /// What the store knows of it.
    written: Time,
    /// Not written again before.
    rest_until: Time,
}

impl Callers {
    /// Those who show keys of `store`, or tokens of `tokens` that it does not know as logged out.
    pub fn new(store: Store, tokens: Tokens, traffic: Traffic) -> Callers {
        let (known, uses) = (RwLock::default(), Mutex::default());
        Callers { inner: Arc::new(Inner { store, tokens, traffic, known, uses }) }
    }

    /// How often callers may call.
    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }

    /// What makes tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// The caller with this token or key, where that can be said without asking the store: it said so lately, or it is no token at all. `from` gives the
    /// address that they call from, if it is known.
    pub(super) fn at_once(
        &self,
        shown: &str,
        from: impl Fn() -> Option<IpAddr>,
        now: Time,
    ) -> Option<Result<Arc<Caller>, Denied>> {
        let hash = key::hash(shown);
        let Some(known) = self.known(&hash) else {
            // Nonsense costs the store nothing.
            let verified = (!key::is_key(shown)).then(|| self.inner.tokens.verify(shown))?;
            let error = verified.and_then(|grant| grant.at(now)).err()?;
            return Some(Err(self.stranger(from()).err().unwrap_or(error.into())));
        };
        if let Err(denied) = known.good.at(now) {
            return Some(Err(self.stranger(from()).err().unwrap_or(denied)));
        }
        let asked_for = Instant::now();
        let age = asked_for.saturating_duration_since(known.asked);
        if age >= LIFE {
            return None;
        }
        if age >= FRESH && !known.asking.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().ask_again(hash, known.clone(), now));
        }
        if let Err(limited) = known.bucket.take(asked_for) {
            return Some(Err(limited.into()));
        }
        self.note(&known.caller, now);
        Some(Ok(known.caller.clone()))
    }

    /// The caller with this token or key, by asking the store. The request is taken out of a bucket first: the store is asked no more often than a limit
    /// allows, whatever is shown.
    ///
    /// # Errors
    /// Nobody that may, too many requests, or the store is away.
    pub(super) async fn find(&self, shown: &str, from: Option<IpAddr>, now: Time) -> Result<Arc<Caller>, Denied> {
        let hash = key::hash(shown);
        let asked = Instant::now();
        let before = match self.known(&hash) {
            Some(known) => Some(known.good.clone()),
            None if key::is_key(shown) => None,
            None => Some(Good::Token(self.inner.tokens.verify(shown)?)),
        };
        let good = match &before {
            Some(good) => {
                self.inner.traffic.limits.take(good.who(), asked)?;
                self.still_good(&hash, good, now).await?
            }
            None => {
                self.stranger(from)?;
                match () {
                    () if polling::is_polling_token(shown) => self.poller(&hash).await?,
                    () if autoconfig::is_autoconfig_token(shown) => self.subscription(&hash).await?,
                    () => self.key(&hash).await?,
                }
            }
        };
        good.at(now)?;
        let (caller, bucket) = (Arc::new(good.caller(hash)), self.bucket(&good));
        self.remember(hash, Known { caller: caller.clone(), good, bucket, asked, asking: AtomicBool::new(false) }, now);
        self.note(&caller, now);
        Ok(caller)
    }

    /// A request without a good token, from this address.
    ///
    /// # Errors
    /// Too many came from there.
    pub(super) fn stranger(&self, from: Option<IpAddr>) -> Result<(), Denied> {
        match from {
            Some(from) => Ok(self.inner.traffic.limits.take_of_address(from, Instant::now())?),
            None => Ok(()),
        }
    }

    fn bucket(&self, good: &Good) -> Arc<Bucket> {
        self.inner.traffic.limits.bucket(good.who(), Instant::now())
    }

    /// Refuses a token from now on, here at once and in other processes within [`LIFE`].
    ///
    /// # Errors
    /// The store is away.
    pub(super) async fn log_out(&self, hash: &TokenHash, until: Time) -> Result<(), StoreError> {
        self.inner.store.revoke_token(hash, until).await?;
        self.forget(hash);
        Ok(())
    }

    /// Writes when keys were used last, where the store does not know it yet. Called at the end of a process, so that nothing is lost.
    ///
    /// # Errors
    /// The store is away; it is written with the next use.
    pub async fn write_uses(&self) -> Result<(), StoreError> {
        let uses: Vec<(KeyId, Time)> = {
            let uses = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.iter().filter(|(_, one)| one.last > one.written).map(|(id, one)| (*id, one.last)).collect()
        };
        self.inner.store.api_keys_used(&uses).await?;
        let mut known = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, at) in uses {
            known.entry(id).and_modify(|one| one.written = one.written.max(at));
        }
        Ok(())
    }

    fn known(&self, hash: &TokenHash) -> Option<Arc<Known>> {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    async fn key(&self, hash: &TokenHash) -> Result<Good, Denied> {
        let key = self.inner.store.api_key_of(hash).await?.ok_or(Denied::UnknownKey)?;
        Ok(Good::Key(key))
    }

    async fn poller(&self, hash: &TokenHash) -> Result<Good, Denied> {
        let token = self.inner.store.polling_token_of(hash).await?.ok_or(Denied::UnknownKey)?;
        Ok(Good::Poller(token))
    }

    async fn subscription(&self, hash: &TokenHash) -> Result<Good, Denied> {
        let found = self.inner.store.autoconfig_of(hash).await?.ok_or(Denied::UnknownKey)?;
        Ok(Good::AutoConfig(Box::new(found)))
    }

    /// Asks the store again about a caller that was good; `now` is the wall clock's.
    async fn still_good(&self, hash: &TokenHash, before: &Good, now: Time) -> Result<Good, Denied> {
        match before {
            Good::Key(_) => self.key(hash).await,
            Good::Poller(_) if self.inner.store.is_token_revoked(hash).await? => Err(Denied::LoggedOut),
            Good::Poller(_) => self.poller(hash).await,
            Good::AutoConfig(_) if self.inner.store.is_token_revoked(hash).await? => Err(Denied::LoggedOut),
            Good::AutoConfig(_) => self.subscription(hash).await,
            Good::Token(_) if self.inner.store.is_token_revoked(hash).await? => Err(Denied::LoggedOut),
            Good::Token(grant) => {
                let Some(app) = grant.tenant.only else { return Ok(before.clone()) };
                let session = grant.session.as_deref();
                match self.inner.store.is_token_expired(app, session, grant.issued, now).await? {
                    true => Err(Denied::Expired),
                    false => Ok(before.clone()),
                }
            }
        }
    }

    async fn ask_again(self, hash: TokenHash, before: Arc<Known>, now: Time) {
        let asked = Instant::now();
        match self.still_good(&hash, &before.good, now).await {
            Ok(good) => {
                let (caller, bucket) = (Arc::new(good.caller(hash)), self.bucket(&good));
                let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
                // Who was logged out meanwhile is not brought back.
                if let Some(place) = known.get_mut(&hash).filter(|place| Arc::ptr_eq(place, &before)) {
                    *place = Arc::new(Known { caller, good, bucket, asked, asking: AtomicBool::new(false) });
                }
            }
            // Believed until the end of its life, and then the caller hears of it.
            Err(Denied::Store(_)) => before.asking.store(false, Ordering::Relaxed),
            Err(_) => self.forget(&hash),
        }
    }

    /// Bounded: when it is full, what is old goes, and if that is nothing, everything.
    fn remember(&self, hash: TokenHash, one: Known, now: Time) {
        let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, one| one.asked.elapsed() < LIFE && one.good.at(now).is_ok());
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(hash, Arc::new(one));
    }

    /// Asks the store again about an application's tokens, here at once and in other processes within [`LIFE`].
    pub(super) fn forget_application(&self, app: AppId) {
        let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, one| one.caller.tenant.only != Some(app));
    }

    fn forget(&self, hash: &TokenHash) {
        self.inner.known.write().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// Notes that a key was used, and has it written behind the answer if that was not done lately.
    fn note(&self, caller: &Caller, now: Time) {
        let Shown::Key(id) = caller.shown else { return };
        {
            let mut uses = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
            let one = uses.entry(id).or_insert(Use { last: now, written: Time::ZERO, rest_until: Time::ZERO });
            one.last = one.last.max(now);
            if now < one.rest_until {
                return;
            }
            one.rest_until = now.plus(USE);
        }
        let callers = self.clone();
        tokio::spawn(async move {
            if let Err(error) = callers.write_uses().await {
                tracing::warn!(%error, key = %id, "when an API key was used is not written yet: tried again with its next use");
                let mut uses = callers.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
                uses.entry(id).and_modify(|one| one.rest_until = now.plus(USE_AGAIN));
            }
        });
    }
}

#[cfg(test)]
mod tests;
