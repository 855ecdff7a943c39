//! The rules about layers, clocks, names and migrations: functions from a file to its violations, so that each can be
//! shown to fail on a bad sample.

use std::fmt;

use crate::source::{Path, declarations, paths, tokens, without_tests};

/// The layers of the crate. A layer may use itself and the layers that are listed beside it.
pub const LAYERS: [(&str, &[&str]); 14] = [
    ("crash", &[]),
    ("domain", &[]),
    ("supervisor", &["domain", "crash"]),
    ("traffic", &["domain"]),
    ("egress", &["domain"]),
    ("store", &["domain", "crash", "supervisor"]),
    ("engine", &["domain", "store", "egress", "crash", "supervisor"]),
    ("service", &["domain", "store", "egress"]),
    ("api", &["domain", "store", "egress", "service", "traffic", "supervisor"]),
    ("dashboard", &["domain", "store", "egress", "service", "traffic"]),
    ("config", &["domain", "store", "egress", "traffic"]),
    ("telemetry", &["domain", "config"]),
    (
        "app",
        &["domain", "store", "egress", "engine", "api", "dashboard", "config", "telemetry", "traffic", "supervisor"],
    ),
    ("cli", &["domain", "store", "egress", "engine", "api", "dashboard", "config", "telemetry", "app"]),
];

/// The domain does no I/O: these paths are not for it.
const IO_PATHS: [&str; 9] =
    ["tokio", "actix_web", "reqwest", "hickory_resolver", "metrics", "clap", "std::fs", "std::env", "std::process"];

/// The only file below the engine that may read the system's clock.
const CLOCK: &str = "src/domain/time/clock.rs";

/// A broken rule, and where.
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

/// The module path of a file: `["store", "ingest", "accept"]` for `src/store/ingest/accept.rs`, empty for the library's
/// root, `["main"]` for binaries.
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

/// Dependencies that lead to a layer above or beside.
pub fn dependencies(file: &str, source: &str) -> Vec<Violation> {
    let module = module_of(file);
    let violation = |line, what| Violation { file: file.to_owned(), line, what };
    let Some(layer) = module.first().filter(|first| *first != "main") else {
        return Vec::new(); // The roots may name everything.
    };
    let Some((_, below)) = LAYERS.iter().find(|(name, _)| name == layer) else {
        let names = LAYERS.map(|(name, _)| name).join(", ");
        return vec![violation(1, format!("`{layer}` is not a layer ({names}); see tests/layering/rules.rs"))];
    };
    let kept = without_tests(&tokens(source)).0;
    let refused = |path: &Path| {
        let target = resolve(&module, path)?;
        match target.first().map(String::as_str) {
            Some(to) if to == layer || below.contains(&to) => None,
            Some(to) if LAYERS.iter().any(|(name, _)| *name == to) => Some(format!(
                "`{}` leads from `{layer}` to `{to}`; {layer} may use {}",
                path.segments.join("::"),
                if below.is_empty() { "no other layer".to_owned() } else { format!("only {}", below.join(", ")) },
            )),
            Some(_) if path.call_of_macro => None,
            Some(_) => Some(format!(
                "`{}` names something at the crate's root; name it by its layer",
                path.segments.join("::")
            )),
            None => Some("the crate's root as a whole hides the dependency; name the layer".to_owned()),
        }
    };
    paths(&kept).iter().filter_map(|path| Some(violation(path.line, refused(path)?))).collect()
}

/// The target of a path, seen from the crate's root; `None` outside of the crate.
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

