//! The part of the store's conformance suite in which the retention removes what purged endpoints were needed for. Ids only ever grow within
//! a process, whatever time they are made for: stories beside which others make later ones would keep too much.

mod support;

#[macro_use]
#[allow(dead_code)]
#[path = "store/home.rs"]
mod home;

#[path = "store/purge.rs"]
mod purge;
