//! Runs a check on the inputs of a corpus, then on generated ones. Compiled for tests only; CONTRIBUTING.md describes
//! long runs and corpora.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rustix::time::{ClockId, clock_gettime};

/// CPU minutes of a long run, per target.
const MINUTES: &str = "SENDOFF_TEST_FUZZ_MINUTES";
/// Values that are tried with each text of a corpus.
const VALUES_PER_TEXT: usize = 8;
/// Cases between two checks of the CPU time.
const BATCH: u32 = 1_000;
/// Maximum inputs that a long run adds to a corpus.
const MAX_FOUND: usize = 40;

/// The behaviors that an input showed, such as each error message without its figures. An input with new behavior is
/// worth keeping.
pub type Behaviors = Result<Vec<String>, TestCaseError>;

/// Runs `check` on each text in `tests/corpora/<target>`, then on generated ones: as many as proptest is configured to,
/// or for some minutes of CPU time. Inputs with new behavior are then added to the corpus.
///
/// # Panics
/// An input fails the check, or the corpus is empty or malformed.
pub fn fuzz<T: Debug>(
    target: &str,
    texts: impl Strategy<Value = String>,
    values: impl Strategy<Value = T>,
    check: impl Fn(&str, &T) -> Behaviors,
) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(target);
    let mut known = BTreeSet::new();
    let mut runner = TestRunner::deterministic();
    for text in corpus(&folder) {
        for _ in 0..VALUES_PER_TEXT {
            let value = values.new_tree(&mut runner).expect("a value").current();
            let behaviors = check(&text, &value);
            known.extend(behaviors.unwrap_or_else(|error| panic!("{target}: {text:?} with {value:?}: {error}")));
        }
    }
    let minutes: Option<u64> = std::env::var(MINUTES).ok().map(|text| text.parse().expect("a number of minutes"));
    let (cases, found) = (Cell::new(0_u64), RefCell::new(BTreeMap::<String, String>::new()));
    let (begun, inputs) = (cpu_time(), (texts, values));
    let config = Config { failure_persistence: None, ..Config::default() };
    let config = if minutes.is_some() { Config { cases: BATCH, ..config } } else { config };
    loop {
        // A runner stops after its number of cases, so each round needs a new one.
        let run = TestRunner::new(config.clone()).run(&inputs, |(text, value)| {
            cases.set(cases.get() + 1);
            for behavior in check(&text, &value)?.into_iter().filter(|behavior| !known.contains(behavior)) {
                found.borrow_mut().entry(behavior).or_insert_with(|| text.clone());
            }
            Ok(())
        });
        run.unwrap_or_else(|error| panic!("{target}: {error}"));
        let spent = cpu_time().saturating_sub(begun);
        let Some(minutes) = minutes else { return };
        if spent >= Duration::from_secs(minutes * 60) {
            let new: BTreeSet<String> = found.take().into_values().take(MAX_FOUND).collect();
            println!("{target}: {} cases in {spent:.1?} of CPU time, {} new inputs", cases.get(), new.len());
            keep(&folder.join("found.txt"), &new);
            return;
        }
    }
}

/// The words of a message without figures, names and values.
pub fn words(message: &str) -> String {
    let word = |word: &&str| word.trim_matches([',', ':', '.', ';']).bytes().all(|b| b.is_ascii_alphabetic());
    message.split_whitespace().filter(word).collect::<Vec<_>>().join(" ")
}

/// The texts of all files: a line is a text in JSON's notation, or begins with `#`.
fn corpus(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let lines = fs::read_to_string(&file).expect("a corpus is text");
        for line in lines.lines().filter(|line| !line.starts_with('#')) {
            let text = serde_json::from_str(line);
            texts.push(text.unwrap_or_else(|error| panic!("{}: {line}: {error}", file.display())));
        }
    }
    assert!(!texts.is_empty(), "{} has no texts", folder.display());
    texts
}

/// Adds texts to a file.
fn keep(file: &Path, new: &BTreeSet<String>) {
    let mut lines = fs::read_to_string(file).unwrap_or_default();
    for text in new {
        writeln!(lines, "{}", escaped(text)).expect("a String takes all");
    }
    if !new.is_empty() {
        fs::write(file, lines).expect("the corpus can be written");
    }
}

/// A JSON string in ASCII, so no editor hides or changes a character.
fn escaped(text: &str) -> String {
    let json = serde_json::to_string(text).expect("text is JSON");
    let mut line = String::new();
    for c in json.chars() {
        if c.is_ascii_graphic() || c == ' ' {
            line.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(line, "\\u{unit:04x}").expect("a String takes all");
            }
        }
    }
    line
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[test]
fn a_corpus_keeps_every_character() {
    let text = "a\"\\\u{0}\u{7f}\u{85}\u{202e}é💩\r\n";
    assert!(escaped(text).is_ascii());
    assert_eq!(serde_json::from_str::<String>(&escaped(text)).unwrap(), text);
    assert_eq!(words("expected `,` or `}` at line 1 column 12"), "expected or at line column");
}
