//! JWTs, signed as configured by the installation's [`TokenKey`]. The claim `sub` is an organization (`org_…`) or, with
//! a claim `org`, one of its applications (`app_…`). An application token may also carry feature flags (`flags`) and a
//! restricted set of capabilities (`caps`): portal sessions use both.
//!
//! * [`Tokens`]: issues and verifies tokens. Stateless: [`crate::api::authn::authenticator`] handles revocation.
//! * [`Grant`]: the verified content of a token: tenant, permissions and period of validity.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::api::authn::jwt_crypto;
use crate::api::authn::permissions::Permissions;
use crate::domain::access::portal::{Capability, PortalOptions};
use crate::domain::access::token_key::{Algorithm, PublicKey, TokenKey};
use crate::domain::{AppId, OrgId, Time};
use crate::store::Tenant;

/// Clock skew tolerated in `nbf`: the issuer's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// Issues and verifies tokens. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    algorithm: Algorithm,
    /// `None` with a public key, which can only verify.
    signing: Option<EncodingKey>,
    /// The key, and the one that it replaces, if its tokens are still accepted.
    verifying: Vec<DecodingKey>,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// The content of a token with a valid signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Grant {
    pub tenant: Tenant,
    pub permissions: Permissions,
    pub flags: Vec<String>,
    /// The portal session it was issued for, under the name the team gave it.
    pub session: Option<String>,
    /// [`Time::ZERO`] without `iat`.
    pub issued: Time,
    pub not_before: Option<Time>,
    pub expires: Option<Time>,
}

/// The reason a token is rejected. Reveals nothing of the secret or the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is neither an API key nor a JWT signed with {0} and this server's key")]
    Unreadable(Algorithm),
    #[error("the token's \"sub\" must be org_…, or app_… beside an \"org\" of org_…")]
    Subject,
    #[error("the token's \"flags\" and \"caps\" must be lists of strings")]
    ClaimType,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
}

/// The reason no token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error(
        "this server verifies tokens with a public key ({0}, SENDOFF_JWT_ALGORITHM) and has no private key to sign them: \
         sign tokens where the private key is, or use an API key"
    )]
    VerifiesOnly(Algorithm),
    #[error("the token could not be signed")]
    Failed,
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'static str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a OrgId>,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// `iat` in microseconds: tells apart tokens issued just before and just after a customer's access ended.
    iat_us: i64,
    /// Random, so one of two otherwise equal tokens can be logged out.
    jti: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    flags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    caps: Option<&'a [Capability]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
}

/// Times in a JWT are numbers of seconds and may have a fraction (RFC 7519, section 2, "NumericDate").
#[derive(Deserialize)]
struct Claims {
    sub: String,
    org: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iat_us: Option<i64>,
    // Used for application tokens only: organization tokens may come from other issuers, which may use these names
    // freely.
    #[serde(default)]
    flags: Value,
    #[serde(default)]
    caps: Value,
    #[serde(default)]
    sid: Value,
}

impl Tokens {
    /// Tokens signed with HS256 and `secret`.
    pub fn new(secret: &[u8]) -> Tokens {
        Tokens::with_key(&TokenKey::Shared(Algorithm::Hs256, Zeroizing::new(secret.to_vec())), None)
    }

