//! The system's limits: how many descriptors this process may open, and how many of them are for connections of callers.

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the store, the listeners, the probes' connections and the runtime need beside the engine's.
const BESIDE: u64 = 512;
/// The most connections, however many descriptors there are: each takes some 20 KiB of memory.
const MOST_CONNECTIONS: u64 = 16_384;

/// Makes room for the descriptors of `in_flight` POSTs: each takes one, and so does a connection that is kept for the next one. Raises the
/// soft limit of open files to the hard one, and says so if that is still little.
///
/// Gives how many connections of callers there may be: what is left, but at least a quarter of all.
pub fn make_room(in_flight: usize) -> usize {
    let needed = 2 * in_flight as u64 + BESIDE;
    let open = raise_open_files();
    if open < needed {
        tracing::warn!(
            open,
            needed,
            "few open files are allowed for SENDOFF_MAX_IN_FLIGHT: raise the limit (ulimit -n)"
        );
    }
    // Linux doubles a process's table of descriptors when it is full, and whoever opens one then waits for some ten milliseconds until no
    // other thread reads the old table. That would be just when receivers begin to hang, and others would notice.
    let last = i32::try_from(needed.min(open).saturating_sub(1)).unwrap_or(i32::MAX);
    if let Err(error) = fcntl_dupfd_cloexec(std::io::stderr(), last) {
        tracing::debug!(%error, "the table of open files grows when it has to");
    }
    connections(open, needed)
}

fn connections(open: u64, needed: u64) -> usize {
    let left = open.saturating_sub(needed).max(open / 4).min(MOST_CONNECTIONS);
    usize::try_from(left).unwrap_or(usize::MAX)
}

/// How many may be open afterwards.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // `None`: no limit.
    let Some(soft) = limit.current else { return u64::MAX };
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(soft, %error, "the limit of open files can't be raised");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_have_what_the_engine_leaves_and_never_all() {
        assert_eq!(connections(1_048_576, 2_560), 16_384);
        assert_eq!(connections(8_192, 2_560), 5_632);
        assert_eq!(connections(3_000, 2_560), 750);
        assert_eq!(connections(1_024, 2_560), 256);
    }
}
