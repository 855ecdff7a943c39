//! Sessions and CSRF tokens.
//!
//! * A session **token** is 32 random bytes in base64url. The store keeps only its SHA-256.
//! * Operators and portal customers have separate cookies: [`Cookies`].
//! * A **form token** (CSRF) is an HMAC of the session token or the login link's token, which other sites cannot know.

use actix_web::HttpResponse;
use actix_web::cookie::time::Duration as CookieTime;
use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::header::{HeaderValue, SET_COOKIE};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use crate::dashboard::http::error::PageError;

use crate::store::access::sign_in_links::TokenHash;

/// The lifetime of a session, in hours.
pub const SESSION_HOURS: u64 = 12;

/// Generates a session token.
pub fn new_token() -> String {
    let mut bytes = [0u8; 32];
    rand::fill(&mut bytes[..]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The hash of a token, as stored.
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// The CSRF token of a form for the holder of `token`. `kind` separates forms before and after sign-in.
pub fn form_token(secret: &[u8; 32], kind: &str, token: &str) -> String {
    URL_SAFE_NO_PAD.encode(mac(secret, &[b"form", kind.as_bytes(), token.as_bytes()]))
}

/// The HMAC-SHA256 of `parts`; the first names the purpose.
pub fn mac(secret: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // RFC 2104 pads shorter keys with zeros. Padding here avoids a fallible constructor.
    let mut key = [0u8; 64];
    key[..32].copy_from_slice(secret);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    for part in parts {
        mac.update(part);
        mac.update(&[0]);
    }
    mac.finalize().into_bytes().into()
}

/// Compares in constant time.
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// Adds a `Set-Cookie` header. Cookies with `SameSite=None` are partitioned by embedding site.
///
/// # Errors
/// The cookie is not a valid header value; ours always are.
pub fn set_cookie(response: &mut HttpResponse, cookie: &Cookie<'_>) -> Result<(), PageError> {
    let apart = if cookie.same_site() == Some(SameSite::None) { "; Partitioned" } else { "" };
    let value = HeaderValue::from_str(&format!("{cookie}{apart}"));
    let value = value.map_err(|_| PageError::BadRequest("The cookie could not be set."))?;
    response.headers_mut().append(SET_COOKIE, value);
    Ok(())
}

/// The cookies. Operator and portal sessions are separate, so one browser can hold both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    Operator,
    Portal,
    /// Binds the sign-in form to the browser that loaded it.
    SignIn,
    /// A browser that signed in to an account before: it has its own limit of sign-in attempts.
    Device,
    /// A sign-in at the identity provider, begun by this browser.
    Oidc,
}

impl Cookies {
    /// The session cookie that applies to a path.
    pub fn at(path: &str) -> Cookies {
        let portal = path.strip_prefix("/portal").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if portal { Cookies::Portal } else { Cookies::Operator }
    }

    /// Separates the CSRF tokens of the kinds of forms.
    pub fn form(self) -> &'static str {
        match self {
            Cookies::Operator => "session",
            Cookies::Portal => "portal",
            Cookies::SignIn => "sign-in",
            Cookies::Device => "device",
            Cookies::Oidc => "oidc",
        }
    }

    /// The cookie's name. With the prefix `__Host-`, browsers accept it only from this host over TLS.
    pub fn name(self, public_url: &Url) -> &'static str {
        match (self, public_url.scheme() == "https") {
            (Cookies::Operator, true) => "__Host-sendoff_session",
            (Cookies::Operator, false) => "sendoff_session",
            (Cookies::Portal, true) => "__Host-sendoff_portal",
            (Cookies::Portal, false) => "sendoff_portal",
            (Cookies::SignIn, true) => "__Host-sendoff_sign_in",
            (Cookies::SignIn, false) => "sendoff_sign_in",
            (Cookies::Device, true) => "__Host-sendoff_device",
            (Cookies::Device, false) => "sendoff_device",
            (Cookies::Oidc, true) => "__Host-sendoff_oidc",
            (Cookies::Oidc, false) => "sendoff_oidc",
        }
    }

    /// A session cookie with a lifetime in seconds, for this site alone.
    pub fn create(self, public_url: &Url, token: String, seconds: i64) -> Cookie<'static> {
        let secure = public_url.scheme() == "https";
        Cookie::build(self.name(public_url), token)
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(secure)
            .max_age(CookieTime::seconds(seconds))
            .finish()
    }

    /// A cookie that deletes the session cookie.
    pub fn removal(self, public_url: &Url) -> Cookie<'static> {
        let mut removal = self.create(public_url, String::new(), 0);
        removal.make_removal();
        removal
    }
}

/// The portal's cookie if other sites may embed the portal: over TLS it also works there, partitioned by the embedding
/// site.
pub fn embeddable(mut cookie: Cookie<'static>, frame_origins: &[String]) -> Cookie<'static> {
    if cookie.secure() == Some(true) && !frame_origins.is_empty() {
        cookie.set_same_site(SameSite::None);
    }
    cookie
}

#[cfg(test)]
mod tests {
    use crate::dashboard::http::session::*;

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
