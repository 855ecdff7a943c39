//! Tokens. A caller may show a JWT, signed as the installation's [`TokenKey`] says. Its `sub` is an organization (`org_…`: all of it),
//! or an application (`app_…`, with the claim `org`: that one application and nothing else). An application's token may also say
//! which feature flags it has (`flags`) and what alone it may do (`caps`): that is how the portal's are made.
//!
//! * [`Tokens`] – makes tokens and reads them. It remembers nothing: that is for [`super::callers`].
//! * [`Grant`] – what a token that was signed well says: for whom, what, and from when until when.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::jws;
use super::rights::Rights;
use crate::domain::portal::{Capability, PortalOptions};
use crate::domain::token_key::{Algorithm, PublicKey, TokenKey};
use crate::domain::{AppId, OrgId, Time};
use crate::store::Tenant;

/// How far a token's `nbf` may lie in our future: whose clock it was is unknown, and it may be a little ahead.
const AHEAD: Duration = Duration::from_secs(10);

/// Makes tokens and reads them. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    algorithm: Algorithm,
    /// `None`: only somebody else can sign.
    signing: Option<EncodingKey>,
    verifying: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// What a token says that was signed well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub tenant: Tenant,
    pub rights: Rights,
    pub flags: Vec<String>,
    /// The portal session that it was issued for, by the team's own name.
    pub session: Option<String>,
    /// [`Time::ZERO`] where the token does not say.
    pub issued: Time,
    pub not_before: Option<Time>,
    pub expires: Option<Time>,
}

/// Why a token is not accepted. Says nothing about the secret or the token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is no API key, and no JWT signed with {0} and this server's key")]
    Unreadable(Algorithm),
    #[error("the token's \"sub\" must be org_…, or app_… beside an \"org\" of org_…")]
    Subject,
    #[error("the token's \"flags\" and \"caps\" must be lists of strings")]
    Lists,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
}

/// No token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error(
        "tokens are signed with {0} (SENDOFF_JWT_ALGORITHM) and a private key that this server does not have: sign them where it is, or \
         use an API key"
    )]
    VerifiesOnly(Algorithm),
    #[error("the token could not be signed")]
    Failed,
}

