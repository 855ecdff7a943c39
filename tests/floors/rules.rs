//! The house's rules as functions from a file to its violations, so that each can be shown to fail on a bad sample.

use std::fmt;

use crate::source::{Path, declarations, paths, tokens, without_tests};

/// Who stands where. A floor may use itself and what is listed here, and nothing else.
pub const FLOORS: [(&str, &[&str]); 14] = [
    ("crash", &[]),
    ("supervisor", &["crash"]),
    ("domain", &[]),
    ("traffic", &["domain"]),
    ("egress", &["domain"]),
    ("store", &["domain", "crash", "supervisor"]),
    ("engine", &["domain", "store", "egress", "crash", "supervisor"]),
    ("service", &["domain", "store", "egress"]),
    ("api", &["domain", "store", "egress", "service", "traffic", "supervisor"]),
    ("dashboard", &["domain", "store", "egress", "service", "traffic"]),
    ("config", &["domain", "store", "traffic"]),
    ("telemetry", &["domain", "config"]),
    (
        "app",
        &["domain", "store", "egress", "engine", "api", "dashboard", "config", "telemetry", "traffic", "supervisor"],
    ),
    ("cli", &["domain", "store", "egress", "engine", "api", "dashboard", "config", "telemetry", "app"]),
];

/// What the domain may not touch: it has no I/O, and is told everything that the world knows.
const OUTSIDE_OF_DOMAIN: [&str; 9] =
    ["tokio", "actix_web", "reqwest", "hickory_resolver", "metrics", "clap", "std::fs", "std::env", "std::process"];

/// The one file below the engine that asks a clock: it is the clock.
const CLOCK: &str = "src/domain/time/clock.rs";

/// A rule broken at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub file: String,
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// The module path of a file: `src/store/ingest/accept.rs` is `["store", "ingest", "accept"]`, the library's root is empty, binaries are `["main"]`.
pub fn module_of(file: &str) -> Vec<String> {
    let inner = file.strip_prefix("src/").unwrap_or(file).trim_end_matches(".rs");
    let mut segments: Vec<String> = inner.split('/').map(str::to_owned).collect();
    match segments.first().map(String::as_str) {
        Some("main" | "bin") => return vec!["main".to_owned()],
        Some("lib") if segments.len() == 1 => return Vec::new(),
        _ => {}
    }
    if segments.last().is_some_and(|last| last == "mod") {
        segments.pop();
    }
    segments
}

/// The modules that `file` declares for tests only, as module paths.
pub fn test_modules(file: &str, source: &str) -> Vec<Vec<String>> {
    let names = without_tests(&tokens(source)).1;
    names.into_iter().map(|name| [module_of(file), vec![name]].concat()).collect()
}

/// Arrows that run upward or sideways.
pub fn arrows(file: &str, source: &str) -> Vec<Violation> {
    let module = module_of(file);
    let violation = |line, what| Violation { file: file.to_owned(), line, what };
    let Some(floor) = module.first().filter(|first| *first != "main") else {
        return Vec::new(); // The roots may name everything.
    };
    let Some((_, below)) = FLOORS.iter().find(|(name, _)| name == floor) else {
        let names = FLOORS.map(|(name, _)| name).join(", ");
        return vec![violation(1, format!("`{floor}` is no floor of the house ({names}); see tests/floors/rules.rs"))];
    };
    let kept = without_tests(&tokens(source)).0;
    let refused = |path: &Path| {
        let target = resolve(&module, path)?;
        match target.first().map(String::as_str) {
            Some(to) if to == floor || below.contains(&to) => None,
            Some(to) if FLOORS.iter().any(|(name, _)| *name == to) => Some(format!(
                "`{}` leads from `{floor}` to `{to}`; {floor} may use {}",
                path.segments.join("::"),
                if below.is_empty() { "no other floor".to_owned() } else { format!("only {}", below.join(", ")) },
            )),
            Some(_) if path.call_of_macro => None,
            Some(_) => Some(format!(
                "`{}` names something at the crate's root; name it by its floor",
                path.segments.join("::")
            )),
            None => Some(
                "the crate's root is taken as a whole, which hides where the arrows lead; name the floor".to_owned(),
            ),
        }
    };
    paths(&kept).iter().filter_map(|path| Some(violation(path.line, refused(path)?))).collect()
}

/// Where a path leads, seen from the crate's root; `None` if it leads out of the crate (or nowhere).
fn resolve(module: &[String], path: &Path) -> Option<Vec<String>> {
    let first = path.segments.first()?.as_str();
    let mut place = match first {
        "crate" | "sendoff" => Vec::new(),
        "self" | "super" => [module, &path.inside].concat(),
        _ => return None,
    };
    for segment in &path.segments {
        match segment.as_str() {
            "crate" | "sendoff" | "self" => {}
            "super" => drop(place.pop()),
            name => place.push(name.to_owned()),
        }
    }
    Some(place)
}

