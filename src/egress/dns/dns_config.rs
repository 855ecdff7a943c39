//! The system's DNS configuration, reloaded when its files change: a service may start before its network is up, and a
//! network may change while it runs.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};
use tokio::time::Instant;

use super::dns_health::DnsHealth;
use super::hosts_file;

/// Interval between checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Creates a resolver builder from the current files.
pub type MakeBuilder = Box<dyn Fn() -> ResolverBuilder<TokioRuntimeProvider> + Send + Sync>;

/// The current DNS configuration. Clones are cheap and see the same reloads.
#[derive(Clone)]
pub struct DnsConfig(Arc<Inner>);

struct Inner {
    /// Watched for changes, the hosts file among them.
    files: Vec<PathBuf>,
    /// `None`: no hosts file counts.
    hosts: Option<PathBuf>,
    builder: MakeBuilder,
    state: Mutex<Snapshot>,
}

struct Snapshot {
    checked_at: Instant,
    versions: Vec<Option<FileVersion>>,
    clients: DnsClients,
}

/// A file's modification time, inode and length.
type FileVersion = (Option<SystemTime>, u64, u64);

/// The DNS clients built from one configuration. Cheap to clone.
#[derive(Clone)]
pub struct DnsClients {
    pub dns: TokioResolver,
    pub hosts: Arc<Hosts>,
    pub health: DnsHealth,
}

impl fmt::Debug for DnsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DnsConfig").field(&self.0.files).finish()
    }
}

impl DnsConfig {
    /// Builds clients with `builder` and reads the hosts file `hosts`, now and whenever it or one of `files` changes.
    ///
    /// # Errors
    /// hickory rejects the configuration.
    pub fn new(mut files: Vec<PathBuf>, hosts: Option<PathBuf>, builder: MakeBuilder) -> Result<DnsConfig, NetError> {
        files.extend(hosts.clone());
        let versions = versions(&files);
        let (lookups, probes) = (builder(), builder());
        let clients = DnsClients {
            dns: lookups.build()?,
            hosts: hosts_file::read(hosts.as_deref()),
            health: DnsHealth::new(probes)?,
        };
        let state = Mutex::new(Snapshot { checked_at: Instant::now(), versions, clients });
        Ok(DnsConfig(Arc::new(Inner { files, hosts, builder, state })))
    }

    /// The clients at `now`, from a configuration that is at most 1 s old.
    pub fn current(&self, now: Instant) -> DnsClients {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.checked_at) >= CHECK_INTERVAL {
            state.checked_at = now;
            let versions = versions(&self.0.files);
            if versions != state.versions {
                state.versions = versions;
                match self.reload(&state.clients) {
                    Ok(clients) => state.clients = clients,
                    Err(error) => {
                        tracing::warn!(%error, "the new DNS configuration is unusable; keeping the old one")
                    }
                }
            }
        }
        state.clients.clone()
    }

    /// Builds new clients. Lookups in flight and the health of the name servers carry over.
    fn reload(&self, before: &DnsClients) -> Result<DnsClients, NetError> {
        let (lookups, probes) = ((self.0.builder)(), (self.0.builder)());
        let clients = DnsClients {
            dns: lookups.build()?,
            hosts: hosts_file::read(self.0.hosts.as_deref()),
            health: before.health.with_builder(probes)?,
        };
        tracing::info!("reloaded the DNS configuration");
        Ok(clients)
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<FileVersion>> {
    let version = |file: &PathBuf| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.modified().ok(), meta.ino(), meta.len()))
    };
    files.iter().map(version).collect()
}
