//! Lists, single rows, counts and search, for the API and the pages.
//!
//! Invariants: nothing here writes, except where [`deliveries`] acts on a delivery for a person. Every list is read along an index, in pages,
//! and examines a bounded number of rows. Every query has the tenant in it.

pub mod attempts;
pub mod counts;
pub mod deliveries;
pub mod delivery_list;
pub mod delivery_status;
pub mod delivery_tally;
pub mod endpoint_messages;
pub(in crate::store) mod list_scan;
pub mod message_list;
pub mod messages;
pub mod page;
pub mod search_terms;
pub mod tail;
