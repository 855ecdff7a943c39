//! TODO

pub(in crate::api) mod access;
pub(in crate::api) mod application;
pub(in crate::api) mod attempt;
pub(in crate::api) mod autoconfig;
pub(in crate::api) mod background;
pub(in crate::api) mod endpoint;
pub(in crate::api) mod event_type;
pub(in crate::api) mod message;
pub(in crate::api) mod operational;
pub(in crate::api) mod polling;
pub(in crate::api) mod reconcile;
pub(in crate::api) mod stats;
