//! **Background tasks** that a caller starts: replay, recovery, bulk resend, reconciliation. Come here to change the
//! steps of a task, its lease or its estimate.
//!
//! * [`background`]: creating, listing and canceling tasks. [`estimate`]: counting the deliveries that a task would
//!   send.
//! * [`job_lease`]: the **lease** by which one process at a time advances a task, **step** by step.
//!   [`endpoint_cursor`]: the position of the next step.
//! * [`replay`]: the steps of replay and recovery. [`list_resend`]: resending the deliveries of a list.
//! * [`reconcile`]: the messages that a receiver is missing. [`missing_scan`]: the **scan** that finds them.
//!   [`reconcile_task`]: resending them.
//! * [`task_data`]: the stored form of a task. [`resent_deliveries`]: the deliveries a task has resent.
//!
//! Invariants:
//!
//! * A step is one bounded transaction that records its progress. After a crash the task continues from the last
//!   committed step.
//! * A task only makes deliveries pending; it never sends. Its deliveries queue as retries, so they do not delay new
//!   messages.
//! * Cancel and step lock the same row: after a cancel no step commits.

pub mod background;
pub mod endpoint_cursor;
pub mod estimate;
mod estimate_many;
pub mod job_lease;
mod list_resend;
mod missing_scan;
pub mod reconcile;
mod reconcile_task;
pub(in crate::store) mod replay;
pub mod resent_deliveries;
mod task_data;
