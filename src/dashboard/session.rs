//! Who is signed in, and how a form proves that it is theirs.
//!
//! * A **token** is 32 random bytes in base64url; the store knows only its SHA-256.
//! * The **session's** token is in a cookie.
//! * A **form token** is an HMAC of the session's (or the login link's) token: a page of another site cannot know it.

use actix_web::cookie::time::Duration as CookieTime;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::LocalBoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use super::DashboardState;
use super::error::PageError;
use crate::domain::OrgId;
use crate::store::Tenant;
use crate::store::keys::TokenHash;

/// How long a session lasts, in hours.
pub const SESSION_HOURS: u64 = 12;

/// Whoever is signed in.
#[derive(Clone)]
pub struct Signed {
    pub org: OrgId,
    /// What the session's forms carry.
    pub csrf: String,
    /// The session, as the store knows it.
    pub hash: TokenHash,
}

impl Signed {
    /// What everything on the pages is bound to.
    pub fn tenant(&self) -> Tenant {
        Tenant::org(self.org.clone())
    }

    /// Lets only a form of this session through.
    ///
    /// # Errors
    /// The token is another one.
    pub fn check(&self, csrf: &str) -> Result<(), PageError> {
        if same(csrf, &self.csrf) { Ok(()) } else { Err(PageError::WrongToken) }
    }
}

impl FromRequest for Signed {
    type Error = PageError;
    type Future = LocalBoxFuture<'static, Result<Signed, PageError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let state = request.app_data::<web::Data<DashboardState>>().cloned();
        let request = request.clone();
        Box::pin(async move {
            let state = state.ok_or(PageError::NotSignedIn)?;
            let cookie = request.cookie(cookie_name(&state.public_url)).ok_or(PageError::NotSignedIn)?;
            let hash = hash(cookie.value());
            let org = state.store.session(&hash, state.clock.now()).await?.ok_or(PageError::NotSignedIn)?;
            Ok(Signed { org, csrf: form_token(&state.secret, "session", cookie.value()), hash })
        })
    }
}

/// A new token.
pub fn new_token() -> String {
    let mut bytes = [0u8; 32];
    rand::fill(&mut bytes[..]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the store knows of a token.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// What a form carries that was made for whoever holds `token`. `kind` keeps the two kinds of forms apart.
pub fn form_token(secret: &[u8; 32], kind: &str, token: &str) -> String {
    // A key shorter than a block is padded with zeros by definition (RFC 2104): done here, nothing is left that could fail.
    let mut key = [0u8; 64];
    key[..32].copy_from_slice(secret);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    for part in ["form", kind, token] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The cookie that carries a session's token. The prefix `__Host-` has browsers refuse it from anywhere but this very host, over TLS.
pub fn cookie(public_url: &Url, token: String) -> Cookie<'static> {
    Cookie::build(cookie_name(public_url), token)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(public_url.scheme() == "https")
        .max_age(CookieTime::hours(SESSION_HOURS as i64))
        .finish()
}

/// The cookie that takes it away again.
pub fn no_cookie(public_url: &Url) -> Cookie<'static> {
    let mut gone = cookie(public_url, String::new());
    gone.make_removal();
    gone
}

fn cookie_name(public_url: &Url) -> &'static str {
    if public_url.scheme() == "https" { "__Host-sendoff_session" } else { "sendoff_session" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_token_is_bound_to_secret_kind_and_token() {
        let all = [
            form_token(&[1; 32], "session", "a"),
            form_token(&[2; 32], "session", "a"),
            form_token(&[1; 32], "link", "a"),
            form_token(&[1; 32], "session", "b"),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().enumerate().all(|(j, other)| same(one, other) == (i == j)));
        }
        assert_eq!(new_token().len(), 43);
        assert_ne!(new_token(), new_token());
    }
}
