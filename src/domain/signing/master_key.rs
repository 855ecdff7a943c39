//! The **master key** of an installation. It **seals** secrets before they are stored and **opens** them. Sealed data
//! is bound to one row and does not open in another.
//!
//! Nothing here prints a key: `Debug` is redacted, errors never quote, memory is wiped on drop.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::Invalid;
use crate::domain::signing::secret::{decode_base64, encode_base64};

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
        let bytes = decode_base64(FIELD, text.trim())?;
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
        encode_base64("", &self.key[..])
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
    use crate::domain::signing::master_key::*;

    const HMAC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn nothing_prints_a_key() {
        assert_eq!(format!("{:?}", MasterKey::generate()), "MasterKey(redacted)");
        assert!(!MasterKey::parse("c2hvcnQ=").unwrap_err().to_string().contains("c2hvcnQ"));
    }

    #[test]
    fn sealed_data_opens_only_with_its_key_and_row() {
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
    fn no_byte_of_sealed_data_can_be_changed_or_missing() {
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
