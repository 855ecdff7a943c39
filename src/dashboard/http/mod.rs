//! TODO

pub(in crate::dashboard) mod assets;
pub(in crate::dashboard) mod error;
pub(in crate::dashboard) mod frame;
pub(in crate::dashboard) mod middleware;
pub(in crate::dashboard) mod notice;
pub(in crate::dashboard) mod place;
pub(in crate::dashboard) mod posted;
pub(in crate::dashboard) mod preferences;
pub(in crate::dashboard) mod session;
pub(in crate::dashboard) mod viewer;
