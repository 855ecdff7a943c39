//! Extra signatures in the styles of other products, for existing receivers.
//!
//! * An [`ExtraSignature`] is an endpoint's setting: a style, a header and the [`KeyForm`] of the secret.
//! * An [`ExtraSigner`] is the same with prepared keys.
//!
//! GitHub's style (<https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries>) carries one
//! signature, by the current secret. Stripe's (<https://docs.stripe.com/webhooks#verify-manually>) carries one for each
//! valid secret.

use std::fmt::Write;

use hmac::Mac;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::domain::signing::secret::{KeyMaterial, Secret, SignatureType};
use crate::domain::signing::signature::{Expiring, KeyedHmac, header_allowed, keyed, value};
use crate::domain::{Invalid, Time, limits};

/// The form of the secret that keys the HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeyForm {
    /// The text including `whsec_`, as GitHub and Stripe receivers use theirs.
    #[default]
    Text,
    /// The decoded bytes.
    Bytes,
}

/// A signature in addition to those of Standard Webhooks, e.g. `{"style": "github", "header": "X-Hub-Signature-256",
/// "key": "text"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "style", rename_all = "camelCase", deny_unknown_fields)]
pub enum ExtraSignature {
    /// The three Standard Webhooks headers, repeated as `svix-id`, `svix-timestamp` and `svix-signature`.
    Svix,
    /// `sha256=<hex of HMAC-SHA256(body)>`.
    #[serde(rename = "github")]
    GitHub {
        header: String,
        #[serde(default)]
        key: KeyForm,
    },
    /// `t=<seconds>,v1=<hex of HMAC-SHA256("seconds.body")>`, one `v1=` for each valid secret.
    Stripe {
        header: String,
        #[serde(default)]
        key: KeyForm,
    },
}

impl ExtraSignature {
    /// The configured header; `None` for a style with fixed names.
    pub fn header(&self) -> Option<&str> {
        match self {
            ExtraSignature::Svix => None,
            ExtraSignature::GitHub { header, .. } | ExtraSignature::Stripe { header, .. } => Some(header),
        }
    }

    /// Whether the style requires an HMAC secret.
    pub fn needs_hmac(&self) -> bool {
        self.header().is_some()
    }

    /// Checks the header; `field` names the setting in the error.
    ///
    /// # Errors
    /// A header that [`header_allowed`] rejects.
    pub fn check(&self, field: &str) -> Result<(), Invalid> {
        self.header().map_or(Ok(()), |header| header_allowed(field, header, ""))
    }
}

/// Checks an endpoint's extra signatures for secrets of type `kind`; `field` names the setting in the error.
///
/// # Errors
/// More than four, a reserved or repeated header, or a style that requires another signature type.
pub fn check_extras(field: &str, extras: &[ExtraSignature], kind: SignatureType) -> Result<(), Invalid> {
    let most = limits::EXTRA_SIGNATURES;
    if extras.len() > most {
        return Err(Invalid::new(field, format!("must be at most {most}, got {}", extras.len())));
    }
    for (index, extra) in extras.iter().enumerate() {
        extra.check(field)?;
        if extra.needs_hmac() && kind != SignatureType::Hmac256 {
            let reason = "the styles github and stripe require the signatureType hmac256";
            return Err(Invalid::new(field, reason));
        }
        let taken = |other: &ExtraSignature| match (extra.header(), other.header()) {
            (Some(one), Some(two)) => one.eq_ignore_ascii_case(two),
            (one, two) => one == two,
        };
        if extras[..index].iter().any(taken) {
            let reason = format!("sets the header {:?} twice", extra.header().unwrap_or("svix-signature"));
            return Err(Invalid::new(field, reason));
        }
    }
    Ok(())
}

/// An [`ExtraSignature`] with prepared keys.
pub(super) enum ExtraSigner {
    Svix,
    GitHub { header: HeaderName, mac: KeyedHmac },
    Stripe { header: HeaderName, macs: Vec<Expiring<KeyedHmac>> },
}

