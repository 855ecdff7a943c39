//! The waits between tries of an operation that keeps failing.

use std::time::Duration;

/// The wait after `failures` failures in a row: `first` after the first one, doubled by each further one, at most
/// `longest`.
pub fn wait_after(failures: u32, first: Duration, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(31)).min(longest)
}

/// Doubles the wait with each failure, up to a limit, and starts over after a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBackoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl RetryBackoff {
    /// A backoff with this shortest and this longest wait.
    pub const fn new(first: Duration, longest: Duration) -> RetryBackoff {
        RetryBackoff { first, longest, failures: 0 }
    }

    /// The operation failed. Returns the wait before the next try.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        wait_after(self.failures, self.first, self.longest)
    }

    /// The operation succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait since the last failure. `None`: the last try succeeded, or there was none.
    pub fn wait(&self) -> Option<Duration> {
        (self.failures > 0).then(|| wait_after(self.failures, self.first, self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over_after_a_success() {
        let mut backoff = RetryBackoff::new(Duration::from_millis(100), Duration::from_millis(500));
        assert_eq!(backoff.wait(), None);
        assert_eq!([0; 5].map(|_| backoff.failed().as_millis()), [100, 200, 400, 500, 500]);
        assert_eq!(backoff.wait(), Some(Duration::from_millis(500)));
        backoff.succeeded();
        assert_eq!((backoff.wait(), backoff.failed().as_millis()), (None, 100));
    }

    #[test]
    fn any_number_of_failures_has_a_wait() {
        let longest = Duration::from_secs(30);
        assert_eq!(wait_after(u32::MAX, Duration::from_secs(1), longest), longest);
        assert_eq!(wait_after(u32::MAX, Duration::MAX, longest), longest);
    }
}
