//! Ids, and the spelling rules for names. An id is a UUIDv7 (16 bytes, ordered by time); its text is a prefix and 26
//! characters of Crockford base32 (the TypeID form), e.g. `msg_01jd8x5q3fe8ktq8b4m5rj2w3a`. A [`Uid`] is a name the
//! caller chose.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use uuid::{ContextV7, Timestamp, Uuid};

use super::column_type::column_type;
use super::{Invalid, Time, limits};

/// Generates ids that grow even within one millisecond and when the clock steps back, so "newest first" is the order of
/// acceptance.
static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());

fn new_uuid(now: Time) -> Uuid {
    let context = CONTEXT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let nanos = (now.micros().rem_euclid(1_000_000) * 1_000) as u32;
    Uuid::new_v7(Timestamp::from_unix(&*context, now.seconds().max(0) as u64, nanos))
}

/// The smallest UUIDv7 of a millisecond: the start of a range of ids by time.
fn floor_uuid(time: Time) -> Uuid {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&time.millis().to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    Uuid::from_bytes(bytes)
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(uuid: Uuid) -> [u8; 26] {
    let value = uuid.as_u128();
    std::array::from_fn(|i| ALPHABET[(value >> (125 - 5 * i)) as usize & 31])
}

fn decode(text: &str) -> Option<Uuid> {
    // 26 digits hold 130 bits, so the first may only be 0–7.
    if text.len() != 26 || text.as_bytes()[0] > b'7' {
        return None;
    }
    let mut value = 0u128;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)?;
        value = value << 5 | digit as u128;
    }
    Some(Uuid::from_u128(value))
}

