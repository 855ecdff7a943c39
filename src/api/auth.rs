//! Who calls. A caller shows a **token**: a JWT, signed with the installation's secret (HS256). Its `sub` is an organization
//! (`org_…`: all of it), or an application (`app_…`, with the claim `org`: that one application and nothing else).
//!
//! * [`Tokens`] – makes tokens and reads them. What was verified is remembered, so that a caller who shows the same token
//!   ten thousand times a second is not checked as often.
//! * [`Grant`] – what a valid token says: for whom, and from when until when.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hs256;
use crate::domain::{AppId, OrgId, Time};
use crate::store::Tenant;

/// How many verified tokens are remembered.
const REMEMBERED: usize = 1_024;
/// How far a token's `nbf` may lie in our future: whose clock it was is unknown, and it may be a little ahead.
const AHEAD: Duration = Duration::from_secs(10);

/// Makes tokens and reads them. Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    /// By the SHA-256 of the token.
    known: RwLock<HashMap<[u8; 32], Grant>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    tenant: Tenant,
    not_before: Option<Time>,
    expires: Option<Time>,
}

/// Why a token is not accepted. Says nothing about the secret or the token's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not a JWT signed with HS256 and this server's secret")]
    Unreadable,
    #[error("the token's \"sub\" must be org_…, or app_… beside an \"org\" of org_…")]
    Subject,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
}

/// No token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct MintError;

#[derive(Serialize)]
struct Minted<'a> {
    iss: &'static str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    org: Option<&'a OrgId>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Times in a JWT are numbers of seconds and may have a fraction (RFC 7519, section 2, "NumericDate").
#[derive(Deserialize)]
struct Claims {
    sub: String,
    org: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl Tokens {
    /// Tokens under `secret` (`SENDOFF_JWT_SECRET`).
    pub fn new(secret: &[u8]) -> Tokens {
        hs256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against the time that we are told; the subject says all about the audience.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let inner = Inner {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
            known: RwLock::default(),
        };
        Tokens { inner: Arc::new(inner) }
    }

    /// A token for all of `org`, good for `ttl` from `now`.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn mint_org(&self, org: &OrgId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(org.as_str(), None, now, ttl)
    }

    /// A token for one application of `org`, good for `ttl` from `now`.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn mint_app(&self, org: &OrgId, app: AppId, now: Time, ttl: Duration) -> Result<String, MintError> {
        self.mint(&app.to_string(), Some(org), now, ttl)
    }

    fn mint(&self, sub: &str, org: Option<&OrgId>, now: Time, ttl: Duration) -> Result<String, MintError> {
        let (iat, exp) = (now.seconds(), now.plus(ttl).seconds());
        let claims = Minted { iss: "sendoff", sub, org, iat, nbf: iat, exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.inner.signing).map_err(|_| MintError)
    }

    /// For whom `token` speaks at the time `now`.
    ///
    /// # Errors
    /// It is not one of ours, has expired, or names nobody.
    pub fn read(&self, token: &str, now: Time) -> Result<Tenant, TokenError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(grant) = self.inner.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&hash) {
            return grant.at(now);
        }
        let grant = self.verify(token)?;
        let tenant = grant.at(now)?;
        self.remember(hash, grant, now);
        Ok(tenant)
    }

    fn verify(&self, token: &str) -> Result<Grant, TokenError> {
        let inner = &self.inner;
        let claims = jsonwebtoken::decode::<Claims>(token, &inner.verifying, &inner.validation)
            .map_err(|_| TokenError::Unreadable)?
            .claims;
        let org = claims.org.as_deref().map(str::parse::<OrgId>).transpose().map_err(|_| TokenError::Subject)?;
        let tenant = match (claims.sub.parse::<OrgId>(), claims.sub.parse::<AppId>(), org) {
            (Ok(org), _, None) => Tenant::org(org),
            // Said twice is fine as long as it is the same.
            (Ok(org), _, Some(same)) if org == same => Tenant::org(org),
            (_, Ok(app), Some(org)) => Tenant { org, only: Some(app) },
            _ => return Err(TokenError::Subject),
        };
        Ok(Grant { tenant, not_before: claims.nbf.map(time), expires: claims.exp.map(time) })
    }

    /// Bounded: when it is full, what has expired goes, and if that is nothing, everything.
    fn remember(&self, hash: [u8; 32], grant: Grant, now: Time) {
        let mut known = self.inner.known.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if known.len() >= REMEMBERED {
            known.retain(|_, grant| grant.at(now).is_ok());
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(hash, grant);
    }
}