/// I/O in the domain, and clocks below the engine: there, time is an argument.
pub fn purity(file: &str, source: &str) -> Vec<Violation> {
    let module = module_of(file);
    let layer = module.first().map_or("", String::as_str);
    if !matches!(layer, "domain" | "store") || file == CLOCK {
        return Vec::new();
    }
    let kept = without_tests(&tokens(source)).0;
    let mut found = Vec::new();
    for path in paths(&kept) {
        let written = path.segments.join("::");
        let outside = |name: &&&str| written == **name || written.starts_with(&format!("{name}::"));
        if let Some(name) = IO_PATHS.iter().find(outside).filter(|_| layer == "domain") {
            found.push((path.line, format!("`{written}`: the domain does no I/O and does not use `{name}`")));
        }
        // The store may read the monotonic clock, to measure durations for metrics.
        let measured = layer == "store" && written.ends_with("Instant::now");
        if path.segments.last().is_some_and(|last| last == "now") && !measured {
            found.push((path.line, format!("`{written}` reads a clock; in `{layer}` the time is an argument")));
        }
    }
    for three in kept.windows(3) {
        if three[0].text == "." && three[1].text == "now" && three[2].text == "(" {
            found.push((three[1].line, format!("`.now()` reads a clock; in `{layer}` the time is an argument")));
        }
    }
    found.into_iter().map(|(line, what)| Violation { file: file.to_owned(), line, what }).collect()
}

/// Declarations in `file` whose names contain a word that the project does not use (`docs/GLOSSARY.md`).
pub fn words(file: &str, source: &str) -> Vec<Violation> {
    let kept = tokens(source);
    let found = declarations(&kept).into_iter().filter_map(|(kind, name, line)| {
        let words = words_of(name);
        let why = words.iter().enumerate().find_map(|(i, word)| unused_word(file, kind, &words, i, word))?;
        Some(Violation { file: file.to_owned(), line, what: format!("`{kind} {name}`: {why}") })
    });
    found.collect()
}

/// Jobs, which the REST dialect calls tasks, are made here.
const JOBS: [&str; 3] = ["src/store/jobs/", "src/dashboard/bulk/", "src/domain/deliveries/background.rs"];

fn unused_word(file: &str, kind: &str, words: &[String], i: usize, word: &str) -> Option<&'static str> {
    let in_jobs = JOBS.iter().any(|place| file.starts_with(place));
    let after_background = i > 0 && words[i - 1] == "background";
    match word {
        // A job is background work that an organization requested.
        "job" | "jobs" if in_jobs || file == "src/store/mod.rs" => None,
        "job" | "jobs" => Some("we say delivery (the unit of work) or name what it does"),
        // The REST dialect has a model of this name.
        "task" | "tasks" if in_jobs || file.starts_with("src/api/") || after_background => None,
        "task" | "tasks" => Some("we say delivery (the unit of work) or name what it does"),
        "destination" | "destinations" => Some("we say endpoint"),
        "manager" | "managers" => Some("name what it does: it sends, records, leases …"),
        "util" | "utils" | "helper" | "helpers" => Some("name what it is for, and put it there"),
        "process" if kind == "fn" && i == 0 && (words.len() == 1 || is_domain_noun(&words[1])) => {
            Some("not a verb here: accept, fan out, admit, sign, send, record, view, resend")
        }
        _ => None,
    }
}

fn is_domain_noun(word: &str) -> bool {
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

/// A file opens with its module documentation.
pub fn opening(file: &str, source: &str) -> Option<Violation> {
    let first = source.lines().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let doc = source.lines().nth(first).and_then(|line| line.trim_start().strip_prefix("//!"));
    let said = doc.is_some_and(|doc| !doc.trim().is_empty());
    let what = "the file does not open with a `//!` line about its purpose".to_owned();
    (!said).then(|| Violation { file: file.to_owned(), line: first + 1, what })
}

/// Code blocks of doc comments that rustdoc would run: `cargo test` leaves documentation out, which saves a build.
pub fn doc_examples(file: &str, source: &str) -> Vec<Violation> {
    let (mut found, mut open) = (Vec::new(), false);
    for (i, line) in source.lines().enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("//!").or_else(|| line.strip_prefix("///"));
        if let Some(language) = doc.and_then(|doc| doc.trim().strip_prefix("```")) {
            if !open && language != "text" {
                let what = "a code block that is not `text` would need doc tests, which do not run".to_owned();
                found.push(Violation { file: file.to_owned(), line: i + 1, what });
            }
            open = !open;
        }
    }
    found
}

/// Migration files of the two stores: the same names on both, `NNNN_name.sql`, numbered 1, 2, 3 … without a gap.
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
