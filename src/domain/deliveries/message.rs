//! A **message** is one event for one application: an event type and payload bytes. The bytes received are the bytes
//! stored, signed and sent.
//!
//! Its **content** (the payload) can be deleted before the message, by a caller or when its own retention ends. The
//! message then stays visible but is never sent again.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use crate::domain::{AppId, Invalid, MessageId, Time, Uid, ids, limits};

/// The furthest a message can be scheduled ahead.
pub const SCHEDULE_LIMIT: Duration = Duration::from_secs(30 * 86_400);

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub app_id: AppId,
    pub event_type: String,
    /// The caller's id for the event, unique in the application: makes a repeated request idempotent.
    pub event_id: Option<Uid>,
    /// Routes the message to endpoints subscribed to one of these, and to endpoints without channels.
    pub channels: Vec<String>,
    /// Labels for filtering lists. They do not affect routing.
    pub tags: Vec<String>,
    /// A JSON object, byte for byte as received, or arbitrary bytes with a `raw_type`. `None`: the content was deleted
    /// and the message is never sent again.
    pub payload: Option<Bytes>,
    /// The content type of a payload that need not be JSON.
    pub raw_type: Option<String>,
    /// The time the caller gave for the event; by default the time of acceptance.
    pub occurred_at: Time,
    pub accepted_at: Time,
    /// The earliest time of the first attempt, as scheduled by the caller.
    pub deliver_at: Option<Time>,
    /// The time at which the content is deleted; `None`: together with the message.
    pub content_until: Option<Time>,
}

impl Message {
    /// The time of the first attempts.
    pub fn first_due(&self) -> Time {
        self.deliver_at.map_or(self.accepted_at, |at| at.max(self.accepted_at))
    }

    /// Payload size in bytes.
    pub fn size(&self) -> usize {
        self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// Whether it uses any of the optional fields stored in a separate table.
    pub fn is_special(&self) -> bool {
        !self.tags.is_empty() || self.raw_type.is_some() || self.deliver_at.is_some() || self.content_until.is_some()
    }
}

/// The prefix of the tag with the original's id, which an edited copy has.
pub const EDITED_FROM: &str = "edited-from/";

/// The original's id, if the tag marks an edited copy.
pub fn edited_from(tag: &str) -> Option<MessageId> {
    tag.strip_prefix(EDITED_FROM)?.parse().ok()
}

/// The fields of a message that a caller sets. The default has neither event type nor payload and is not valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSpec {
    pub event_type: String,
    pub event_id: Option<Uid>,
    pub channels: Vec<String>,
    pub tags: Vec<String>,
    pub payload: Bytes,
    /// The content type of an arbitrary payload.
    pub raw_type: Option<String>,
    pub occurred_at: Option<Time>,
    pub deliver_at: Option<Time>,
    /// Retention of the content, from acceptance or from `deliver_at` if that is later.
    pub keep_content: Option<Duration>,
    /// Set by the store if the payload does not match the schema of its event type, which only warns.
    pub schema_warning: Option<String>,
}

impl MessageSpec {
    /// Checks the rules that the types do not enforce. A payload may have up to `max_payload` bytes.
    ///
    /// # Errors
    /// Every broken rule. A payload that is too large has the kind `too_large`, which REST returns as 413.
    pub fn check(&self, max_payload: usize) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        wrong.extend(ids::name("eventType", &self.event_type, limits::NAME).err());
        wrong.extend(ids::all("channels", &self.channels, limits::MESSAGE_CHANNELS, ids::channel));
        wrong.extend(ids::all("tags", &self.tags, limits::TAGS, ids::tag));
        if self.payload.len() > max_payload {
            wrong.push(too_large(self.payload.len(), max_payload));
        } else if let Some(raw_type) = &self.raw_type {
            wrong.extend(check_raw_type(raw_type).err());
        } else if let Err(reason) = json_object(&self.payload) {
            wrong.push(Invalid::new("payload", reason));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// Checks the scheduled time against the time of acceptance, `at`. A time in the past is allowed and has no effect.
    ///
    /// # Errors
    /// More than [`SCHEDULE_LIMIT`] ahead.
    pub fn check_schedule(&self, at: Time) -> Result<(), Invalid> {
        match self.deliver_at {
            Some(deliver_at) if deliver_at.since(at) > SCHEDULE_LIMIT => {
                let days = SCHEDULE_LIMIT.as_secs() / 86_400;
                Err(Invalid::new("deliverAt", format!("must be at most {days} days ahead")))
            }
            _ => Ok(()),
        }
    }
}

/// Checks a value for the header `content-type`.
fn check_raw_type(raw_type: &str) -> Result<(), Invalid> {
    let shape = raw_type.split(';').next().unwrap_or_default().trim();
    let fits = raw_type.len() <= limits::RAW_TYPE
        && shape.split_once('/').is_some_and(|(kind, of_kind)| !kind.is_empty() && !of_kind.is_empty())
        && raw_type.is_ascii()
        && HeaderValue::from_str(raw_type).is_ok();
    let reason =
        format!("must be a content type such as text/plain; charset=utf-8, of at most {} characters", limits::RAW_TYPE);
    if fits { Ok(()) } else { Err(Invalid::new("transformationsParams", reason)) }
}

/// The error for a payload of `bytes` bytes over the limit of `most`.
pub fn too_large(bytes: usize, most: usize) -> Invalid {
    let reason = format!("has {bytes} bytes, the limit is {most} (setting SENDOFF_MAX_PAYLOAD)");
    Invalid { kind: "too_large", ..Invalid::new("payload", reason) }
}

/// The deepest nesting of a payload: the limit of common JSON parsers.
pub const PAYLOAD_DEPTH_LIMIT: usize = 128;

/// Checks that `bytes` are one JSON object in UTF-8, nested at most [`PAYLOAD_DEPTH_LIMIT`] deep. Numbers may have any
/// number of digits.
///
/// # Errors
/// The broken rule.
pub fn json_object(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "must be a JSON object in UTF-8".to_owned())?;
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    if too_deep(bytes) {
        return Err(format!("must be a JSON object nested at most {PAYLOAD_DEPTH_LIMIT} deep"));
    }
    // Parses without recursion and without allocating values.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| format!("must be a JSON object: {error}"))?;
    Ok(())
}

