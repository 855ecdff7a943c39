//! The receiver's side: verifies that a request is authentic, unmodified and recent.
//!
//! * A [`Verifier`] holds the HMAC secret or the Ed25519 public key that the customer got.
//! * [`SignatureHeaders`] holds the three signature headers.
//!
//! Used by `sendoff verify`, the demo's receiver and the portal.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::ed25519::signature::MultipartVerifier;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::Mac;

use crate::domain::signing::secret::{KeyMaterial, PUBLIC_PREFIX, Secret, decode_base64};
use crate::domain::signing::signature::{KeyedHmac, keyed};
use crate::domain::{Invalid, Time};

/// Maximum signatures checked per header. A rotation needs two; each costs a hash of the body.
const MOST: usize = 16;

/// The values of `webhook-id`, `webhook-timestamp` and `webhook-signature`.
#[derive(Clone, Copy, Debug)]
pub struct SignatureHeaders<'h> {
    pub id: &'h str,
    pub timestamp: &'h str,
    pub signature: &'h str,
}

/// Verifies requests with one secret or public key.
pub struct Verifier(Check);

enum Check {
    Hmac(KeyedHmac),
    Ed25519(Box<VerifyingKey>),
}

impl Verifier {
    /// Parses `whsec_…` (the prefix is optional) or `whpk_…`; `field` names it in the error.
    ///
    /// # Errors
    /// The broken rule; the text is never quoted.
    pub fn parse(field: &str, text: &str) -> Result<Verifier, Invalid> {
        let Some(public) = text.strip_prefix(PUBLIC_PREFIX) else {
            return Secret::parse(field, text).and_then(|secret| Verifier::of(field, &secret));
        };
        let bytes = decode_base64(field, public)?;
        let key = <&[u8; 32]>::try_from(&bytes[..]).ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok());
        match key {
            Some(key) => Ok(Verifier(Check::Ed25519(Box::new(key)))),
            None => Err(Invalid::new(field, "must be whpk_ and base64 of a 32-byte Ed25519 public key")),
        }
    }

    fn of(field: &str, secret: &Secret) -> Result<Verifier, Invalid> {
        match &secret.0 {
            KeyMaterial::Hmac(bytes) => keyed(bytes).map(Check::Hmac),
            KeyMaterial::Ed25519(key) => Some(Check::Ed25519(Box::new(key.verifying_key()))),
        }
        .map(Verifier)
        .ok_or_else(|| Invalid::new(field, "is not a key"))
    }

    /// Verifies a request that arrived at `now`: at least one signature matches (compared in constant time), and the
    /// timestamp is within `tolerance` of `now` (usually five minutes).
    ///
    /// # Errors
    /// The signature is checked first: a wrong time is only reported for an authentic request.
    pub fn verify(
        &self,
        signed: SignatureHeaders<'_>,
        body: &[u8],
        now: Time,
        tolerance: Duration,
    ) -> Result<(), VerifyError> {
        let seconds: i64 = signed.timestamp.parse().map_err(|_| VerifyError::Timestamp)?;
        let head = format!("{}.{}.", signed.id, signed.timestamp);
        if !signed.signature.split(' ').take(MOST).any(|part| self.signed_by(part, head.as_bytes(), body)) {
            return Err(VerifyError::Signature);
        }
        let apart = now.seconds().abs_diff(seconds);
        if apart > tolerance.as_secs() { Err(VerifyError::Time { apart }) } else { Ok(()) }
    }

    /// Whether `part`, e.g. `v1,…`, is a valid signature of `head` and `body`.
    fn signed_by(&self, part: &str, head: &[u8], body: &[u8]) -> bool {
        let Some((version, text)) = part.split_once(',') else { return false };
        let Ok(bytes) = STANDARD.decode(text) else { return false };
        match (&self.0, version) {
            (Check::Hmac(mac), "v1") => mac.clone().chain_update(head).chain_update(body).verify_slice(&bytes).is_ok(),
            (Check::Ed25519(key), "v1a") => Signature::from_slice(&bytes)
                .is_ok_and(|signature| key.multipart_verify(&[head, body], &signature).is_ok()),
            _ => false,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(redacted)")
    }
}

/// The reason a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    #[error("no signature in webhook-signature is valid: a different secret, or the body was modified")]
    Signature,
    /// The difference in seconds.
    #[error("the signature is valid, but its timestamp is {apart} s from now: a replayed request, or a wrong clock")]
    Time { apart: u64 },
}

