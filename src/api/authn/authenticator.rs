//! Authentication: turns the API key or JWT of a request into a [`Caller`].
//!
//! Only the store knows which credentials were revoked. To save a query per request, callers are cached for
//! [`MAX_AGE`], so every process **rejects a revoked credential within 3 seconds**. After [`REFRESH_AGE`] an entry is
//! refreshed in the background, so a frequent caller never waits.
//!
//! Each request counts against a [rate limit](crate::traffic::rate_limits): the caller's, or without a valid credential
//! the address's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::api::authn::credential::{AuthenticationError, Caller, Credential, CredentialRef};
use crate::api::authn::jwt::Tokens;
use crate::api::authn::key_usage::KeyUsageLog;
use crate::domain::access::api_key;
use crate::domain::catalog::{autoconfig, polling};
use crate::domain::{AppId, Time};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{Store, StoreError};
use crate::traffic::Traffic;
use crate::traffic::rate_limits::TokenBucket;

/// Capacity of the cache, in callers.
const CACHE_CAPACITY: usize = 1_024;
/// Age at which a cached caller is refreshed in the background.
const REFRESH_AGE: Duration = Duration::from_secs(1);
/// Age at which a cached caller is no longer used.
pub const MAX_AGE: Duration = Duration::from_secs(3);

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
    usage: KeyUsageLog,
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

impl Authenticator {
    /// Accepts the keys of `store`, and tokens of `tokens` that `store` does not list as logged out.
    pub fn new(store: Store, tokens: Tokens, traffic: Traffic) -> Authenticator {
        let (cache, usage) = (RwLock::default(), KeyUsageLog::new(store.clone()));
        Authenticator { inner: Arc::new(Inner { store, tokens, traffic, cache, usage }) }
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
        let entry = self.entry(hash, credential, checked_at);
        let caller = entry.caller.clone();
        self.insert(hash, entry, now);
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

    /// The cache entry of a credential that was valid at `checked_at`.
    fn entry(&self, hash: TokenHash, verified: Credential, checked_at: Instant) -> CachedCaller {
        let bucket = self.inner.traffic.limits.bucket(verified.limit_subject(), Instant::now());
        let (caller, refreshing) = (Arc::new(verified.caller(hash)), AtomicBool::new(false));
        CachedCaller { caller, verified, bucket, checked_at, refreshing }
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

    /// Writes the uses of keys that the store does not have yet. Also called at shutdown, so no use is lost.
    ///
    /// # Errors
    /// The store is unavailable; the next use of a key retries.
    pub async fn write_key_usage(&self) -> Result<(), StoreError> {
        self.inner.usage.write().await
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
                let entry = self.entry(hash, credential, checked_at);
                let mut cache = self.inner.cache.write().unwrap_or_else(PoisonError::into_inner);
                // A token that was logged out meanwhile must not return to the cache.
                if let Some(place) = cache.get_mut(&hash).filter(|place| Arc::ptr_eq(place, &before)) {
                    *place = Arc::new(entry);
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

    fn record_use(&self, caller: &Caller, now: Time) {
        if let CredentialRef::Key(id) = caller.credential {
            self.inner.usage.record(id, now);
        }
    }
}

#[cfg(test)]
mod tests;
