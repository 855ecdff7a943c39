//! The two keys of an installation, from settings or, with SQLite, from files beside the database that the first start
//! creates. A key file has mode 0600, is created atomically and is never overwritten.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::AppError;
use crate::config::{self, ConfigError, KeyConfig};
use crate::domain::access::token_key::TokenKey;
use crate::domain::signing::master_key::MasterKey;
use crate::store::Location;

/// Both keys.
pub struct Keys {
    pub tokens: TokenKey,
    pub master: MasterKey,
    /// The master key's file, if this start created it.
    pub created_master: Option<PathBuf>,
}

/// Returns the token key without creating one: a token under a new secret would be useless.
///
/// # Errors
/// There is no database yet, or no secret for it.
pub fn existing_token_key(config: &KeyConfig, location: &Location) -> Result<TokenKey, AppError> {
    if config.tokens.is_none() {
        super::open_store::expect_database(location)?;
    }
    token_key(config, location)
}

/// Returns the token key, creating a missing secret.
///
/// # Errors
/// The key file can't be read or written, or is invalid.
fn token_key(config: &KeyConfig, location: &Location) -> Result<TokenKey, AppError> {
    if let Some(key) = &config.tokens {
        return Ok(key.clone());
    }
    let path = key_file(location, "jwt-secret").ok_or_else(|| missing("SENDOFF_JWT_SECRET"))?;
    let (text, _) = read_or_create(&path, random_text)?;
    let secret = config::jwt_secret(&text).map_err(|what| invalid(&path, &what))?;
    Ok(TokenKey::Shared(config.algorithm, secret))
}

/// Returns both keys, creating missing ones.
///
/// # Errors
/// As for [`token_key`], for either key.
pub fn load_or_create(config: &KeyConfig, location: &Location) -> Result<Keys, AppError> {
    let tokens = token_key(config, location)?;
    if let Some(master) = &config.master {
        return Ok(Keys { tokens, master: with_other(master.clone(), config), created_master: None });
    }
    let path = key_file(location, "master-key").ok_or_else(|| missing("SENDOFF_MASTER_KEY"))?;
    let (text, made) = read_or_create(&path, || MasterKey::generate().text())?;
    let master = config::master_key(&text).map_err(|what| invalid(&path, &what))?;
    Ok(Keys { tokens, master: with_other(master, config), created_master: made.then_some(path) })
}

/// Adds the second master key, if configured.
fn with_other(master: MasterKey, config: &KeyConfig) -> MasterKey {
    match &config.other {
        Some(other) => master.with_other(other),
        None => master,
    }
}

fn random_text() -> Zeroizing<String> {
    // A master key is 32 random bytes in base64, which also suits a token secret.
    MasterKey::generate().text()
}

fn missing(variable: &str) -> AppError {
    AppError::Setting(ConfigError(format!("{variable} is missing: PostgreSQL needs it, the same for every process")))
}

fn invalid(path: &Path, what: &str) -> AppError {
    AppError::Start(format!("the key file {} {what}: restore the original file", path.display()))
}

/// The path of a key file, such as `sendoff.db.master-key`.
fn key_file(location: &Location, name: &str) -> Option<PathBuf> {
    let Location::Sqlite(path) = location else { return None };
    let mut file = OsString::from(path);
    file.push(".");
    file.push(name);
    Some(file.into())
}

/// The file's text, and whether this call created it.
fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> Zeroizing<String>,
) -> Result<(Zeroizing<String>, bool), AppError> {
    let failed = |does: &str, error: io::Error| {
        AppError::Start(format!("can't {does} the key file {}: {error}", path.display()))
    };
    let read = || fs::read_to_string(path).map(|text| Zeroizing::new(text.trim().to_owned()));
    let (text, made) = match read() {
        Ok(text) => (text, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = create(path, &make()).map_err(|error| failed("create", error))?;
            (read().map_err(|error| failed("read", error))?, made)
        }
        Err(error) => return Err(failed("read", error)),
    };
    let mode = fs::metadata(path).map(|meta| meta.permissions().mode() & 0o777).unwrap_or(0);
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "other users can read this key: chmod 600");
    }
    Ok((text, made))
}

/// Creates a file at `path` atomically unless it exists. Returns whether this call created it.
fn create(path: &Path, text: &str) -> io::Result<bool> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Created with mode 0600, and removed if it is not persisted.
    let mut draft = tempfile::Builder::new().prefix(".sendoff-key-").tempfile_in(folder)?;
    draft.write_all(text.as_bytes()).and_then(|()| draft.write_all(b"\n")).and_then(|()| draft.as_file().sync_all())?;
    // Never overwrites, so two concurrent first starts share one key.
    match draft.persist_noclobber(path) {
        Ok(_) => {
            // The directory entry must survive a power failure, like the data encrypted under the key.
            File::open(folder).and_then(|folder| folder.sync_all())?;
            Ok(true)
        }
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(failed.error),
    }
}
