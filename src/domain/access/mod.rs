//! Access control: **API keys** and **token keys** of the REST API, **operators** of the dashboard, **portal**
//! capabilities and themes, and the **audit log**. Come here for the format of a credential or the meaning of a scope,
//! a capability or an audit action.
//!
//! Invariants:
//!
//! * A credential exists in plain text only where it is generated; the store gets a hash and the last characters.
//! * Nothing here authenticates a request or reads the store; `api` and `dashboard` do.
//! * Unknown words grant nothing.

pub mod api_key;
pub mod audit;
pub mod colour;
pub mod oidc;
pub mod operator;
pub mod password;
pub mod portal;
pub mod saved_view;
pub mod theme;
pub mod token_key;
pub mod totp;
