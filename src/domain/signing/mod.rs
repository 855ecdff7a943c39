//! TODO

pub mod secret;
pub mod signature;
