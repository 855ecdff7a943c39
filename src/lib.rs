//! Sendoff gives every event a proper send-off: a SaaS team hands it events, and it delivers them as signed webhooks to that team's
//! customers, keeps trying until they arrive, and shows both sides what happened.
//!
//! The way of an event: **accept → fan out → admit → sign → send → record → view / resend**.
//!
//! The floors of the house; each stands only on those below it, and a test holds them to it:
//!
//! ```text
//!   main · cli          one file per command
//!   app                 the only wiring: build, run, shut down     (with config, telemetry)
//!   engine  api  dashboard      siblings that never see each other: they meet in the store
//!   store    egress     what outlives the process · the way out
//!   traffic             how often callers may call, and from which address
//!   domain              what things are and what follows from what
//!   supervisor          starts tasks and notices when one is lost
//!   crash               where a test may let a debug build die
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
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod traffic;
