//! TODO

pub mod attempt;
pub mod background;
pub mod backoff;
pub mod delivery;
pub mod failing;
pub mod message;
