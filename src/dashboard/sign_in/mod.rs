//! Operators' sign-in.
//!
//! * [`login`] – sign-in by link or password, and sign-out. [`second_factor`] – the code after the password.
//! * [`oidc`] – sign-in through an identity provider.
//! * [`passwords`] – verifies passwords and limits attempts. [`password_reset`] – resets a password by a one-time link.
//!
//! Invariants:
//!
//! * A GET request never redeems a link.
//! * The response to a wrong password does not reveal whether the name exists, by text or by timing.
//! * With a second factor, the correct password alone opens no session and does not reset the count of attempts.
//! * Guessing cannot lock anyone out: one-time links always work.

pub mod login;
pub mod oidc;
pub mod password_reset;
pub mod passwords;
pub mod second_factor;
