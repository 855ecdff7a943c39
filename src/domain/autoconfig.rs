//! An **autoconfig subscription**: a team gives a customer one token, and the customer's own program subscribes by it: it makes an endpoint, or
//! a polling endpoint, and changes it, without anybody in the portal.
//!
//! The token that people see ([`AutoConfig::text`]) carries where this server is, what the endpoint will sign with, and the secret part that
//! callers show ([`TOKEN_PREFIX`]). The form is the dialect's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use super::key::random_text;
use super::secret::{Secret, SignatureType};
use super::{AppId, AutoConfigId, EndpointId, OrgId, PollingEndpointId, Time};

/// The prefix of what callers show.
pub const TOKEN_PREFIX: &str = "sk_auto_";
/// The prefix of what people are given: the second version of the dialect's form.
const TEXT_PREFIX: &str = "auto_v2_";
/// How many characters of a token are kept to tell several apart.
const HINT: usize = 4;

/// An autoconfig subscription as it is stored: everything but the token, of which the store knows the SHA-256, and the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoConfig {
    pub id: AutoConfigId,
    pub org: OrgId,
    pub app_id: AppId,
    /// The last characters of what callers show.
    pub hint: String,
    /// The endpoints that it made, if they still exist.
    pub endpoint: Option<EndpointId>,
    pub polling_endpoint: Option<PollingEndpointId>,
    pub created_at: Time,
}

/// The inside of a token's text.
#[derive(Serialize)]
struct Content<'a> {
    aid: AppId,
    sid: AutoConfigId,
    surl: &'a str,
    esec: &'a str,
    tok: &'a str,
}

impl AutoConfig {
    /// A new subscription of an application, what its endpoint signs with, and what callers show: this is the only place where that is seen.
    pub fn make(org: OrgId, app_id: AppId, now: Time) -> (AutoConfig, Secret, Zeroizing<String>) {
        let shown = new_token();
        let made = AutoConfig {
            id: AutoConfigId::new(now),
            org,
            app_id,
            hint: hint(&shown),
            endpoint: None,
            polling_endpoint: None,
            created_at: now,
        };
        (made, Secret::generate(SignatureType::Hmac256), shown)
    }

    /// The token as people are given it. `server` is this server's URL; of an Ed25519 secret, it has the public key.
    pub fn text(&self, server: &str, secret: &Secret, shown: &str) -> Zeroizing<String> {
        let signs = Zeroizing::new(secret.shown());
        let content =
            Content { aid: self.app_id, sid: self.id, surl: server.trim_end_matches('/'), esec: &signs, tok: shown };
        let json = Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let mut text = Zeroizing::new(TEXT_PREFIX.to_owned());
        STANDARD_NO_PAD.encode_string(&*json, &mut text);
        text
    }

    /// The part of the token that may be shown later.
    pub fn censored(&self) -> String {
        format!("{TOKEN_PREFIX}…{}", self.hint)
    }
}

/// A new secret part.
pub fn new_token() -> Zeroizing<String> {
    let random = random_text();
    let mut shown = Zeroizing::new(String::with_capacity(TOKEN_PREFIX.len() + random.len()));
    shown.push_str(TOKEN_PREFIX);
    shown.push_str(&random);
    shown
}

/// The end of a token, which is kept.
pub fn hint(shown: &str) -> String {
    shown[shown.len().saturating_sub(HINT)..].to_owned()
}

/// Whether `shown` looks like the secret part of such a token.
pub fn is_autoconfig_token(shown: &str) -> bool {
    shown.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_dialect_s() {
        let now = Time::from_micros(1_763_800_000_000_000);
        let (made, secret, shown) = AutoConfig::make(OrgId::default_org(), AppId::new(now), now);
        assert!(is_autoconfig_token(&shown) && shown.ends_with(&made.hint) && made.censored().len() < 20);
        let text = made.text("https://hooks.example.com/", &secret, &shown);
        let json = STANDARD_NO_PAD.decode(text.strip_prefix("auto_v2_").unwrap()).unwrap();
        let content: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let wanted = serde_json::json!({"aid": made.app_id, "sid": made.id, "surl": "https://hooks.example.com",
            "esec": *secret.text(), "tok": *shown});
        assert_eq!(content, wanted);
    }
}
