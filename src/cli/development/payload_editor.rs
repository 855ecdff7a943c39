//! Opens a payload in the user's editor and checks the result.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cli::{CliError, print_stderr};

/// The editor if neither `VISUAL` nor `EDITOR` is set.
const DEFAULT_EDITOR: &str = "vi";
/// Maximum bytes of an edited payload: the largest `SENDOFF_MAX_PAYLOAD`.
const MAX_BYTES: u64 = 16 << 20;

/// Opens `payload` in the editor until the text is JSON, and returns it byte for byte. The user gives up by leaving the
/// text unchanged or empty.
///
/// # Errors
/// The editor could not be run or failed, or the user gave up.
pub(super) fn edit(payload: &Value) -> Result<Box<RawValue>, CliError> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| DEFAULT_EDITOR.to_owned());
    edit_with(payload, |file| run_editor(&editor, file))
}

fn edit_with(
    payload: &Value,
    mut open: impl FnMut(&PayloadFile) -> Result<(), CliError>,
) -> Result<Box<RawValue>, CliError> {
    let mut file = PayloadFile::create(&format!("{payload:#}\n"))?;
    let mut last = None;
    loop {
        open(&file)?;
        let text = file.read()?;
        if text.trim().is_empty() {
            return Err(CliError::Failed("the edited payload is empty: nothing was sent".to_owned()));
        }
        let why = match serde_json::from_str::<Box<RawValue>>(text.trim()) {
            Ok(payload) => return Ok(payload),
            Err(error) => format!("the edited payload is not valid JSON: {error}"),
        };
        if last.as_ref() == Some(&text) {
            file.kept = true;
            return Err(CliError::Failed(format!(
                "{why}; nothing was sent, and the text is in {}",
                file.path.display()
            )));
        }
        print_stderr(&format!("{why}; edit it again, or leave it unchanged to give up"));
        last = Some(text);
    }
}

/// Runs the editor through a shell, because its setting may contain arguments.
fn run_editor(editor: &str, file: &PayloadFile) -> Result<(), CliError> {
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(&file.path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError::Failed(format!("the editor {editor} failed ({status}): set VISUAL or EDITOR"))),
        Err(error) => Err(CliError::Failed(format!("can't run the editor {editor} ({error}): set VISUAL or EDITOR"))),
    }
}

/// A file that only the user can read, deleted on drop.
struct PayloadFile {
    path: PathBuf,
    kept: bool,
}

impl PayloadFile {
    fn create(text: &str) -> Result<PayloadFile, CliError> {
        let path = std::env::temp_dir().join(format!("sendoff-{}.json", Uuid::now_v7()));
        let failed = |error| CliError::Failed(format!("can't write {}: {error}", path.display()));
        let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut made = made.map_err(failed)?;
        let file = PayloadFile { path: path.clone(), kept: false };
        made.write_all(text.as_bytes()).map_err(failed)?;
        Ok(file)
    }

    fn read(&self) -> Result<String, CliError> {
        let failed = |why: String| CliError::Failed(format!("can't read {}: {why}", self.path.display()));
        let mut text = String::new();
        match std::fs::File::open(&self.path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text)) {
            Ok(_) if text.len() as u64 > MAX_BYTES => Err(failed(format!("it has more than {MAX_BYTES} bytes"))),
            Ok(_) => Ok(text),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(failed("it is not UTF-8".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

impl Drop for PayloadFile {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: an editor may have deleted it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Edits a payload with an editor that writes the next of `texts` each time it is opened. Also returns whether the
    /// file still exists.
    fn edited(texts: &[&str]) -> (Result<String, String>, bool) {
        let (mut texts, mut path) = (texts.iter(), PathBuf::new());
        let payload = edit_with(&json!({"a": 1}), |file| {
            path.clone_from(&file.path);
            std::fs::write(&file.path, texts.next().expect("opened too often")).unwrap();
            Ok(())
        });
        let left = path.exists();
        let _ = std::fs::remove_file(path);
        (payload.map(|payload| payload.get().to_owned()).map_err(|error| error.to_string()), left)
    }

    #[test]
    fn the_text_is_opened_until_it_is_json_or_the_user_gives_up() {
        assert_eq!(edited(&["{\"a\":  1.50}\n"]), (Ok("{\"a\":  1.50}".to_owned()), false));
        assert_eq!(edited(&["{", "{}"]), (Ok("{}".to_owned()), false));
        let (given_up, left) = edited(&["{", "{\"a\"", "{\"a\""]);
        let why = given_up.unwrap_err();
        assert!(left && why.contains("not valid JSON") && why.contains("the text is in"), "{why}");
        let (nothing, left) = edited(&[" \n"]);
        assert!(!left && nothing.unwrap_err().contains("nothing was sent"));
    }
}
