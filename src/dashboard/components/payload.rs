//! Pretty-printed payloads: the same JSON tokens byte for byte, with whitespace between them. Parsing into values would
//! round numbers and drop repeated keys, and the page would not show the bytes that the receiver gets.

use serde::de::IgnoredAny;

use crate::dashboard::components::format::Block;

/// Longer payloads are truncated; the REST API returns them in full.
const MOST_BYTES: usize = 512 * 1024;
/// Longer payloads are not highlighted.
const MOST_COLOURED: usize = 64 * 1024;
/// The maximum indentation, so deeply nested input does not expand to megabytes of spaces.
const MOST_INDENT: usize = 24;

/// Text of one syntax class.
#[derive(Debug, PartialEq, Eq)]
pub struct JsonSpan {
    /// The CSS class: `key`, `string`, `value` or empty.
    pub kind: &'static str,
    pub text: Block,
}

/// A payload for display.
pub struct PayloadView {
    /// `None` if it is not JSON.
    pub pretty: Option<Vec<JsonSpan>>,
    /// The payload unformatted.
    pub raw: Block,
    /// The payload was truncated.
    pub cut: bool,
}

impl PayloadView {
    pub fn new(bytes: &[u8]) -> PayloadView {
        let shown = &bytes[..bytes.len().min(MOST_BYTES)];
        let cut = shown.len() < bytes.len();
        let json = !cut && serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        let pretty = match std::str::from_utf8(shown) {
            Ok(text) if json => Some(runs(text)),
            _ => None,
        };
        PayloadView { pretty, raw: Block::new(shown), cut }
    }
}

fn runs(json: &str) -> Vec<JsonSpan> {
    let coloured = json.len() <= MOST_COLOURED;
    let mut runs: Vec<(&'static str, String)> = Vec::new();
    for (kind, text) in spaced(json) {
        let kind = if coloured { kind } else { "" };
        match runs.last_mut() {
            Some((last, before)) if *last == kind => before.push_str(&text),
            _ => runs.push((kind, text)),
        }
    }
    runs.into_iter().map(|(kind, text)| JsonSpan { kind, text: Block::new(text.as_bytes()) }).collect()
}

/// The tokens of well-formed JSON with their classes, and whitespace between them.
fn spaced(json: &str) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut depth = 0usize;
    let mut rest = json.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = rest.split_at(token_length(rest));
        let after = after.trim_start();
        match first {
            '{' | '[' if after.starts_with(['}', ']']) => {
                out.push(("", format!("{token}{}", &after[..1])));
                rest = after[1..].trim_start();
                continue;
            }
            '{' | '[' => {
                depth += 1;
                out.push(("", format!("{token}{}", line(depth))));
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                out.push(("", format!("{}{token}", line(depth))));
            }
            ',' => out.push(("", format!(",{}", line(depth)))),
            ':' => out.push(("", ": ".to_owned())),
            '"' => out.push((if after.starts_with(':') { "key" } else { "string" }, token.to_owned())),
            _ => out.push(("value", token.to_owned())),
        }
        rest = after;
    }
    out
}

fn line(depth: usize) -> String {
    format!("\n{}", "  ".repeat(depth.min(MOST_INDENT)))
}

/// The length of the first token.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'"') => {
            let mut i = 1;
            while i < bytes.len() && bytes[i] != b'"' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            (i + 1).min(bytes.len())
        }
        Some(b'{' | b'}' | b'[' | b']' | b',' | b':') => 1,
        _ => text.find(|c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c)).unwrap_or(text.len()).max(1),
    }
}

#[cfg(test)]
mod tests {
    use crate::dashboard::components::payload::*;

    fn pretty(json: &str) -> Option<String> {
        let runs = PayloadView::new(json.as_bytes()).pretty?;
        Some(runs.iter().map(|run| run.text.to_string()).collect())
    }

    #[test]
    fn only_whitespace_is_added() {
        let json = r#" {"a":1.0,"a":12345678901234567890123,"e":{},"l":[ ],"s":"x: \"{\\","n":[null,{"ü":-1E+2}]} "#;
        let shown = pretty(json).unwrap();
        let wanted = "{\n  \"a\": 1.0,\n  \"a\": 12345678901234567890123,\n  \"e\": {},\n  \"l\": [],\n  \
            \"s\": \"x: \\\"{\\\\\",\n  \"n\": [\n    null,\n    {\n      \"ü\": -1E+2\n    }\n  ]\n}";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn tokens_have_classes() {
        let runs = PayloadView::new(br#"{"k":"v","n":1}"#).pretty.unwrap();
        let kinds: Vec<&str> = runs.iter().map(|run| run.kind).collect();
        assert_eq!(kinds, ["", "key", "", "string", "", "key", "", "value", ""]);
    }

    #[test]
    fn non_json_and_long_payloads_are_not_formatted() {
        assert_eq!(pretty("{oops"), None);
        assert_eq!(PayloadView::new(b"\xff\xfe{").raw.to_string(), "\u{fffd}\u{fffd}{");
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(pretty(&deep).unwrap_or_default().len() < 3_000_000);
        let large = PayloadView::new(&vec![b'x'; MOST_BYTES + 1]);
        assert!(large.cut && large.raw.to_string().len() == MOST_BYTES);
    }
}
