//! The feed: an application's messages in the order in which they were committed, and who reads it by polling.
//!
//! * [`order`] – how ids of messages are drawn, so that they are positions in the feed.
//! * [`read`] – a page of the feed behind a position.

pub(in crate::store) mod order;
pub mod read;
