//! Lists, single records, counts and search for the API and the dashboard. Come here when a list is slow, wrong or
//! lacks a filter.
//!
//! * [`messages`], [`attempts`], [`deliveries`], [`endpoint_messages`]: records of one application.
//! * [`message_list`], [`delivery_list`]: filtered lists across applications, read by a [`list_scan`].
//! * [`counts`]: rollups by time; [`period_totals`] compares two periods. [`tail`]: the newest attempts.
//!   [`search_terms`]: resolving a typed id or name.
//! * [`page`]: pages, their limits and cursors. [`topic_filter`]: the filter that lists of messages and attempts share.
//!
//! Invariants:
//!
//! * Nothing here writes, except that [`deliveries`] resends one delivery and ends those of deleted endpoints.
//! * Every list is read along an index in pages and scans a bounded number of rows.
//! * Every query for a caller is restricted to its tenant.

pub mod attempts;
pub mod counts;
pub mod deliveries;
pub mod delivery_counts;
pub mod delivery_list;
pub mod endpoint_messages;
pub(in crate::store) mod list_scan;
pub mod message_list;
pub mod messages;
pub mod page;
pub(in crate::store) mod payload_search;
pub mod period_totals;
pub mod search_terms;
pub mod tail;
pub mod topic_filter;
