//! Signals that shut the process down.
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::AppError;

/// Handlers of SIGTERM, SIGINT and SIGHUP, which replace their default action. SIGUSR1, SIGUSR2 and SIGALRM are
/// ignored.
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if the parent process ignores it, as `nohup` does.
    hangup: Option<Signal>,
    _ignored: [Signal; 3],
}

impl ShutdownSignals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> Result<ShutdownSignals, AppError> {
        let on = |kind| signal(kind).map_err(|error| AppError::Start(format!("can't wait for signals: {error}")));
        let hangup = (!ignores_hangup()).then(|| on(SignalKind::hangup())).transpose()?;
        let [one, two, alarm] = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::alarm()].map(on);
        let _ignored = [one?, two?, alarm?];
        Ok(ShutdownSignals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup,
            _ignored,
        })
    }

    /// Waits for the next shutdown signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = async { self.hangup.as_mut()?.recv().await }, if self.hangup.is_some() => {}
        }
    }
}

/// Whether this process was started with SIGHUP ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // Bit 0 is signal 1.
    mask.is_some_and(|mask| mask & 1 == 1)
}
