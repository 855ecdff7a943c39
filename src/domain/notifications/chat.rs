//! Chat channels as operational endpoints: the incoming webhooks of Slack, Microsoft Teams and Discord.
//!
//! * [`ChatHook`]: the format and the URL. The URL is a secret, because anyone who knows it can post to the channel.
//! * [`ChatMessage`]: an operational event in words, with a link to its page. [`ChatMessage::body`] is the request body
//!   in a format. Values from the event are untrusted text: they are cut, and escaped for each format.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::domain::notifications::operational::OperationalKind;
use crate::domain::{Invalid, limits};

/// Maximum characters of a value.
const VALUE_CHARS: usize = 300;
/// Maximum characters of a message; Discord's limit is 2,000.
const MESSAGE_CHARS: usize = 1_900;
/// The label of the link.
const LINK: &str = "Open in Sendoff";

/// The chat system of a hook. The words are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatFormat {
    Slack,
    Teams,
    Discord,
}

impl ChatFormat {
    pub const ALL: [ChatFormat; 3] = [ChatFormat::Slack, ChatFormat::Teams, ChatFormat::Discord];

    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            ChatFormat::Slack => "slack",
            ChatFormat::Teams => "teams",
            ChatFormat::Discord => "discord",
        }
    }

    /// The name of the product.
    pub const fn label(self) -> &'static str {
        match self {
            ChatFormat::Slack => "Slack",
            ChatFormat::Teams => "Microsoft Teams",
            ChatFormat::Discord => "Discord",
        }
    }

    /// Parses the stored word.
    pub fn from_word(word: &str) -> Option<ChatFormat> {
        ChatFormat::ALL.into_iter().find(|format| format.word() == word)
    }
}

/// An incoming webhook of a chat system.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatHook {
    pub format: ChatFormat,
    url: String,
}

impl std::fmt::Debug for ChatHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatHook").field("format", &self.format).field("url", &self.shown_url()).finish()
    }
}

impl ChatHook {
    /// The default rate limit, in messages per second: that of Slack.
    pub const RATE: u16 = 1;

    pub fn new(format: ChatFormat, url: String) -> ChatHook {
        ChatHook { format, url }
    }

    /// The URL that requests go to. A secret.
    pub fn secret_url(&self) -> &str {
        &self.url
    }

    /// The URL as shown: scheme, host and port.
    pub fn shown_url(&self) -> String {
        let origin = Url::parse(&self.url).ok().map(|url| url.origin()).filter(url::Origin::is_tuple);
        origin.map_or_else(|| "***".to_owned(), |origin| format!("{}/***", origin.ascii_serialization()))
    }

    /// # Errors
    /// The URL is too long. The error does not quote it.
    pub fn check(&self) -> Result<(), Invalid> {
        let reason = || format!("must have 1 to {} characters", limits::URL);
        let fits = (1..=limits::URL).contains(&self.url.len());
        if fits { Ok(()) } else { Err(Invalid::new("url", reason())) }
    }
}

/// An operational event as a chat message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    title: String,
    facts: Vec<(&'static str, String)>,
    link: Url,
}

impl ChatMessage {
    /// The message for an event with this payload. Its link leads to a page below `dashboard`.
    pub fn new(event_type: &str, payload: &[u8], dashboard: &Url) -> ChatMessage {
        let event: Value = serde_json::from_slice(payload).unwrap_or_default();
        let data = &event["data"];
        let kind = OperationalKind::of(event_type);
        let title = kind.map_or("Test event. Operational events appear in this channel.", OperationalKind::description);
        let status = match data["lastAttempt"]["responseStatusCode"].as_u64() {
            Some(0) => Some("none".to_owned()),
            code => code.map(|code| code.to_string()),
        };
        let facts = [
            ("Application", either(data, "appUid", "appId")),
            ("Endpoint", either(data, "endpointUid", "endpointId")),
            ("Consumer", text(data, "consumerId")),
            ("Last poll", text(data, "lastPollAt")),
            ("Message", either(data, "msgEventId", "msgId")),
            ("Response", status),
            ("Failing since", text(data, "failSince")),
            ("Disabled from", text(data, "disableAt")),
            ("Outbox row", data["row"].as_i64().map(|row| row.to_string())),
            ("Written for", text(data, "application")),
            ("Event type", text(data, "eventType")),
            ("Reason", text(data, "reason")),
        ];
        let mut link = dashboard.clone();
        link.set_path(&page(kind, data));
        ChatMessage {
            title: title.to_owned(),
            facts: facts.into_iter().filter_map(|(name, value)| Some((name, cut(&value?)))).collect(),
            link,
        }
    }

