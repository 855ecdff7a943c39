//! The rules for `src`: dependencies between layers, purity, sizes, documentation, names, prose; and the same migrations
//! for both stores.
//!
//! The layers: `domain` ← `store` ← {`engine`, `api`, `dashboard`} ← `app` ← `cli`, `main`; `egress` uses `domain` only.
//! [`rules`], [`shape`] and [`prose`] contain the rules, [`exceptions`] the places that are excepted, [`source`] a small
//! reader of Rust. [`samples`] shows that each rule fails on bad code.

mod exceptions;
mod prose;
mod rules;
mod samples;
mod shape;
mod source;
#[path = "../support/sources.rs"]
mod texts;

use std::fs;
use std::path::Path;

use exceptions::{FILE_NAMES, FOLDERS, LONG_FILES, PROSE, TYPES};
use rules::Violation;

/// A source file: its path from the repository's root, and its text.
type File = (String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All `.rs` files under `src/`, sorted.
fn sources() -> Vec<File> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let name = path.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/");
                found.push((name, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 1, "found no sources under {}/src", root().display());
    found
}

/// The sources without the files that only tests compile.
fn sources_for_production() -> Vec<File> {
    let all = sources();
    let tests: Vec<Vec<String>> = all.iter().flat_map(|(file, text)| rules::test_modules(file, text)).collect();
    let is_test = |file: &str| tests.iter().any(|module| rules::module_of(file).starts_with(module));
    all.into_iter().filter(|(file, _)| !is_test(file)).collect()
}

fn assert_none(violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} violation(s):\n{}", list.len(), list.join("\n"));
}

/// No violations but in the files `excepted`, and some in each of these.
fn assert_none_but(violations: Vec<Violation>, excepted: &[&str]) {
    let (known, new): (Vec<_>, Vec<_>) = violations.into_iter().partition(|one| excepted.contains(&&*one.file));
    assert_none(&new);
    assert_none(&shape::against(&known.iter().map(|one| &*one.file).collect(), excepted, ""));
}

fn check(files: &[File], rule: impl Fn(&str, &str) -> Vec<Violation>) {
    assert_none(&files.iter().flat_map(|(file, text)| rule(file, text)).collect::<Vec<_>>());
}

#[test]
fn dependencies_lead_to_lower_layers() {
    check(&sources_for_production(), rules::dependencies);
}

#[test]
fn time_is_an_argument_and_the_domain_does_no_io() {
    check(&sources_for_production(), rules::purity);
}

#[test]
fn every_file_opens_with_its_documentation() {
    check(&sources(), |file, text| rules::opening(file, text).into_iter().collect());
}

#[test]
fn declarations_use_the_words_of_the_glossary() {
    check(&sources(), rules::words);
}

#[test]
fn documentation_contains_no_code_to_run() {
    check(&sources(), rules::doc_examples);
}

#[test]
fn folders_have_at_most_fifteen_files() {
    assert_none(&shape::folder_sizes(&sources()));
}

#[test]
fn every_folder_documents_its_invariants() {
    let found: Vec<_> = sources().iter().filter_map(|(file, text)| shape::invariants(file, text)).collect();
    assert_none_but(found, &FOLDERS);
}

#[test]
fn files_have_at_most_400_lines() {
    assert_none(&shape::file_sizes(&sources(), &LONG_FILES));
}

#[test]
fn a_type_name_has_one_meaning() {
    assert_none(&shape::type_names(&sources_for_production(), &TYPES));
}

#[test]
fn a_file_name_has_one_meaning() {
    assert_none(&shape::file_names(&sources(), &FILE_NAMES));
}

#[test]
fn comments_are_in_plain_words() {
    let found: Vec<Violation> = sources().iter().flat_map(|(file, text)| prose::prose(file, text)).collect();
    assert_none_but(found, &PROSE);
}

#[test]
fn both_stores_have_the_same_migrations() {
    let names = |folder: &str| -> Vec<String> {
        let path = root().join("migrations").join(folder);
        let entries = fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let found = rules::migrations(&names("sqlite"), &names("postgres"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).expect("a page");
    let sources = ["tests", "src"].map(texts::texts).concat();
    let named = page.split('`').skip(1).step_by(2).filter(|name| name.len() >= 20 && name.contains('_'));
    let named: Vec<&str> =
        named.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b"_0123456789".contains(&b))).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<&str> = named.into_iter().filter(|name| !sources.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "docs/threat-model.md names tests that do not exist: {missing:?}");
}
