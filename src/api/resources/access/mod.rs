//! TODO

pub(in crate::api) mod expire_all;
pub(in crate::api) mod logout;
pub(in crate::api) mod portal_access;
