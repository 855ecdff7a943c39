//! Signing secrets. [`master_key`](super::master_key) encrypts them at rest.
//!
//! * A **secret** is an endpoint's signing key: HMAC bytes (`whsec_…`) or an Ed25519 key pair (`whsk_…`; the customer
//!   gets `whpk_…`). The formats are those of Standard Webhooks 1.0.0.
//! * The **signature type** is HMAC or Ed25519.
//!
//! Nothing here prints a secret: `Debug` is redacted, errors never quote, memory is wiped on drop.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::domain::Invalid;

/// Prefix of an HMAC secret.
const HMAC_PREFIX: &str = "whsec_";
/// Prefix of an Ed25519 private key. Never shown to a customer.
const PRIVATE_PREFIX: &str = "whsk_";
/// Prefix of an Ed25519 public key.
pub(crate) const PUBLIC_PREFIX: &str = "whpk_";

/// Length of an HMAC secret in bytes (Standard Webhooks 1.0.0, "Signature scheme").
const HMAC_BYTES: std::ops::RangeInclusive<usize> = 24..=75;

/// The default time that the old secret keeps signing after a rotation.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3_600);
/// The longest time that the old secret can keep signing.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The signature scheme of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SignatureType {
    /// `v1`: HMAC-SHA256 with a shared key.
    #[default]
    Hmac256,
    /// `v1a`: Ed25519; the customer only has the public key.
    Ed25519,
}

impl SignatureType {
    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            SignatureType::Hmac256 => "hmac256",
            SignatureType::Ed25519 => "ed25519",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<SignatureType> {
        [SignatureType::Hmac256, SignatureType::Ed25519].into_iter().find(|kind| kind.word() == word)
    }
}

/// An endpoint's signing key.
#[derive(Clone)]
pub struct Secret(pub(crate) KeyMaterial);

/// The key bytes. Both variants wipe their memory on drop.
#[derive(Clone)]
pub(crate) enum KeyMaterial {
    Hmac(Zeroizing<Vec<u8>>),
    Ed25519(Box<SigningKey>),
}

impl Secret {
    /// Parses `whsec_` and standard base64 of 24–75 bytes (the prefix is optional), or `whsk_` and standard base64 of a
    /// 32-byte seed or of the 64-byte seed and public key. `field` names it in the error.
    ///
    /// # Errors
    /// The broken rule; the text is never quoted.
    pub fn parse(field: &str, text: &str) -> Result<Secret, Invalid> {
        if text.starts_with(PUBLIC_PREFIX) {
            return Err(Invalid::new(field, "is a public key (whpk_…); signing needs the private key (whsk_…)"));
        }
        match text.strip_prefix(PRIVATE_PREFIX) {
            Some(key) => Secret::parse_ed25519(field, &decode_base64(field, key)?),
            None => Secret::parse_hmac(field, decode_base64(field, text.strip_prefix(HMAC_PREFIX).unwrap_or(text))?),
        }
    }

    fn parse_hmac(field: &str, bytes: Zeroizing<Vec<u8>>) -> Result<Secret, Invalid> {
        if HMAC_BYTES.contains(&bytes.len()) {
            return Ok(Secret(KeyMaterial::Hmac(bytes)));
        }
        let (least, most) = (HMAC_BYTES.start(), HMAC_BYTES.end());
        let reason = format!("must be whsec_ and base64 of {least} to {most} random bytes, got {}", bytes.len());
        Err(Invalid::new(field, reason))
    }

    fn parse_ed25519(field: &str, bytes: &[u8]) -> Result<Secret, Invalid> {
        let key = if let Ok(seed) = <&[u8; 32]>::try_from(bytes) {
            SigningKey::from_bytes(seed)
        } else if let Ok(pair) = <&[u8; 64]>::try_from(bytes) {
            let reason = "the second half of the Ed25519 key is not the public key of its first half";
            SigningKey::from_keypair_bytes(pair).map_err(|_| Invalid::new(field, reason))?
        } else {
            let reason = format!("must be whsk_ and base64 of 32 or 64 bytes, got {}", bytes.len());
            return Err(Invalid::new(field, reason));
        };
        Ok(Secret(KeyMaterial::Ed25519(Box::new(key))))
    }

    /// A new secret of 32 random bytes (ChaCha12, seeded by the operating system).
    pub fn generate(kind: SignatureType) -> Secret {
        let mut bytes = Zeroizing::new([0u8; 32]);
        rand::fill(&mut bytes[..]);
        match kind {
            SignatureType::Hmac256 => Secret(KeyMaterial::Hmac(Zeroizing::new(bytes.to_vec()))),
            SignatureType::Ed25519 => Secret(KeyMaterial::Ed25519(Box::new(SigningKey::from_bytes(&bytes)))),
        }
    }

