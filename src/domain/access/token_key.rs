//! The key that verifies an installation's tokens (JWTs).
//!
//! * An [`Algorithm`] of RFC 7518 or RFC 8037 uses a shared secret (HS…) or a key pair (RS…, EdDSA).
//! * A [`PublicKey`] verifies tokens that another service signs.
//! * A [`TokenKey`] is the one accepted algorithm and its key.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// The signature algorithm of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    EdDsa,
}

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::EdDsa,
    ];

    /// The `alg` in a token's header.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Parses the `alg`.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether the key is a shared secret, which can also sign.
    pub const fn is_shared(self) -> bool {
        matches!(self, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The public half of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// An `RSAPublicKey` in DER (RFC 8017, appendix A.1.1) of 2048 to 8192 bits.
    Rsa(Vec<u8>),
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Parses the PEM of a public key (`-----BEGIN PUBLIC KEY-----`). A literal `\n` counts as a line break, because
    /// some tools cannot set multi-line environment variables.
    ///
    /// # Errors
    /// The rest of a sentence that begins with the setting's name. The text is never quoted: it may be a private key by
    /// mistake.
    pub fn parse(pem: &str) -> Result<PublicKey, &'static str> {
        if pem.contains("PRIVATE KEY") {
            return Err("is a private key; set the public key, and keep the private one where tokens are signed");
        }
        let pem = pem.replace("\\n", "\n");
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| "is not the PEM of a public key")?;
        of_info(&der).unwrap_or(Err("is neither an RSA nor an Ed25519 key"))
    }

    /// Whether the key can verify tokens of `algorithm`.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            PublicKey::Rsa(_) => matches!(algorithm, Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512),
            PublicKey::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }
}

/// The one accepted algorithm and its key.
#[derive(Clone)]
pub enum TokenKey {
    /// Signs and verifies.
    Shared(Algorithm, Zeroizing<Vec<u8>>),
    /// Verifies.
    Public(Algorithm, PublicKey),
}

impl TokenKey {
    /// The accepted algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            TokenKey::Shared(algorithm, _) | TokenKey::Public(algorithm, _) => *algorithm,
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({}, redacted)", self.algorithm())
    }
}

/// DER tags (X.690).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112, id-Ed25519.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The key in a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7). `None`: not one, or of another algorithm.
fn of_info(mut der: &[u8]) -> Option<Result<PublicKey, &'static str>> {
    let mut info = element(&mut der, SEQUENCE)?;
    let mut kind = element(&mut info, SEQUENCE)?;
    let (unused, key) = element(&mut info, BIT_STRING)?.split_first()?;
    if *unused != 0 {
        return None;
    }
    match element(&mut kind, OBJECT_ID)? {
        RSA => Some(rsa(key)),
        ED25519 => Some(ed25519(key)),
        _ => None,
    }
}

fn rsa(key: &[u8]) -> Result<PublicKey, &'static str> {
    let mut rest = key;
    let modulus = element(&mut rest, SEQUENCE).and_then(|mut pair| element(&mut pair, INTEGER)).unwrap_or_default();
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    match modulus.len() * 8 - zeros {
        2_048..=8_192 => Ok(PublicKey::Rsa(key.to_vec())),
        _ => Err("is an RSA key of fewer than 2048 or more than 8192 bits"),
    }
}

fn ed25519(key: &[u8]) -> Result<PublicKey, &'static str> {
    let bytes: [u8; 32] = key.try_into().map_err(|_| "is not an Ed25519 key")?;
    match VerifyingKey::from_bytes(&bytes) {
        // With a weak key one signature verifies for many messages.
        Ok(point) if !point.is_weak() => Ok(PublicKey::Ed25519(bytes)),
        _ => Err("is not an Ed25519 key"),
    }
}

/// The content of the next element of `der`, which must have this tag. `der` advances past it.
fn element<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(&one, rest)| (usize::from(one), rest))?,
        0x82 => rest.split_first_chunk().map(|(two, rest)| (usize::from(u16::from_be_bytes(*two)), rest))?,
        // Longer elements do not occur in these keys.
        _ => return None,
    };
    let (inside, rest) = rest.split_at_checked(length)?;
    *der = rest;
    (first == tag).then_some(inside)
}

#[cfg(test)]
mod tests {
    use crate::domain::access::token_key::*;

    /// Made with `openssl genpkey -algorithm … | openssl pkey -pubout`.
    const RSA_2048: &str = include_str!("../../../tests/keys/rsa.public.pem");
    const RSA_1024: &str = include_str!("../../../tests/keys/rsa-1024.public.pem");
    const ED: &str = include_str!("../../../tests/keys/ed25519.public.pem");
    const EC: &str = include_str!("../../../tests/keys/ec.public.pem");

    #[test]
    fn a_public_key_is_read_and_fits_its_own_algorithms() {
        let (rsa, ed) = (PublicKey::parse(RSA_2048).unwrap(), PublicKey::parse(ED).unwrap());
        for algorithm in Algorithm::ALL {
            assert_eq!(rsa.fits(algorithm), algorithm.name().starts_with("RS"), "{algorithm}");
            assert_eq!(ed.fits(algorithm), algorithm == Algorithm::EdDsa, "{algorithm}");
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(PublicKey::parse(&RSA_2048.replace('\n', "\\n")), Ok(rsa), "in one line");
    }

    #[test]
    fn anything_else_is_refused_and_not_quoted() {
        for (bad, why) in [
            (RSA_1024, "2048"),
            (EC, "neither"),
            ("-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----", "is a private key"),
            ("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----", "neither"),
            ("nonsense", "not the PEM"),
            ("", "not the PEM"),
        ] {
            let said = PublicKey::parse(bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        // A truncated key must not panic.
        let der = SubjectPublicKeyInfoDer::from_pem_slice(RSA_2048.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert!(!matches!(of_info(&der[..end]), Some(Ok(_))), "{end}");
        }
    }
}
