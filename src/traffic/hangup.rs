//! Detects that the peer of a connection closed its side. A handler that waits without writing would not notice.

use tokio_util::sync::CancellationToken;

/// The state of one connection, shared by its reader and the responses on it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hangup(CancellationToken);

impl Hangup {
    /// The peer will send nothing more.
    pub fn close(&self) {
        self.0.cancel();
    }

    /// Waits until the peer has closed its side.
    pub async fn closed(&self) {
        self.0.cancelled().await;
    }
}