/// The text is not an id of the expected kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an id that begins with {0}")]
pub struct IdError(pub &'static str);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        column_type!($name(Uuid));

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;

            /// A new id with the time `now`, greater than all earlier ids of this process.
            pub fn new(now: Time) -> Self {
                $name(new_uuid(now))
            }

            /// The smallest id of the millisecond of `time`; earlier ids are smaller.
            pub fn floor(time: Time) -> Self {
                $name(floor_uuid(time))
            }

            /// The creation time, to the millisecond.
            pub fn time(self) -> Time {
                let millis = (self.0.as_u128() >> 80) as i64;
                Time::from_micros(millis.saturating_mul(1_000))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                let digits = encode(self.0);
                f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix).and_then(decode).map($name).ok_or(IdError($prefix))
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

id!(
    /// An application (tenant): one customer of the SaaS team.
    AppId, "app_"
);
id!(
    /// An endpoint: a URL that receives an application's events.
    EndpointId, "ep_"
);
id!(
    /// A polling endpoint: a receiver fetches an application's messages from it.
    PollingEndpointId, "poll_"
);
id!(
    /// A token for one polling endpoint.
    PollingTokenId, "polltk_"
);
id!(
    /// An autoconfig subscription: a token with which a receiver's program creates its own endpoint.
    AutoConfigId, "acfg_"
);
id!(
    /// A message: one event for one application. Also the `webhook-id`.
    MessageId, "msg_"
);
id!(
    /// An attempt: one HTTP POST of one delivery.
    AttemptId, "atmpt_"
);
id!(
    /// A background task: work that continues after the response. The prefix is that of the REST dialect.
    BackgroundId, "qtask_"
);
id!(
    /// An operator's account.
    OperatorId, "op_"
);
id!(
    /// An audit log entry.
    AuditId, "audit_"
);
id!(
    /// A mail to an application's contact. Also the `Message-ID`.
    MailId, "mail_"
);
id!(
    /// An API key.
    KeyId, "key_"
);

/// An organization: one environment of the SaaS team. Opaque text: `org_` and up to 60 letters and digits. It exists as
/// soon as a valid token names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct OrgId(String);

column_type!(OrgId(String));

impl OrgId {
    /// The prefix of the text form.
    pub const PREFIX: &'static str = "org_";

    /// The organization that exists from the first start, and the default of `sendoff token`.
    pub fn default_org() -> OrgId {
        OrgId("org_default".to_owned())
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OrgId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<OrgId, IdError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(IdError(Self::PREFIX))?;
        let fits = (1..=60).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Ok(OrgId(text.to_owned())) } else { Err(IdError(Self::PREFIX)) }
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The caller's own name for a resource: 1–256 characters of `[a-zA-Z0-9-_.]`, without the prefix of the resource's
/// ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Uid(String);

column_type!(Uid(String));

impl Uid {
    /// Parses the uid of a resource whose ids begin with `prefix`; `field` names it in the error.
    ///
    /// # Errors
    /// Empty, longer than 256 characters, a forbidden character, or the prefix of an id (ambiguous in paths).
    pub fn parse(field: &str, text: &str, prefix: &str) -> Result<Uid, Invalid> {
        name(field, text, limits::NAME)?;
        match text.starts_with(prefix) {
            true => Err(Invalid::new(field, format!("must not begin with {prefix}, which is reserved for ids"))),
            false => Ok(Uid(text.to_owned())),
        }
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name: 1 to `most` characters of `[a-zA-Z0-9-_.]`. The rule for uids and event types.
///
/// # Errors
/// The broken rule.
pub fn name(field: &str, text: &str, most: usize) -> Result<(), Invalid> {
    spelled(field, text, most, "")
}

/// Checks the name of an event type.
///
/// # Errors
/// The broken rule.
pub fn event_type(field: &str, text: &str) -> Result<(), Invalid> {
    name(field, text, limits::NAME)
}

/// Checks a channel: a [`name`] that may also contain `:`.
///
/// # Errors
/// The broken rule.
pub fn channel(field: &str, text: &str) -> Result<(), Invalid> {
    spelled(field, text, limits::CHANNEL, ":")
}

/// Checks a tag: a [`name`] that may also contain `/`.
///
/// # Errors
/// The broken rule.
pub fn tag(field: &str, text: &str) -> Result<(), Invalid> {
    spelled(field, text, limits::TAG, "/")
}

/// Checks the id of a portal session: a [`name`] that may also contain `@`, like a mail address.
///
/// # Errors
/// The broken rule.
pub fn session(field: &str, text: &str) -> Result<(), Invalid> {
    spelled(field, text, limits::NAME, "@")
}

/// Checks a name that may also contain the characters of `more`.
fn spelled(field: &str, text: &str, most: usize, more: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > most {
        return Err(Invalid::new(field, format!("must have 1 to {most} characters, got {}", text.len())));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c) || more.contains(*c))) {
        Some(odd) => {
            let others: String = more.chars().map(|c| format!(", '{c}'")).collect();
            let reason = format!("may only contain a-z, A-Z, 0-9, '-', '_'{others} and '.', got {odd:?}");
            Err(Invalid::new(field, reason))
        }
        None => Ok(()),
    }
}

/// Checks each item of a list by `rule`, e.g. [`channel`]. A list with more than `most` items gets one error; its items
/// are not checked.
pub fn all(
    field: &str,
    list: &[String],
    most: usize,
    rule: impl Fn(&str, &str) -> Result<(), Invalid>,
) -> Vec<Invalid> {
    if list.len() > most {
        return vec![Invalid::new(field, format!("may have at most {most} entries, got {}", list.len()))];
    }
    list.iter().filter_map(|one| rule(field, one).err()).collect()
}

/// Checks a list of [names](name).
pub fn names(field: &str, list: &[String], most: usize, longest: usize) -> Vec<Invalid> {
    all(field, list, most, |field, one| name(field, one, longest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzzing::{fuzz, words};

    #[test]
    fn an_id_survives_its_own_text() {
        let id = MessageId(Uuid::from_u128(0x019a_aaac_267b_7123_89ab_cdef_0123_4567));
        let text = id.to_string();
        assert_eq!((text.len(), &text[..4]), (30, "msg_"));
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(id.time(), Time::from_micros(1_763_800_000_123_000));
        assert!(text.parse::<AppId>().is_err(), "an id of another kind is not an id of this kind");
        assert!("msg_8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<MessageId>().is_err(), "more than 128 bits");
    }

    #[test]
    fn ids_grow_even_in_one_instant_and_when_the_clock_steps_back() {
        let now = Time::from_micros(1_763_800_000_000_000);
        let mut last = MessageId::new(now);
        for step in 0..2_000 {
            let next = MessageId::new(if step == 1_000 { Time::from_micros(now.micros() - 5_000_000) } else { now });
            assert!(next > last, "step {step}");
            last = next;
        }
    }

    #[test]
    fn the_floor_of_a_time_parts_earlier_ids_from_later_ones() {
        let cut = Time::from_micros(4_000_000_000_000_000);
        assert!(MessageId::floor(cut) > MessageId::floor(Time::from_micros(cut.micros() - 1_000)));
        assert!(MessageId::new(cut) >= MessageId::floor(cut));
    }

    #[test]
    fn a_uid_is_a_plain_name_that_does_not_look_like_an_id() {
        for good in ["customer-7_a.b", "ep_x", "org_x", "msg_", "atmpt_1"] {
            assert!(Uid::parse("uid", good, AppId::PREFIX).is_ok(), "{good:?}");
        }
        for bad in ["", "a b", "ü", "app_1", "app_", "a/b", "a:b", &"x".repeat(257)] {
            assert!(Uid::parse("uid", bad, AppId::PREFIX).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn channels_tags_and_sessions_may_have_a_character_more() {
        assert!(channel("channels", "eu:west").is_ok() && channel("channels", "a/b").is_err());
        assert!(tag("tags", "team/billing").is_ok() && tag("tags", "a:b").is_err());
        assert!(session("sessionId", "anna@example.com").is_ok() && session("sessionId", "a:b").is_err());
        let wrong = tag("tags", "a b").unwrap_err().reason;
        assert_eq!(wrong, "may only contain a-z, A-Z, 0-9, '-', '_', '/' and '.', got ' '");
    }

    #[test]
    fn an_organization_is_opaque_text() {
        assert!("org_23rb8YdGqMT0qIzpgGwdXfHirMu".parse::<OrgId>().is_ok());
        assert!("org_".parse::<OrgId>().is_err() && "org_a b".parse::<OrgId>().is_err());
    }

    /// The text of an id parses to the same id, and no other text does.
    #[test]
    fn fuzz_ids() {
        fuzz("ids", prop_oneof!["(msg_)?[0-9a-zA-Z]{0,30}", ".{0,40}"], any::<u128>(), |text, number| {
            let id = MessageId(Uuid::from_u128(*number));
            prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
            let id = text.parse::<MessageId>().map(|id| id.to_string()).map_err(|error| error.to_string());
            let uid = Uid::parse("uid", text, "msg_").map(|uid| uid.as_str().to_owned()).map_err(|error| error.reason);
            prop_assert!([&id, &uid].into_iter().flatten().all(|read| read == text));
            Ok([id, uid].map(|read| read.map_or_else(|why| words(&why), |_| "read".to_owned())).to_vec())
        });
    }
}