impl ExtraSigner {
    /// Prepares `extra` for `secrets`: the current one first, each with the time at which it stops signing.
    pub(super) fn new(extra: &ExtraSignature, secrets: &[(&Secret, Time)]) -> Option<ExtraSigner> {
        let header = |name: &str| HeaderName::try_from(name).ok();
        match extra {
            ExtraSignature::Svix => Some(ExtraSigner::Svix),
            ExtraSignature::GitHub { header: name, key } => {
                let (current, _) = secrets.first()?;
                Some(ExtraSigner::GitHub { header: header(name)?, mac: keyed_as(*key, current)? })
            }
            ExtraSignature::Stripe { header: name, key } => {
                let graced =
                    |&(secret, until): &(&Secret, Time)| keyed_as(*key, secret).map(|value| Expiring { value, until });
                Some(ExtraSigner::Stripe { header: header(name)?, macs: secrets.iter().filter_map(graced).collect() })
            }
        }
    }

    /// Sets the headers. `standard` are the values of `webhook-id`, `-timestamp` and `-signature`.
    pub(super) fn sign(&self, headers: &mut HeaderMap, standard: [&HeaderValue; 3], at: Time, body: &[u8]) {
        match self {
            ExtraSigner::Svix => {
                for (name, value) in ["svix-id", "svix-timestamp", "svix-signature"].into_iter().zip(standard) {
                    headers.insert(HeaderName::from_static(name), value.clone());
                }
            }
            ExtraSigner::GitHub { header, mac } => {
                let mac = mac.clone().chain_update(body).finalize();
                headers.insert(header, value(format!("sha256={}", hex::encode(mac.as_bytes()))));
            }
            ExtraSigner::Stripe { header, macs } => {
                let seconds = at.seconds();
                let head = format!("{seconds}.");
                let mut text = format!("t={seconds}");
                for mac in macs.iter().filter(|mac| mac.valid(at)) {
                    let mac = mac.value.clone().chain_update(&head).chain_update(body).finalize();
                    // Writing to a string does not fail.
                    let _ = write!(text, ",v1={}", hex::encode(mac.as_bytes()));
                }
                if text.contains(',') {
                    headers.insert(header, value(text));
                }
            }
        }
    }
}