/// Whether `json` is nested deeper than [`PAYLOAD_DEPTH_LIMIT`].
pub fn too_deep(json: &[u8]) -> bool {
    // Counting brackets is much faster than matching them, and most payloads have too few to be too deep.
    let brackets = json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    brackets > PAYLOAD_DEPTH_LIMIT && depth(json) > PAYLOAD_DEPTH_LIMIT
}

/// The deepest nesting of brackets outside strings.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest, mut quoted, mut escaped) = (0usize, 0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Channels written into a text column: a JSON array or a comma-separated list.
pub fn parse_channels(text: Option<&str>) -> Vec<String> {
    let Some(text) = text else { return Vec::new() };
    serde_json::from_str(text)
        .unwrap_or_else(|_| text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use crate::domain::deliveries::message::*;

    fn spec(payload: &[u8]) -> MessageSpec {
        MessageSpec {
            event_type: "invoice.paid".into(),
            payload: Bytes::copy_from_slice(payload),
            ..MessageSpec::default()
        }
    }

    #[test]
    fn a_payload_is_one_json_object_with_any_content() {
        for good in [
            r#"{}"#,
            " {\"a\": 1e400} ",
            r#"{"a":[1,{"b":null}],"a":"\ud83d\ude00"}"#,
            r#"{"n":123456789012345678901234567890}"#,
        ] {
            assert_eq!(spec(good.as_bytes()).check(1000), Ok(()), "{good}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let bad: [&[u8]; 9] =
            [b"", b"[]", b"null", b"{", b"{} {}", b"{\"a\":}", b"{'a':1}", b"{\"a\":\"\xff\"}", deep.as_bytes()];
        for bad in bad {
            assert!(spec(bad).check(1000).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_payload_over_the_limit_is_a_kind_of_its_own() {
        let wrong = spec(b"{\"a\":\"0123456789\"}").check(10).unwrap_err();
        assert_eq!((wrong.len(), wrong[0].kind), (1, "too_large"));
    }

    #[test]
    fn a_raw_payload_is_any_bytes_of_a_type_that_a_header_can_carry() {
        let raw = |raw_type: &str| MessageSpec { raw_type: Some(raw_type.into()), ..spec(b"a=1&b=\xff") };
        for good in ["text/plain", "application/x-www-form-urlencoded", "text/csv; charset=utf-8"] {
            assert_eq!(raw(good).check(1000), Ok(()), "{good}");
        }
        let long = format!("text/{}", "x".repeat(limits::RAW_TYPE));
        for bad in ["", "text", "text/", "/plain", "text/plain\r\nx-evil: 1", "text/pl\u{e4}in", "text/\0", &*long] {
            let wrong = raw(bad).check(1000).unwrap_err();
            assert_eq!((wrong.len(), &*wrong[0].field), (1, "transformationsParams"), "{bad}");
        }
        assert_eq!(raw("text/plain").check(5).unwrap_err()[0].kind, "too_large", "raw or not");
    }

    #[test]
    fn tags_are_few_and_names() {
        let tagged = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            MessageSpec { tags, ..spec(b"{}") }.check(1000).is_ok()
        };
        assert!(tagged(&["a/b", "B-1", "c.d", "e_f", &"x".repeat(limits::TAG)]));
        for bad in [&["a", "b", "c", "d", "e", "f"][..], &[""], &["a b"], &["a\"b"], &[&"x".repeat(limits::TAG + 1)]] {
            assert!(!tagged(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_schedule_has_an_end_and_what_has_passed_is_due() {
        let at = Time::from_micros(1_795_338_000_000_000);
        let scheduled = |deliver_at| MessageSpec { deliver_at: Some(deliver_at), ..spec(b"{}") };
        assert!(scheduled(at.plus(SCHEDULE_LIMIT)).check_schedule(at).is_ok());
        assert!(scheduled(at.plus(SCHEDULE_LIMIT + Duration::from_micros(1))).check_schedule(at).is_err());
        assert!(scheduled(Time::ZERO).check_schedule(at).is_ok());
    }

    #[test]
    fn channels_are_a_list_or_json() {
        assert_eq!(parse_channels(Some("[\"a\",\"b\"]")), ["a", "b"]);
        assert_eq!(parse_channels(Some("a, b,")), ["a", "b"]);
        assert!(parse_channels(None).is_empty());
    }
}
