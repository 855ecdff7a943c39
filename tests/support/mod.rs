//! What the suite stands on: a PostgreSQL of its own, SQLite files, the real binary as a child, a receiver that records
//! what arrives, the API's route table, and waiting for a condition in place of sleeping.
//!
//! Used with `mod support;` from a test file. Each of those is a binary of its own and uses a part of this.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod backlog;
pub mod build;
pub mod database;
pub mod delivery_writes;
pub mod kind;
pub mod mail_server;
pub mod name_server;
pub mod own_process;
pub mod pages;
pub mod postgres;
pub mod receiver;
pub mod routes;
pub mod server;
pub mod sources;

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use database::{Database, Template};
pub use kind::Kind;
pub(crate) use kind::{on_both, on_both_alone};
pub use mail_server::{MailServer, Manner, Taken};
pub(crate) use own_process::alone;
pub use postgres::{Durability, Postgres};
pub use receiver::{Answer, Received, Receiver};
pub use server::{Binary, Finished, Prints, Server, complaint};

/// How long a test waits for what should happen soon. Long, since only a failing test waits it out.
pub const SOON: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A SQLite database that goes when this is dropped. The file does not exist yet: the store makes it.
pub struct SqliteFile {
    folder: TempDir,
}

impl SqliteFile {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("sendoff.db")
    }

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
}

/// A place for a new SQLite database, alone in its folder.
pub fn sqlite_file() -> SqliteFile {
    SqliteFile { folder: TempDir::with_prefix("sendoff-sqlite-").expect("a temporary folder") }
}

/// Waits until `condition` gives something, and gives that. Panics with `what` when `within` is over.
pub async fn eventually<T>(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same where there is no runtime.
pub fn eventually_blocking<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// A loopback port that was free a moment ago, never the same twice in this test binary.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let given = given.get_or_insert_default();
    loop {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        if given.insert(port) {
            return port;
        }
    }
}

/// The Python that has the packages of `tests/python/requirements.txt`; `make test` and `make venv` make it.
pub fn python() -> PathBuf {
    python_in("SENDOFF_TEST_PYTHON", "target/venv/bin/python")
}

/// The same with those of `requirements-svix-1.txt`.
pub fn python_svix_1() -> PathBuf {
    python_in("SENDOFF_TEST_PYTHON_SVIX_1", "target/venv-svix-1/bin/python")
}

fn python_in(variable: &str, default: &str) -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(default);
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    assert!(path.exists(), "{} is missing: run `make venv` (or the whole suite with `make test`)", path.display());
    path
}

/// Where the packages of `tests/javascript/package.json` are installed; `make test` and `make npm` do it.
pub fn npm() -> PathBuf {
    npm_in("SENDOFF_TEST_NPM", "target/npm")
}

/// The same for those of `tests/javascript/svix-1/package.json`.
pub fn npm_svix_1() -> PathBuf {
    npm_in("SENDOFF_TEST_NPM_SVIX_1", "target/npm-svix-1")
}

fn npm_in(variable: &str, default: &str) -> PathBuf {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(default);
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    let packages = path.join("node_modules");
    assert!(
        packages.exists(),
        "{} is missing: run `make npm` (or the whole suite with `make test`)",
        packages.display()
    );
    path
}
