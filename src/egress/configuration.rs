//! The system's configuration of name resolution. It is read again when its files change: a service may start before its network is up,
//! and a network may change under one that runs.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::Instant;

use super::nameservers::NameServers;

/// How often is looked whether the files have changed.
const LOOK: Duration = Duration::from_secs(1);

/// Makes what asks for names, of the files as they are.
pub type Builder = Box<dyn Fn() -> ResolverBuilder<TokioRuntimeProvider> + Send + Sync>;

/// What asks for names, as things are. Cheap to clone; clones see the same changes.
#[derive(Clone)]
pub struct Configuration(Arc<Shared>);

struct Shared {
    files: Vec<PathBuf>,
    builder: Builder,
    state: Mutex<State>,
}

struct State {
    looked: Instant,
    seen: Vec<Option<Version>>,
    read: Read,
}

/// A version of a file: when it was changed, its number, its length.
type Version = (Option<SystemTime>, u64, u64);

/// What was made of the configuration. Cheap to clone.
#[derive(Clone)]
pub struct Read {
    pub dns: TokioResolver,
    pub nameservers: NameServers,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Configuration").field(&self.0.files).finish()
    }
}

impl Configuration {
    /// What `builder` makes of `files`, now and whenever they change.
    ///
    /// # Errors
    /// What hickory makes of a configuration that it can't use.
    pub fn of(files: Vec<PathBuf>, builder: Builder) -> Result<Configuration, NetError> {
        let seen = versions(&files);
        let (names, probes) = (builder(), builder());
        let read = Read { dns: names.build()?, nameservers: NameServers::new(probes)? };
        let state = Mutex::new(State { looked: Instant::now(), seen, read });
        Ok(Configuration(Arc::new(Shared { files, builder, state })))
    }

    /// As it is at `now`, or was a second before.
    pub fn current(&self, now: Instant) -> Read {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.looked) >= LOOK {
            state.looked = now;
            let seen = versions(&self.0.files);
            if seen != state.seen {
                state.seen = seen;
                match self.read_again(&state.read) {
                    Ok(read) => state.read = read,
                    Err(error) => {
                        tracing::warn!(%error, "the new configuration of DNS can't be used, the old one stays")
                    }
                }
            }
        }
        state.read.clone()
    }

    /// What is under way, and what is known of the name servers, goes on.
    fn read_again(&self, before: &Read) -> Result<Read, NetError> {
        let (names, probes) = ((self.0.builder)(), (self.0.builder)());
        let read = Read { dns: names.build()?, nameservers: before.nameservers.asking(probes)? };
        tracing::info!("the configuration of DNS has changed and was read again");
        Ok(read)
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<Version>> {
    let version = |file: &PathBuf| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.modified().ok(), meta.ino(), meta.len()))
    };
    files.iter().map(version).collect()
}
