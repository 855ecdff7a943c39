//! An **API key** authenticates a team's service at the REST API: `sk_` and 43 letters and digits, shown once and
//! stored as SHA-256. It is valid for all applications of one organization; its **scopes** limit what it may do.

use std::fmt;

use rand::SeedableRng;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::catalog::application::check_text;
use crate::domain::{Invalid, KeyId, OrgId, Time};

/// Prefix of a key.
pub const KEY_PREFIX: &str = "sk_";
/// Number of random characters: slightly more than 256 bits.
const RANDOM: usize = 43;
/// Number of trailing characters kept to tell keys apart.
const HINT: usize = 4;

/// The SHA-256 of a credential, as stored.
pub fn hash(shown: &str) -> [u8; 32] {
    Sha256::digest(shown.as_bytes()).into()
}

/// A random credential of letters and digits: the secret part of a key, the code of a link.
pub fn random_text() -> Zeroizing<String> {
    Zeroizing::new(Alphanumeric.sample_string(&mut rand::rng(), RANDOM))
}

/// The credential derived from a secret seed. A repeated request with the same seed gets the same credential.
pub fn text_of(seed: [u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(Alphanumeric.sample_string(&mut StdRng::from_seed(seed), RANDOM))
}

/// The text of an API key with this secret part.
pub fn key_text(secret: &str) -> Zeroizing<String> {
    credential(KEY_PREFIX, secret)
}

/// A credential: `prefix`, which names its kind, and its secret part.
pub fn credential(prefix: &str, secret: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(prefix.len() + secret.len()));
    text.push_str(prefix);
    text.push_str(secret);
    text
}

/// Whether `shown` has the prefix of an API key; otherwise it may be a JWT.
pub fn is_key(shown: &str) -> bool {
    shown.starts_with(KEY_PREFIX)
}

/// A stored API key, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub org: OrgId,
    /// A label, e.g. the service that uses the key.
    pub name: String,
    /// The last characters of the key.
    pub hint: String,
    pub scopes: KeyScopes,
    pub created_at: Time,
    /// `None`: never.
    pub expires_at: Option<Time>,
    /// Accurate to about a minute; `None`: never used.
    pub last_used_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

/// The fields of a key that a caller sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub name: String,
    pub scopes: KeyScopes,
    pub expires_at: Option<Time>,
}

impl ApiKey {
    /// A new key and its text, which cannot be recovered later.
    ///
    /// # Errors
    /// A name that is empty, too long, or more than one line.
    pub fn make(org: OrgId, spec: KeySpec, now: Time) -> Result<(ApiKey, Zeroizing<String>), Vec<Invalid>> {
        ApiKey::with_text(org, spec, key_text(&random_text()), now)
    }

    /// A new key with a given text, see [`key_text`].
    ///
    /// # Errors
    /// A name that is empty, too long, or more than one line.
    pub fn with_text(
        org: OrgId,
        spec: KeySpec,
        text: Zeroizing<String>,
        now: Time,
    ) -> Result<(ApiKey, Zeroizing<String>), Vec<Invalid>> {
        let mut wrong = Vec::new();
        if spec.name.is_empty() || spec.name.chars().count() > 256 {
            wrong.push(Invalid::new("name", "must have 1 to 256 characters"));
        }
        check_text("name", &spec.name, &mut wrong);
        if spec.name.chars().any(|c| c.is_control() && c != '\0') {
            wrong.push(Invalid::new("name", "must be one line"));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let key = ApiKey {
            id: KeyId::new(now),
            org,
            name: spec.name,
            hint: text[text.len() - HINT..].to_owned(),
            scopes: spec.scopes,
            created_at: now,
            expires_at: spec.expires_at,
            last_used_at: None,
            revoked_at: None,
        };
        Ok((key, text))
    }

    /// A display name: `billing (…3f9a)`.
    pub fn label(&self) -> String {
        format!("{} (…{})", self.name, self.hint)
    }

    /// Checks that the key is valid at `now`.
    ///
    /// # Errors
    /// The reason, for the caller.
    pub fn check_valid_at(&self, now: Time) -> Result<(), &'static str> {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => Err("the API key has been revoked"),
            (None, Some(end)) if now >= end => Err("the API key has expired"),
            (None, _) => Ok(()),
        }
    }
}

