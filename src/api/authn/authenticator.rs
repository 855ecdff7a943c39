//! Authentication: turns the API key or JWT of a request into a [`Caller`].
//!
//! Only the store knows which credentials were revoked. To save a query per request, callers are cached for
//! [`MAX_AGE`], so every process **rejects a revoked credential within 3 seconds**. After [`REFRESH_AGE`] an entry is
//! refreshed in the background, so a frequent caller never waits.
//!
//! * [`Caller`]: an authenticated caller and its permissions.
//! * [`Authenticator`]: authenticates and caches callers, tracks the last use of keys, and counts each request against
//!   a [rate limit](crate::traffic::rate_limits): the caller's, or without a valid credential the address's.
//! * [`AuthenticationError`]: no valid credential (401), a rate limit (429), or the store is unavailable (503).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::api::authn::jwt::{Grant, TokenError, Tokens};
use crate::api::authn::permissions::Permissions;
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
use crate::traffic::rate_limits::{CallerId, RateLimitExceeded, TokenBucket};

/// Capacity of the cache, in callers.
const CACHE_CAPACITY: usize = 1_024;
/// Age at which a cached caller is refreshed in the background.
const REFRESH_AGE: Duration = Duration::from_secs(1);
/// Age at which a cached caller is no longer used.
pub const MAX_AGE: Duration = Duration::from_secs(3);
/// Minimum interval between two writes of a key's last use.
const USAGE_INTERVAL: Duration = Duration::from_secs(60);
/// Minimum interval after a failed write.
const USAGE_RETRY: Duration = Duration::from_secs(10);

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Caller {
    pub tenant: Tenant,
    pub permissions: Permissions,
    /// Feature flags of an application token: event types behind other flags are hidden from it.
    pub flags: Vec<String>,
    pub credential: CredentialRef,
    /// The subject of its limits.
    pub limited_as: CallerId,
    /// The actor in the audit log.
    pub actor: Arc<Actor>,
}

/// The credential of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) enum CredentialRef {
    /// `expires` is `None` for a token without `exp`.
    Token {
        hash: TokenHash,
        expires: Option<Time>,
    },
    Key(KeyId),
}

/// The reason a request was not authenticated.
#[derive(Clone, Debug, thiserror::Error)]
pub(in crate::api) enum AuthenticationError {
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
    Limited(#[from] RateLimitExceeded),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AuthenticationError> for ApiError {
    fn from(denied: AuthenticationError) -> ApiError {
        match denied {
            // Not a 401: the credential may be valid.
            AuthenticationError::Store(error) => error.into(),
            AuthenticationError::Limited(limited) => limited.into(),
            denied => ApiError::unauthorized(denied.to_string()),
        }
    }
}

/// Authenticates callers. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tokens: Tokens,
    traffic: Traffic,
    cache: RwLock<HashMap<TokenHash, Arc<CachedCaller>>>,
    uses: Mutex<HashMap<KeyId, KeyUsage>>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authenticator(redacted)")
    }
}

/// A caller whose credential was valid at the last check.
struct CachedCaller {
    caller: Arc<Caller>,
    verified: Credential,
    bucket: Arc<TokenBucket>,
    /// Taken before the last check, so the age includes the duration of the check.
    checked_at: Instant,
    /// A refresh is in progress.
    refreshing: AtomicBool,
}

#[derive(Clone)]
enum Credential {
    Token(Grant),
    Key(ApiKey),
    Poller(PollingToken),
    AutoConfig(Box<AutoConfig>),
}

impl Credential {
    fn check_at(&self, now: Time) -> Result<(), AuthenticationError> {
        match self {
            Credential::Token(grant) => Ok(grant.check_at(now)?),
            Credential::Key(key) => key.check_valid_at(now).map_err(AuthenticationError::Key),
            Credential::Poller(token) if token.is_valid_at(now) => Ok(()),
            Credential::Poller(_) => Err(AuthenticationError::Key("the polling token has expired")),
            Credential::AutoConfig(_) => Ok(()),
        }
    }

