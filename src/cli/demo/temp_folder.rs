//! The demo's temporary folder: randomly named, private to its owner, removed on drop.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub(super) struct TempFolder(PathBuf);

impl TempFolder {
    pub(super) fn new() -> io::Result<TempFolder> {
        let path = std::env::temp_dir().join(format!("sendoff-demo-{:016x}", rand::random::<u64>()));
        // Fails if the path exists, so nobody else can own it.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(TempFolder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the demo's folder could not be removed");
        }
    }
}
