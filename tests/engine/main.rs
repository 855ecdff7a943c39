//! The engine on both stores, against receivers that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod background;
mod changes;
mod contents;
mod delivering;
mod egress;
mod fleet;
mod operational;
mod ordered;
mod organization;
mod outage;
mod pacing;
mod python;
mod rebinding;
mod retrying;
mod signing;
mod upgrade;
mod world;
