//! Signing secrets, and their encryption at rest.
//!
//! * A **secret** is an endpoint's signing key: HMAC bytes (`whsec_…`) or an Ed25519 key pair (`whsk_…`; the customer
//!   gets `whpk_…`). The formats are those of Standard Webhooks 1.0.0.
//! * The **signature type** is HMAC or Ed25519.
//! * The **master key** is the one key of an installation. It **seals** secrets before they are stored and **opens**
//!   them. Sealed data is bound to one row and does not open in another.
//!
//! Nothing here prints a secret: `Debug` is redacted, errors never quote, memory is wiped on drop.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
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
pub const GRACE: Duration = Duration::from_secs(24 * 3_600);
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
            Some(key) => Secret::parse_ed25519(field, &bytes_of(field, key)?),
            None => Secret::parse_hmac(field, bytes_of(field, text.strip_prefix(HMAC_PREFIX).unwrap_or(text))?),
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
    /// It is of the other type.
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
            KeyMaterial::Hmac(bytes) => prefixed(HMAC_PREFIX, bytes),
            KeyMaterial::Ed25519(key) => prefixed(PRIVATE_PREFIX, &Zeroizing::new(key.to_keypair_bytes())[..]),
        }
    }

    /// The key a customer verifies with: `whsec_…`, or the public key `whpk_…`.
    pub fn shown(&self) -> String {
        match &self.0 {
            KeyMaterial::Hmac(bytes) => prefixed(HMAC_PREFIX, bytes).to_string(),
            KeyMaterial::Ed25519(key) => prefixed(PUBLIC_PREFIX, key.verifying_key().as_bytes()).to_string(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, redacted)", self.kind().word())
    }
}

fn prefixed(prefix: &str, bytes: &[u8]) -> Zeroizing<String> {
    // Allocates the full length at once: a growing string leaves copies of the secret in memory.
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + bytes.len().div_ceil(3) * 4));
    text.push_str(prefix);
    STANDARD.encode_string(bytes, &mut text);
    text
}

/// Decodes base64 without quoting it in the error; `field` names it.
pub(crate) fn bytes_of(field: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    let bytes = STANDARD.decode(text).map_err(|_| Invalid::new(field, "is not standard base64 with padding"))?;
    Ok(Zeroizing::new(bytes))
}

/// The first byte of sealed data; see [`MasterKey::seal`] for the format.
const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const HEAD_LEN: usize = 1 + KEY_ID_LEN;
const NONCE_LEN: usize = 24;

/// The installation's 32-byte key for secrets in the store. During a key rotation it carries a second key, which opens
/// but never seals.
#[derive(Clone)]
pub struct MasterKey {
    key: Zeroizing<[u8; 32]>,
    other: Option<Zeroizing<[u8; 32]>>,
}

impl MasterKey {
    /// Parses `SENDOFF_MASTER_KEY`: standard base64 of 32 bytes. Surrounding white space is ignored because files end
    /// in a newline.
    ///
    /// # Errors
    /// The expected format; the text is never quoted.
    pub fn parse(text: &str) -> Result<MasterKey, Invalid> {
        const FIELD: &str = "SENDOFF_MASTER_KEY";
        let bytes = bytes_of(FIELD, text.trim())?;
        match <[u8; 32]>::try_from(&bytes[..]) {
            Ok(key) => Ok(MasterKey { key: Zeroizing::new(key), other: None }),
            Err(_) => {
                let reason =
                    format!("must be base64 of 32 random bytes (openssl rand -base64 32), got {}", bytes.len());
                Err(Invalid::new(FIELD, reason))
            }
        }
    }

    /// A new random key.
    pub fn generate() -> MasterKey {
        let mut key = Zeroizing::new([0u8; 32]);
        rand::fill(&mut key[..]);
        MasterKey { key, other: None }
    }

    /// Also opens data sealed by `other`.
    pub fn with_other(self, other: &MasterKey) -> MasterKey {
        MasterKey { other: Some(other.key.clone()), ..self }
    }

    /// Whether there is a second key.
    pub fn has_other(&self) -> bool {
        self.other.is_some()
    }

    /// Whether the data was sealed by the first key.
    pub fn has_sealed(&self, sealed: &[u8]) -> bool {
        sealed.get(1..HEAD_LEN) == Some(&id(&self.key)[..])
    }

    /// The text form of [`MasterKey::parse`].
    pub fn text(&self) -> Zeroizing<String> {
        prefixed("", &self.key[..])
    }

    /// Derives a key for another purpose; it reveals nothing about this one.
    pub fn derived(&self, purpose: &[u8]) -> [u8; 32] {
        // HMAC pads a short key with zeros (RFC 2104). Padding it here avoids a constructor that can fail.
        let mut key = Zeroizing::new([0u8; 64]);
        key[..32].copy_from_slice(&self.key[..]);
        let mac = <Hmac<Sha256> as KeyInit>::new(&(*key).into());
        mac.chain_update(purpose).finalize().into_bytes().into()
    }

