//! The system's limits: how many descriptors this process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the store, the listener, people's connections and the runtime need beside the engine's.
const BESIDE: u64 = 512;

/// Raises the soft limit of open files to the hard one, and says so if that is still little for `in_flight` POSTs: each takes a
/// descriptor, and so does a connection that is kept for the next one.
pub fn raise_open_files(in_flight: usize) {
    let limit = getrlimit(Resource::Nofile);
    // `None`: no limit.
    let Some(soft) = limit.current else { return };
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let open = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(soft, %error, "the limit of open files can't be raised");
            soft
        }
    };
    let needed = 2 * in_flight as u64 + BESIDE;
    if open < needed {
        tracing::warn!(
            open,
            needed,
            "few open files are allowed for SENDOFF_MAX_IN_FLIGHT: raise the limit (ulimit -n)"
        );
    }
}
