//! What the tokens of an installation (JWTs) are signed and verified with.
//!
//! * An [`Algorithm`] of RFC 7518 or RFC 8037: with a shared secret (HS…), or with a key pair (RS…, EdDSA).
//! * A [`PublicKey`] is all that Sendoff is given of a pair: it verifies, and somebody else signs.
//! * A [`TokenKey`] is the one algorithm that counts, and its key.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// How a token is signed.
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
    /// All of them.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::EdDsa,
    ];

    /// Its name in a token's header.
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

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether both sides hold the same secret, so that whoever verifies can sign.
    pub const fn is_shared(self) -> bool {
        matches!(self, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The half of a key pair that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A `RSAPublicKey` in DER (RFC 8017, appendix A.1.1), of 2048 to 8192 bits.
    Rsa(Vec<u8>),
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads the PEM of a public key (`-----BEGIN PUBLIC KEY-----`). Line breaks may be written as `\n`, since not
    /// every place for an environment variable takes real ones.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with it. Never quotes it: it may be a private key by
    /// mistake.
    pub fn parse(pem: &str) -> Result<PublicKey, &'static str> {
        if pem.contains("PRIVATE KEY") {
            return Err("is a private key, which stays where the tokens are signed: only the public one belongs here");
        }
        let pem = pem.replace("\\n", "\n");
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| "is not the PEM of a public key")?;
        of_info(&der).unwrap_or(Err("is neither an RSA nor an Ed25519 key"))
    }

    /// Whether tokens of `algorithm` can be verified with it.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        match self {
            PublicKey::Rsa(_) => matches!(algorithm, Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512),
            PublicKey::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }
}

/// The algorithm that counts, and its key.
#[derive(Clone)]
pub enum TokenKey {
    /// Signs and verifies.
    Shared(Algorithm, Zeroizing<Vec<u8>>),
    /// Verifies.
    Public(Algorithm, PublicKey),
}

impl TokenKey {
    /// The one algorithm whose tokens are accepted.
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

/// DER's tags (X.690).
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112, id-Ed25519.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The key in a SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7): which kind of key, and its bits. `None`: it is none.
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
        // Under a weak key one signature is good for many messages.
        Ok(point) if !point.is_weak() => Ok(PublicKey::Ed25519(bytes)),
        _ => Err("is not an Ed25519 key"),
    }
}

/// What is in the next element of `der`, which must have this tag; `der` goes on behind it.
fn element<'d>(der: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81 => rest.split_first().map(|(&one, rest)| (usize::from(one), rest))?,
        0x82 => rest.split_first_chunk().map(|(two, rest)| (usize::from(u16::from_be_bytes(*two)), rest))?,
        // Nothing of ours is as long.
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
        // No cut makes it panic.
        let der = SubjectPublicKeyInfoDer::from_pem_slice(RSA_2048.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert!(!matches!(of_info(&der[..end]), Some(Ok(_))), "{end}");
        }
    }
}
