//! The languages of the portal. Pages are written in English; in another language, their texts are replaced before the
//! response is sent. The catalog `texts.tsv` has a row for each text and a column for each language; `{}` stands for a
//! value that the page inserts.
//!
//! Only texts of the page itself are replaced. Texts that customers and teams wrote are in elements of [`AS_IT_IS`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use actix_web::HttpRequest;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};

use crate::dashboard::http::preferences::Prefs;

/// A language of the portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    German,
}

impl Language {
    pub const ALL: [Language; 2] = [Language::English, Language::German];

    /// The language tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
        }
    }

    /// Its own name.
    pub const fn name(self) -> &'static str {
        match self {
            Language::English => "English",
            Language::German => "Deutsch",
        }
    }

    pub fn from_tag(tag: &str) -> Option<Language> {
        Language::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// The language that the user chose, or the first supported one of the browser's languages.
    pub fn of(request: &HttpRequest) -> Language {
        let accepted = request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        Prefs::of(request).language.or_else(|| first(accepted?)).unwrap_or(Language::English)
    }
}

/// The preferred language of an `Accept-Language` header.
fn first(accepted: &str) -> Option<Language> {
    let ranges = accepted.split(',').take(20).filter_map(|range| {
        let (tag, quality) = range.split_once(";q=").unwrap_or((range, "1"));
        let language = Language::from_tag(tag.trim().split('-').next()?.to_ascii_lowercase().as_str())?;
        Some((language, quality.trim().parse::<f32>().ok().filter(|quality| *quality > 0.0)?))
    });
    // Among languages of the same quality, the first one.
    ranges.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(language, _)| language)
}

/// Elements whose content is not translated: texts of users, code, scripts and styles.
const AS_IT_IS: [&str; 6] = ["bdi", "code", "pre", "textarea", "script", "style"];
/// Attributes with text.
const ATTRIBUTES: [&str; 6] = ["aria-label", "placeholder", "title", "data-confirm", "data-label", "data-counted"];

/// The column of the catalog for a language.
struct Texts {
    exact: HashMap<&'static str, &'static str>,
    /// Texts with `{}`, those with the longest fixed part first.
    patterns: Vec<(Vec<&'static str>, &'static str)>,
}

const CATALOG: &str = include_str!("texts.tsv");

/// The rows of the catalog: a text in each of [`Language::ALL`].
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    CATALOG.lines().skip(1).map(|line| line.split('\t').collect())
}

static GERMAN: LazyLock<Texts> = LazyLock::new(|| Texts::of(1));

impl Texts {
    fn of(column: usize) -> Texts {
        let (mut exact, mut patterns) = (HashMap::new(), Vec::new());
        for row in rows() {
            let (Some(english), Some(text)) = (row.first(), row.get(column)) else { continue };
            if english.contains("{}") {
                patterns.push((english.split("{}").collect::<Vec<_>>(), *text));
            } else {
                exact.insert(*english, *text);
            }
        }
        patterns.sort_by_key(|(pieces, _)| std::cmp::Reverse(pieces.iter().map(|piece| piece.len()).sum::<usize>()));
        Texts { exact, patterns }
    }

    /// The translation of a text, without white space around it. `None`: it is not in the catalog.
    fn find(&self, text: &str) -> Option<String> {
        if let Some(found) = self.exact.get(text) {
            return Some((*found).to_owned());
        }
        let matching = |whole: bool| {
            let fits = |values: &Vec<&str>| whole || !values.iter().any(|value| value.contains(", "));
            self.patterns.iter().find_map(|(pieces, text_of)| Some((values(pieces, text).filter(fits)?, *text_of)))
        };
        // `1 delivered, 2 pending` is a list, but the pattern `{} pending` would match it with the value
        // `1 delivered, 2`.
        let listed = || -> Option<Vec<String>> {
            text.contains(", ").then(|| text.split(", ").map(|part| self.find(part)).collect()).flatten()
        };
        let (values, translation) = match matching(false) {
            Some(found) => found,
            None => match listed() {
                Some(parts) => return Some(parts.join(", ")),
                None => matching(true)?,
            },
        };
        // An inserted value may be in the catalog too: `Cancel {}?` with `3 deliveries`.
        let mut values = values.into_iter().map(|value| self.find(value).map_or(Cow::Borrowed(value), Cow::Owned));
        let mut parts = translation.split("{}");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            whole.push_str(&values.next().unwrap_or_default());
            whole.push_str(part);
        }
        Some(whole)
    }
}

