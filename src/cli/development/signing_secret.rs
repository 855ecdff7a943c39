//! The signing secret of `listen`, created once in a file that only the user can read, so a receiver's configuration
//! stays valid.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::CliError;
use crate::domain::signing::secret::{Secret, SignatureType};

/// Path below the user's configuration directory.
const FILE: &str = "sendoff/development-secret";

/// Returns the stored secret, or creates one.
pub(super) fn load_or_create() -> Result<Secret, CliError> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    match folder {
        Some(folder) => load_or_create_at(&folder.join(FILE)),
        None => Err(CliError::Usage(
            "HOME is not set, so the signing secret can't be stored: pass one with --secret".into(),
        )),
    }
}

fn load_or_create_at(file: &Path) -> Result<Secret, CliError> {
    let failed = |error: std::io::Error| {
        let file = file.display();
        CliError::Failed(format!("can't store the signing secret in {file} ({error}): pass one with --secret"))
    };
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let secret = Secret::generate(SignatureType::Hmac256);
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            writeln!(made, "{}", *secret.text()).and_then(|()| made.sync_all()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut text = zeroize::Zeroizing::new(String::new());
            // A secret has at most 128 bytes.
            std::fs::File::open(file).and_then(|file| file.take(256).read_to_string(&mut text)).map_err(failed)?;
            Secret::parse("the signing secret", text.trim()).map_err(|wrong| {
                CliError::Failed(format!("{}: {wrong}; remove the file to get a new one", file.display()))
            })
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_created_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("secret");
        let first = load_or_create_at(&file).unwrap();
        assert_eq!(load_or_create_at(&file).unwrap().text(), first.text());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "nonsense").unwrap();
        let refused = load_or_create_at(&file).unwrap_err().to_string();
        assert!(refused.contains("remove the file") && !refused.contains("nonsense"), "{refused}");
    }
}
