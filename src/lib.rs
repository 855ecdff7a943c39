//! Sendoff delivers a product's events to its customers as signed webhooks, with retries, and records every attempt.
//!
//! The life of an event: **accept → fan out → admit → sign → send → record → view / resend**. docs/ARCHITECTURE.md
//! follows it file by file.
//!
//! Layers; each may use only those below it, and a test enforces that:
//!
//! ```text
//!   main · cli                     one file per command
//!   app · config · telemetry       wiring: build, start, shut down
//!   engine    api    dashboard     siblings that never use each other
//!   service                        use cases that api and dashboard share
//!   store     egress               persistent state · outbound requests and mail
//!   traffic                        rate limits and addresses of callers
//!   supervisor                     starts tasks and notices lost ones
//!   domain · crash                 types and rules, without I/O and without a clock · crash points for tests
//! ```

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod crash;
pub mod dashboard;
pub mod domain;
pub mod egress;
pub mod engine;
#[cfg(test)]
mod fuzzing;
pub mod service;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod traffic;
