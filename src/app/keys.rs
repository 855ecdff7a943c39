//! The two keys of an installation: given as settings, or, with SQLite, in files beside the database that are made on the first
//! start. A key file has mode 0600, appears whole or not at all, and is never overwritten.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::AppError;
use crate::config::{self, ConfigError, KeyConfig};
use crate::domain::access::token_key::TokenKey;
use crate::domain::signing::secret::MasterKey;
use crate::store::Location;

/// The keys, and what there is to say about where they come from.
pub struct Keys {
    pub tokens: TokenKey,
    pub master: MasterKey,
    /// The master key's file, if this start made it.
    pub made_master: Option<PathBuf>,
}

/// Gives what tokens are signed or verified with, without making it: a token under a new secret would be good for nothing.
///
/// # Errors
/// There is no database yet, or no such secret for it.
pub fn known_token_key(config: &KeyConfig, location: &Location) -> Result<TokenKey, AppError> {
    if config.tokens.is_none() {
        super::expect_database(location)?;
    }
    token_key(config, location)
}

/// Gives what tokens are signed or verified with; a secret that is nowhere is made.
///
/// # Errors
/// A key file that can't be read or written, or holds no such secret.
fn token_key(config: &KeyConfig, location: &Location) -> Result<TokenKey, AppError> {
    if let Some(key) = &config.tokens {
        return Ok(key.clone());
    }
    let path = beside(location, "jwt-secret").ok_or_else(|| missing("SENDOFF_JWT_SECRET"))?;
    let (text, _) = read_or_make(&path, random_text)?;
    let secret = config::jwt_secret(&text).map_err(|what| unreadable(&path, &what))?;
    Ok(TokenKey::Shared(config.algorithm, secret))
}

/// Gives both keys; what is nowhere is made.
///
/// # Errors
/// As [`token_key`], for either.
pub fn keys(config: &KeyConfig, location: &Location) -> Result<Keys, AppError> {
    let tokens = token_key(config, location)?;
    if let Some(master) = &config.master {
        return Ok(Keys { tokens, master: both(master.clone(), config), made_master: None });
    }
    let path = beside(location, "master-key").ok_or_else(|| missing("SENDOFF_MASTER_KEY"))?;
    let (text, made) = read_or_make(&path, || MasterKey::generate().text())?;
    let master = config::master_key(&text).map_err(|what| unreadable(&path, &what))?;
    Ok(Keys { tokens, master: both(master, config), made_master: made.then_some(path) })
}

/// The master key, with the other one if there is one.
fn both(master: MasterKey, config: &KeyConfig) -> MasterKey {
    match &config.other {
        Some(other) => master.with_other(other),
        None => master,
    }
}

fn random_text() -> Zeroizing<String> {
    // 32 random bytes in base64, as a master key is: no second source of randomness.
    MasterKey::generate().text()
}

fn missing(variable: &str) -> AppError {
    AppError::Setting(ConfigError(format!("{variable} is missing: with PostgreSQL it has to be given")))
}

fn unreadable(path: &Path, what: &str) -> AppError {
    AppError::Start(format!("the key file {} {what}: put back the one that was there", path.display()))
}

/// `sendoff.db.master-key` for `sendoff.db`.
fn beside(location: &Location, name: &str) -> Option<PathBuf> {
    let Location::Sqlite(path) = location else { return None };
    let mut file = OsString::from(path);
    file.push(".");
    file.push(name);
    Some(file.into())
}

/// What is in the file, and whether it was made just now.
fn read_or_make(path: &Path, make: impl FnOnce() -> Zeroizing<String>) -> Result<(Zeroizing<String>, bool), AppError> {
    let failed = |does: &str, error: io::Error| {
        AppError::Start(format!("can't {does} the key file {}: {error}", path.display()))
    };
    let read = || fs::read_to_string(path).map(|text| Zeroizing::new(text.trim().to_owned()));
    let (text, made) = match read() {
        Ok(text) => (text, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = place(path, &make()).map_err(|error| failed("make", error))?;
            (read().map_err(|error| failed("read", error))?, made)
        }
        Err(error) => return Err(failed("read", error)),
    };
    let mode = fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777).unwrap_or(0);
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others may read this key: chmod 600");
    }
    Ok((text, made))
}

/// Writes `text` to a new file at `path`: whole or not at all, and not if there is one. Gives whether it was this call that did.
fn place(path: &Path, text: &str) -> io::Result<bool> {
    let mut draft = OsString::from(path);
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all())?;
    // A link, unlike a rename, fails where there is a file already: two first starts at once end up with one key.
    let linked = fs::hard_link(&draft, path);
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => {
            // The name has to outlive a power cut, as what is sealed under the key does.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all())?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
