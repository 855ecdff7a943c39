//! The rules about the shape of `src`: sizes of folders and files, the documentation of folders, one meaning per name.

use std::collections::{BTreeMap, BTreeSet};

use crate::File;
use crate::exceptions::CONVENTIONAL_TYPES;
use crate::rules::{Violation, module_of};
use crate::source::{tokens, types, without_tests};

/// A folder has at most this many files, besides its `mod.rs`.
const FILES: usize = 15;
/// A file has at most this many lines.
const LINES: usize = 400;
/// The documentation of a folder has at least this many lines.
const DOC_LINES: usize = 3;

/// The folder and the name of a file.
fn split(file: &str) -> (&str, &str) {
    file.rsplit_once('/').unwrap_or(("", file))
}

fn at_top(file: &str, what: String) -> Violation {
    Violation { file: file.to_owned(), line: 1, what }
}

/// Folders with more than [`FILES`] files.
pub fn folder_sizes(files: &[File]) -> Vec<Violation> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (folder, name) in files.iter().map(|(file, _)| split(file)) {
        *counts.entry(folder).or_default() += usize::from(name != "mod.rs");
    }
    let large = counts.into_iter().filter(|(_, count)| *count > FILES);
    large.map(|(folder, count)| at_top(folder, format!("{count} files; a folder has at most {FILES}"))).collect()
}

/// Files with more than [`LINES`] lines, and exceptions that are no longer needed.
pub fn file_sizes(files: &[File], excepted: &[&str]) -> Vec<Violation> {
    let long = files.iter().filter(|(_, text)| text.lines().count() > LINES).map(|(file, _)| file.as_str());
    against(&long.collect(), excepted, &format!("more than {LINES} lines"))
}

/// A `mod.rs` opens with at least [`DOC_LINES`] lines of documentation that name the folder's invariants.
pub fn invariants(file: &str, source: &str) -> Option<Violation> {
    let (folder, name) = split(file);
    if name != "mod.rs" || folder.ends_with("/tests") {
        return None;
    }
    let doc: Vec<&str> = source.lines().take_while(|line| line.starts_with("//!")).collect();
    let named = doc.iter().any(|line| line.contains("Invariant"));
    let what = format!("the documentation of a folder has at least {DOC_LINES} lines and a paragraph \"Invariants\"");
    (doc.len() < DOC_LINES || !named).then(|| at_top(file, what))
}

/// Type names that several modules declare. Code for tests does not count.
pub fn type_names(files: &[File], excepted: &[&str]) -> Vec<Violation> {
    let mut places = BTreeMap::<String, BTreeSet<&str>>::new();
    for (file, text) in files {
        let production = without_tests(&tokens(text)).0;
        for (name, _) in types(&production) {
            places.entry(name.to_owned()).or_default().insert(file);
        }
    }
    places.retain(|name, files| files.len() > 1 && !CONVENTIONAL_TYPES.contains(&name.as_str()));
    several(&places, excepted)
}

/// File names that stand in several folders.
pub fn file_names(files: &[File], excepted: &[&str]) -> Vec<Violation> {
    let mut places = BTreeMap::<String, BTreeSet<&str>>::new();
    for (file, _) in files.iter().filter(|(file, _)| !module_of(file).contains(&"tests".to_owned())) {
        places.entry(split(file).1.to_owned()).or_default().insert(split(file).0);
    }
    places.retain(|name, folders| folders.len() > 1 && name != "mod.rs");
    several(&places, excepted)
}

/// Compares the names that have several places with the list of exceptions.
fn several(places: &BTreeMap<String, BTreeSet<&str>>, excepted: &[&str]) -> Vec<Violation> {
    let found: BTreeSet<&str> = places.keys().map(String::as_str).collect();
    let describe = |mut violation: Violation| {
        if let Some(places) = places.get(&violation.file) {
            let places: Vec<&str> = places.iter().copied().collect();
            violation.what = format!("{}: {}", violation.what, places.join(", "));
        }
        violation
    };
    against(&found, excepted, "stands for several things").into_iter().map(describe).collect()
}

/// What was found and is not excepted, and exceptions that were not found.
pub fn against(found: &BTreeSet<&str>, excepted: &[&str], what: &str) -> Vec<Violation> {
    let new = found.iter().filter(|name| !excepted.contains(name)).map(|name| at_top(name, what.to_owned()));
    let stale = excepted.iter().filter(|name| !found.contains(*name));
    let stale = stale
        .map(|name| at_top(name, "is no exception any more; remove it from tests/layering/exceptions.rs".to_owned()));
    new.chain(stale).collect()
}
