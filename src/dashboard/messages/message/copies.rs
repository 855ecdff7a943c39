//! A message for the clipboard: its latest attempt as a curl command, and the message as JSON.

use serde_json::value::RawValue;

use crate::dashboard::components::format::Block;
use crate::domain::deliveries::attempt::Attempt;
use crate::domain::deliveries::message::Message;

/// Maximum size of payloads that can be copied.
const MOST_BYTES: usize = 64 * 1024;

/// The attempt as a shell command. The signature has the attempt's timestamp, so a verifying receiver rejects it after
/// some minutes. `None`: the payload is too long, or not text that survives the clipboard.
pub fn curl(attempt: &Attempt, message: &Message) -> Option<Block> {
    let payload = text(message)?;
    let mut command = format!("curl -X POST {}", quoted(&attempt.url));
    for (name, value) in &attempt.request_headers {
        command.push_str(&format!(" \\\n  -H {}", quoted(&format!("{name}: {value}"))));
    }
    command.push_str(&format!(" \\\n  --data-binary {}", quoted(payload)));
    shown(&command)
}

/// The message with its original payload. `None`: as for [`curl`], or the payload is not JSON.
pub fn json(message: &Message) -> Option<Block> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct MessageJson<'m> {
        id: String,
        event_type: &'m str,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'m str>,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        channels: &'m [String],
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        tags: &'m [String],
        timestamp: String,
        payload: &'m RawValue,
    }
    let copied = MessageJson {
        id: message.id.to_string(),
        event_type: &message.event_type,
        event_id: message.event_id.as_ref().map(|id| id.as_str()),
        channels: &message.channels,
        tags: &message.tags,
        timestamp: message.occurred_at.to_string(),
        payload: serde_json::from_str(text(message)?).ok()?,
    };
    shown(&serde_json::to_string_pretty(&copied).ok()?)
}

fn text(message: &Message) -> Option<&str> {
    let payload = message.payload.as_deref().filter(|payload| payload.len() <= MOST_BYTES)?;
    std::str::from_utf8(payload).ok()
}

/// Rejects text with hidden or reordering characters: the visible text would differ from the copied one.
fn shown(text: &str) -> Option<Block> {
    let block = Block::new(text.as_bytes());
    (block.to_string() == text).then_some(block)
}

/// Quotes a word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use crate::dashboard::messages::message::copies::*;

    #[test]
    fn quotes_shell_words() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn text_with_hidden_characters_is_not_offered() {
        assert!(shown("{\"a\": \"日本\"}\n").is_some());
        assert!(shown("a\u{202e}b").is_none() && shown("a\r\nb").is_none());
    }
}