impl Grant {
    fn at(&self, now: Time) -> Result<Tenant, TokenError> {
        if self.expires.is_some_and(|expires| now >= expires) {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|from| now.plus(AHEAD) < from) {
            return Err(TokenError::TooEarly);
        }
        Ok(self.tenant.clone())
    }
}

/// Saturates: a year beyond our calendar is as good as never.
fn time(seconds: f64) -> Time {
    Time::from_micros((seconds * 1e6) as i64)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit, Mac};

    use super::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn org() -> OrgId {
        OrgId::default_org()
    }

    /// A token of any header and claims, signed by hand.
    fn signed(secret: &[u8], header: &str, claims: &str) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(&text).finalize();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.as_bytes()))
    }

    #[test]
    fn a_token_says_for_whom_it_is() {
        let (tokens, app) = (Tokens::new(b"secret"), AppId::new(NOW));
        let all = tokens.mint_org(&org(), NOW, HOUR).unwrap();
        let one = tokens.mint_app(&org(), app, NOW, HOUR).unwrap();
        for _ in 0..2 {
            assert_eq!(tokens.read(&all, NOW), Ok(Tenant::org(org())));
            assert_eq!(tokens.read(&one, NOW), Ok(Tenant { org: org(), only: Some(app) }));
        }
    }

    #[test]
    fn a_remembered_token_expires_all_the_same() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.mint_org(&org(), NOW, HOUR).unwrap();
        assert!(tokens.read(&token, NOW).is_ok());
        assert!(tokens.read(&token, NOW.plus(HOUR - Duration::from_secs(1))).is_ok());
        assert_eq!(tokens.read(&token, NOW.plus(HOUR)), Err(TokenError::Expired));
        assert_eq!(tokens.read(&token, NOW.minus(HOUR)), Err(TokenError::TooEarly));
    }

    #[test]
    fn a_token_made_by_hand_is_as_good_and_times_may_have_fractions() {
        let tokens = Tokens::new(b"k");
        let ours = r#"{"alg":"HS256","typ":"JWT"}"#;
        let table = [
            (ours, r#"{"sub":"org_abc"}"#, Ok(())),
            (ours, r#"{"sub":"org_abc","exp":1763800000.5,"aud":"us"}"#, Ok(())),
            (ours, r#"{"sub":"org_abc","exp":1e300}"#, Ok(())),
            (ours, r#"{"sub":"org_abc","exp":1763799999}"#, Err(TokenError::Expired)),
            (ours, r#"{"sub":"org_abc","nbf":1763803600}"#, Err(TokenError::TooEarly)),
            (ours, r#"{"sub":"org_abc","exp":"never"}"#, Err(TokenError::Unreadable)),
            (ours, r#"{"sub":"org_abc","org":"org_other"}"#, Err(TokenError::Subject)),
            (ours, r#"{"sub":"app_abc","org":"org_abc"}"#, Err(TokenError::Subject)),
            (ours, r#"{"sub":"user_1"}"#, Err(TokenError::Subject)),
            (ours, r#"{}"#, Err(TokenError::Unreadable)),
            (r#"{"alg":"none"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable)),
            (r#"{"alg":"HS512"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable)),
            (r#"{"alg":"RS256"}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable)),
            (r#"{}"#, r#"{"sub":"org_abc"}"#, Err(TokenError::Unreadable)),
        ];
        for (header, claims, wanted) in table {
            assert_eq!(tokens.read(&signed(b"k", header, claims), NOW).map(drop), wanted, "{header} {claims}");
        }
        let app = AppId::new(NOW);
        let lone = signed(b"k", ours, &format!(r#"{{"sub":"{app}"}}"#));
        assert_eq!(tokens.read(&lone, NOW), Err(TokenError::Subject), "an application without its organization");
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let tokens = Tokens::new(b"secret");
        let token = tokens.mint_org(&org(), NOW, HOUR).unwrap();
        let stranger = Tokens::new(b"another").mint_org(&org(), NOW, HOUR).unwrap();
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
        for bad in [stranger, unsigned, none, token[..token.len() - 2].to_owned(), "sk_x".into(), String::new()] {
            assert_eq!(tokens.read(&bad, NOW), Err(TokenError::Unreadable), "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let tokens = Tokens::new(b"secret");
        for seconds in 0..(REMEMBERED as u64 + 10) {
            let token = tokens.mint_org(&org(), NOW, HOUR + Duration::from_secs(seconds)).unwrap();
            assert!(tokens.read(&token, NOW).is_ok());
        }
        assert!(tokens.inner.known.read().unwrap().len() <= REMEMBERED);
    }
}
