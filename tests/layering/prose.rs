//! The rules about the language of comments: no metaphors as names, no relative clauses instead of nouns.

use crate::rules::Violation;
use crate::source::comments;

/// Words with a plainer synonym.
const WORDS: [(&str, &str); 12] = [
    ("house", "name the crate, the process or the test's world"),
    ("houses", "name the operational applications"),
    ("floor", "layer, or lower bound"),
    ("floors", "layers, or lower bounds"),
    ("deed", "action, or audit entry"),
    ("ear", "listener"),
    ("bury", "cancel"),
    ("buried", "cancelled"),
    ("steward", "event loop"),
    ("manner", "policy, or behavior"),
    ("visit", "session, or request"),
    ("visits", "sessions, or requests"),
];

/// A sentence of a comment does not open with these.
const OPENINGS: [&str; 5] = ["Who", "What", "Whoever", "Whose", "Whatever"];

/// Words and openings that the style excludes, in the comments of `source`.
pub fn prose(file: &str, source: &str) -> Vec<Violation> {
    let (mut found, mut before) = (Vec::new(), (0, String::new()));
    for (line, text) in comments(source) {
        let mut add = |what: String| found.push(Violation { file: file.to_owned(), line, what });
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if let Some((_, better)) = WORDS.iter().find(|(plain, _)| word.eq_ignore_ascii_case(plain)) {
                add(format!("`{word}`: {better}"));
            }
        }
        let continues = before.0 + 1 == line && !ends_sentence(&before.1);
        for opening in OPENINGS {
            let opens = |sentence: &str| sentence.strip_prefix(opening).is_some_and(|rest| rest.starts_with(' '));
            let question =
                |sentence: &str| sentence.split_inclusive(['.', '?']).next().is_some_and(|s| s.ends_with('?'));
            let mut sentences = text.split(". ").enumerate().filter(|(i, _)| *i > 0 || !continues);
            if sentences.any(|(_, sentence)| opens(sentence.trim_start()) && !question(sentence)) {
                add(format!("a sentence opens with \"{opening}\"; open it with a noun"));
            }
        }
        before = (line, text);
    }
    found
}

fn ends_sentence(text: &str) -> bool {
    text.is_empty() || text.ends_with(['.', ':', '!', '?', ')'])
}