    /// The JSON body of the request.
    pub fn body(&self, format: ChatFormat) -> Vec<u8> {
        let body = match format {
            ChatFormat::Slack => json!({
                "text": self.text(slack, |link| format!("<{}|{LINK}>", slack(link))),
                "unfurl_links": false,
            }),
            ChatFormat::Discord => json!({
                "content": self.text(discord, str::to_owned),
                "allowed_mentions": {"parse": []},
                // Suppresses previews of the link.
                "flags": 4,
            }),
            ChatFormat::Teams => self.teams(),
        };
        body.to_string().into_bytes()
    }

    /// The lines of a text message: title, facts, link. Facts that do not fit are left out.
    fn text(&self, escape: impl Fn(&str) -> String, link: impl Fn(&str) -> String) -> String {
        let (mut lines, link) = (vec![escape(&self.title)], link(self.link.as_str()));
        let mut left = MESSAGE_CHARS.saturating_sub(lines[0].chars().count() + link.chars().count() + 2);
        for (name, value) in &self.facts {
            let line = format!("{name}: {}", escape(value));
            let chars = line.chars().count() + 1;
            if chars <= left {
                left -= chars;
                lines.push(line);
            }
        }
        lines.push(link);
        lines.join("\n")
    }

    /// An Adaptive Card. Its `TextRun`s are plain text, unlike a `TextBlock`, which has Markdown.
    fn teams(&self) -> Value {
        let block = |runs: Vec<Value>| json!({"type": "RichTextBlock", "inlines": runs});
        let run = |text: &str, bold: bool| {
            let weight = if bold { "Bolder" } else { "Default" };
            json!({"type": "TextRun", "text": text, "weight": weight})
        };
        let mut body = vec![block(vec![run(&self.title, true)])];
        body.extend(
            self.facts.iter().map(|(name, value)| block(vec![run(&format!("{name}: "), false), run(value, false)])),
        );
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": body,
                    "actions": [{"type": "Action.OpenUrl", "title": LINK, "url": self.link.as_str()}],
                },
            }],
        })
    }
}

/// The path of the page that the event is about.
fn page(kind: Option<OperationalKind>, data: &Value) -> String {
    let id = |name: &str| data[name].as_str();
    match (kind, id("appId"), id("endpointId"), id("msgId")) {
        (None, ..) => "/operational".to_owned(),
        (Some(OperationalKind::OutboxStuck), ..) => "/outbox".to_owned(),
        (Some(_), Some(app), _, Some(message)) => format!("/applications/{app}/messages/{message}"),
        (Some(OperationalKind::ConsumerSilent), Some(app), Some(endpoint), _) => {
            format!("/applications/{app}/polling/{endpoint}")
        }
        (Some(OperationalKind::EndpointDeleted), Some(app), ..) => format!("/applications/{app}"),
        (Some(_), Some(app), Some(endpoint), None) => format!("/applications/{app}/endpoints/{endpoint}"),
        (Some(_), ..) => "/operational".to_owned(),
    }
}

