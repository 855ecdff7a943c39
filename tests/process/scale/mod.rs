//! The short form of the bench of scale: the same shapes at sizes that a debug build takes in seconds. Counts, rows and bytes are asserted,
//! never times.

mod fan_out;
mod fleet;
mod waiting;
mod world;
