//! The configuration of an organization: **applications** (tenants), their **endpoints** and **polling endpoints**, the
//! **event types** they can subscribe to, **autoconfig** tokens and **development endpoints**. Come here for a field, a
//! default or a validation rule of one of these.
//!
//! * [`payload_schema`]: validation of payloads. [`openapi_import`]: event types from a document.
//! * A `…Spec` holds the fields a caller sets; the type without the suffix adds the fields that the store assigns (id,
//!   owner, timestamps).
//! * `…Spec::check` reports every broken rule, not only the first.
//!
//! Invariants:
//!
//! * A spec never checks against other records: the store knows which event types exist, `egress` which addresses are
//!   allowed.
//! * An error never quotes the value of a header or a secret.

pub mod application;
pub mod autoconfig;
pub mod development;
pub mod endpoint;
pub mod event_type;
pub mod example;
pub mod openapi_import;
pub mod organization_spec;
pub mod payload_schema;
pub mod polling;