fn text(data: &Value, name: &str) -> Option<String> {
    data[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn either(data: &Value, first: &str, second: &str) -> Option<String> {
    text(data, first).or_else(|| text(data, second))
}

/// One line of at most [`VALUE_CHARS`].
fn cut(value: &str) -> String {
    let line = value.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut text: String = line.take(VALUE_CHARS + 1).collect();
    if text.chars().count() > VALUE_CHARS {
        text.pop();
        text.push('…');
    }
    text
}

/// Escapes Slack's mrkdwn: with these three gone there are no links and no mentions.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Escapes Discord's Markdown, and the colon and `@` by which links and mentions begin.
fn discord(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | '-' | '/' | '\'' | '"') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use crate::domain::notifications::chat::*;

    fn message(event_type: &str, data: Value) -> ChatMessage {
        let payload = json!({"type": event_type, "data": data}).to_string();
        ChatMessage::new(event_type, payload.as_bytes(), &Url::parse("https://hooks.example").unwrap())
    }

    fn body(message: &ChatMessage, format: ChatFormat) -> Value {
        serde_json::from_slice(&message.body(format)).unwrap()
    }

    #[test]
    fn each_event_links_to_its_page() {
        let data = json!({"appId": "app_1", "endpointId": "ep_1", "msgId": "msg_1"});
        let endpoint = json!({"appId": "app_1", "endpointId": "ep_1"});
        for (event_type, data, path) in [
            ("message.attempt.exhausted", &data, "/applications/app_1/messages/msg_1"),
            ("message.expired", &data, "/applications/app_1/messages/msg_1"),
            ("endpoint.disabled", &endpoint, "/applications/app_1/endpoints/ep_1"),
            ("endpoint.deleted", &endpoint, "/applications/app_1"),
            (
                "consumer.silent",
                &json!({"appId": "app_1", "endpointId": "poll_1"}),
                "/applications/app_1/polling/poll_1",
            ),
            ("outbox.stuck", &json!({"row": 1}), "/outbox"),
            ("sendoff.ping", &json!({}), "/operational"),
        ] {
            assert_eq!(message(event_type, data.clone()).link.path(), path, "{event_type}");
        }
    }

    #[test]
    fn untrusted_text_is_escaped_for_each_format_and_bounded() {
        let evil = "<!channel> @everyone **x** [a](https://evil.example) \n&amp;";
        let stuck = message("outbox.stuck", json!({"row": 7, "application": evil, "reason": "r".repeat(5_000)}));
        let slack = body(&stuck, ChatFormat::Slack)["text"].as_str().unwrap().to_owned();
        assert!(slack.contains("&lt;!channel&gt;") && slack.contains("&amp;amp;") && slack.contains("Outbox row: 7"));
        assert!(slack.contains("<https://hooks.example/outbox|Open in Sendoff>"), "{slack}");
        let discord = body(&stuck, ChatFormat::Discord);
        assert_eq!(discord["allowed_mentions"], json!({"parse": []}));
        let content = discord["content"].as_str().unwrap();
        assert!(content.contains(r"\@everyone \*\*x\*\*") && content.contains(r"https\://evil.example"), "{content}");
        let teams = body(&stuck, ChatFormat::Teams);
        let card = &teams["attachments"][0]["content"];
        assert_eq!(card["actions"][0]["url"], "https://hooks.example/outbox");
        assert!(card["body"].to_string().contains("<!channel>"), "text runs are plain text");
        let worst = message(
            "outbox.stuck",
            json!({"application": "*".repeat(400), "eventType": "&".repeat(400),
            "reason": "_".repeat(400)}),
        );
        for (format, field) in [(ChatFormat::Slack, "text"), (ChatFormat::Discord, "content")] {
            let text = body(&worst, format)[field].as_str().unwrap().to_owned();
            assert!(text.chars().count() <= MESSAGE_CHARS && text.contains("/outbox"), "{text}");
        }
        assert!(worst.body(ChatFormat::Teams).len() < 8 * 1024);
    }

    #[test]
    fn the_path_of_a_hook_is_never_shown() {
        let hook = ChatHook::new(ChatFormat::Slack, "https://hooks.slack.com/services/T0/B0/geheim?sig=x".into());
        assert_eq!(hook.shown_url(), "https://hooks.slack.com/***");
        assert!(!format!("{hook:?}").contains("geheim"));
        assert_eq!(
            ChatHook::new(ChatFormat::Teams, "https://a.example:444/x".into()).shown_url(),
            "https://a.example:444/***"
        );
        assert_eq!(ChatHook::new(ChatFormat::Teams, "geheim".into()).shown_url(), "***");
        assert!(hook.check().is_ok() && ChatHook::new(ChatFormat::Slack, String::new()).check().is_err());
    }
}