    /// Seals `plain` for the row with the id `row`: a version byte (1), the key id (4 bytes), a random nonce (24 bytes)
    /// and the XChaCha20-Poly1305 ciphertext, with version, key id and row as associated data.
    pub fn seal(&self, row: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD_LEN + NONCE_LEN + plain.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&id(&self.key));
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce[..]);
        let aad = [&sealed[..], row].concat();
        sealed.extend_from_slice(&nonce);
        match cipher(&self.key).encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad }) {
            Ok(ciphertext) => sealed.extend_from_slice(&ciphertext),
            // The cipher only fails beyond 256 GiB. Without a ciphertext the data never opens.
            Err(_) => sealed.truncate(HEAD_LEN),
        }
        sealed
    }

    /// Opens data that [`MasterKey::seal`] sealed for the same `row`.
    ///
    /// # Errors
    /// Another master key, an unknown version, or data that is damaged or belongs to another row.
    pub fn open(&self, row: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&version, _) = sealed.split_first().ok_or(SealError::Damaged)?;
        if version != VERSION {
            return Err(SealError::UnknownVersion(version));
        }
        let (head, rest) = sealed.split_at_checked(HEAD_LEN).ok_or(SealError::Damaged)?;
        let key = [Some(&self.key), self.other.as_ref()].into_iter().flatten().find(|key| head[1..] == id(key));
        let key = key.ok_or_else(|| SealError::OtherKey {
            written: hex::encode(&head[1..]),
            given: hex::encode(id(&self.key)),
        })?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let aad = [head, row].concat();
        let plain = cipher(key).decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: &aad });
        plain.map(Zeroizing::new).map_err(|_| SealError::Damaged)
    }
}

/// The key id: the first four bytes of the key's SHA-256.
fn id(key: &[u8; 32]) -> [u8; KEY_ID_LEN] {
    let digest = Sha256::digest(key);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(redacted)")
    }
}

/// The reason that sealed data does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Key ids in hex.
    #[error(
        "sealed with another master key (id {written}, not {given}): set SENDOFF_MASTER_KEY to the key that sealed it"
    )]
    OtherKey { written: String, given: String },
    #[error("sealed data is damaged, or belongs to another row")]
    Damaged,
    #[error("sealed in the unknown format {0}: a newer Sendoff wrote it")]
    UnknownVersion(u8),
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
        let key = MasterKey::generate();
        let secret = Secret::parse("key", HMAC).unwrap();
        assert_eq!(format!("{secret:?} {key:?}"), "Secret(hmac256, redacted) MasterKey(redacted)");
        assert!(!MasterKey::parse("c2hvcnQ=").unwrap_err().to_string().contains("c2hvcnQ"));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_row_only() {
        let key = MasterKey::generate();
        let sealed = key.seal(b"ep_1", HMAC.as_bytes());
        assert_eq!((sealed[0], sealed.len()), (1, 1 + 4 + 24 + HMAC.len() + 16));
        let again = MasterKey::parse(&format!("{}\n", &*key.text())).unwrap();
        assert_eq!(again.open(b"ep_1", &sealed).unwrap().as_slice(), HMAC.as_bytes());
        assert_eq!(key.open(b"ep_2", &sealed), Err(SealError::Damaged), "another row");
        assert_ne!(key.seal(b"ep_1", HMAC.as_bytes()), sealed, "a nonce is used once");

        let other = MasterKey::generate().open(b"ep_1", &sealed).unwrap_err();
        assert!(matches!(&other, SealError::OtherKey { .. }) && other.to_string().contains("SENDOFF_MASTER_KEY"));
        assert_eq!(key.open(b"ep_1", &[2, 3]), Err(SealError::UnknownVersion(2)));
    }

    #[test]
    fn another_key_opens_and_never_seals() {
        let (old, new) = (MasterKey::generate(), MasterKey::generate());
        let before = old.seal(b"row", b"plain");
        let both = new.clone().with_other(&old);
        assert_eq!(both.open(b"row", &before).unwrap().as_slice(), b"plain");
        assert!(both.has_other() && !both.has_sealed(&before));
        let after = both.seal(b"row", b"plain");
        assert!(both.has_sealed(&after) && new.open(b"row", &after).is_ok() && old.open(b"row", &after).is_err());
        let third = MasterKey::generate().seal(b"row", b"plain");
        assert!(matches!(both.open(b"row", &third), Err(SealError::OtherKey { .. })));
        assert!(!both.has_sealed(&[]));
    }

    #[test]
    fn no_byte_of_what_is_sealed_can_be_changed_or_missing() {
        let key = MasterKey::generate();
        let sealed = key.seal(b"row", b"plain");
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert!(key.open(b"row", &bent).is_err(), "byte {at}");
            assert!(key.open(b"row", &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
