//! Signature headers that prove where a request comes from (Standard Webhooks 1.0.0).
//!
//! * A **signature** is `v1,<base64 HMAC-SHA256>` or `v1a,<base64 Ed25519>` over `id.timestamp.body`. The header
//!   `webhook-signature` has one for each valid secret: the current one, then old ones in their **grace period** after
//!   a rotation.
//! * [`Signing`] signs one endpoint's requests. It prepares the keyed hash states once; each attempt copies them.
//! * An [extra signature](ExtraSignature) is an additional header in another product's style, for existing receivers.
//! * A [`Verifier`] is the receiver's side.
//! * [`header_allowed`] checks an endpoint's custom headers.
//!
//! # Invariants
//!
//! * The signature covers the exact bytes of the body.
//! * Signatures are compared in constant time.

mod extra;
mod header;
mod verify;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::ed25519::signature::MultipartSigner;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::domain::signing::secret::{KeyMaterial, Secret};
use crate::domain::signing::signature::extra::ExtraSigner;
use crate::domain::{MessageId, Time};

pub use crate::domain::signing::signature::extra::{ExtraSignature, KeyForm, check_extras};
pub use crate::domain::signing::signature::header::header_allowed;
pub use crate::domain::signing::signature::verify::{SignatureHeaders, Verifier, VerifyError};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

type KeyedHmac = Hmac<Sha256>;

fn keyed(key: &[u8]) -> Option<KeyedHmac> {
    // HMAC accepts keys of any length: never `None`.
    KeyedHmac::new_from_slice(key).ok()
}

/// One secret, ready to sign.
enum Signer {
    Hmac(KeyedHmac),
    Ed25519(Box<SigningKey>),
}

impl Signer {
    fn new(secret: &Secret) -> Option<Signer> {
        match &secret.0 {
            KeyMaterial::Hmac(bytes) => keyed(bytes).map(Signer::Hmac),
            KeyMaterial::Ed25519(key) => Some(Signer::Ed25519(key.clone())),
        }
    }

    /// Appends the signature of `head` (`id.timestamp.`) and `body`.
    fn append(&self, head: &[u8], body: &[u8], text: &mut String) {
        match self {
            Signer::Hmac(mac) => {
                text.push_str("v1,");
                STANDARD.encode_string(mac.clone().chain_update(head).chain_update(body).finalize().as_bytes(), text);
            }
            Signer::Ed25519(key) => {
                text.push_str("v1a,");
                STANDARD.encode_string(key.multipart_sign(&[head, body]).to_bytes(), text);
            }
        }
    }
}

/// A value that is valid until a point in time.
struct Expiring<T> {
    value: T,
    until: Time,
}

impl<T> Expiring<T> {
    fn valid(&self, at: Time) -> bool {
        at < self.until
    }
}

/// Signs one endpoint's requests.
pub struct Signing {
    signers: Vec<Expiring<Signer>>,
    extras: Vec<ExtraSigner>,
}

impl Signing {
    /// Prepares `current` and the old secrets, newest first, each with the end of its grace period.
    ///
    /// Skips extra signatures with an invalid header or the wrong type of secret; [`check_extras`] rejects both when an
    /// endpoint is saved.
    pub fn new<'s>(
        current: &'s Secret,
        graced: impl IntoIterator<Item = (&'s Secret, Time)>,
        extras: &[ExtraSignature],
    ) -> Signing {
        let secrets: Vec<(&Secret, Time)> = std::iter::once((current, Time::MAX)).chain(graced).collect();
        let signer = |&(secret, until): &(&Secret, Time)| Signer::new(secret).map(|value| Expiring { value, until });
        Signing {
            signers: secrets.iter().filter_map(signer).collect(),
            extras: extras.iter().filter_map(|extra| ExtraSigner::new(extra, &secrets)).collect(),
        }
    }

    /// The value of `webhook-signature` for the message `id` at the time `at`.
    pub fn signature(&self, id: &str, at: Time, body: &[u8]) -> String {
        let head = format!("{id}.{}.", at.seconds());
        let mut text = String::with_capacity(self.signers.len() * 96);
        for signer in self.signers.iter().filter(|signer| signer.valid(at)) {
            if !text.is_empty() {
                text.push(' ');
            }
            signer.value.append(head.as_bytes(), body, &mut text);
        }
        text
    }

