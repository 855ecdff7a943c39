//! Background work that an organization asked for: replay, recovery, bulk resend.
//!
//! - [`background`]: the jobs, and their state. [`replay`]: what a step does. [`estimate`]: what a job would send.
//! - [`listed`]: sending again what a list shows. [`resent`]: which deliveries a job made pending.
//! - [`reconcile`]: what a receiver misses, by the ids that it has: a page of it, and the steps that send it again.
//! - [`job_lease`]: one process works on a job at a time, in steps. [`endpoint_cursor`]: where a step goes on.
//!
//! Invariants: a step is bounded in rows and can be repeated. A job whose process died is continued from its last committed step.

pub mod background;
pub mod endpoint_cursor;
pub mod estimate;
mod estimate_many;
pub mod job_lease;
mod listed;
pub mod reconcile;
pub(in crate::store) mod replay;
pub mod resent;