/// The values between `pieces`, if `text` consists of these pieces with values between them.
fn values<'t>(pieces: &[&str], text: &'t str) -> Option<Vec<&'t str>> {
    let (first, rest) = pieces.split_first()?;
    let mut left = text.strip_prefix(first)?;
    let mut found = Vec::with_capacity(rest.len());
    for (index, piece) in rest.iter().enumerate() {
        let end = match index + 1 == rest.len() {
            true => left.len().checked_sub(piece.len()).filter(|end| left.get(*end..) == Some(piece))?,
            false => left.find(piece)?,
        };
        let value = left.get(..end).filter(|value| !value.is_empty())?;
        found.push(value);
        left = left.get(end + piece.len()..)?;
    }
    Some(found)
}

/// A part of a page in the language of a request.
pub fn part(html: String, language: Language) -> String {
    match language {
        Language::English => html,
        Language::German => page(&html, &GERMAN, language),
    }
}

/// Replaces the texts of a page in the language of the request.
pub fn translated(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let language = Language::of(response.request());
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if language == Language::English || !kind.starts_with("text/html") {
        return response;
    }
    response.map_body(|_, body| match body.try_into_bytes() {
        Ok(bytes) => match std::str::from_utf8(&bytes) {
            Ok(html) => BoxBody::new(page(html, &GERMAN, language)),
            Err(_) => BoxBody::new(bytes),
        },
        Err(body) => body,
    })
}

/// Translates a page.
fn page(html: &str, texts: &Texts, language: Language) -> String {
    let mut out = String::with_capacity(html.len() + html.len() / 8);
    let mut rest = html;
    // The current element that is not translated, and its nesting depth among elements of the same name.
    let mut kept: Option<(&'static str, usize)> = None;
    while let Some(begin) = rest.find('<') {
        let (text, tail) = rest.split_at(begin);
        put_text(&mut out, text, texts, kept.is_none());
        let (tag, after) = tail.split_at(end_of_tag(tail));
        let name = tag.trim_start_matches(['<', '/']).split(|c: char| !c.is_ascii_alphanumeric()).next();
        let name = name.unwrap_or_default();
        let known = AS_IT_IS.into_iter().find(|one| *one == name);
        if name == "html" {
            out.push_str(&tag.replacen("lang=\"en\"", &format!("lang=\"{}\"", language.tag()), 1));
        } else if kept.is_none() && known.is_none() {
            put_tag(&mut out, tag, texts);
        } else {
            out.push_str(tag);
        }
        kept = match (kept, known) {
            (None, Some(name)) if !tag.starts_with("</") => Some((name, 1)),
            (Some((name, depth)), Some(other)) if name == other => match tag.starts_with("</") {
                true if depth == 1 => None,
                true => Some((name, depth - 1)),
                false => Some((name, depth + 1)),
            },
            (kept, _) => kept,
        };
        // An option whose text equals its value names an object of the user and is not translated, unless it has
        // `translate="yes"`.
        let foreign = Some(tag).filter(|tag| !tag.contains(" translate=\"yes\""));
        rest = match foreign
            .and_then(|tag| tag.strip_prefix("<option value=\""))
            .and_then(|rest| rest.split('"').next())
        {
            Some(value) if after.strip_prefix(value).is_some_and(|rest| rest.starts_with('<')) => {
                out.push_str(value);
                after.get(value.len()..).unwrap_or_default()
            }
            _ => after,
        };
    }
    put_text(&mut out, rest, texts, true);
    out
}

/// The end of the tag that `html` begins with. A `>` in a quoted value does not end it.
fn end_of_tag(html: &str) -> usize {
    let mut quoted = false;
    for (place, byte) in html.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'>' if !quoted => return place + 1,
            _ => {}
        }
    }
    html.len()
}

fn put_text(out: &mut String, text: &str, texts: &Texts, translate: bool) {
    let inner = text.trim();
    match translate.then(|| translation(inner, texts)).flatten() {
        Some(found) => {
            let begin = text.len() - text.trim_start().len();
            out.push_str(text.get(..begin).unwrap_or_default());
            out.push_str(&found);
            out.push_str(text.get(begin + inner.len()..).unwrap_or_default());
        }
        None => out.push_str(text),
    }
}

