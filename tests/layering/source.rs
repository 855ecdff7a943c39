//! A Rust reader that is just good enough for the rules: tokens and comments with their lines, the paths and the
//! declarations of production code. It knows strings, comments, lifetimes and nested `use` groups; it does not expand
//! macros.

/// An identifier, a `::`, any other single character, or `"` in the place of a literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// A path as it is written, a `use` group taken apart: `a::{b, c::*}` gives `a::b` and `a::c` with `glob`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    pub glob: bool,
    /// Followed by `!`: the path of a macro.
    pub call_of_macro: bool,
    /// The inline modules (`mod x { … }`) around it.
    pub inside: Vec<String>,
}

/// The tokens of `source`, without comments and doc comments.
pub fn tokens(source: &str) -> Vec<Token> {
    read(source).0
}

/// The comments and doc comments of `source`, line by line, without their slashes.
pub fn comments(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in read(source).1 {
        let inner =
            |text: &str| text.trim().trim_start_matches(['/', '!', '*']).trim_end_matches("*/").trim().to_owned();
        found.extend(text.lines().enumerate().map(|(i, text)| (line + i, inner(text))));
    }
    found
}

fn read(source: &str) -> (Vec<Token>, Vec<(usize, String)>) {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let (mut found, mut comments, mut i, mut line) = (Vec::new(), Vec::new(), 0, 1);
    while i < text.len() {
        let (start, first_line) = (i, line);
        let mut token = String::new();
        match at(i) {
            '/' if at(i + 1) == '/' => i = end_of(&text, i, |t, j| t[j] == '\n'),
            '/' if at(i + 1) == '*' => i = end_of_block_comment(&text, i),
            '"' => (i, token) = (end_of_string(&text, i), "\"".into()),
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => (i, token) = (end_of_char(&text, i), "\"".into()),
            '\'' => i += 1,
            ':' if at(i + 1) == ':' => (i, token) = (i + 2, "::".into()),
            c if c.is_alphanumeric() || c == '_' => {
                i = end_of(&text, i, |t, j| !(t[j].is_alphanumeric() || t[j] == '_'));
                token = text[start..i].iter().collect();
                let hashes = text[i..].iter().take_while(|c| **c == '#').count();
                match (token.as_str(), at(i), at(i + hashes)) {
                    ("b" | "c", '"', _) => (i, token) = (end_of_string(&text, i), "\"".into()),
                    ("b", '\'', _) => (i, token) = (end_of_char(&text, i), "\"".into()),
                    ("r" | "br" | "cr", _, '"') => (i, token) = (end_of_raw(&text, i, hashes), "\"".into()),
                    ("r", '#', _) => (i, token) = (i + 1, String::new()),
                    _ => {}
                }
                if token.starts_with(|c: char| c.is_numeric()) {
                    token = "\"".into();
                }
            }
            c if c.is_whitespace() => i += 1,
            c => (i, token) = (i + 1, c.to_string()),
        }
        line += text[start..i.min(text.len())].iter().filter(|c| **c == '\n').count();
        if !token.is_empty() {
            found.push(Token { text: token, line: first_line });
        } else if text[start] == '/' {
            comments.push((first_line, text[start..i.min(text.len())].iter().collect()));
        }
    }
    (found, comments)
}

fn end_of(text: &[char], from: usize, ends: impl Fn(&[char], usize) -> bool) -> usize {
    (from..text.len()).find(|j| ends(text, *j)).unwrap_or(text.len())
}

