//! A customer's access to the portal: granting it ([`portal_access`]), ending it ([`expire_all`]), and logging a token
//! out ([`logout`]).
//!
//! Invariants: portal links work once and for 15 minutes; tokens and links are returned once and never stored in clear.

pub(in crate::api) mod expire_all;
pub(in crate::api) mod logout;
pub(in crate::api) mod portal_access;
