//! The positions of a lane in the indexes over all lanes.

use std::time::Duration;

use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::concurrency::fair_queue::Ticket;

/// The position of a lane in each index. [`Lanes`](crate::engine::core::lanes::Lanes) updates it together with the
/// indexes. A lane is in each index at most once and is removed without a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexPositions {
    /// It is in the queue of lanes that may have something to send.
    pub enqueued: bool,
    /// It waits for a share of its kind: the kind and the ticket.
    pub awaiting_share: Option<(Responsiveness, Ticket)>,
    /// The time at which it is due to be read, unless it is queued for that.
    pub read_due: Option<Time>,
    /// It is queued to be read: the queue (0: no backlog, 1: backlogged) and the ticket.
    pub to_read: Option<(usize, Ticket)>,
    /// The time at which it may send again, and its turn number.
    pub wake: Option<(Duration, u64)>,
    /// The time of its next check for time-based changes. `None` only before it is in the table.
    pub check: Option<Duration>,
    /// It counts as busy in its slot.
    pub busy: bool,
}