#[derive(Serialize)]
struct Minted<'a> {
    iss: &'static str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a OrgId>,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// The time of `iat` in microseconds: what was issued a moment before and after a customer's access ended is told apart.
    iat_us: i64,
    /// Random: of two tokens that say the same, one can be logged out without the other.
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
    // Read for an application alone: in an organization's token, which others sign, they may mean anything.
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
        Tokens::under(&TokenKey::Shared(Algorithm::Hs256, Zeroizing::new(secret.to_vec())))
    }

    /// Tokens under `key`, and no others.
    pub fn under(key: &TokenKey) -> Tokens {
        jws::install();
        let algorithm = key.algorithm();
        let mut validation = Validation::new(name_of(algorithm));
        // Times are checked here, against the time that we are told; the subject says all about the audience.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let (signing, verifying) = match key {
            TokenKey::Shared(_, secret) => (Some(EncodingKey::from_secret(secret)), DecodingKey::from_secret(secret)),
            TokenKey::Public(_, PublicKey::Rsa(der)) => (None, DecodingKey::from_rsa_der(der)),
            TokenKey::Public(_, PublicKey::Ed25519(bytes)) => (None, DecodingKey::from_ed_der(bytes)),
        };
        Tokens { inner: Arc::new(Inner { algorithm, signing, verifying, validation }) }
    }

    /// Whether it can make tokens, and does not only read what others signed.
    ///
    /// # Errors
    /// Why not.
    pub fn can_sign(&self) -> Result<(), MintError> {
        self.inner.signing.as_ref().map(drop).ok_or(MintError::VerifiesOnly(self.inner.algorithm))
    }

    /// A token for all of `org`, good for `ttl` from `now`.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn mint_org(&self, org: &OrgId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(Minted { sub: org.as_str(), ..minted(now, now.plus(ttl)) })
    }

    /// A token for one application of `org`, good for `ttl` from `now`.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn mint_app(&self, org: &OrgId, app: AppId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(Minted { sub: &app.to_string(), org: Some(org), ..minted(now, now.plus(ttl)) })
    }

    /// A token for a portal session: one application, restricted by `options`, valid for `ttl` from `now` by the wall clock.
    ///
    /// `options.until` is not used: it is in Sendoff's time, which may differ from the wall clock.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn mint_visit(
        &self,
        org: &OrgId,
        app: AppId,
        options: &PortalOptions,
        now: Time,
        ttl: Duration,
    ) -> Result<String, MintError> {
        let (flags, caps) = (&options.feature_flags[..], options.capabilities.as_deref());
        let sid = options.session_id.as_deref();
        self.mint(Minted { sub: &app.to_string(), org: Some(org), flags, caps, sid, ..minted(now, now.plus(ttl)) })
    }

    fn mint(&self, claims: Minted<'_>) -> Result<String, MintError> {
        self.can_sign()?;
        let signing = self.inner.signing.as_ref().ok_or(MintError::Failed)?;
        jsonwebtoken::encode(&Header::new(name_of(self.inner.algorithm)), &claims, signing)
            .map_err(|_| MintError::Failed)
    }

    /// What `token` says, if it was signed well; whether its time is now is for [`Grant::at`].
    ///
    /// # Errors
    /// It is not one of ours, or names nobody.
    pub(super) fn verify(&self, token: &str) -> Result<Grant, TokenError> {
        let inner = &self.inner;
        let claims = jsonwebtoken::decode::<Claims>(token, &inner.verifying, &inner.validation)
            .map_err(|_| TokenError::Unreadable(inner.algorithm))?
            .claims;
        let org = claims.org.as_deref().map(str::parse::<OrgId>).transpose().map_err(|_| TokenError::Subject)?;
        let tenant = match (claims.sub.parse::<OrgId>(), claims.sub.parse::<AppId>(), org) {
            (Ok(org), _, None) => Tenant::org(org),
            // Said twice is fine as long as it is the same.
            (Ok(org), _, Some(same)) if org == same => Tenant::org(org),
            (_, Ok(app), Some(org)) => Tenant { org, only: Some(app) },
            _ => return Err(TokenError::Subject),
        };
        let (rights, flags) = match tenant.only {
            None => (Rights::All, Vec::new()),
            Some(_) => {
                let caps = list(claims.caps)?;
                // A capability of a later release grants nothing here.
                let caps = caps.map(|caps| caps.iter().filter_map(|word| Capability::from_word(word)).collect());
                (Rights::Visit(caps), list(claims.flags)?.unwrap_or_default())
            }
        };
        let session = tenant.only.and(claims.sid.as_str()).map(str::to_owned);
        let issued = claims.iat_us.map(Time::from_micros).or(claims.iat.map(time)).unwrap_or(Time::ZERO);
        let (not_before, expires) = (claims.nbf.map(time), claims.exp.map(time));
        Ok(Grant { tenant, rights, flags, session, issued, not_before, expires })
    }
}

impl Grant {
    /// For whom it is: the token's `sub`.
    pub fn subject(&self) -> String {
        self.tenant.only.map_or_else(|| self.tenant.org.to_string(), |app| app.to_string())
    }

    /// Whether it counts at the time `now`.
    ///
    /// # Errors
    /// It has expired, or begins later.
    pub fn at(&self, now: Time) -> Result<(), TokenError> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|from| now.plus(AHEAD) < from) {
            return Err(TokenError::TooEarly);
        }
        Ok(())
    }
}

/// The claims that every token of ours has.
fn minted<'a>(now: Time, until: Time) -> Minted<'a> {
    let jti = URL_SAFE_NO_PAD.encode(rand::random::<u128>().to_be_bytes());
    let (iat_us, now, exp) = (now.micros(), now.seconds(), until.seconds());
    Minted {
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

fn list(claim: Value) -> Result<Option<Vec<String>>, TokenError> {
    serde_json::from_value(claim).map_err(|_| TokenError::Lists)
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

/// Saturates: a year beyond our calendar is as good as never.
fn time(seconds: f64) -> Time {
    Time::from_micros((seconds * 1e6) as i64)
}

#[cfg(test)]
mod tests;
