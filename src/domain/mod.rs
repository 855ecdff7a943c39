//! Domain types and the rules that hold for them. Come here to look up a noun, a limit or a validation rule.
//!
//! * [`catalog`]: applications, endpoints, event types, polling endpoints.
//! * [`deliveries`]: messages, deliveries, attempts, the retry schedule, background tasks.
//! * [`feed`]: positions, iterators and leases of polling readers.
//! * [`signing`]: secrets and signatures. [`access`]: keys, tokens, sessions, roles, the audit log.
//! * [`notifications`]: operational events and mails.
//! * [`ids`], [`limits`], [`invalid`], [`time`], [`time_range`], [`duration_text`], [`address`], [`column_type`],
//!   [`retry_backoff`]: used by all of the above.
//!
//! Invariants:
//!
//! * No I/O and no clock: the current time is always an argument. [`time::Clock`] is defined here, but nothing here
//!   reads it.
//! * No randomness except to generate an id, a key, a token or a salt.
//! * No import from another top-level module of the crate.

pub mod access;
pub mod address;
pub mod catalog;
mod column_type;
pub mod deliveries;
pub mod duration_text;
pub mod feed;
pub mod ids;
pub mod invalid;
pub mod limits;
pub mod notifications;
pub mod retry_backoff;
pub mod signing;
pub mod time;
pub mod time_range;
pub mod url_query;

pub use ids::{
    AppId, AttemptId, AuditId, AutoConfigId, BackgroundId, EndpointId, KeyId, MailId, MessageId, OperatorId, OrgId,
    PollingEndpointId, PollingTokenId, Uid,
};
pub use invalid::Invalid;
pub use time::Time;
pub use time_range::TimeRange;
