//! Authentication: turns the API key or JWT of a request into a [`Caller`].
//!
//! Both can be revoked at any time, which only the store knows. To avoid a query for every request, its answer is
//! cached for [`LIFE`]: **a revoked credential is rejected within 3 seconds** by every process. After [`FRESH`] the
//! entry is refreshed in the background, so a frequent caller never waits.
//!
//! * [`Caller`]: an authenticated caller and its permissions.
//! * [`Callers`]: authenticates and caches callers, tracks the last use of keys, and counts each request against a
//!   [rate limit](crate::traffic::rate_limits): the caller's, or the address's when there is no valid credential.
//! * [`Denied`]: no valid credential (401), a rate limit (429), or the store is unavailable (503).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::api::authn::jwt::{Grant, TokenError, Tokens};
use crate::api::authn::permissions::Rights;
use crate::api::http::errors::ApiError;
use crate::domain::access::api_key;
use crate::domain::access::api_key::ApiKey;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::catalog::autoconfig;
use crate::domain::catalog::autoconfig::AutoConfig;
use crate::domain::catalog::polling;
use crate::domain::catalog::polling::PollingToken;
use crate::domain::{AppId, KeyId, Time};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{Store, StoreError, Tenant};
use crate::traffic::Traffic;
use crate::traffic::rate_limits::{Bucket, Limited, Who};

/// Capacity of the cache, in callers.
const REMEMBERED: usize = 1_024;
/// Age at which a cached caller is refreshed in the background.
const FRESH: Duration = Duration::from_secs(1);
/// Age at which a cached caller is no longer used.
pub const LIFE: Duration = Duration::from_secs(3);
/// Least time between two writes of a key's last use.
const USE: Duration = Duration::from_secs(60);
/// The same after a failed write.
const USE_AGAIN: Duration = Duration::from_secs(10);

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Caller {
    pub tenant: Tenant,
    pub rights: Rights,
    /// Feature flags of an application token: event types behind other flags are hidden from it.
    pub flags: Vec<String>,
    pub shown: Shown,
    /// The actor in the audit log.
    pub actor: Arc<Actor>,
}

/// The credential of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum Shown {
    /// `expires` is `None` for a token without `exp`.
    Token {
        hash: TokenHash,
        expires: Option<Time>,
    },
    Key(KeyId),
}

/// Why a request is not authenticated.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::api) enum Denied {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the token has been logged out")]
    LoggedOut,
    #[error("the application's tokens issued before this time were revoked")]
    Expired,
    #[error("the API key or token is unknown")]
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
            // The credential may be valid.
            Denied::Store(error) => error.into(),
            Denied::Limited(limited) => limited.into(),
            denied => ApiError::unauthorized(denied.to_string()),
        }
    }
}

/// Authenticates callers. Cheap to clone; clones share the cache.
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

/// A caller whose credential was valid at the last check.
struct Known {
    caller: Arc<Caller>,
    good: Good,
    bucket: Arc<Bucket>,
    /// Just before that check.
    asked: Instant,
    /// A refresh is in progress.
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

    /// The subject of the rate limit. All tokens of an application share one limit, and so do all tokens of an
    /// organization: issuing more tokens does not raise it.
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

/// The last use of a key.
struct Use {
    last: Time,
    /// The last use that the store has.
    written: Time,
    /// No write before this time.
    rest_until: Time,
}

impl Callers {
    /// Accepts the keys of `store`, and tokens of `tokens` that `store` does not list as logged out.
    pub fn new(store: Store, tokens: Tokens, traffic: Traffic) -> Callers {
        let (known, uses) = (RwLock::default(), Mutex::default());
        Callers { inner: Arc::new(Inner { store, tokens, traffic, known, uses }) }
    }

    /// The rate limits.
    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }

    /// Issues and verifies tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// Authenticates without the store: `None` unless the credential is cached or cannot be valid. `from` returns the
    /// client address, if it is known.
    pub(in crate::api) fn at_once(
        &self,
        shown: &str,
        from: impl Fn() -> Option<IpAddr>,
        now: Time,
    ) -> Option<Result<Arc<Caller>, Denied>> {
        let hash = api_key::hash(shown);
        let Some(known) = self.known(&hash) else {
            // A token with a bad signature needs no query.
            let verified = (!api_key::is_key(shown)).then(|| self.inner.tokens.verify(shown))?;
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

    /// Authenticates with the store. The request is counted against a rate limit first, so no credential can cause more
    /// queries than the limit allows.
    ///
    /// # Errors
    /// An invalid credential, a rate limit, or an unavailable store.
    pub(in crate::api) async fn find(
        &self,
        shown: &str,
        from: Option<IpAddr>,
        now: Time,
    ) -> Result<Arc<Caller>, Denied> {
        let hash = api_key::hash(shown);
        let asked = Instant::now();
        let before = match self.known(&hash) {
            Some(known) => Some(known.good.clone()),
            None if api_key::is_key(shown) => None,
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

    /// Counts a request without a valid credential against its address.
    ///
    /// # Errors
    /// The address exceeds its limit.
    pub(in crate::api) fn stranger(&self, from: Option<IpAddr>) -> Result<(), Denied> {
        match from {
            Some(from) => Ok(self.inner.traffic.limits.take_of_address(from, Instant::now())?),
            None => Ok(()),
        }
    }

    fn bucket(&self, good: &Good) -> Arc<Bucket> {
        self.inner.traffic.limits.bucket(good.who(), Instant::now())
    }

    /// Logs a token out: it is rejected here at once, and in other processes within [`LIFE`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub(in crate::api) async fn log_out(&self, hash: &TokenHash, until: Time) -> Result<(), StoreError> {
        self.inner.store.revoke_token(hash, until).await?;
        self.forget(hash);
        Ok(())
    }

    /// Writes the last use of keys where the store is behind. Also called at shutdown, so no use is lost.
    ///
    /// # Errors
    /// The store is unavailable; the next use of the key retries.
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

    /// Checks a once valid credential against the store; `now` is wall-clock time.
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
                // A token that was logged out meanwhile must not return to the cache.
                if let Some(place) = known.get_mut(&hash).filter(|place| Arc::ptr_eq(place, &before)) {
                    *place = Arc::new(Known { caller, good, bucket, asked, asking: AtomicBool::new(false) });
                }
            }
            // The entry stays until [`LIFE`]; then the caller gets the error.
            Err(Denied::Store(_)) => before.asking.store(false, Ordering::Relaxed),
            Err(_) => self.forget(&hash),
        }
    }

    /// Inserts into the bounded cache. When it is full, stale entries are dropped; if there are none, all are.
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

    /// Drops an application's tokens from the cache, so the next request checks the store. Other processes do within
    /// [`LIFE`].
    pub(in crate::api) fn forget_application(&self, app: AppId) {
        let mut known = self.inner.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, one| one.caller.tenant.only != Some(app));
    }

    fn forget(&self, hash: &TokenHash) {
        self.inner.known.write().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// Records the use of a key, and writes it in the background unless that was done recently.
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
                tracing::warn!(%error, key = %id, "the last use of an API key was not recorded: retrying with its next use");
                let mut uses = callers.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
                uses.entry(id).and_modify(|one| one.rest_until = now.plus(USE_AGAIN));
            }
        });
    }
}

#[cfg(test)]
mod tests;
