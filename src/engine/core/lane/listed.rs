//! Where a lane stands in the indexes over all lanes.

use std::time::Duration;

use crate::domain::Time;
use crate::engine::core::concurrency::Responsiveness;
use crate::engine::core::concurrency::fair_queue::Ticket;

/// A lane's place in each index. The indexes and this are written together, in [`Lanes`](crate::engine::core::lanes::Lanes) and nowhere
/// else: a lane stands in each of them at most once, and is found there without a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// In the line of lanes that may have something to send.
    pub in_line: bool,
    /// Among those that wait because too much is in flight to their kind: the kind, and the ticket by which they take turns.
    pub crowded: Option<(Responsiveness, Ticket)>,
    /// When it wants to be read, unless it is in line for that.
    pub look: Option<Time>,
    /// In line to be read: in which line (0: it keeps up, 1: it is behind), and its place there.
    pub to_read: Option<(usize, Ticket)>,
    /// When it may send again, and its turn then.
    pub wake: Option<(Duration, u64)>,
    /// When it is checked for what changes by the mere passing of time. `None` only before it is in the table.
    pub check: Option<Duration>,
    /// It counts as busy in its slot.
    pub busy: bool,
}