/// I/O and clocks where there must be none: time is an argument below the engine's loops and the HTTP handlers.
pub fn purity(file: &str, source: &str) -> Vec<Violation> {
    let module = module_of(file);
    let floor = module.first().map_or("", String::as_str);
    if !matches!(floor, "domain" | "store") || file == CLOCK {
        return Vec::new();
    }
    let kept = without_tests(&tokens(source)).0;
    let mut found = Vec::new();
    for path in paths(&kept) {
        let written = path.segments.join("::");
        let outside = |name: &&&str| written == **name || written.starts_with(&format!("{name}::"));
        if let Some(name) = OUTSIDE_OF_DOMAIN.iter().find(outside).filter(|_| floor == "domain") {
            found.push((path.line, format!("`{written}`: the domain does without `{name}`")));
        }
        // A span that is measured for a metric is no decision, so the store may read the monotonic clock.
        let measured = floor == "store" && written.ends_with("Instant::now");
        if path.segments.last().is_some_and(|last| last == "now") && !measured {
            found.push((path.line, format!("`{written}` asks a clock; `{floor}` is told the time by its caller")));
        }
    }
    for three in kept.windows(3) {
        if three[0].text == "." && three[1].text == "now" && three[2].text == "(" {
            found.push((three[1].line, format!("`.now()` asks a clock; `{floor}` is told the time by its caller")));
        }
    }
    found.into_iter().map(|(line, what)| Violation { file: file.to_owned(), line, what }).collect()
}

/// Words that the house does not use (`docs/GLOSSARY.md`), as names of things that `file` declares.
pub fn words(file: &str, source: &str) -> Vec<Violation> {
    let kept = tokens(source);
    let found = declarations(&kept).into_iter().filter_map(|(kind, name, line)| {
        let words = words_of(name);
        let why = words.iter().enumerate().find_map(|(i, word)| unused_word(file, kind, &words, i, word))?;
        Some(Violation { file: file.to_owned(), line, what: format!("`{kind} {name}`: {why}") })
    });
    found.collect()
}

fn unused_word(file: &str, kind: &str, words: &[String], i: usize, word: &str) -> Option<&'static str> {
    let after_background = i > 0 && words[i - 1] == "background";
    match word {
        // A job is background work that an organization asked for.
        "job" | "jobs" if file.starts_with("src/store/jobs/") || file == "src/store/mod.rs" => None,
        "job" | "jobs" => Some("we say delivery (the unit of work) or name what it does"),
        // The REST dialect has a model of this name.
        "task" | "tasks" if file.starts_with("src/api/") || after_background => None,
        "task" | "tasks" => Some("we say delivery (the unit of work) or name what it does"),
        "destination" | "destinations" => Some("we say endpoint"),
        "manager" | "managers" => Some("name what it does: it sends, records, leases …"),
        "util" | "utils" | "helper" | "helpers" => Some("name what it is for, and put it there"),
        "process" if kind == "fn" && i == 0 && (words.len() == 1 || is_noun_of_ours(&words[1])) => {
            Some("not a verb here: accept, fan out, admit, sign, send, record, view, resend")
        }
        _ => None,
    }
}

fn is_noun_of_ours(word: &str) -> bool {
    const NOUNS: &str = "message delivery deliveries attempt event batch batches row outbox endpoint request item";
    NOUNS.split(' ').any(|noun| word == noun || word.strip_suffix('s') == Some(noun))
}

/// `retryPolicy`, `RetryPolicy`, `retry_policy` and `RETRY_POLICY` are all `retry`, `policy`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && before_is_lower) {
            words.push(String::new());
        }
        before_is_lower = letter.is_lowercase() || letter.is_numeric();
        if letter != '_' {
            words.last_mut().into_iter().for_each(|word| word.extend(letter.to_lowercase()));
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A file opens with its module doc.
pub fn opening(file: &str, source: &str) -> Option<Violation> {
    let first = source.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let doc = source.lines().nth(first).and_then(|line| line.trim_start().strip_prefix("//!"));
    let said = doc.is_some_and(|doc| !doc.trim().is_empty());
    let what = "the file does not open with a `//!` line that says what it is for".to_owned();
    (!said).then(|| Violation { file: file.to_owned(), line: first + 1, what })
}

/// Migration files of the two stores, by name: the same names, `NNNN_name.sql`, numbered 1, 2, 3 … without a gap.
pub fn migrations(sqlite: &[String], postgres: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let only = |these: &[String], those: &[String], here: &str, there: &str| -> Vec<String> {
        let missing = these.iter().filter(|name| !those.contains(name));
        missing.map(|name| format!("migrations/{here}/{name} has no sibling in migrations/{there}")).collect()
    };
    found.extend(only(sqlite, postgres, "sqlite", "postgres"));
    found.extend(only(postgres, sqlite, "postgres", "sqlite"));
    for (folder, names) in [("sqlite", sqlite), ("postgres", postgres)] {
        let mut sorted = names.to_vec();
        sorted.sort();
        if sorted.is_empty() {
            found.push(format!("migrations/{folder} is empty"));
        }
        for (i, name) in sorted.iter().enumerate() {
            let fits = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_')).is_some_and(|(number, rest)| {
                number.len() == 4
                    && number.parse() == Ok(i + 1)
                    && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            });
            if !fits {
                found.push(format!("migrations/{folder}/{name} should be {:04}_a_lower_case_name.sql", i + 1));
            }
        }
    }
    found
}
