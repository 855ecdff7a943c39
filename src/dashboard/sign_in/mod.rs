//! Operators' sign-in.
//!
//! * [`login`] – sign-in by link or password, and sign-out. [`passwords`] – verifies passwords and limits attempts.
//!
//! Invariants:
//!
//! * A GET request never redeems a link.
//! * The response to a wrong password does not reveal whether the name exists, by text or by timing.
//! * Guessing cannot lock anyone out: one-time links always work.

pub mod login;
pub mod passwords;
