//! The crypto provider of the `jsonwebtoken` crate, built on crates that Sendoff already uses: HMAC from `hmac` and
//! `sha2`, RSA from `ring` (also used for TLS), Ed25519 from `ed25519-dalek` (also used for webhooks). It supports only
//! what Sendoff needs: an HMAC key signs and verifies, a public key verifies.
//!
//! * [`install`]: makes it the provider of the process.
//! * [`HmacKey`]: an HMAC key.
//! * [`PublicKeyVerifier`]: a public key, RSA or Ed25519.

use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters,
    UnparsedPublicKey,
};
use sha2::{Sha256, Sha384, Sha512};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes this the provider of the process. Idempotent.
pub(in crate::api) fn install() {
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(match algorithm {
        Algorithm::HS256 => HmacKey::<Hmac<Sha256>>::boxed(*algorithm, key.as_bytes())?,
        Algorithm::HS384 => HmacKey::<Hmac<Sha384>>::boxed(*algorithm, key.as_bytes())?,
        Algorithm::HS512 => HmacKey::<Hmac<Sha512>>::boxed(*algorithm, key.as_bytes())?,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    })
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    // Without this check a public key could be used as an HMAC key, and anyone could sign.
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let bytes = key.try_get_as_bytes()?;
    let rsa =
        |how| Box::new(PublicKeyVerifier { algorithm: *algorithm, key: VerifyingKeyKind::Rsa(how, bytes.to_vec()) });
    Ok(match algorithm {
        Algorithm::HS256 => HmacKey::<Hmac<Sha256>>::boxed(*algorithm, bytes)?,
        Algorithm::HS384 => HmacKey::<Hmac<Sha384>>::boxed(*algorithm, bytes)?,
        Algorithm::HS512 => HmacKey::<Hmac<Sha512>>::boxed(*algorithm, bytes)?,
        Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::EdDSA => {
            let key = VerifyingKey::try_from(bytes).map_err(|_| ErrorKind::InvalidKeyFormat)?;
            Box::new(PublicKeyVerifier { algorithm: *algorithm, key: VerifyingKeyKind::Ed25519(key) })
        }
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    })
}

struct HmacKey<M> {
    algorithm: Algorithm,
    mac: M,
}

impl<M: Mac + KeyInit> HmacKey<M> {
    fn boxed(algorithm: Algorithm, key: &[u8]) -> Result<Box<HmacKey<M>>, Error> {
        let mac = <M as KeyInit>::new_from_slice(key).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Box::new(HmacKey { algorithm, mac }))
    }
}

impl<M: Mac + Clone> Signer<Vec<u8>> for HmacKey<M> {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.mac.clone().chain_update(message).finalize().as_bytes().to_vec())
    }
}

impl<M: Mac + Clone> Verifier<Vec<u8>> for HmacKey<M> {
    /// Compares in constant time.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.mac.clone().chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl<M: Mac + Clone> JwtSigner for HmacKey<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<M: Mac + Clone> JwtVerifier for HmacKey<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct PublicKeyVerifier {
    algorithm: Algorithm,
    key: VerifyingKeyKind,
}

enum VerifyingKeyKind {
    Rsa(&'static RsaParameters, Vec<u8>),
    Ed25519(VerifyingKey),
}

impl Verifier<Vec<u8>> for PublicKeyVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let good = match &self.key {
            VerifyingKeyKind::Rsa(how, key) => UnparsedPublicKey::new(*how, key).verify(message, signature).is_ok(),
            // Strict: a malleable signature would give a second token with the same claims, which a logout would miss.
            VerifyingKeyKind::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        };
        if good { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl JwtVerifier for PublicKeyVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