    /// The subject of the rate limit. All tokens of an application share one limit, and so do all tokens of an
    /// organization: issuing more tokens does not raise it.
    fn limit_subject(&self) -> CallerId {
        match self {
            Credential::Key(key) => CallerId::Key(key.id),
            Credential::Poller(token) => CallerId::Application(token.app_id),
            Credential::AutoConfig(subscription) => CallerId::Application(subscription.app_id),
            Credential::Token(grant) => match grant.tenant.only {
                Some(app) => CallerId::Application(app),
                None => CallerId::Organization(grant.tenant.org.clone()),
            },
        }
    }

    fn caller(&self, hash: TokenHash) -> Caller {
        match self {
            Credential::Token(grant) => Caller {
                tenant: grant.tenant.clone(),
                permissions: grant.permissions.clone(),
                flags: grant.flags.clone(),
                limited_as: self.limit_subject(),
                credential: CredentialRef::Token { hash, expires: grant.expires },
                actor: Arc::new(Actor::new(ActorKind::Token, grant.subject())),
            },
            Credential::Key(key) => Caller {
                tenant: Tenant::org(key.org.clone()),
                permissions: Permissions::Key(key.scopes),
                flags: Vec::new(),
                limited_as: self.limit_subject(),
                credential: CredentialRef::Key(key.id),
                actor: Arc::new(Actor::new(ActorKind::Key, key.label())),
            },
            Credential::Poller(token) => Caller {
                tenant: Tenant { org: token.org.clone(), only: Some(token.app_id) },
                permissions: Permissions::Poller(token.polling_endpoint_id),
                flags: Vec::new(),
                limited_as: self.limit_subject(),
                credential: CredentialRef::Token { hash, expires: token.expires_at },
                actor: Arc::new(Actor::new(ActorKind::Token, token.censored())),
            },
            Credential::AutoConfig(subscription) => Caller {
                tenant: Tenant { org: subscription.org.clone(), only: Some(subscription.app_id) },
                permissions: Permissions::AutoConfig(subscription.id),
                flags: subscription.feature_flags.clone(),
                limited_as: self.limit_subject(),
                credential: CredentialRef::Token { hash, expires: None },
                actor: Arc::new(Actor::new(ActorKind::Token, subscription.censored())),
            },
        }
    }
}

/// The last use of a key.
struct KeyUsage {
    last: Time,
    /// The last use written to the store.
    written: Time,
    /// No write before this time.
    rest_until: Time,
}

