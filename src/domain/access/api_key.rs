//! An **API key** is what a team's service shows to call the REST API: `sk_` and 43 letters and digits, made here,
//! shown once and kept as its SHA-256. It is an organization's, for all of its applications; its **scopes** say what it
//! may do.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::domain::catalog::application::check_text;
use crate::domain::{Invalid, KeyId, OrgId, Time};

/// What the text of a key begins with.
pub const KEY_PREFIX: &str = "sk_";
/// How many letters and digits follow: 256 bits and a little.
const RANDOM: usize = 43;
/// How many characters of a key are kept to tell several apart.
const HINT: usize = 4;

/// SHA-256: what the store knows of something that somebody shows.
pub fn hash(shown: &str) -> [u8; 32] {
    Sha256::digest(shown.as_bytes()).into()
}

/// Random letters and digits that nobody can guess: the secret part of a key, the code in a link.
pub fn random_text() -> Zeroizing<String> {
    Zeroizing::new(Alphanumeric.sample_string(&mut rand::rng(), RANDOM))
}

/// Whether `shown` looks like an API key, and not like a JWT.
pub fn is_key(shown: &str) -> bool {
    shown.starts_with(KEY_PREFIX)
}

/// An API key as it is stored: everything but the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub org: OrgId,
    /// For people: who uses it.
    pub name: String,
    /// The last characters of its text.
    pub hint: String,
    pub scopes: Scopes,
    pub created_at: Time,
    /// `None`: never.
    pub expires_at: Option<Time>,
    /// To about a minute; `None`: never used.
    pub last_used_at: Option<Time>,
    pub revoked_at: Option<Time>,
}

/// What somebody wants a key to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub name: String,
    pub scopes: Scopes,
    pub expires_at: Option<Time>,
}

impl ApiKey {
    /// A new key, and its text: this is the only place where that is seen.
    ///
    /// # Errors
    /// A name that is empty, too long, or more than one line.
    pub fn make(org: OrgId, spec: KeySpec, now: Time) -> Result<(ApiKey, Zeroizing<String>), Vec<Invalid>> {
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
        let random = random_text();
        let mut text = Zeroizing::new(String::with_capacity(KEY_PREFIX.len() + RANDOM));
        text.push_str(KEY_PREFIX);
        text.push_str(&random);
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

    /// How people tell it from others: `billing (…3f9a)`.
    pub fn called(&self) -> String {
        format!("{} (…{})", self.name, self.hint)
    }

    /// Whether it may be used at the time `now`.
    ///
    /// # Errors
    /// Why not, for whoever shows it.
    pub fn good_at(&self, now: Time) -> Result<(), &'static str> {
        match (self.revoked_at, self.expires_at) {
            (Some(_), _) => Err("the API key has been revoked"),
            (None, Some(end)) if now >= end => Err("the API key has expired"),
            (None, _) => Ok(()),
        }
    }
}

/// One thing that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Look at everything but the endpoints' secrets.
    Read,
    /// Create messages.
    Send,
    /// Everything.
    Write,
}

impl Scope {
    /// All of them, the least first.
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Send, Scope::Write];

    /// Its word, in the store and for people.
    pub const fn word(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Send => "send",
            Scope::Write => "write",
        }
    }

    /// The scope of a word.
    pub fn from_word(word: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.word() == word)
    }
}

/// What a key may do. `write` is everything, so beside it the others say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes([bool; 3]);

impl Scopes {
    /// Those of a key for which nothing else was said.
    pub const EVERYTHING: Scopes = Scopes([true; 3]);

    /// Exactly these.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Scopes {
        let mut set = [false; 3];
        scopes.into_iter().for_each(|scope| set[scope as usize] = true);
        if set[Scope::Write as usize] { Scopes::EVERYTHING } else { Scopes(set) }
    }

    /// Those of these words. A word that is none of ours grants nothing.
    pub fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Scopes {
        Scopes::of(words.into_iter().filter_map(Scope::from_word))
    }

    /// Whether `scope` is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0[scope as usize]
    }

    /// Their words: `write` alone where that is one of them.
    pub fn words(self) -> Vec<&'static str> {
        match self.has(Scope::Write) {
            true => vec![Scope::Write.word()],
            false => Scope::ALL.into_iter().filter(|scope| self.has(*scope)).map(Scope::word).collect(),
        }
    }
}

impl fmt::Display for Scopes {
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
        KeySpec { name: name.to_owned(), scopes: Scopes::EVERYTHING, expires_at: None }
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
        assert!(key.good_at(NOW).is_ok() && key.good_at(end).is_err());
        assert!(ApiKey { revoked_at: Some(NOW), ..key }.good_at(NOW).is_err());
    }

    #[test]
    fn writing_is_everything_and_unknown_words_are_nothing() {
        assert_eq!(Scopes::of([Scope::Write]), Scopes::EVERYTHING);
        assert_eq!(Scopes::EVERYTHING.to_string(), "write");
        let some = Scopes::of_words(["send", "fly", "read"]);
        assert!(some.has(Scope::Read) && some.has(Scope::Send) && !some.has(Scope::Write));
        assert_eq!(Scopes::of_words(some.words()), some);
        assert!(Scopes::of_words(["fly"]).words().is_empty());
    }
}
