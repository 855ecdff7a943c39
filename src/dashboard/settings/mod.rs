//! Pages for running an organization: API keys, operators, the audit log, the outbox and operational webhooks.
//!
//! * [`api_keys`], [`operators`], [`audit`] – access. [`organization`] – switches between organizations.
//! * [`outbox`] – stuck outbox rows. [`operational`] – operational webhooks and their attempts.
//!
//! Invariants:
//!
//! * Only operators reach these pages; customers have none of them.
//! * Actions across organizations (operators, stuck outbox rows) need
//!   [`CurrentUser::sees_all`](crate::dashboard::http::current_user::CurrentUser::sees_all).
//! * A key is shown once; the store keeps its hash.

pub(in crate::dashboard) mod api_keys;
pub(in crate::dashboard) mod audit;
pub(in crate::dashboard) mod operational;
pub(in crate::dashboard) mod operators;
pub(in crate::dashboard) mod organization;
pub(in crate::dashboard) mod outbox;
