//! TODO

pub(in crate::dashboard) mod feed;
pub(in crate::dashboard) mod tail;
