//! The project's own sources, for the tests that hold the suite against them.

use std::fs;
use std::path::{Path, PathBuf};

/// The text of all files under `folder` of the project, those of its subfolders too.
///
/// # Panics
/// A file or folder cannot be read.
pub fn texts(folder: &str) -> String {
    texts_without(folder, "")
}

/// The same without the subfolders of the name `excluded`.
pub fn texts_without(folder: &str, excluded: &str) -> String {
    let (mut text, mut folders) = (String::new(), vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true if path.ends_with(excluded) && !excluded.is_empty() => {}
                true => folders.push(path),
                false => text.push_str(&read(&path)),
            }
        }
    }
    text
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
