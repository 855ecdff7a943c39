//! Deadlines for clients. A debug build divides them by `SENDOFF_TEST_CLIENT_HURRY` (1 to 1000), so tests of slow
//! clients are fast.

use std::time::Duration;

use super::timed_connection::ThroughputLimit;

/// The minimum throughput of requests and responses, in bytes per second.
const BYTES_PER_SECOND: u32 = 8 * 1024;

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientDeadlines {
    /// For the head of a connection's first request.
    pub head: Duration,
    /// For a request, including its handler: longer than any handler takes.
    pub request: ThroughputLimit,
    /// For reading a response.
    pub response: ThroughputLimit,
    /// For the rest of a body whose request is already answered.
    pub drain: Duration,
    /// Between two requests. Longer than the idle timeout of common proxies and clients (60 s), so they close first and
    /// no request meets a closing connection.
    pub keep_alive: Duration,
}

impl ClientDeadlines {
    pub fn new() -> ClientDeadlines {
        let hurry = hurry();
        let limit = |seconds| ThroughputLimit {
            grace: Duration::from_secs(seconds) / hurry,
            bytes_per_second: BYTES_PER_SECOND * hurry,
        };
        ClientDeadlines {
            head: Duration::from_secs(10) / hurry,
            request: limit(60),
            response: limit(30),
            drain: Duration::from_secs(5) / hurry,
            keep_alive: Duration::from_secs(75) / hurry,
        }
    }
}

#[cfg(debug_assertions)]
fn hurry() -> u32 {
    let wanted = std::env::var("SENDOFF_TEST_CLIENT_HURRY").ok().and_then(|text| text.parse().ok());
    wanted.filter(|hurry| (1..=1_000).contains(hurry)).unwrap_or(1)
}

#[cfg(not(debug_assertions))]
const fn hurry() -> u32 {
    1
}
