//! Notifications about failing endpoints and deliveries. Come here for their texts, payloads and schedule.
//!
//! * [`operational`]: **operational events**, sent as webhooks to the organization's own operational endpoints.
//! * [`chat`]: operational events as messages in a **chat channel** (Slack, Teams, Discord).
//! * [`mail`]: **mails** to an application's contact, with one **notice** per endpoint.
//!
//! Invariants:
//!
//! * Deciding is pure: nothing here sends, stores or reads the clock.
//! * A mail contains no secret, and no text that a customer or receiver chose except on a sanitized line of its own.
//! * The URL of a chat hook is a secret: only its origin is shown.

pub mod chat;
pub mod mail;
pub mod operational;