impl Authenticator {
    /// Accepts the keys of `store`, and tokens of `tokens` that `store` does not list as logged out.
    pub fn new(store: Store, tokens: Tokens, traffic: Traffic) -> Authenticator {
        let (cache, uses) = (RwLock::default(), Mutex::default());
        Authenticator { inner: Arc::new(Inner { store, tokens, traffic, cache, uses }) }
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
    pub(in crate::api) fn authenticate_cached(
        &self,
        shown: &str,
        from: impl Fn() -> Option<IpAddr>,
        now: Time,
    ) -> Option<Result<Arc<Caller>, AuthenticationError>> {
        let hash = api_key::hash(shown);
        let Some(cached) = self.cached(&hash) else {
            // A token with a bad signature needs no query.
            let verified = (!api_key::is_key(shown)).then(|| self.inner.tokens.verify(shown))?;
            let error = verified.and_then(|grant| grant.check_at(now)).err()?;
            return Some(Err(self.limit_anonymous(from()).err().unwrap_or(error.into())));
        };
        if let Err(denied) = cached.verified.check_at(now) {
            return Some(Err(self.limit_anonymous(from()).err().unwrap_or(denied)));
        }
        let instant = Instant::now();
        let age = instant.saturating_duration_since(cached.checked_at);
        if age >= MAX_AGE {
            return None;
        }
        if age >= REFRESH_AGE && !cached.refreshing.swap(true, Ordering::Relaxed) {
            tokio::spawn(self.clone().refresh(hash, cached.clone(), now));
        }
        if let Err(limited) = cached.bucket.take(instant) {
            return Some(Err(limited.into()));
        }
        self.record_use(&cached.caller, now);
        Some(Ok(cached.caller.clone()))
    }

    /// Authenticates with the store. The request is counted against a rate limit first, so no credential can cause more
    /// queries than the limit allows.
    ///
    /// # Errors
    /// An invalid credential, a rate limit, or an unavailable store.
    pub(in crate::api) async fn authenticate(
        &self,
        shown: &str,
        from: Option<IpAddr>,
        now: Time,
    ) -> Result<Arc<Caller>, AuthenticationError> {
        let hash = api_key::hash(shown);
        let checked_at = Instant::now();
        let before = match self.cached(&hash) {
            Some(cached) => Some(cached.verified.clone()),
            None if api_key::is_key(shown) => None,
            None => Some(Credential::Token(self.inner.tokens.verify(shown)?)),
        };
        let credential = match &before {
            Some(credential) => {
                self.inner.traffic.limits.take(credential.limit_subject(), checked_at)?;
                self.recheck(&hash, credential, now).await?
            }
            None => {
                self.limit_anonymous(from)?;
                match () {
                    () if polling::is_polling_token(shown) => self.poller(&hash).await?,
                    () if autoconfig::is_autoconfig_token(shown) => self.subscription(&hash).await?,
                    () => self.key(&hash).await?,
                }
            }
        };
        credential.check_at(now)?;
        let (caller, bucket) = (Arc::new(credential.caller(hash)), self.bucket(&credential));
        self.insert(
            hash,
            CachedCaller {
                caller: caller.clone(),
                verified: credential,
                bucket,
                checked_at,
                refreshing: AtomicBool::new(false),
            },
            now,
        );
        self.record_use(&caller, now);
        Ok(caller)
    }

    /// Counts a request without a valid credential against its address.
    ///
    /// # Errors
    /// The address exceeds its limit.
    pub(in crate::api) fn limit_anonymous(&self, from: Option<IpAddr>) -> Result<(), AuthenticationError> {
        match from {
            Some(from) => Ok(self.inner.traffic.limits.take_of_address(from, Instant::now())?),
            None => Ok(()),
        }
    }

    fn bucket(&self, credential: &Credential) -> Arc<TokenBucket> {
        self.inner.traffic.limits.bucket(credential.limit_subject(), Instant::now())
    }

    /// Logs a token out: it is rejected here at once, and in other processes within [`MAX_AGE`].
    ///
    /// # Errors
    /// The store is unavailable.
    pub(in crate::api) async fn log_out(&self, hash: &TokenHash, until: Time) -> Result<(), StoreError> {
        self.inner.store.revoke_token(hash, until).await?;
        self.evict(hash);
        Ok(())
    }

    /// Writes the uses that the store does not have yet. Also called at shutdown, so no use is lost.
    ///
    /// # Errors
    /// The store is unavailable; the next use of the key retries.
    pub async fn write_key_usage(&self) -> Result<(), StoreError> {
        let uses: Vec<(KeyId, Time)> = {
            let uses = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.iter().filter(|(_, one)| one.last > one.written).map(|(id, one)| (*id, one.last)).collect()
        };
        self.inner.store.api_keys_used(&uses).await?;
        let mut usage = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, at) in uses {
            usage.entry(id).and_modify(|one| one.written = one.written.max(at));
        }
        Ok(())
    }