fn put_tag(out: &mut String, tag: &str, texts: &Texts) {
    let mut rest = tag;
    while let Some(begin) = rest.find("=\"") {
        let (before, tail) = rest.split_at(begin + 2);
        let end = tail.find('"').unwrap_or(tail.len());
        let (value, after) = tail.split_at(end);
        out.push_str(before);
        let name = before.trim_end_matches("=\"").rsplit(' ').next().unwrap_or_default();
        match ATTRIBUTES.contains(&name).then(|| translation(value.trim(), texts)).flatten() {
            Some(found) => out.push_str(&found),
            None => out.push_str(value),
        }
        rest = after;
    }
    out.push_str(rest);
}

/// The translation of a text of a page, escaped like the text itself.
fn translation(text: &str, texts: &Texts) -> Option<String> {
    if !text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    // The catalog has these three characters unescaped. All other escapes stay.
    let plain = text.replace("&#39;", "'").replace("&#34;", "\"").replace("&#62;", ">");
    let mut words = plain.split_whitespace();
    let first = words.next()?;
    let plain = words.fold(first.to_owned(), |line, word| format!("{line} {word}"));
    Some(texts.find(&plain)?.replace('\'', "&#39;").replace('"', "&#34;").replace('>', "&#62;"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Every row has a text for every language, with the same number of gaps.
    #[test]
    fn the_catalog_has_every_text_in_every_language() {
        let head: Vec<&str> = CATALOG.lines().next().unwrap().split('\t').collect();
        assert_eq!(head, Language::ALL.map(Language::tag));
        let mut seen = HashSet::new();
        for row in rows() {
            assert_eq!(row.len(), Language::ALL.len(), "{row:?}");
            let gaps = |text: &str| text.matches("{}").count();
            for text in &row {
                assert!(!text.trim().is_empty() && text.trim() == *text, "{row:?}");
                assert_eq!(gaps(text), gaps(row[0]), "{row:?}");
                assert!(!text.contains(['<', '&', '"', '\\']), "a text is no markup: {row:?}");
            }
            assert!(seen.insert(row[0]), "twice: {row:?}");
        }
        assert!(seen.len() > 200, "{}", seen.len());
    }

    #[test]
    fn only_texts_of_the_page_are_translated() {
        let german = |html: &str| page(html, &GERMAN, Language::German);
        assert_eq!(german("<html lang=\"en\"><p>\n  Overview </p>"), "<html lang=\"de\"><p>\n  Übersicht </p>");
        for same in [
            "<bdi>Overview</bdi>",
            "<bdi title=\"Overview\"><span>Overview</span></bdi>",
            "<pre><code>Overview</code></pre>",
            "<bdi>a<bdi>b</bdi>Overview</bdi>",
            "<option value=\"Overview\">Overview</option>",
            "<a href=\"Overview\">x &#60;Overview&#62;</a>",
            "<textarea name=\"a\">Overview</textarea>",
            "<p>Overview",
        ] {
            let wanted = if same == "<p>Overview" { "<p>Übersicht" } else { same };
            assert_eq!(german(same), wanted);
        }
        assert_eq!(
            german("<bdi>a</bdi> <b title=\"Overview\" class=\"a>b\">Overview</b>"),
            "<bdi>a</bdi> <b title=\"Übersicht\" class=\"a>b\">Übersicht</b>"
        );
        assert_eq!(german("<h1>Cancel 3 deliveries?</h1>"), "<h1>3 Zustellungen abbrechen?</h1>");
        assert_eq!(german("<time>5 min ago</time>"), "<time>vor 5 min</time>");
    }

    #[test]
    fn the_browser_s_first_known_language_counts() {
        assert_eq!(first("de-AT,de;q=0.9,en;q=0.8"), Some(Language::German));
        assert_eq!(first("fr-FR, fr;q=0.9, en;q=0.7, de;q=0.6"), Some(Language::English));
        assert_eq!(first("de;q=0.1, en-GB"), Some(Language::English));
        for none in ["", "fr", "*", "de;q=0", "de;q=x", ";;,,"] {
            assert_eq!(first(none), None, "{none}");
        }
    }
}