/// A permission of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyScope {
    /// Read everything except endpoint secrets.
    Read,
    /// Create messages.
    Send,
    /// Everything, including the other scopes.
    Write,
}

impl KeyScope {
    /// All scopes, the narrowest first.
    pub const ALL: [KeyScope; 3] = [KeyScope::Read, KeyScope::Send, KeyScope::Write];

    /// The word in the store and in the REST API.
    pub const fn word(self) -> &'static str {
        match self {
            KeyScope::Read => "read",
            KeyScope::Send => "send",
            KeyScope::Write => "write",
        }
    }

    /// Parses the word.
    pub fn from_word(word: &str) -> Option<KeyScope> {
        KeyScope::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// The scopes of a key. `write` includes all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyScopes([bool; 3]);

impl KeyScopes {
    /// The default scopes of a key.
    pub const EVERYTHING: KeyScopes = KeyScopes([true; 3]);

    /// The given scopes.
    pub fn of(scopes: impl IntoIterator<Item = KeyScope>) -> KeyScopes {
        let mut set = [false; 3];
        scopes.into_iter().for_each(|scope| set[scope as usize] = true);
        if set[KeyScope::Write as usize] { KeyScopes::EVERYTHING } else { KeyScopes(set) }
    }

    /// Parses scope words. Unknown words grant nothing.
    pub fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> KeyScopes {
        KeyScopes::of(words.into_iter().filter_map(KeyScope::from_word))
    }

    /// Whether `scope` is granted.
    pub fn has(self, scope: KeyScope) -> bool {
        self.0[scope as usize]
    }

    /// The words; `write` alone if it is granted.
    pub fn words(self) -> Vec<&'static str> {
        match self.has(KeyScope::Write) {
            true => vec![KeyScope::Write.word()],
            false => KeyScope::ALL.into_iter().filter(|scope| self.has(*scope)).map(KeyScope::word).collect(),
        }
    }
}

impl fmt::Display for KeyScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::domain::access::api_key::*;

    const NOW: Time = Time::from_micros(1_763_800_000_000_000);

    fn spec(name: &str) -> KeySpec {
        KeySpec { name: name.to_owned(), scopes: KeyScopes::EVERYTHING, expires_at: None }
    }

    #[test]
    fn a_key_is_random_and_keeps_only_its_end() {
        let (key, text) = ApiKey::make(OrgId::default_org(), spec("billing"), NOW).unwrap();
        let (_, other) = ApiKey::make(OrgId::default_org(), spec("billing"), NOW).unwrap();
        assert!(is_key(&text) && text.len() == 46 && text[3..].bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(text, other);
        assert_eq!(key.hint, text[42..]);
        assert!(!format!("{key:?}").contains(&text[3..]));
        for bad in ["", "a\nb", "a\0b", &"x".repeat(257)] {
            assert_eq!(ApiKey::make(OrgId::default_org(), spec(bad), NOW).unwrap_err().len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_good_until_it_is_revoked_or_expires() {
        let end = NOW.plus(Duration::from_secs(1));
        let spec = KeySpec { expires_at: Some(end), ..spec("k") };
        let (key, _) = ApiKey::make(OrgId::default_org(), spec, NOW).unwrap();
        assert!(key.check_valid_at(NOW).is_ok() && key.check_valid_at(end).is_err());
        assert!(ApiKey { revoked_at: Some(NOW), ..key }.check_valid_at(NOW).is_err());
    }

    #[test]
    fn writing_is_everything_and_unknown_words_are_nothing() {
        assert_eq!(KeyScopes::of([KeyScope::Write]), KeyScopes::EVERYTHING);
        assert_eq!(KeyScopes::EVERYTHING.to_string(), "write");
        let some = KeyScopes::of_words(["send", "fly", "read"]);
        assert!(some.has(KeyScope::Read) && some.has(KeyScope::Send) && !some.has(KeyScope::Write));
        assert_eq!(KeyScopes::of_words(some.words()), some);
        assert!(KeyScopes::of_words(["fly"]).words().is_empty());
    }
}
