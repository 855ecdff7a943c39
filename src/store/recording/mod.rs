//! Recording: storing finished attempts, and everything that follows from them. Come here to change the effects of an
//! attempt: delivery states, counts, operational events and mails.
//!
//! * [`record`]: the transaction of a batch. [`attempt_insert`]: the statements that insert attempts.
//! * [`rollups`]: attempt counts per minute.
//! * [`failure_streaks`]: the start of an endpoint's failures. [`failing_endpoints`]: warning about it and disabling
//!   it.
//! * [`operational_event`]: which operational events occur. [`operational`]: storing them as messages.
//! * [`mail`]: the mail queue.
//!
//! Nouns: a *finished attempt* has ended but is not stored; its *record outcome* tells whether its delivery changed. A
//! *streak* is the time since an endpoint's last delivery in which every attempt failed.
//!
//! Invariants:
//! * Every attempt is recorded exactly once, even if its slot was lost or its delivery changed.
//! * A record changes its delivery only if epoch, generation and number of attempts are those of the attempt's start.
//! * Events and mails are written in the transaction of the change that they report.
//! * Operational messages never cause operational events.

pub(in crate::store) mod attempt_insert;
pub mod failing_endpoints;
pub(in crate::store) mod failure_streaks;
pub mod mail;
pub mod operational;
pub(in crate::store) mod operational_event;
pub mod record;
pub mod rollups;
