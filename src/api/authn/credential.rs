//! Credentials and the callers that they stand for.
//!
//! * [`Caller`]: an authenticated caller and its permissions.
//! * [`Credential`]: an API key, a token, a polling token or an autoconfig token, as it was last read or verified.
//! * [`AuthenticationError`]: no valid credential (401), a rate limit (429), or the store is unavailable (503).

use std::sync::Arc;

use crate::api::authn::jwt::{Grant, TokenError};
use crate::api::authn::permissions::Permissions;
use crate::api::http::errors::ApiError;
use crate::domain::access::api_key::ApiKey;
use crate::domain::access::audit::{Actor, ActorKind};
use crate::domain::catalog::autoconfig::AutoConfig;
use crate::domain::catalog::polling::PollingToken;
use crate::domain::{KeyId, OrgId, Time};
use crate::store::access::sign_in_links::TokenHash;
use crate::store::{StoreError, Tenant};
use crate::traffic::rate_limits::{CallerId, RateLimitExceeded};

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

#[derive(Clone)]
pub(in crate::api::authn) enum Credential {
    Token(Grant),
    Key(ApiKey),
    Poller(PollingToken),
    AutoConfig(Box<AutoConfig>),
}

impl Credential {
    /// Checks the validity by the clock.
    ///
    /// # Errors
    /// The credential has expired or was revoked.
    pub(in crate::api::authn) fn check_at(&self, now: Time) -> Result<(), AuthenticationError> {
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
    pub(in crate::api::authn) fn limit_subject(&self) -> CallerId {
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

    /// The caller with this credential, whose hash is `hash`.
    pub(in crate::api::authn) fn caller(&self, hash: TokenHash) -> Caller {
        let token = |expires| CredentialRef::Token { hash, expires };
        let within = |org: &OrgId, app| Tenant { org: org.clone(), only: Some(app) };
        let (tenant, permissions, credential, kind, name) = match self {
            Credential::Token(grant) => (
                grant.tenant.clone(),
                grant.permissions.clone(),
                token(grant.expires),
                ActorKind::Token,
                grant.subject(),
            ),
            Credential::Key(key) => {
                let permissions = Permissions::Key(key.scopes);
                (Tenant::org(key.org.clone()), permissions, CredentialRef::Key(key.id), ActorKind::Key, key.label())
            }
            Credential::Poller(one) => {
                let permissions = Permissions::Poller(one.polling_endpoint_id);
                (within(&one.org, one.app_id), permissions, token(one.expires_at), ActorKind::Token, one.censored())
            }
            Credential::AutoConfig(one) => {
                let permissions = Permissions::AutoConfig(one.id);
                (within(&one.org, one.app_id), permissions, token(None), ActorKind::Token, one.censored())
            }
        };
        let flags = match self {
            Credential::Token(grant) => grant.flags.clone(),
            Credential::AutoConfig(subscription) => subscription.feature_flags.clone(),
            Credential::Key(_) | Credential::Poller(_) => Vec::new(),
        };
        let (limited_as, actor) = (self.limit_subject(), Arc::new(Actor::new(kind, name)));
        Caller { tenant, permissions, flags, credential, limited_as, actor }
    }
}