    /// Sets `webhook-id`, `webhook-timestamp` (`at` in whole seconds), `webhook-signature` and the extra signatures.
    /// Replaces headers of the same names.
    pub fn sign(&self, headers: &mut HeaderMap, id: MessageId, at: Time, body: &[u8]) {
        let id = id.to_string();
        let signature = value(self.signature(&id, at, body));
        let id = value(id);
        let timestamp = HeaderValue::from(at.seconds());
        for extra in &self.extras {
            extra.sign(headers, [&id, &timestamp, &signature], at, body);
        }
        headers.insert(ID, id);
        headers.insert(TIMESTAMP, timestamp);
        headers.insert(SIGNATURE, signature);
    }
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signing({} secrets, {} extras, redacted)", self.signers.len(), self.extras.len())
    }
}

/// A header value of our own letters, digits and punctuation: always valid.
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::domain::signing::secret::SignatureType;
    use crate::domain::signing::signature::*;
    use crate::domain::time::Clock;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const AT: Time = Time::from_micros(1_614_265_330_000_000);

    fn secret(text: &str) -> Secret {
        Secret::parse("key", text).unwrap()
    }

    #[test]
    fn the_published_vector() {
        let signing = Signing::new(&secret(SECRET), [], &[]);
        let signature = signing.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", AT, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_official_library_accepts_v1_and_nothing_that_was_touched(body in ".*", at in 0usize..2_000) {
            let key = Secret::generate(SignatureType::Hmac256);
            // The reference library reads the system clock.
            let now = Clock.now();
            let mut headers = HeaderMap::new();
            Signing::new(&key, [], &[]).sign(&mut headers, MessageId::new(now), now, body.as_bytes());
            let official = standardwebhooks::Webhook::new(&key.text()).unwrap();
            prop_assert!(official.verify(body.as_bytes(), &headers).is_ok());

            let mut bent = body.clone();
            let at = (0..=at.min(body.len())).rev().find(|&at| body.is_char_boundary(at)).unwrap();
            bent.insert(at, 'x');
            prop_assert!(official.verify(bent.as_bytes(), &headers).is_err());
        }

        #[test]
        fn another_ed25519_library_accepts_v1a(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let key = Secret::generate(SignatureType::Ed25519);
            let public = STANDARD.decode(key.shown().strip_prefix("whpk_").unwrap()).unwrap();
            let text = Signing::new(&key, [], &[]).signature("msg_1", AT, &body);
            let signature = STANDARD.decode(text.strip_prefix("v1a,").unwrap()).unwrap();
            let independent = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
            let mut signed = [b"msg_1.1614265330.".as_slice(), &body].concat();
            prop_assert!(independent.verify(&signed, &signature).is_ok());
            signed[0] ^= 1;
            prop_assert!(independent.verify(&signed, &signature).is_err());
        }
    }

    #[test]
    fn after_a_rotation_both_sign_until_the_grace_is_over() {
        let (old, new) = (secret(SECRET), Secret::generate(SignatureType::Ed25519));
        let until = AT.plus(Duration::from_secs(60));
        let signing = Signing::new(&new, [(&old, until)], &[]);
        let text = signing.signature("msg_1", AT, b"{}");
        let parts: Vec<&str> = text.split(' ').collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].starts_with("v1a,"), "the current one first: {text}");
        assert_eq!(parts[1], Signing::new(&old, [], &[]).signature("msg_1", AT, b"{}"));
        assert_eq!(signing.signature("msg_1", until, b"{}").split(' ').count(), 1, "the grace is over");
    }

    #[test]
    fn the_headers_of_an_attempt() {
        let id = MessageId::new(AT);
        let mut headers = HeaderMap::new();
        headers.insert(ID, HeaderValue::from_static("forged"));
        Signing::new(&secret(SECRET), [], &[ExtraSignature::Svix]).sign(&mut headers, id, AT, b"{}");
        let mut seen: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        seen.sort_unstable();
        let (id, signature) =
            (id.to_string(), Signing::new(&secret(SECRET), [], &[]).signature(&id.to_string(), AT, b"{}"));
        let wanted = [
            ("svix-id", id.as_str()),
            ("svix-signature", &signature),
            ("svix-timestamp", "1614265330"),
            ("webhook-id", &id),
            ("webhook-signature", &signature),
            ("webhook-timestamp", "1614265330"),
        ];
        assert_eq!(seen, wanted);
    }
}
