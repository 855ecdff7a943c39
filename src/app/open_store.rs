//! Opens the store: keys, database, process lock and schema.
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{AppError, key_files};
use crate::api::authn::jwt::Tokens;
use crate::config::Config;
use crate::store::{Location, Store, StoreError, StoreOptions, WIDE};

/// Messages waiting to be stored before callers get 503.
const MAX_QUEUED_MESSAGES: usize = 16_384;

/// A store that is ready for use, with its keys.
pub struct OpenStore {
    pub store: Store,
    pub tokens: Tokens,
    /// The HMAC key of the dashboard's own signatures.
    pub(super) dashboard_secret: [u8; 32],
}

/// Opens the store for a process that serves it: creates missing keys, takes the lock and updates the schema.
///
/// # Errors
/// A key or database is unusable, another process serves the file, or the schema is newer than this binary.
pub async fn open(config: &Config) -> Result<OpenStore, AppError> {
    // Before keys are created beside the database.
    if let Location::Sqlite(path) = &config.store.location {
        check_folder(path)?;
        check_file(path)?;
    }
    let keys = key_files::load_or_create(&config.keys, &config.store.location)?;
    let created = keys.created_master.clone();
    let opened = connect(config, keys).await?;
    opened.store.lock()?;
    opened.store.migrate().await.map_err(|error| match (&error, created) {
        // A new key for an old database would hide that the original one is missing.
        (StoreError::Sealed(_), Some(file)) => {
            let _ = std::fs::remove_file(&file);
            AppError::Start(format!(
                "the master key {} is missing: put it back beside the database, or set SENDOFF_MASTER_KEY",
                file.display()
            ))
        }
        _ => error.into(),
    })?;
    Ok(opened)
}

/// Opens a store that another process may serve, without changing its schema.
///
/// # Errors
/// There is no database, it can't be reached, or its schema does not match this binary.
pub async fn open_existing(config: &Config) -> Result<OpenStore, AppError> {
    expect_database(&config.store.location)?;
    let opened = connect(config, key_files::load_or_create(&config.keys, &config.store.location)?).await?;
    opened.store.ready().await?;
    Ok(opened)
}

/// Fails if the SQLite file does not exist.
pub(super) fn expect_database(location: &Location) -> Result<(), AppError> {
    match location {
        Location::Sqlite(path) if !path.exists() => {
            let path = path.display();
            let why = format!("there is no database {path} yet: `sendoff serve` creates it");
            Err(AppError::Start(why))
        }
        _ => Ok(()),
    }
}

async fn connect(config: &Config, keys: key_files::Keys) -> Result<OpenStore, AppError> {
    // Not derived from the token key, which may be public.
    let dashboard_secret = keys.master.derived(b"sendoff dashboard");
    let options = StoreOptions {
        location: config.store.location.clone(),
        master: keys.master,
        max_payload: config.store.max_payload,
        queue: MAX_QUEUED_MESSAGES,
        wide: WIDE,
    };
    let store = Store::open_with(options, config.store.tuning).await?;
    store.limit_endpoints(config.store.max_endpoints);
    let tokens = Tokens::with_key(&keys.tokens, config.keys.other_tokens.as_ref().map(|secret| &secret[..]));
    Ok(OpenStore { store, tokens, dashboard_secret })
}

/// Replaces SQLite's "unable to open database file", which does not say that the folder is missing.
fn check_folder(file: &Path) -> Result<(), AppError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(AppError::Start(format!(
            "there is no folder {} for the database (SENDOFF_DATABASE_URL): create it first",
            folder.display()
        ))),
        None => Ok(()),
    }
}

/// Refuses a file that is not an SQLite database, so no keys are created beside it.
fn check_file(file: &Path) -> Result<(), AppError> {
    const HEADER: &[u8] = b"SQLite format 3\0";
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEADER.len() as u64).read_to_end(&mut head));
    match read {
        // Missing or unreadable: opening it gives a better error.
        Err(_) => Ok(()),
        // SQLite creates an empty file before it writes.
        Ok(_) if head.is_empty() || head == HEADER => Ok(()),
        Ok(_) => Err(AppError::Start(format!(
            "{} is not an SQLite database (SENDOFF_DATABASE_URL): choose another file or move this one",
            file.display()
        ))),
    }
}
