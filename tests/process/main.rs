//! The real binary: its commands and settings, the demo, the relay, its mails, its environment (proxies, databases, files), and the
//! situations of the scale bench at small sizes. `tools` tests the suite's own tools.

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod demo;
mod environment;
mod mail;
mod relay;
mod sbom;
mod scale;
mod settings;
mod tools;
