//! TODO

pub(in crate::dashboard) mod api_keys;
pub(in crate::dashboard) mod audit;
pub(in crate::dashboard) mod operational;
pub(in crate::dashboard) mod operators;
pub(in crate::dashboard) mod organization;
pub(in crate::dashboard) mod outbox;
