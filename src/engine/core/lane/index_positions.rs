//! The positions of a lane in the indexes over all lanes.

use std::time::Duration;

use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::concurrency::fair_queue::Ticket;

/// The position of a lane in each index. [`Lanes`](crate::engine::core::lanes::Lanes) updates it together with the
/// indexes. A lane is in each index at most once and is removed without a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexPositions {
    /// In the queue of lanes that may have something to send.
    pub enqueued: bool,
    /// The kind and the ticket, while waiting for a share of its kind.
    pub awaiting_share: Option<(Responsiveness, Ticket)>,
    /// The time at which it is due to be read, unless it is queued for that.
    pub read_due: Option<Time>,
    /// The queue (0: no backlog, 1: backlogged) and the ticket, while queued to be read.
    pub to_read: Option<(usize, Ticket)>,
    /// The time at which it may send again, and its turn number.
    pub wake: Option<(Duration, u64)>,
    /// The time of its next check for time-based changes. `None` only before it is in the table.
    pub check: Option<Duration>,
    /// Counted as busy in its slot.
    pub busy: bool,
}
