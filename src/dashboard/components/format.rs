//! Formatting for people: outside text, counts, durations, URL parameters.
//!
//! [`Line`] and [`Block`] are the only types in which outside text (payloads, responses, URLs, names) reaches a
//! template. They make characters visible that would hide or rearrange the text around them; askama then escapes the
//! rest.

use std::fmt::{self, Write as _};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use askama::filters::HtmlSafe;

use crate::domain::url_query;

/// Outside text on one line; line breaks become symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(String);

/// Outside text on several lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block(String);

/// The value of a form control. The browser must return it unchanged, so hidden characters stay: inside a control they
/// cannot rearrange the page. Escapes itself with numeric references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputValue(String);

impl InputValue {
    pub fn new(text: &str) -> InputValue {
        InputValue(text.replace("\r\n", "\n"))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HtmlSafe for InputValue {}

impl fmt::Display for InputValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\n' | '\t' => f.write_char(c)?,
                // HTML cannot represent these.
                '\u{0}' | '\u{7f}'..='\u{9f}' => f.write_char('\u{fffd}')?,
                '<' | '>' | '&' | '"' | '\'' => write!(f, "&#{};", c as u32)?,
                c if c.is_control() => write!(f, "&#{};", c as u32)?,
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    write!(f, "&#{};", c as u32)?;
                }
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Line {
    /// Makes hidden characters visible.
    pub fn new(text: &str) -> Line {
        Line(visible(text, |_| false))
    }

    /// Truncates to `most` characters.
    pub fn cut(text: &str, most: usize) -> Line {
        match text.char_indices().nth(most) {
            Some((end, _)) => Line(visible(&text[..end], |_| false) + "…"),
            None => Line::new(text),
        }
    }
}

impl Line {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Block {
    /// Makes hidden characters visible; invalid UTF-8 becomes U+FFFD.
    pub fn new(bytes: &[u8]) -> Block {
        // CRLF is an ordinary line break to readers.
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        Block(visible(&text, |c| matches!(c, '\n' | '\t')))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Replaces control characters by their pictures, and bidirectional or invisible characters by their code points.
fn visible(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        match c {
            // Stacked combining marks would cover the lines above and below.
            c if marks > MOST_MARKS => {
                let _ = write!(shown, "‹U+{:04X}›", c as u32);
            }
            c if keep(c) => shown.push(c),
            '\u{0}'..='\u{1f}' => shown.extend(char::from_u32(0x2400 + c as u32)),
            '\u{7f}' => shown.push('\u{2421}'),
            '\u{80}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}' => {
                let _ = write!(shown, "‹U+{:04X}›", c as u32);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Maximum number of combining marks per letter. No writing system needs more.
const MOST_MARKS: usize = 3;

fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// `12,481`.
pub fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        text.push('−');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count that stops at `most`: `10,000+`.
pub fn count_up_to(n: i64, most: i64) -> String {
    if n >= most { format!("{}+", count(most)) } else { count(n) }
}

/// `1 attempt`, `2 attempts`.
pub fn counted(n: i64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A duration: `214 ms`, `1.25 s`.
pub fn took(span: Duration) -> String {
    match span.as_micros() {
        0..1_000 => "< 1 ms".to_owned(),
        1_000..1_000_000 => format!("{} ms", span.as_millis()),
        1_000_000..10_000_000 => format!("{:.2} s", span.as_secs_f64()),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}

/// A duration in its largest unit: `8 s`, `4 min`, `3 h`, `12 d`.
pub fn roughly(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `256 bytes`, `3.4 KiB`, `7.9 GiB`.
pub fn size(bytes: usize) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// `503 Service Unavailable`.
pub fn status(code: u16) -> String {
    match StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{code} {reason}"),
        None => code.to_string(),
    }
}

/// The parameters of a page's URL.
pub type UrlQuery = url_query::UrlQuery<'static>;

impl UrlQuery {
    /// The parameters of the request's URL.
    pub fn of(request: &HttpRequest) -> UrlQuery {
        url_query::UrlQuery::parse(request.query_string()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use askama::Template as _;
    use proptest::prelude::*;

    use crate::dashboard::components::format::*;
    use crate::fuzzing::fuzz;

    #[test]
    fn input_values_round_trip() {
        let typed = InputValue::new("a<\"'&>\r\nb\u{202e}\u{1b}\u{85}ü\u{0}");
        assert_eq!(typed.as_str(), "a<\"'&>\nb\u{202e}\u{1b}\u{85}ü\u{0}");
        assert_eq!(typed.to_string(), "a&#60;&#34;&#39;&#38;&#62;\nb&#8238;&#27;\u{fffd}ü\u{fffd}");
    }

    #[test]
    fn hidden_characters_become_visible() {
        assert_eq!(Line::new("a\u{0}b\u{1b}[31m\r\nc\u{7f}").to_string(), "a␀b␛[31m␍␊c␡");
        assert_eq!(Line::new("moc.\u{202e}live\u{2066}").to_string(), "moc.‹U+202E›live‹U+2066›");
        assert_eq!(Block::new(b"a\r\n\tb\xff\x08").to_string(), "a\n\tb\u{fffd}␈");
        assert_eq!(
            Line::new("日本語 العربية 👩‍💻").to_string(),
            "日本語 العربية 👩‍💻",
            "text of all scripts is left alone"
        );
        assert_eq!(Line::new("a\u{301}\u{302}\u{303}\u{304}b").to_string(), "a\u{301}\u{302}\u{303}‹U+0304›b");
        assert_eq!(Line::cut("äöü", 2).to_string(), "äö…");
        assert_eq!(Line::cut("äöü", 3).to_string(), "äöü");
    }

    #[test]
    fn formats_numbers() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_481, "12,481"), (-1_234_567, "−1,234,567")] {
            assert_eq!(count(n), text);
        }
        assert_eq!((count_up_to(9, 10), count_up_to(10, 10)), ("9".to_owned(), "10+".to_owned()));
        for (micros, text) in [(10, "< 1 ms"), (214_600, "214 ms"), (1_250_000, "1.25 s"), (15_000_000, "15.0 s")] {
            assert_eq!(took(Duration::from_micros(micros)), text);
        }
        for (seconds, text) in [(8, "8 s"), (299, "4 min"), (7_200, "2 h"), (400_000, "4 d")] {
            assert_eq!(roughly(Duration::from_secs(seconds)), text);
        }
        assert_eq!((size(1), size(512), size(3_500)), ("1 byte".into(), "512 bytes".into(), "3.4 KiB".into()));
        assert_eq!((size(5 << 20), size(3 << 30)), ("5.0 MiB".into(), "3.0 GiB".into()));
        assert_eq!((status(503), status(799)), ("503 Service Unavailable".into(), "799".into()));
    }

    /// The three ways in which outside text reaches a page.
    #[derive(askama::Template)]
    #[template(source = "<p title=\"{{ line }}\">{{ line }}{{ block }}</p><input value=\"{{ value }}\">", ext = "html")]
    struct Shown {
        line: Line,
        block: Block,
        value: InputValue,
    }

    /// Text with many of the characters that matter.
    fn texts() -> impl Strategy<Value = String> {
        let odd = "[<>&\"'`=/\\u{0}-\\u{1f}\\u{7f}-\\u{9f}\\u{ad}\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}\\u{2066}\\u{feff}\\u{301}a;#x]{0,40}";
        prop_oneof![".{0,60}", odd, "(&#?x?[0-9a-z]{0,6};?|<!--|-->|</?[a-z]{1,8}>?){0,6}"]
    }

    /// Text never hides or rearranges the text around it, and a form control returns its value unchanged.
    #[test]
    fn fuzz_html_escape() {
        fuzz("html_escape", texts(), any::<Vec<u8>>(), |text, bytes| {
            // Cut short, a character of several bytes is invalid UTF-8.
            let cut = &text.as_bytes()[..text.len().saturating_sub(1)];
            let mut behaviors = Vec::new();
            for block in [text.as_bytes(), cut, bytes] {
                let (line, block) = (Line::new(text), Block::new(block));
                let page = Shown { line, block, value: InputValue::new(text) }.render().unwrap();
                let count = |c: char| page.matches(c).count();
                prop_assert_eq!((count('<'), count('>'), count('"'), count('\'')), (3, 3, 4, 0), "{}", page);
                let hidden =
                    |c: char| (c.is_control() && !"\n\t".contains(c)) || ('\u{202a}'..='\u{202e}').contains(&c);
                prop_assert!(!page.contains(hidden), "{:?}", page);
                for reference in page.split('&').skip(1) {
                    let digits =
                        reference.strip_prefix('#').and_then(|rest| rest.split_once(';')).map(|(number, _)| number);
                    prop_assert!(digits.is_some_and(|digits| digits.parse::<u32>().is_ok()), "{}", page);
                    behaviors.extend(digits.map(|digits| format!("&#{digits};")));
                }
            }
            let shown = InputValue::new(text).to_string();
            let mut read = String::new();
            for (n, part) in shown.split("&#").enumerate() {
                match part.split_once(';').filter(|_| n > 0) {
                    Some((number, rest)) => {
                        read.push(char::from_u32(number.parse().unwrap()).unwrap());
                        read.push_str(rest);
                    }
                    None => read.push_str(part),
                }
            }
            let wanted: String = text
                .replace("\r\n", "\n")
                .chars()
                .map(|c| if matches!(c, '\u{0}' | '\u{7f}'..='\u{9f}') { '\u{fffd}' } else { c })
                .collect();
            prop_assert_eq!(read, wanted);
            Ok(behaviors)
        });
    }
}
