//! Code of others against the real binary: the official SDKs, schemathesis, the commands of the documentation, the
//! examples, and the snippets of the dashboard. They need Python, Node.js, Go, Ruby, PHP and Rust.

#[path = "../support/mod.rs"]
mod support;

mod documentation;
mod examples;
mod fuzz;
mod operational;
mod polling_snippets;
mod receivers;
mod rest;
mod sdks;
mod snippets;
