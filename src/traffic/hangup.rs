//! Detects that the peer of a connection closed its side. A handler that waits without writing would not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The state of one connection, shared by its reader and the responses on it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hangup(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closed: AtomicBool,
    waiting: Notify,
}

impl Hangup {
    /// The peer will send nothing more.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }

    /// Waits until the peer has closed its side.
    pub async fn closed(&self) {
        // Registered before the check, so a close in between is not missed.
        let waiting = self.0.waiting.notified();
        if !self.0.closed.load(Ordering::Acquire) {
            waiting.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn waiting_ends_before_and_after_the_close() {
        let hangup = Hangup::default();
        let other = hangup.clone();
        let mut waiting = Box::pin(other.closed());
        assert!((&mut waiting).now_or_never().is_none());
        hangup.close();
        assert!((&mut waiting).now_or_never().is_some() && hangup.closed().now_or_never().is_some());
    }
}
