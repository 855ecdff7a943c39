//! The part of the store's conformance suite in which messages are of different ages. Ids only ever grow within a process, whatever time
//! they are made for: a story about ages cannot share its process with others, nor run beside another of its kind.

mod support;

#[macro_use]
#[allow(dead_code)]
#[path = "store/home.rs"]
mod home;

#[path = "store/age.rs"]
mod age;