    /// The signature type.
    pub fn kind(&self) -> SignatureType {
        match &self.0 {
            KeyMaterial::Hmac(_) => SignatureType::Hmac256,
            KeyMaterial::Ed25519(_) => SignatureType::Ed25519,
        }
    }

    /// Checks that the secret matches the signature type `kind`. `field` names it in the error.
    ///
    /// # Errors
    /// The secret is of the other type.
    pub fn check_kind(&self, field: &str, kind: SignatureType) -> Result<(), Invalid> {
        let begins = match kind {
            SignatureType::Hmac256 => HMAC_PREFIX,
            SignatureType::Ed25519 => PRIVATE_PREFIX,
        };
        let reason = format!("must begin with {begins}, as the endpoint's signatureType is {}", kind.word());
        if self.kind() == kind { Ok(()) } else { Err(Invalid::new(field, reason)) }
    }

    /// The full secret, `whsec_…` or `whsk_…`: the form that is sealed, stored and parsed by [`Secret::parse`].
    pub fn text(&self) -> Zeroizing<String> {
        match &self.0 {
            KeyMaterial::Hmac(bytes) => encode_base64(HMAC_PREFIX, bytes),
            KeyMaterial::Ed25519(key) => encode_base64(PRIVATE_PREFIX, &Zeroizing::new(key.to_keypair_bytes())[..]),
        }
    }

    /// The key a customer verifies with: `whsec_…`, or the public key `whpk_…`.
    pub fn shown(&self) -> String {
        match &self.0 {
            KeyMaterial::Hmac(bytes) => encode_base64(HMAC_PREFIX, bytes).to_string(),
            KeyMaterial::Ed25519(key) => encode_base64(PUBLIC_PREFIX, key.verifying_key().as_bytes()).to_string(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, redacted)", self.kind().word())
    }
}

pub(super) fn encode_base64(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    // Allocates the full length at once: a growing string leaves copies of the secret in memory.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + bytes.len().div_ceil(3) * 4));
    text.push_str(prefix);
    STANDARD.encode_string(bytes, &mut text);
    text
}

/// Decodes base64 without quoting it in the error; `field` names it.
pub(super) fn decode_base64(field: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    let bytes = STANDARD.decode(text).map_err(|_| Invalid::new(field, "is not standard base64 with padding"))?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use crate::domain::signing::secret::*;

    const HMAC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_secret_survives_its_own_text() {
        for kind in [SignatureType::Hmac256, SignatureType::Ed25519] {
            let secret = Secret::generate(kind);
            assert_eq!(SignatureType::from_word(kind.word()), Some(kind));
            assert_eq!(secret.kind(), kind);
            let again = Secret::parse("key", &secret.text()).unwrap();
            assert_eq!((again.kind(), again.text(), again.shown()), (kind, secret.text(), secret.shown()));
            assert_ne!(Secret::generate(kind).text(), secret.text(), "two are never alike");
        }
    }

    #[test]
    fn the_customer_sees_the_hmac_secret_or_the_public_key() {
        let hmac = Secret::parse("key", &HMAC["whsec_".len()..]).unwrap();
        assert_eq!(hmac.shown(), HMAC, "a bare secret gets its prefix");
        // RFC 8032, section 7.1, test 1.
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let public = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
        let pair = [&seed[..], &public].concat();
        for bytes in [&seed, &pair] {
            let secret = Secret::parse("key", &format!("whsk_{}", STANDARD.encode(bytes))).unwrap();
            assert_eq!(secret.shown(), format!("whpk_{}", STANDARD.encode(&public)));
            assert_eq!(*secret.text(), format!("whsk_{}", STANDARD.encode(&pair)));
        }
    }

    #[test]
    fn a_bad_secret_is_refused_without_being_quoted() {
        let whole = |prefix: &str, len: usize| format!("{prefix}{}", STANDARD.encode(vec![0xa7; len]));
        let swapped = format!("whsk_{}", STANDARD.encode([7u8; 64]));
        let wrong = [
            String::new(),
            "whsec_".into(),
            whole("whsec_", 23),
            whole("whsec_", 76),
            whole("whsk_", 31),
            whole("whsk_", 33),
            whole("whpk_", 32),
            swapped,
            format!("{HMAC} "),
            "whsec_geheim-geheim-geheim-geheim-!".into(),
            whole("", 24).replace('p', "-"),
        ];
        for text in &wrong {
            let Err(invalid) = Secret::parse("key", text) else { panic!("{text:?} was accepted") };
            let body = text.split('_').nth(1).unwrap_or(text);
            assert!(body.is_empty() || !invalid.to_string().contains(body), "{invalid}");
        }
        for len in [24, 64, 65, 75] {
            assert!(Secret::parse("key", &whole("whsec_", len)).is_ok());
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::parse("key", HMAC).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(hmac256, redacted)");
    }
}
