//! The supervised parts of a process.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::crash;

/// The supervised parts of a process. Their words are metric labels and appear in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    EventLoop,
    Recorder,
    LeaseKeeper,
    Writer,
    Relay,
    Listener,
    Announcer,
    Maintenance,
    LocalUpkeep,
    Background,
    Mail,
    Metrics,
    /// A single attempt.
    Send,
    /// A single query of the event loop, like the next three.
    Read,
    Number,
    Scan,
    Load,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 17] = [
        Component::EventLoop,
        Component::Recorder,
        Component::LeaseKeeper,
        Component::Writer,
        Component::Relay,
        Component::Listener,
        Component::Announcer,
        Component::Maintenance,
        Component::LocalUpkeep,
        Component::Background,
        Component::Mail,
        Component::Metrics,
        Component::Send,
        Component::Read,
        Component::Number,
        Component::Scan,
        Component::Load,
    ];

    /// The label, as in `sendoff_task_failures_total{task="event_loop"}`.
    pub const fn word(self) -> &'static str {
        match self {
            Component::EventLoop => "event_loop",
            Component::Recorder => "recorder",
            Component::LeaseKeeper => "lease_keeper",
            Component::Writer => "writer",
            Component::Relay => "relay",
            Component::Listener => "listener",
            Component::Announcer => "announcer",
            Component::Maintenance => "maintenance",
            Component::LocalUpkeep => "local_upkeep",
            Component::Background => "background",
            Component::Mail => "mail",
            Component::Metrics => "metrics",
            Component::Send => "send",
            Component::Read => "read",
            Component::Number => "number",
            Component::Scan => "scan",
            Component::Load => "load",
        }
    }

    /// A place where a test can make a debug build panic.
    #[inline(always)]
    pub fn panic_point(self) {
        crash::panics(self.word());
    }

    /// Awaits `work` and catches its panic.
    ///
    /// # Errors
    /// The message of the panic, which is counted.
    pub async fn guard<T>(self, work: impl Future<Output = T>) -> Result<T, String> {
        AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| {
            self.count();
            message(&*panic)
        })
    }

    pub(super) fn count(self) {
        metrics::counter!("sendoff_task_failures_total", "task" => self.word()).increment(1);
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