fn end_of_block_comment(text: &[char], from: usize) -> usize {
    let (mut i, mut depth) = (from, 0);
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            ('/', Some('*')) => (i, depth) = (i + 2, depth + 1),
            ('*', Some('/')) => (i, depth) = (i + 2, depth - 1),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn end_of_string(text: &[char], from: usize) -> usize {
    end_of_quoted(text, from, '"')
}

fn end_of_char(text: &[char], from: usize) -> usize {
    end_of_quoted(text, from, '\'')
}

fn end_of_quoted(text: &[char], from: usize, quote: char) -> usize {
    let mut i = from + 1;
    while i < text.len() && text[i] != quote {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(text.len())
}

fn end_of_raw(text: &[char], from: usize, hashes: usize) -> usize {
    let closes =
        |t: &[char], j: usize| t[j] == '"' && t[j + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (end_of(&text[from + hashes + 1..], 0, closes) + from + hashes + 2 + hashes).min(text.len())
}

/// `tokens` without what is compiled for tests only (`#[cfg(test)]`, `#[test]`), and the names of the modules that are
/// declared so (`#[cfg(test)] mod tests;`): their files are for tests only too.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut test_modules, mut i) = (Vec::new(), Vec::new(), 0);
    while i < tokens.len() {
        let inner = text(tokens, i + 1) == "!";
        let open = i + 1 + usize::from(inner);
        if tokens[i].text != "#" || text(tokens, open) != "[" {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let close = end_of_group(tokens, open);
        if !is_for_tests(&tokens[open + 1..close.saturating_sub(1)]) {
            kept.extend_from_slice(&tokens[i..close]);
            i = close;
        } else if inner {
            return (Vec::new(), test_modules);
        } else {
            let mut item = close;
            while text(tokens, item) == "#" {
                item = end_of_group(tokens, item + 1);
            }
            i = end_of_item(tokens, item);
            let words: Vec<&str> = tokens[item..i].iter().map(|token| token.text.as_str()).collect();
            if let [.., "mod", name, ";"] = words[..] {
                test_modules.push(name.to_owned());
            }
        }
    }
    (kept, test_modules)
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().map(|token| token.text.as_str()).collect();
    match words.first() {
        Some(&"cfg") => words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any"),
        Some(&"cfg_attr") | None => false,
        _ => words.iter().take_while(|word| **word != "(").last() == Some(&"test"),
    }
}

fn text(tokens: &[Token], i: usize) -> &str {
    tokens.get(i).map_or("", |token| &token.text)
}

/// Past the group that opens at `open`.
fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let (mut depth, mut i) = (0, open);
    while i < tokens.len() {
        match text(tokens, i) {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        i += 1;
        if depth == 0 {
            break;
        }
    }
    i
}

/// Past the item that begins at `from`: its `;`, or its `{ … }`.
fn end_of_item(tokens: &[Token], from: usize) -> usize {
    let mut i = from;
    while i < tokens.len() {
        match text(tokens, i) {
            ";" => return i + 1,
            "{" => return end_of_group(tokens, i),
            "(" | "[" => i = end_of_group(tokens, i),
            _ => i += 1,
        }
    }
    i
}

/// Every path of two or more segments, and `use crate as …`.
pub fn paths(tokens: &[Token]) -> Vec<Path> {
    let (mut found, mut inside, mut depth, mut i) = (Vec::new(), Vec::<(String, usize)>::new(), 0usize, 0);
    while i < tokens.len() {
        let before = if i == 0 { "" } else { text(tokens, i - 1) };
        if text(tokens, i) == "mod" && text(tokens, i + 2) == "{" {
            depth += 1;
            inside.push((text(tokens, i + 1).to_owned(), depth));
            i += 3;
            continue;
        }
        match text(tokens, i) {
            "{" => depth += 1,
            "}" => {
                inside.retain(|(_, opened)| *opened < depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        let begins = tokens[i].is_name() && before != "::" && before != ".";
        let root_renamed = text(tokens, i) == "crate" && text(tokens, i + 1) == "as";
        if begins && (text(tokens, i + 1) == "::" || root_renamed) {
            let first = found.len();
            i = read_path(tokens, i, &[], &mut found);
            let around: Vec<String> = inside.iter().map(|(name, _)| name.clone()).collect();
            found[first..].iter_mut().for_each(|path| path.inside.clone_from(&around));
        } else {
            i += 1;
        }
    }
    found
}

/// Reads the path or `use` tree at `i` behind `prefix`; gives the place after it.
fn read_path(tokens: &[Token], mut i: usize, prefix: &[String], found: &mut Vec<Path>) -> usize {
    let line = tokens.get(i).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    let mut glob = false;
    loop {
        match text(tokens, i) {
            "{" => {
                let end = end_of_group(tokens, i);
                i += 1;
                while i + 1 < end {
                    i = read_path(tokens, i, &segments, found);
                    while i + 1 < end && text(tokens, i) != "," {
                        i += 1; // `as name`
                    }
                    i += usize::from(i + 1 < end);
                }
                return end;
            }
            "*" => {
                glob = true;
                i += 1;
                break;
            }
            _ if tokens.get(i).is_some_and(Token::is_name) => {
                segments.push(tokens[i].text.clone());
                i += 1;
            }
            _ => break,
        }
        if text(tokens, i) != "::" {
            break;
        }
        i += 1;
    }
    let call_of_macro = text(tokens, i) == "!" && text(tokens, i + 1) != "=";
    found.push(Path { segments, line, glob, call_of_macro, inside: Vec::new() });
    // A token that is no part of a path (in a macro's pattern, say) must not hold the reader.
    i
}

/// The types that are declared here, with their lines: structs, enums, unions, traits and aliases, but not the associated
/// types of traits.
pub fn types(tokens: &[Token]) -> Vec<(&str, usize)> {
    const KINDS: [&str; 5] = ["struct", "enum", "union", "trait", "type"];
    let (mut found, mut associated_until) = (Vec::new(), 0);
    for i in 0..tokens.len() {
        let begins_item = i == 0 || [";", "{", "}", "]", "unsafe", "pub", ")"].contains(&text(tokens, i - 1));
        if begins_item && ["impl", "trait"].contains(&text(tokens, i)) {
            let body = (i..tokens.len()).find(|j| ["{", ";"].contains(&text(tokens, *j))).unwrap_or(tokens.len());
            associated_until = associated_until.max(end_of_group(tokens, body));
        }
        let named = tokens.get(i + 1).is_some_and(Token::is_name);
        if named && KINDS.contains(&text(tokens, i)) && !(text(tokens, i) == "type" && i < associated_until) {
            found.push((text(tokens, i + 1), tokens[i + 1].line));
        }
    }
    found
}

/// The declarations: (`struct`, its name, its line) for structs, enums, functions, modules, traits, types and constants.
pub fn declarations(tokens: &[Token]) -> Vec<(&str, &str, usize)> {
    const KINDS: [&str; 9] = ["struct", "enum", "union", "fn", "mod", "trait", "type", "const", "static"];
    let pairs = tokens.windows(2).filter(|pair| KINDS.contains(&pair[0].text.as_str()) && pair[1].is_name());
    pairs.map(|pair| (pair[0].text.as_str(), pair[1].text.as_str(), pair[1].line)).collect()
}
