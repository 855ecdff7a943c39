//! TODO

pub mod login;
pub mod passwords;