    fn cached(&self, hash: &TokenHash) -> Option<Arc<CachedCaller>> {
        self.inner.cache.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    async fn key(&self, hash: &TokenHash) -> Result<Credential, AuthenticationError> {
        let key = self.inner.store.api_key_by_hash(hash).await?.ok_or(AuthenticationError::UnknownKey)?;
        Ok(Credential::Key(key))
    }

    async fn poller(&self, hash: &TokenHash) -> Result<Credential, AuthenticationError> {
        let token = self.inner.store.polling_token_by_hash(hash).await?.ok_or(AuthenticationError::UnknownKey)?;
        Ok(Credential::Poller(token))
    }

    async fn subscription(&self, hash: &TokenHash) -> Result<Credential, AuthenticationError> {
        let found = self.inner.store.autoconfig_by_hash(hash).await?.ok_or(AuthenticationError::UnknownKey)?;
        Ok(Credential::AutoConfig(Box::new(found)))
    }

    /// Checks a previously valid credential against the store; `now` is wall-clock time.
    async fn recheck(
        &self,
        hash: &TokenHash,
        before: &Credential,
        now: Time,
    ) -> Result<Credential, AuthenticationError> {
        match before {
            Credential::Key(_) => self.key(hash).await,
            Credential::Poller(_) if self.inner.store.is_token_revoked(hash).await? => {
                Err(AuthenticationError::LoggedOut)
            }
            Credential::Poller(_) => self.poller(hash).await,
            Credential::AutoConfig(_) if self.inner.store.is_token_revoked(hash).await? => {
                Err(AuthenticationError::LoggedOut)
            }
            Credential::AutoConfig(_) => self.subscription(hash).await,
            Credential::Token(_) if self.inner.store.is_token_revoked(hash).await? => {
                Err(AuthenticationError::LoggedOut)
            }
            Credential::Token(grant) => {
                let Some(app) = grant.tenant.only else { return Ok(before.clone()) };
                let session = grant.session.as_deref();
                match self.inner.store.is_token_expired(app, session, grant.issued, now).await? {
                    true => Err(AuthenticationError::Expired),
                    false => Ok(before.clone()),
                }
            }
        }
    }

    async fn refresh(self, hash: TokenHash, before: Arc<CachedCaller>, now: Time) {
        let checked_at = Instant::now();
        match self.recheck(&hash, &before.verified, now).await {
            Ok(credential) => {
                let (caller, bucket) = (Arc::new(credential.caller(hash)), self.bucket(&credential));
                let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
                // A token that was logged out meanwhile must not return to the cache.
                if let Some(place) = cache.get_mut(&hash).filter(|place| Arc::ptr_eq(place, &before)) {
                    *place = Arc::new(CachedCaller {
                        caller,
                        verified: credential,
                        bucket,
                        checked_at,
                        refreshing: AtomicBool::new(false),
                    });
                }
            }
            // The entry stays until [`MAX_AGE`]; then the caller gets the error.
            Err(AuthenticationError::Store(_)) => before.refreshing.store(false, Ordering::Relaxed),
            Err(_) => self.evict(&hash),
        }
    }

    /// Inserts into the bounded cache. When it is full, stale entries are dropped; if none is stale, all are dropped.
    fn insert(&self, hash: TokenHash, one: CachedCaller, now: Time) {
        let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_CAPACITY {
            cache.retain(|_, one| one.checked_at.elapsed() < MAX_AGE && one.verified.check_at(now).is_ok());
        }
        if cache.len() >= CACHE_CAPACITY {
            cache.clear();
        }
        cache.insert(hash, Arc::new(one));
    }

    /// Drops an application's tokens from the cache, so the next request checks the store. In other processes they
    /// expire within [`MAX_AGE`].
    pub(in crate::api) fn evict_application(&self, app: AppId) {
        let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
        cache.retain(|_, one| one.caller.tenant.only != Some(app));
    }

    fn evict(&self, hash: &TokenHash) {
        self.inner.cache.write().unwrap_or_else(PoisonError::into_inner).remove(hash);
    }

    /// Records the use of a key. Writes it in the background, at most once per [`USAGE_INTERVAL`].
    fn record_use(&self, caller: &Caller, now: Time) {
        let CredentialRef::Key(id) = caller.credential else { return };
        {
            let mut uses = self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
            let one = uses.entry(id).or_insert(KeyUsage { last: now, written: Time::ZERO, rest_until: Time::ZERO });
            one.last = one.last.max(now);
            if now < one.rest_until {
                return;
            }
            one.rest_until = now.plus(USAGE_INTERVAL);
        }
        let authenticator = self.clone();
        tokio::spawn(async move {
            if let Err(error) = authenticator.write_key_usage().await {
                tracing::warn!(%error, key = %id, "the last use of an API key was not recorded: retrying with its next use");
                let mut uses = authenticator.inner.uses.lock().unwrap_or_else(PoisonError::into_inner);
                uses.entry(id).and_modify(|one| one.rest_until = now.plus(USAGE_RETRY));
            }
        });
    }
}

#[cfg(test)]
mod tests;
