//! A **message** is one event, addressed to one application: an event type and payload bytes. The bytes that came in are
//! the bytes that are stored, signed and sent; nothing here parses them further than it must.

use bytes::Bytes;

use super::event_type::EVENT_TYPE_NAME_LIMIT;
use super::{AppId, Invalid, MessageId, Time, Uid, ids};

/// How many channels a message may name.
pub const MESSAGE_CHANNEL_LIMIT: usize = 5;
/// How many characters a channel may have.
pub const CHANNEL_LIMIT: usize = 128;

/// A message as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub app_id: AppId,
    pub event_type: String,
    /// The caller's own id, unique in its application: it makes a repeat harmless.
    pub event_id: Option<Uid>,
    /// Goes to endpoints that listen to one of these, and to those that name no channel.
    pub channels: Vec<String>,
    /// A JSON object, byte for byte as it was written.
    pub payload: Bytes,
    /// When it happened, if the caller says so; otherwise when it was accepted.
    pub occurred_at: Time,
    pub accepted_at: Time,
}

/// What somebody wants to have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSpec {
    pub event_type: String,
    pub event_id: Option<Uid>,
    pub channels: Vec<String>,
    pub payload: Bytes,
    pub occurred_at: Option<Time>,
}

impl MessageSpec {
    /// Checks what the types do not say; a payload may have `max_payload` bytes.
    ///
    /// # Errors
    /// Every rule that is broken. A payload that is too large has the kind `too_large`, which is a 413 over REST.
    pub fn check(&self, max_payload: usize) -> Result<(), Vec<Invalid>> {
        let mut wrong = Vec::new();
        wrong.extend(ids::name("eventType", &self.event_type, EVENT_TYPE_NAME_LIMIT).err());
        if self.channels.len() > MESSAGE_CHANNEL_LIMIT {
            let reason = format!("may name at most {MESSAGE_CHANNEL_LIMIT} channels, got {}", self.channels.len());
            wrong.push(Invalid::new("channels", reason));
        }
        for channel in &self.channels {
            wrong.extend(ids::name("channels", channel, CHANNEL_LIMIT).err());
        }
        if self.payload.len() > max_payload {
            wrong.push(too_large(self.payload.len(), max_payload));
        } else if let Err(reason) = json_object(&self.payload) {
            wrong.push(Invalid::new("payload", reason));
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// The refusal of a payload over the limit.
pub fn too_large(bytes: usize, most: usize) -> Invalid {
    let reason = format!("has {bytes} bytes, the limit is {most} (setting SENDOFF_MAX_PAYLOAD)");
    Invalid { kind: "too_large", ..Invalid::new("payload", reason) }
}

/// How deep a payload may be nested: what JSON parsers in common use accept.
pub const PAYLOAD_DEPTH_LIMIT: usize = 128;

/// Whether `bytes` are one JSON object in UTF-8, nested at most [`PAYLOAD_DEPTH_LIMIT`] deep. Numbers are not looked at:
/// one of a thousand digits is as good as any.
///
/// # Errors
/// Says what it is instead.
pub fn json_object(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "must be a JSON object in UTF-8".to_owned())?;
    if !text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        return Err("must be a JSON object".to_owned());
    }
    if too_deep(bytes) {
        return Err(format!("must be a JSON object nested at most {PAYLOAD_DEPTH_LIMIT} deep"));
    }
    // Walks without recursion and keeps nothing.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| format!("must be a JSON object: {error}"))?;
    Ok(())
}

/// Whether JSON is nested deeper than [`PAYLOAD_DEPTH_LIMIT`].
pub fn too_deep(json: &[u8]) -> bool {
    // Brackets are counted much more quickly than they are paired, and most JSON has too few to be deep.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(payload: &[u8]) -> MessageSpec {
        MessageSpec {
            event_type: "invoice.paid".into(),
            event_id: None,
            channels: vec![],
            payload: Bytes::copy_from_slice(payload),
            occurred_at: None,
        }
    }

    #[test]
    fn a_payload_is_one_json_object_whatever_is_in_it() {
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
}
