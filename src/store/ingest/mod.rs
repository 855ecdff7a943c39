//! Ingestion: accepting messages over REST and from the outbox, routing them to endpoints, and storing them with their
//! deliveries. Come here to change what is accepted, who receives it, or how writes are batched.
//!
//! * [`accept`]: one transaction that stores messages and deliveries. [`writer`]: group commit of queued writes.
//! * [`message_insert`], [`due_insert`]: the statements that insert messages and pending deliveries.
//! * [`fan_out`]: messages to very many endpoints, in bounded steps. [`fan_out_scheduler`]: which application is next.
//! * [`outbox`]: the transactional outbox and its relay.
//! * [`message_routing`]: from an application to its endpoints. [`routing_cache`] caches them, [`routing_load`] and
//!   [`live_endpoints`] load them.
//! * [`idempotency`]: idempotency keys. [`sent_by_hand`]: messages that a person sends, with their audit entries.
//! * [`payload_checks`]: validation of payloads by event type.
//!
//! Nouns: an *accept item* is a message before it is stored. A *view* is an application with its endpoints at one
//! version. An *admission* is a stored message with its endpoints, passed to the engine.
//!
//! Invariants:
//! * An acknowledged message is committed, with all of its deliveries.
//! * No cached view is used unless its version is verified inside the accepting transaction.
//! * A full queue rejects a message at once. A queued message is not rejected for overload, unless its application has
//!   to be loaded.
//! * Nothing here sends anything or waits for the engine.

pub mod accept;
pub(in crate::store) mod due_insert;
pub mod fan_out;
pub mod fan_out_scheduler;
pub mod idempotency;
pub(in crate::store) mod live_endpoints;
pub(in crate::store) mod message_insert;
pub mod message_routing;
pub mod outbox;
pub(in crate::store) mod payload_checks;
pub(in crate::store) mod routing_cache;
pub(in crate::store) mod routing_load;
pub mod sent_by_hand;
pub(in crate::store) mod writer;
