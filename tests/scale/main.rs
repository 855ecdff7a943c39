//! The short form of the bench of scale: the same shapes at sizes that a debug build takes in seconds. Counts, rows and bytes are asserted,
//! never times.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, unused_macros)]
#[path = "../store/home.rs"]
mod home;

mod fan_out;
mod fleet;
mod house;
mod organizations;
mod waiting;
