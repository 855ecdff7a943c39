//! An **autoconfig subscription** is a token that a team gives to a customer. The customer's program uses it to create
//! and update its own endpoint or polling endpoint, without the portal.
//!
//! The token people copy ([`AutoConfig::text`]) encodes this server's URL, the endpoint's signing secret and the bearer
//! token ([`TOKEN_PREFIX`]). The format is that of the REST dialect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::domain::access::api_key::{credential, random_text};
use crate::domain::signing::secret::{Secret, SignatureType};
use crate::domain::{AppId, AutoConfigId, EndpointId, OrgId, PollingEndpointId, Time};

/// The prefix of the bearer token.
pub const TOKEN_PREFIX: &str = "sk_auto_";
/// The prefix of the text people copy: version 2 of the REST dialect's format.
const TEXT_PREFIX: &str = "auto_v2_";
/// Number of trailing token characters kept to tell tokens apart.
const HINT: usize = 4;

/// A stored autoconfig subscription, without its secret. The store keeps only the token's SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoConfig {
    pub id: AutoConfigId,
    pub org: OrgId,
    pub app_id: AppId,
    /// The last characters of the bearer token.
    pub hint: String,
    /// The token names only event types that these flags show.
    pub feature_flags: Vec<String>,
    /// The endpoint created with the token, if it still exists.
    pub endpoint: Option<EndpointId>,
    pub polling_endpoint: Option<PollingEndpointId>,
    pub created_at: Time,
}

/// The JSON inside the text.
#[derive(Serialize)]
struct Content<'a> {
    aid: AppId,
    sid: AutoConfigId,
    surl: &'a str,
    esec: &'a str,
    tok: &'a str,
}

impl AutoConfig {
    /// A new subscription, its endpoint's signing secret and its bearer token. The token cannot be recovered later.
    pub fn make(
        org: OrgId,
        app_id: AppId,
        feature_flags: Vec<String>,
        now: Time,
    ) -> (AutoConfig, Secret, Zeroizing<String>) {
        let shown = new_token();
        let made = AutoConfig {
            id: AutoConfigId::new(now),
            org,
            app_id,
            hint: hint(&shown),
            feature_flags,
            endpoint: None,
            polling_endpoint: None,
            created_at: now,
        };
        (made, Secret::generate(SignatureType::Hmac256), shown)
    }

    /// The text people copy. `server` is this server's URL. For an Ed25519 secret the text contains the public key.
    pub fn text(&self, server: &str, secret: &Secret, shown: &str) -> Zeroizing<String> {
        let signs = Zeroizing::new(secret.shown());
        let content =
            Content { aid: self.app_id, sid: self.id, surl: server.trim_end_matches('/'), esec: &signs, tok: shown };
        let json = Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let mut text = Zeroizing::new(TEXT_PREFIX.to_owned());
        STANDARD_NO_PAD.encode_string(&*json, &mut text);
        text
    }

    /// The bearer token with all but its last characters masked.
    pub fn censored(&self) -> String {
        format!("{TOKEN_PREFIX}…{}", self.hint)
    }
}

/// Generates a bearer token.
pub fn new_token() -> Zeroizing<String> {
    credential(TOKEN_PREFIX, &random_text())
}

/// The token's last characters.
pub fn hint(shown: &str) -> String {
    shown[shown.len().saturating_sub(HINT)..].to_owned()
}

/// Whether `shown` has the prefix of an autoconfig token.
pub fn is_autoconfig_token(shown: &str) -> bool {
    shown.starts_with(TOKEN_PREFIX)
}

#[cfg(test)]
mod tests {
    use crate::domain::catalog::autoconfig::*;

    #[test]
    fn a_token_is_the_dialect_s() {
        let now = Time::from_micros(1_763_800_000_000_000);
        let (made, secret, shown) = AutoConfig::make(OrgId::default_org(), AppId::new(now), Vec::new(), now);
        assert!(is_autoconfig_token(&shown) && shown.ends_with(&made.hint) && made.censored().len() < 20);
        let text = made.text("https://hooks.example.com/", &secret, &shown);
        let json = STANDARD_NO_PAD.decode(text.strip_prefix("auto_v2_").unwrap()).unwrap();
        let content: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let wanted = serde_json::json!({"aid": made.app_id, "sid": made.id, "surl": "https://hooks.example.com",
            "esec": *secret.text(), "tok": *shown});
        assert_eq!(content, wanted);
    }
}
