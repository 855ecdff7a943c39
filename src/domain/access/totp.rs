//! Time-based one-time passwords (RFC 6238) as a second factor, and the recovery codes that replace them.
//!
//! SHA-1, 30 seconds and 6 digits: authenticator apps support nothing else reliably. SHA-1 is safe in HMAC.

use std::fmt;

use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::domain::Time;

/// Seconds of a step.
const STEP: i64 = 30;
/// Steps before and after the current one whose codes are accepted: clocks differ, and typing takes time.
const WINDOW: i64 = 1;
const DIGITS: usize = 6;
/// Bytes of a secret: the output of SHA-1, as RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;
/// Recovery codes of an account.
pub const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code.
const RECOVERY_BYTES: usize = 10;
/// The alphabet of base32 (RFC 4648).
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The secret that an account shares with an authenticator app.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpSecret(Zeroizing<[u8; SECRET_BYTES]>);

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(redacted)")
    }
}

impl TotpSecret {
    /// A secret of these bytes; `None` unless there are [`SECRET_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Option<TotpSecret> {
        bytes.try_into().ok().map(|bytes| TotpSecret(Zeroizing::new(bytes)))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// The text to type into an app.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(base32(&self.0[..]))
    }

    /// The URI for a QR code.
    pub fn uri(&self, account: &str) -> Zeroizing<String> {
        let account: String = url::form_urlencoded::byte_serialize(account.as_bytes()).collect();
        // Apps do not decode a plus sign as a space.
        let account = account.replace('+', "%20");
        Zeroizing::new(format!("otpauth://totp/Sendoff:{account}?secret={}&issuer=Sendoff", *self.text()))
    }

    /// The step to which the code belongs. Codes of steps up to `used` are rejected, so no code works twice. Takes the
    /// same time for right and wrong codes.
    pub fn accepts(&self, typed: &str, used: Option<i64>, now: Time) -> Option<i64> {
        let current = now.seconds() / STEP;
        let steps = (current - WINDOW..=current + WINDOW).rev();
        let mut right = steps.filter(|step| bool::from(self.code(*step).as_bytes().ct_eq(typed.as_bytes())));
        right.rfind(|step| used.is_none_or(|used| *step > used))
    }

    /// The code that an app shows at `now`.
    pub fn code_at(&self, now: Time) -> String {
        self.code(now.seconds() / STEP)
    }

    fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0[..]);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        // Dynamic truncation, RFC 4226, section 5.3.
        let at = usize::from(tag[tag.len() - 1] & 0xf);
        let word = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
        format!("{:0DIGITS$}", word % 10_u32.pow(DIGITS as u32))
    }
}

/// A second factor as typed by a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypedCode {
    /// Six digits.
    App(String),
    /// A recovery code in its stored form.
    Recovery(Zeroizing<String>),
}

impl TypedCode {
    /// Parses a code, ignoring spaces, hyphens and case. `None`: it is neither.
    pub fn parse(typed: &str) -> Option<TypedCode> {
        let plain: String = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').take(64).collect();
        if plain.len() == DIGITS && plain.bytes().all(|b| b.is_ascii_digit()) {
            return Some(TypedCode::App(plain));
        }
        let plain = Zeroizing::new(plain.to_ascii_uppercase());
        let known = plain.len() == RECOVERY_BYTES * 8 / 5 && plain.bytes().all(|b| BASE32.contains(&b));
        known.then_some(TypedCode::Recovery(plain))
    }
}

/// The recovery code derived from a random seed: four groups of four characters, 80 bits.
pub fn recovery_code(seed: [u8; 32]) -> String {
    let text = base32(&seed[..RECOVERY_BYTES]).to_ascii_lowercase();
    let mut code = String::with_capacity(text.len() + 3);
    for (n, c) in text.chars().enumerate() {
        if n > 0 && n % 4 == 0 {
            code.push('-');
        }
        code.push(c);
    }
    code
}

/// Base32 without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(char::from(BASE32[(bits >> count) as usize & 31]));
        }
    }
    if count > 0 {
        text.push(char::from(BASE32[(bits << (5 - count)) as usize & 31]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").unwrap()
    }

    fn at(seconds: i64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(secret().code_at(at(seconds)), code, "{seconds}");
        }
        assert_eq!(*secret().text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = secret().uri("änne o@example.com");
        assert_eq!(
            *uri,
            "otpauth://totp/Sendoff:%C3%A4nne%20o%40example.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Sendoff"
        );
        assert!(!format!("{:?}", secret()).contains("1234"));
    }

    #[test]
    fn a_code_is_accepted_a_step_around_its_time_and_once() {
        let code = secret().code_at(at(1_000_000_020));
        let step = 1_000_000_020 / STEP;
        for (seconds, wanted) in [(-31, None), (-30, Some(step)), (0, Some(step)), (59, Some(step)), (60, None)] {
            let now = at(step * STEP + seconds);
            assert_eq!(secret().accepts(&code, None, now), wanted, "{seconds}");
            assert_eq!(secret().accepts(&code, Some(step - 1), now), wanted, "{seconds}");
            assert_eq!(secret().accepts(&code, Some(step), now), None, "used before: {seconds}");
        }
        for wrong in ["", "000000", "12345", "1234567", "abcdef"] {
            assert_eq!(secret().accepts(wrong, None, at(1_000_000_020)), None, "{wrong}");
        }
    }

    #[test]
    fn a_typed_code_is_read_with_any_spacing() {
        let code = recovery_code([0xA5; 32]);
        assert_eq!((code.len(), code.matches('-').count()), (19, 3), "{code}");
        let Some(TypedCode::Recovery(plain)) = TypedCode::parse(&format!(" {} ", code.to_uppercase())) else {
            panic!("{code}")
        };
        assert_eq!(TypedCode::parse(&plain), TypedCode::parse(&code));
        assert_eq!(TypedCode::parse("123 456"), Some(TypedCode::App("123456".into())));
        for wrong in ["", "12345", "abcd-efgh", "abcd-efgh-ijkl-mno1", &"a".repeat(1_000)] {
            assert_eq!(TypedCode::parse(wrong), None, "{wrong}");
        }
    }
}
