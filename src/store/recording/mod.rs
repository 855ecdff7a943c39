//! What is written when an attempt has ended: the attempt, the delivery's new state, counts, operational events, mails.
//!
//! - [`record`]: a batch of attempts. [`attempt_insert`]: their rows. [`rollups`]: counts by minute.
//! - [`failure_streaks`]: since when an endpoint has only failed. [`failing_endpoints`]: what is done about it. [`operational_event`]
//!   finds what has to be announced, [`operational`] stores it.
//! - [`mail`]: mails to applications' contacts.
//!
//! Invariants: an attempt is recorded once, whoever made it. It changes a delivery only if the delivery's generation
//! is the attempt's own. Events and mails are written in the transaction of what they describe.

pub(in crate::store) mod attempt_insert;
pub mod failing_endpoints;
pub(in crate::store) mod failure_streaks;
pub mod mail;
pub mod operational;
pub(in crate::store) mod operational_event;
pub mod record;
pub mod rollups;