fn keyed_as(form: KeyForm, secret: &Secret) -> Option<KeyedHmac> {
    match (&secret.0, form) {
        (KeyMaterial::Hmac(_), KeyForm::Text) => keyed(secret.text().as_bytes()),
        (KeyMaterial::Hmac(bytes), KeyForm::Bytes) => keyed(bytes),
        (KeyMaterial::Ed25519(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ring::hmac as independent;

    use crate::domain::MessageId;
    use crate::domain::signing::signature::Signing;
    use crate::domain::signing::signature::extra::*;

    const CURRENT: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    const AT: Time = Time::from_micros(1_614_265_330_000_000);

    fn github(header: &str, key: KeyForm) -> ExtraSignature {
        ExtraSignature::GitHub { header: header.into(), key }
    }

    fn stripe(header: &str, key: KeyForm) -> ExtraSignature {
        ExtraSignature::Stripe { header: header.into(), key }
    }

    fn mac(key: &[u8], text: &[u8]) -> String {
        hex::encode(independent::sign(&independent::Key::new(independent::HMAC_SHA256, key), text))
    }

    fn signed(current: &str, extra: ExtraSignature, at: Time) -> Option<String> {
        let (current, old) = (Secret::parse("key", current).unwrap(), Secret::parse("key", OLD).unwrap());
        let name = extra.header().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        let until = Time::from_micros(AT.micros() + 1);
        Signing::new(&current, [(&old, until)], &[extra]).sign(&mut headers, MessageId::new(AT), at, b"{\"a\":1}");
        headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn github_style_is_the_current_secrets_hmac_of_the_body() {
        let bytes = STANDARD.decode(&CURRENT[6..]).unwrap();
        for (form, key) in [(KeyForm::Text, CURRENT.as_bytes()), (KeyForm::Bytes, &bytes)] {
            let wanted = format!("sha256={}", mac(key, b"{\"a\":1}"));
            assert_eq!(signed(CURRENT, github("X-Hub-Signature-256", form), AT), Some(wanted));
        }
    }

    #[test]
    fn stripe_style_carries_each_valid_secrets_hmac_of_time_and_body() {
        let signed_text = b"1614265330.{\"a\":1}";
        let (new, old) = (mac(CURRENT.as_bytes(), signed_text), mac(OLD.as_bytes(), signed_text));
        let extra = stripe("Stripe-Signature", KeyForm::Text);
        assert_eq!(signed(CURRENT, extra.clone(), AT), Some(format!("t=1614265330,v1={new},v1={old}")));
        let after = Time::from_micros(AT.micros() + 1);
        assert_eq!(signed(CURRENT, extra, after), Some(format!("t=1614265330,v1={new}")), "the grace is over");
        let bytes = STANDARD.decode(&CURRENT[6..]).unwrap();
        let wanted = format!("t=1614265330,v1={}", mac(&bytes, signed_text));
        assert_eq!(signed(CURRENT, stripe("x-sig", KeyForm::Bytes), after), Some(wanted));
    }

    #[test]
    fn an_ed25519_secret_makes_neither() {
        let secret = Secret::generate(SignatureType::Ed25519).text();
        let after = Time::from_micros(AT.micros() + 1);
        assert_eq!(signed(&secret, github("x-sig", KeyForm::Text), AT), None);
        assert_eq!(signed(&secret, stripe("x-sig", KeyForm::Text), after), None);
    }

    #[test]
    fn its_json_is_what_the_api_speaks() {
        let text = r#"[{"style":"svix"},{"style":"github","header":"X-Hub","key":"text"},{"style":"stripe","header":"x","key":"bytes"}]"#;
        let extras: Vec<ExtraSignature> = serde_json::from_str(text).unwrap();
        let wanted = [ExtraSignature::Svix, github("X-Hub", KeyForm::Text), stripe("x", KeyForm::Bytes)];
        assert_eq!(extras, wanted);
        assert_eq!(serde_json::to_string(&extras).unwrap(), text);
        for bad in [
            r#"{"style":"gitHub","header":"x"}"#,
            r#"{"style":"github"}"#,
            r#"{"style":"github","header":"x","kye":"text"}"#,
        ] {
            assert!(serde_json::from_str::<ExtraSignature>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_set_that_contradicts_itself_is_refused() {
        use SignatureType::{Ed25519, Hmac256};
        let (hub, sig) = (github("x-hub", KeyForm::Text), stripe("x-sig", KeyForm::Text));
        assert_eq!(check_extras("extraSignatures", &[ExtraSignature::Svix, hub.clone(), sig.clone()], Hmac256), Ok(()));
        assert_eq!(check_extras("extraSignatures", &[ExtraSignature::Svix], Ed25519), Ok(()));
        let wrong: [(&[ExtraSignature], SignatureType); 7] = [
            (&[github("webhook-id", KeyForm::Text)], Hmac256),
            (&[stripe("a b", KeyForm::Text)], Hmac256),
            (&[hub.clone(), stripe("X-Hub", KeyForm::Text)], Hmac256),
            (&[ExtraSignature::Svix, ExtraSignature::Svix], Hmac256),
            (&[hub], Ed25519),
            (std::slice::from_ref(&sig), Ed25519),
            (&["a", "b", "c", "d", "e"].map(|name| github(name, KeyForm::Text)), Hmac256),
        ];
        for (extras, kind) in wrong {
            assert!(check_extras("extraSignatures", extras, kind).is_err(), "{extras:?}");
        }
    }
}
