//! Pages for running an organization: API keys, operators, the audit log, the outbox and operational webhooks.
//!
//! * [`settings_index`] – links to the other pages.
//! * [`own_account`], [`second_factor_setup`] – the user's own account. [`session_list`] – open sessions.
//! * [`operators`], [`operator_account`] – all accounts, and one of them.
//! * [`list_views`] – saved filters of a list.
//! * [`api_keys`], [`audit`] – access. [`organization`] – switches between organizations,
//!   [`organization_settings`] – names and defaults.
//! * [`outbox`] – the relay and its stuck rows. [`operational`] – operational webhooks and their attempts, with
//!   [`operational_endpoints`].
//!
//! Invariants:
//!
//! * Only operators reach these pages; customers have none of them.
//! * Pages across organizations (operators, sessions) are marked in the table of
//!   [`route_access`](crate::dashboard::http::route_access). Rows of the outbox are checked one by one.
//! * A key is shown once; the store keeps its hash.

pub(in crate::dashboard) mod api_keys;
pub(in crate::dashboard) mod audit;
pub(in crate::dashboard) mod list_views;
pub(in crate::dashboard) mod operational;
pub(in crate::dashboard) mod operational_endpoints;
pub(in crate::dashboard) mod operator_account;
pub(in crate::dashboard) mod operators;
pub(in crate::dashboard) mod organization;
pub(in crate::dashboard) mod organization_settings;
pub(in crate::dashboard) mod outbox;
pub(in crate::dashboard) mod own_account;
pub(in crate::dashboard) mod second_factor_setup;
pub(in crate::dashboard) mod session_list;
pub(in crate::dashboard) mod settings_index;
