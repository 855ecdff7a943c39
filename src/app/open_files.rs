//! The limit of open files, and the share of the descriptors for client connections.

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of the store, the listeners, the probes' connections and the runtime.
const OTHER_FILES: u64 = 512;
/// Maximum client connections, at about 20 KiB of memory each.
const MAX_CONNECTIONS: u64 = 16_384;

/// Raises the soft limit of open files to the hard limit, and warns if it is too low for `in_flight` requests. Each
/// takes two descriptors: its connection, and an idle connection of an earlier request.
///
/// Returns the number of allowed client connections: the remaining descriptors, but at least a quarter of all.
pub fn raise_limit(in_flight: usize) -> usize {
    let needed = 2 * in_flight as u64 + OTHER_FILES;
    let open = raise_soft_limit();
    if open < needed {
        tracing::warn!(
            open,
            needed,
            "the limit of open files is too low for SENDOFF_MAX_IN_FLIGHT: raise it (ulimit -n)"
        );
    }
    let connections = connections(open, needed);
    // Grows the descriptor table in advance. Linux doubles a full table, which blocks the threads that open a
    // descriptor for 10 ms and more, typically when receivers begin to hang or many clients connect at once.
    let last = i32::try_from(highest_descriptor(open, needed, connections)).unwrap_or(i32::MAX);
    if let Err(error) = fcntl_dupfd_cloexec(std::io::stderr(), last) {
        tracing::debug!(%error, "could not grow the descriptor table in advance");
    }
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// The highest descriptor in use when all requests are in flight and all clients are connected.
fn highest_descriptor(open: u64, needed: u64, connections: u64) -> u64 {
    (needed + connections).min(open).saturating_sub(1)
}

fn connections(open: u64, needed: u64) -> u64 {
    open.saturating_sub(needed).max(open / 4).min(MAX_CONNECTIONS)
}

/// Returns the limit afterwards.
fn raise_soft_limit() -> u64 {
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
    fn clients_get_the_remaining_descriptors() {
        assert_eq!(connections(1_048_576, 2_560), 16_384);
        assert_eq!(connections(8_192, 2_560), 5_632);
        assert_eq!(connections(3_000, 2_560), 750);
        assert_eq!(connections(1_024, 2_560), 256);
    }

    #[test]
    fn the_descriptor_table_has_room_for_requests_and_clients() {
        assert_eq!(highest_descriptor(1_048_576, 2_560, 16_384), 18_943);
        assert_eq!(highest_descriptor(8_192, 2_560, 5_632), 8_191);
        assert_eq!(highest_descriptor(1_024, 2_560, 256), 1_023, "not above the limit");
    }
}
