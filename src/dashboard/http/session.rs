//! How somebody is known from one request to the next, and how a form proves that it is theirs.
//!
//! * A **token** is 32 random bytes in base64url; the store knows only its SHA-256.
//! * The **session's** token is in a cookie, an operator's in one and a customer's visit in another: [`Cookies`].
//! * A **form token** is an HMAC of the session's (or the login link's) token: a page of another site cannot know it.

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

/// How long a session lasts, in hours.
pub const SESSION_HOURS: u64 = 12;

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

/// Has the browser keep a cookie. One that goes along with pages inside other sites' (`SameSite=None`) is kept apart for each of them.
///
/// # Errors
/// It is no header: not of ours.
pub fn set_cookie(response: &mut HttpResponse, cookie: &Cookie<'_>) -> Result<(), PageError> {
    let apart = if cookie.same_site() == Some(SameSite::None) { "; Partitioned" } else { "" };
    let value = HeaderValue::from_str(&format!("{cookie}{apart}"));
    let value = value.map_err(|_| PageError::BadRequest("The cookie could not be set."))?;
    response.headers_mut().append(SET_COOKIE, value);
    Ok(())
}

/// Whose cookies: an operator's and a customer's sessions are kept apart, so that one browser may have both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    Operator,
    Visit,
    /// Of somebody who is about to sign in: binds the form to the browser that was shown it.
    Door,
    /// Of a browser that has signed in to an account: it keeps tries of its own when others guess.
    Device,
}

impl Cookies {
    /// The ones that count at a path.
    pub fn at(path: &str) -> Cookies {
        let portal = path.strip_prefix("/portal").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if portal { Cookies::Visit } else { Cookies::Operator }
    }

    /// What keeps the tokens in their forms apart.
    pub fn form(self) -> &'static str {
        match self {
            Cookies::Operator => "session",
            Cookies::Visit => "visit",
            Cookies::Door => "door",
            Cookies::Device => "device",
        }
    }

    /// The name of the cookie. The prefix `__Host-` has browsers refuse it from anywhere but this very host, over TLS.
    pub fn name(self, public_url: &Url) -> &'static str {
        match (self, public_url.scheme() == "https") {
            (Cookies::Operator, true) => "__Host-sendoff_session",
            (Cookies::Operator, false) => "sendoff_session",
            (Cookies::Visit, true) => "__Host-sendoff_visit",
            (Cookies::Visit, false) => "sendoff_visit",
            (Cookies::Door, true) => "__Host-sendoff_door",
            (Cookies::Door, false) => "sendoff_door",
            (Cookies::Device, true) => "__Host-sendoff_device",
            (Cookies::Device, false) => "sendoff_device",
        }
    }

    /// The cookie that carries a session's token for so many seconds.
    ///
    /// A visit may be embedded in a page of the team's: over TLS its cookie goes along there too, and is kept apart for each site that
    /// embeds it (`Partitioned`).
    pub fn made(self, public_url: &Url, token: String, seconds: i64) -> Cookie<'static> {
        let secure = public_url.scheme() == "https";
        let embedded = secure && self == Cookies::Visit;
        Cookie::build(self.name(public_url), token)
            .path("/")
            .http_only(true)
            .same_site(if embedded { SameSite::None } else { SameSite::Lax })
            .secure(secure)
            .max_age(CookieTime::seconds(seconds))
            .finish()
    }

    /// The cookie that takes it away again.
    pub fn gone(self, public_url: &Url) -> Cookie<'static> {
        let mut gone = self.made(public_url, String::new(), 0);
        gone.make_removal();
        gone
    }
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