    /// Tokens signed with `key`. Those signed with the shared secret `other` are accepted too.
    pub fn with_key(key: &TokenKey, other: Option<&[u8]>) -> Tokens {
        jwt_crypto::install();
        let algorithm = key.algorithm();
        let mut validation = Validation::new(name_of(algorithm));
        // `Grant::check_at` checks the times, and the subject replaces the audience.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let (signing, verifying) = match key {
            TokenKey::Shared(_, secret) => (Some(EncodingKey::from_secret(secret)), DecodingKey::from_secret(secret)),
            TokenKey::Public(_, PublicKey::Rsa(der)) => (None, DecodingKey::from_rsa_der(der)),
            TokenKey::Public(_, PublicKey::Ed25519(bytes)) => (None, DecodingKey::from_ed_der(bytes)),
        };
        let other = other.filter(|_| algorithm.is_shared()).map(DecodingKey::from_secret);
        let verifying = [verifying].into_iter().chain(other).collect();
        Tokens { inner: Arc::new(Inner { algorithm, signing, verifying, validation }) }
    }

    /// Checks that the key can sign, not only verify.
    ///
    /// # Errors
    /// The key is public.
    pub fn can_sign(&self) -> Result<(), MintError> {
        self.inner.signing.as_ref().map(drop).ok_or(MintError::VerifiesOnly(self.inner.algorithm))
    }

    /// A token for the organization, valid for `ttl` from `now`.
    ///
    /// # Errors
    /// The token could not be signed.
    pub fn mint_org(&self, org: &OrgId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(IssuedClaims { sub: org.as_str(), ..base_claims(now, now.plus(ttl)) })
    }

    /// A token for one application of `org`, valid for `ttl` from `now`.
    ///
    /// # Errors
    /// The token could not be signed.
    pub fn mint_app(&self, org: &OrgId, app: AppId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(IssuedClaims { sub: &app.to_string(), org: Some(org), ..base_claims(now, now.plus(ttl)) })
    }

    /// A token for a portal session: one application, restricted by `options`, valid for `ttl` from `now` by the wall
    /// clock.
    ///
    /// Ignores `options.until`: it is in Sendoff's time, and tokens carry wall-clock times.
    ///
    /// # Errors
    /// The token could not be signed.
    pub fn mint_portal(
        &self,
        org: &OrgId,
        app: AppId,
        options: &PortalOptions,
        now: Time,
        ttl: Duration,
    ) -> Result<String, MintError> {
        let (flags, caps) = (&options.feature_flags[..], options.capabilities.as_deref());
        let sid = options.session_id.as_deref();
        self.mint(IssuedClaims {
            sub: &app.to_string(),
            org: Some(org),
            flags,
            caps,
            sid,
            ..base_claims(now, now.plus(ttl))
        })
    }

    fn mint(&self, claims: IssuedClaims<'_>) -> Result<String, MintError> {
        self.can_sign()?;
        let signing = self.inner.signing.as_ref().ok_or(MintError::Failed)?;
        jsonwebtoken::encode(&Header::new(name_of(self.inner.algorithm)), &claims, signing)
            .map_err(|_| MintError::Failed)
    }

    /// Verifies the signature and subject of `token`. [`Grant::check_at`] checks its period of validity.
    ///
    /// # Errors
    /// A bad signature or subject.
    pub(in crate::api) fn verify(&self, token: &str) -> Result<Grant, TokenError> {
        let inner = &self.inner;
        let decoded = |key| jsonwebtoken::decode::<Claims>(token, key, &inner.validation).ok();
        let claims = inner.verifying.iter().find_map(decoded).ok_or(TokenError::Unreadable(inner.algorithm))?.claims;
        let org = claims.org.as_deref().map(str::parse::<OrgId>).transpose().map_err(|_| TokenError::Subject)?;
        let tenant = match (claims.sub.parse::<OrgId>(), claims.sub.parse::<AppId>(), org) {
            (Ok(org), _, None) => Tenant::org(org),
            // A redundant `org` claim is fine if it is the same.
            (Ok(org), _, Some(same)) if org == same => Tenant::org(org),
            (_, Ok(app), Some(org)) => Tenant { org, only: Some(app) },
            _ => return Err(TokenError::Subject),
        };
        let (permissions, flags) = match tenant.only {
            None => (Permissions::All, Vec::new()),
            Some(_) => {
                let caps = string_list(claims.caps)?;
                // An unknown capability, of a later release, grants nothing.
                let caps = caps.map(|caps| caps.iter().filter_map(|word| Capability::from_word(word)).collect());
                (Permissions::Application(caps), string_list(claims.flags)?.unwrap_or_default())
            }
        };
        let session = tenant.only.and(claims.sid.as_str()).map(str::to_owned);
        let issued = claims.iat_us.map(Time::from_micros).or(claims.iat.map(time)).unwrap_or(Time::ZERO);
        let (not_before, expires) = (claims.nbf.map(time), claims.exp.map(time));
        Ok(Grant { tenant, permissions, flags, session, issued, not_before, expires })
    }
}

impl Grant {
    /// The token's `sub`.
    pub fn subject(&self) -> String {
        self.tenant.only.map_or_else(|| self.tenant.org.to_string(), |app| app.to_string())
    }

    /// Checks the period of validity.
    ///
    /// # Errors
    /// Expired, or not valid yet.
    pub fn check_at(&self, now: Time) -> Result<(), TokenError> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|from| now.plus(CLOCK_SKEW) < from) {
            return Err(TokenError::TooEarly);
        }
        Ok(())
    }
}

/// The claims of every token Sendoff issues.
fn base_claims<'a>(now: Time, until: Time) -> IssuedClaims<'a> {
    let jti = URL_SAFE_NO_PAD.encode(rand::random::<u128>().to_be_bytes());
    let (iat_us, now, exp) = (now.micros(), now.seconds(), until.seconds());
    IssuedClaims {
        iss: "sendoff",
        sub: "",
        org: None,
        iat: now,
        nbf: now,
        exp,
        iat_us,
        jti,
        flags: &[],
        caps: None,
        sid: None,
    }
}

fn string_list(claim: Value) -> Result<Option<Vec<String>>, TokenError> {
    serde_json::from_value(claim).map_err(|_| TokenError::ClaimType)
}

fn name_of(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// Saturates: a time beyond the calendar means never.
fn time(seconds: f64) -> Time {
    Time::from_micros((seconds * 1e6) as i64)
}

#[cfg(test)]
mod tests;