#[cfg(test)]
mod tests {
    use crate::domain::signing::secret::SignatureType;
    use crate::domain::signing::signature::Signing;
    use crate::domain::signing::signature::verify::*;

    const AT: Time = Time::from_micros(1_614_265_330_000_000);
    const MINUTES: Duration = Duration::from_secs(300);

    #[test]
    fn only_our_signatures_verify() {
        for kind in [SignatureType::Hmac256, SignatureType::Ed25519] {
            let (secret, other) = (Secret::generate(kind), Secret::generate(kind));
            let text = Signing::new(&secret, [], &[]).signature("msg_1", AT, b"{}");
            let good = SignatureHeaders { id: "msg_1", timestamp: "1614265330", signature: &text };
            let check = |signed, body: &[u8]| {
                Verifier::parse("key", &secret.shown()).unwrap().verify(signed, body, AT, MINUTES)
            };
            assert_eq!(check(good, b"{}"), Ok(()));
            assert_eq!(check(good, b"{ }"), Err(VerifyError::Signature), "the body");
            assert_eq!(check(SignatureHeaders { id: "msg_2", ..good }, b"{}"), Err(VerifyError::Signature), "the id");
            assert_eq!(
                check(SignatureHeaders { timestamp: "1614265331", ..good }, b"{}"),
                Err(VerifyError::Signature),
                "the time"
            );
            assert_eq!(check(SignatureHeaders { timestamp: "soon", ..good }, b"{}"), Err(VerifyError::Timestamp));
            let (version, rest) = text.split_once(',').unwrap();
            let swapped = format!("{},{rest}", if version == "v1" { "v1a" } else { "v1" });
            for bad in ["", "v1,", "v1,!!", "v1a,AAAA", &text[..text.len() - 4], &swapped] {
                assert_eq!(
                    check(SignatureHeaders { signature: bad, ..good }, b"{}"),
                    Err(VerifyError::Signature),
                    "{bad:?}"
                );
            }
            let stranger = Verifier::parse("key", &other.shown()).unwrap();
            assert_eq!(stranger.verify(good, b"{}", AT, MINUTES), Err(VerifyError::Signature), "another key");
        }
    }

    #[test]
    fn either_secret_verifies_during_a_rotation() {
        let (old, new) = (Secret::generate(SignatureType::Hmac256), Secret::generate(SignatureType::Ed25519));
        let text = Signing::new(&new, [(&old, Time::MAX)], &[]).signature("msg_1", AT, b"{}");
        let signed = SignatureHeaders { id: "msg_1", timestamp: "1614265330", signature: &text };
        for secret in [&old, &new] {
            let verifier = Verifier::parse("key", &secret.shown()).unwrap();
            assert_eq!(verifier.verify(signed, b"{}", AT, MINUTES), Ok(()));
        }
        let crowd = format!("{}{text}", "v1,AAAA ".repeat(MOST));
        let verifier = Verifier::parse("key", &old.shown()).unwrap();
        assert!(
            verifier.verify(SignatureHeaders { signature: &crowd, ..signed }, b"{}", AT, MINUTES).is_err(),
            "a crowded header"
        );
    }

    #[test]
    fn a_request_is_fresh_on_both_sides_of_now() {
        let secret = Secret::generate(SignatureType::Hmac256);
        let text = Signing::new(&secret, [], &[]).signature("msg_1", AT, b"{}");
        let signed = SignatureHeaders { id: "msg_1", timestamp: "1614265330", signature: &text };
        let verifier = Verifier::parse("key", &secret.shown()).unwrap();
        let at = |seconds: i64| Time::from_micros(AT.micros() + seconds * 1_000_000);
        for seconds in [-300, 0, 300] {
            assert_eq!(verifier.verify(signed, b"{}", at(seconds), MINUTES), Ok(()));
        }
        for seconds in [-301, 301] {
            assert_eq!(verifier.verify(signed, b"{}", at(seconds), MINUTES), Err(VerifyError::Time { apart: 301 }));
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for text in ["whpk_", "whpk_AAAA", "whsec_AAAA", "nonsense"] {
            assert!(Verifier::parse("key", text).is_err(), "{text}");
        }
    }
}
