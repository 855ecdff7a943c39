//! TODO

pub mod mail;
pub mod operational;
